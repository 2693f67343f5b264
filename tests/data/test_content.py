"""Face sets have the content that they had when this was recorded, however they are made.

After a change that is meant to change them, ``PYTHONPATH=src:tests python tests/data/test_content.py``
records the hashes anew. Pictures come as pixmaps and are kept as PNG, so that no lossy encoder counts.
Other tests say that several workers, Ray, and an interruption make no difference.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omokage.data.build import build
from omokage.data.build.options import Options
from omokage.data.derive.export import export
from omokage.data.derive.merge import merge
from omokage.data.derive.split import split
from omokage.data.drawn import draw_face, draw_illustration
from omokage.data.store.faceset import FaceSet

FILE = Path(__file__).parent / "content.json"
CUT = Options(detector="cascade-example", upscale="lanczos", format="png", clean=False, label=False)
WHOLE = Options(detector=None, upscale=None, format="png", limits=("face_score=off",), label=True)


def sources(folder: Path) -> dict[str, Path]:
    """Faces with copies, a broken file and labels; illustrations with a copy and files of labels."""
    faces, scenes = folder / "faces", folder / "scenes"
    (faces / "1999").mkdir(parents=True)
    scenes.mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        face = draw_face(i % 20, 48).image
        if i == 22:  # a copy with some noise
            face = np.clip(face + rng.integers(-2, 3, face.shape), 0, 255).astype(np.uint8)
        Image.fromarray(face).save(faces / (f"1999/{i}_2004.ppm" if i % 3 == 0 else f"{i}_{1995 + i}.ppm"))
    (faces / "broken.png").write_bytes(b"no picture")
    for i in range(4):
        Image.fromarray(draw_illustration(i, (200, 260)).image).save(scenes / f"{i}.ppm")
    Image.fromarray(draw_illustration(1, (200, 260)).image).save(scenes / "copy.ppm")
    (scenes / "0.txt").write_text("1girl, pink hair, artist:mori")
    (scenes / "3.json").write_text('{"rating": "e"}')
    hair = ("green", "red|blue")
    lines = ["file,hair,artist", *(f"{i}_{1995 + i}.ppm,{hair[i % 2]},a{i % 4}" for i in range(24))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return {"faces": faces, "scenes": scenes, "labels": folder / "labels.csv"}


def told(folder: Path) -> dict[str, str]:
    """The content hash, and a hash of what stands in the index beside it and in the list of rejected files.

    Places in shards depend on a version of zlib, and measured numbers on the processor.
    """
    faces = FaceSet.open(folder)
    other = ("shard", "offset", "length", "sha256")
    names = [
        one.name
        for one in faces.index.schema
        if one.name not in other and str(one.type) not in ("float", "double")
    ]
    rejected = sorted((folder / "rejected.csv").read_text().split("\n"))
    rows = json.dumps([faces.index.select(names).to_pylist(), rejected])
    return {"content": faces.content_hash, "index": hashlib.sha256(rows.encode()).hexdigest()[:16]}


def made(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Every kind of face set, by name, with what is recorded of it."""
    given = sources(folder / "in")
    faces, scenes = given["faces"], given["scenes"]
    kinds = {
        "as they come": {},
        "resized": {"size": 32},
        "without equal bytes": {"drop": "exact"},
        "without copies": {"drop": "near"},
        "with labels": {"labels": given["labels"], "labels_from": "(?P<year>[0-9]{4})[.]"},
        "with folders": {"labels_from": "folder"},
    }
    for name, options in kinds.items():
        build([faces], folder / name, as_faces=True, workers=2, **options)
        yield name, told(folder / name)
    for name, options in {"cut out": CUT, "whole pictures": WHOLE}.items():
        build([scenes], folder / name, size=40, workers=1, options=options)
        yield name, told(folder / name)
    split(folder / "with labels", folder / "split", holdout=0.2)
    for part in ("train", "heldout"):
        yield f"split, {part}", told(folder / "split" / part)
    both = [folder / "with labels", folder / "cut out"]
    merge(both, folder / "merged", drop="near", conditions=["width<=48"])
    yield "merged", told(folder / "merged")
    export(folder / "with labels", folder / "files", conditions=["hair=red"])
    files = sorted(path for path in (folder / "files").rglob("*") if path.suffix in (".png", ".csv"))
    whole = hashlib.sha256(b"".join(f"{p.relative_to(folder)}".encode() + p.read_bytes() for p in files))
    yield "exported", {"content": whole.hexdigest(), "index": str(len(files))}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict[str, str]]:
    return dict(made(tmp_path_factory.mktemp("content")))


NAMES = sorted(json.loads(FILE.read_text())) if FILE.exists() else []


@pytest.mark.parametrize("name", NAMES)
def test_the_content_is_what_it_was(found, name):
    assert found[name] == json.loads(FILE.read_text())[name]


def test_every_kind_is_recorded_and_differs(found):
    assert sorted(found) == NAMES
    contents = [one["content"] for one in found.values()]
    # Labels change the index and not the content.
    assert len(set(contents)) == len(contents) - 2
    assert len({one["index"] for one in found.values()}) == len(found)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        FILE.write_text(json.dumps(dict(made(Path(name))), indent=1, sort_keys=True) + "\n")
