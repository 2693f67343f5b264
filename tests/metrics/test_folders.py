import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from noise_model import Noise, Quarters
from PIL import Image

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.metrics import features
from omokage.metrics.folders import fid_folders
from omokage.metrics.records import read_lines
from omokage.metrics.report import evaluate
from omokage.sampling import latents, to_pixels


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(features.EXTRACTORS, "quarters", lambda **_: Quarters())


def save(folder: Path, pixels: np.ndarray) -> Path:
    folder.mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """What the model draws, as files."""
    return save(tmp_path / "samples", to_pixels(Noise().decode(latents(range(50), (3, 8, 8)))))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Larger pictures, so that they have to be resized."""
    rng = np.random.default_rng(0)
    return save(tmp_path / "pictures", rng.integers(0, 256, (60, 12, 10, 3), np.uint8))


def test_two_folders_give_what_evaluate_gives_on_the_same_pixels(samples, faces, tmp_path) -> None:
    build([faces], tmp_path / "faces", as_faces=True, workers=1)
    record = evaluate(Noise(), FaceSet.open(tmp_path / "faces"), "fid50-full-quarters")
    with tarfile.open(tmp_path / "pictures.tar.gz", "w:gz") as archive:
        archive.add(faces, "pictures")
    for other in (faces, tmp_path / "faces", tmp_path / "pictures.tar.gz"):
        found = fid_folders(samples, other, "quarters")
        assert found.fid == pytest.approx(record["fid"], rel=1e-9)
        assert found.protocol == record["protocol"]
        assert (found.pictures, found.size, found.resized) == ((50, 60), (8, 8), (0, 60))
        assert found.record["resolution"] == record["resolution"]
        assert found.record["extractor_file_hash"] == record["extractor_file_hash"]
    assert fid_folders(samples, samples, "quarters").fid < 1e-9
    assert fid_folders(faces, samples, "quarters").size == (12, 10)
    assert fid_folders(faces, samples, "quarters", size=8).fid == pytest.approx(record["fid"], rel=1e-9)


def test_what_is_no_picture_is_skipped_and_told_and_the_cache_knows(samples, faces) -> None:
    before = fid_folders(samples, faces, "quarters")
    (samples / "30.png").write_bytes((samples / "30.png").read_bytes()[:40])
    (samples / "notes.txt").write_text("words")
    found = fid_folders(samples, faces, "quarters")
    assert found.pictures == (49, 60)
    assert sorted(line.partition(":")[0] for line in found.skipped[0]) == ["30.png", "notes.txt"]
    assert found.skipped[1] == ()
    assert found.fid != before.fid
    assert any("only 49 pictures" in line for line in found.warnings)


def test_a_protocol_takes_the_first_pictures(samples, faces, tmp_path) -> None:
    first = fid_folders(samples, faces, "fid20-full-quarters")
    (tmp_path / "twenty").mkdir()
    for i in range(20):
        (samples / f"{i}.png").rename(tmp_path / "twenty" / f"{i}.png")
    assert first.fid == pytest.approx(fid_folders(tmp_path / "twenty", faces, "quarters").fid, rel=1e-9)
    build([faces], tmp_path / "faces", as_faces=True, workers=1)
    of_set = fid_folders(tmp_path / "faces", samples, "fid20-full-quarters", size=8)
    assert of_set.pictures == (20, 30)
    assert of_set.fid == pytest.approx(
        fid_folders(faces, samples, "fid20-full-quarters", size=8).fid, rel=1e-9
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": "nothing"}, "there is no .*nothing"),
        ({"a": "one"}, "has 1 picture, 1 file skipped .*: this measurement needs 2 or more"),
        ({"protocol": "fid2k-full-quarters"}, "has 50 pictures: this measurement needs 2,000"),
        ({"protocol": "quarter"}, "unknown protocol 'quarter'"),
        ({"protocol": "fid20-full-quarters-psi0.7"}, "pictures have no psi"),
        ({"size": 0}, "size 0 is impossible"),
    ],
)
def test_what_cannot_be_measured_is_refused(samples, faces, tmp_path, change, message) -> None:
    save(tmp_path / "one", np.zeros((1, 8, 8, 3), np.uint8))
    (tmp_path / "one" / "x.txt").write_text("words")
    arguments = {"a": samples.name, "b": faces.name, "protocol": "quarters", **change}
    arguments |= {side: tmp_path / arguments[side] for side in "ab"}
    with pytest.raises(UserError, match=message):
        fid_folders(**arguments)


def test_the_verb_prints_fid_counts_and_protocol(samples, faces, tmp_path, capsys) -> None:
    (faces / "labels.csv").write_text("file,hair\n")
    out = tmp_path / "out.jsonl"
    assert main(["fid", f"{samples}", f"{faces}", "--protocol", "quarters", "-o", f"{out}"]) == 0
    told = capsys.readouterr()
    (record,) = read_lines(out)
    assert f"FID {record['fid']:.2f}  (fid50-full-quarters, pictures at 8×8)" in told.out
    assert f"A: 50 pictures in {samples}" in told.out
    of_b = "60 of another size and resized, 1 file skipped (labels.csv"
    assert f"B: 60 pictures in {faces}, {of_b}" in told.out
    assert told.err.count("warning: only") == 2
    assert record["pictures"] == [50, 60]
    assert record == json.loads(out.read_text())
    assert main(["fid", f"{samples}", f"{faces}", "-o", f"{tmp_path}"]) == 2
    assert "cannot append the result" in capsys.readouterr().err
