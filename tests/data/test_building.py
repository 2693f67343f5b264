import csv
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from omokage import hardware
from omokage.__main__ import main
from omokage.data.build import build, pieces, pipeline, tools
from omokage.data.build.options import Options
from omokage.data.build.plan import DETECTED
from omokage.data.drawn import draw, draw_face, draw_illustration
from omokage.data.sources.beside import pictures
from omokage.data.sources.opening import open_source
from omokage.data.steps.face import Face
from omokage.data.store import shards
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError

QUICK = Options(detector="cascade-example", clean=False, label=False, upscale="lanczos", duplicates=False)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_PICTURES", 5)
    monkeypatch.setattr(pieces, "PIECE_FACES", 3)


@pytest.fixture(scope="module")
def illustrations(tmp_path_factory) -> Path:
    """Six drawn scenes, a copy, and what else lies about in folders."""
    folder = tmp_path_factory.mktemp("scenes") / "in"
    folder.mkdir()
    for i in range(6):
        Image.fromarray(draw_illustration(i, (240, 320)).image).save(folder / f"{i}.png")
    copy = io.BytesIO()
    Image.open(folder / "4.png").save(copy, "JPEG", quality=70)
    (folder / "copy of 4.jpg").write_bytes(copy.getvalue())
    Image.new("RGB", (200, 150), "white").save(folder / "blank.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:3000])
    (folder / "notes.txt").write_text("beside no picture")
    (folder / "0.txt").write_text("1girl, pink hair, artist:mori, rating:general")
    (folder / "1.json").write_text(json.dumps({"tag_string": "solo blue_eyes", "rating": "e"}))
    (folder / "3.png.json").write_text(json.dumps({"tags": ["solo"], "rating": "g", "artist": "Hayashi"}))
    (folder / "4.json").write_text("{broken")
    return folder


@pytest.fixture(scope="module")
def whole(illustrations, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_PICTURES", 5)
        build([illustrations], out, size=48, workers=1, options=Options(upscale="lanczos"))
    return out


def test_every_picture_and_every_face_is_accounted_for(illustrations, whole):
    counts = json.loads((whole / "manifest.json").read_text())["counts"]
    told = counts["pictures"]
    assert told["found"] == 10  # 7 scenes, blank, broken, notes
    assert told["kept"] + told["rejected"] == told["found"]
    assert sum(told["reasons"].values()) == told["rejected"]
    assert counts["kept"] + counts["rejected"] == counts["found"]
    assert sum(counts["reasons"].values()) == counts["rejected"]
    assert (told["files_beside"], told["unreadable_labels"]) == (4, 1)
    assert [line.split(":")[0] for line in told["unreadable_labels_named"]] == ["4.json"]
    assert told["reasons"]["rating"] == 1
    assert counts["kept"] >= 8
    faces = FaceSet.open(whole)
    detected = pq.read_table(whole / DETECTED).to_pylist()
    assert len(detected) == counts["found"]
    assert sorted(r["key"] for r in detected if r["reason"] is None) == sorted(faces.keys)
    with open(whole / "rejected.csv", newline="", encoding="utf-8") as file:
        rejected = list(csv.DictReader(file))
    whole_pictures = [row for row in rejected if not row["face"]]
    assert len(rejected) - len(whole_pictures) == counts["rejected"]
    assert len(whole_pictures) + told["reasons"].get("all faces left out", 0) == told["rejected"]
    why = {row["file"]: row["reason"] for row in whole_pictures}
    assert why["in/1.png"] == "rating: explicit"
    assert why["in/notes.txt"] == "text, not a picture"
    assert why["in/blank.png"] == "no face found"
    assert "in/broken.png" in why


def test_faces_are_where_they_were_drawn(illustrations, whole):
    faces = FaceSet.open(whole)
    assert faces.pixels(range(len(faces)), 48).shape == (len(faces), 48, 48, 3)
    assert {row["format"] for row in faces.index.to_pylist()} == {"jpg"}
    rows = pq.read_table(whole / DETECTED).to_pylist()
    hits = boxes = 0
    for i in (0, 2, 3, 4, 5):
        found = [r for r in rows if r["file"] in (f"{i}.png", f"copy of {i}.jpg")]
        for x, y, w, h in draw_illustration(i, (240, 320)).boxes:
            boxes += 1
            hits += any(
                abs(r["face_x"] + r["face_width"] / 2 - x - w / 2) < 0.4 * w
                and abs(r["face_y"] + r["face_height"] / 2 - y - h / 2) < 0.4 * h
                for r in found
            )
    assert hits >= 0.85 * boxes


def test_labels_reach_the_index(whole):
    rows = FaceSet.open(whole).index.to_pylist()
    first = [row for row in rows if row["file"] == "0.png"]
    assert first
    assert {row["artist"] for row in first} == {"mori"}
    assert {(row["hair"], row["hair_from"]) for row in first} == {("pink", "tags")}
    assert {row["eyes_from"] for row in first} == {"network"}
    third = [row for row in rows if row["file"] == "3.png"]
    assert {(row["artist"], row["rating"], row["tags"]) for row in third} == {("Hayashi", "general", "solo")}


def test_copies_are_left_out(whole):
    detected = pq.read_table(whole / DETECTED).to_pylist()
    copies = [r for r in detected if r["step"] == "duplicates"]
    assert copies
    assert {r["file"] for r in copies} <= {"4.png", "copy of 4.jpg"}
    assert all(r["reason"].startswith("duplicate: of ") for r in copies)


def test_the_report_tells_the_same(whole):
    page = (whole / "report.html").read_text()
    counts = json.loads((whole / "manifest.json").read_text())["counts"]
    assert f"{counts['found']:,} faces found" in page
    assert "no face found" in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("data:image/jpeg") >= counts["kept"]
    assert "<script" not in page


def test_other_thresholds_without_detecting_again(illustrations, whole, tmp_path, monkeypatch):
    def never(*_: object) -> list:
        raise AssertionError("detected again")

    monkeypatch.setattr(pipeline.Tools, "__init__", _without_detector(pipeline.Tools.__init__, never))
    detected = pq.read_table(whole / DETECTED).to_pylist()
    sides = sorted(row["face_side"] for row in detected if row["reason"] is None)
    limit = sides[len(sides) // 2] + 0.01
    options = Options(upscale="lanczos", limits=(f"face_side={limit}",))
    build([illustrations], tmp_path / "set", size=48, workers=1, options=options, detections=whole)
    rows = FaceSet.open(tmp_path / "set").index.to_pylist()
    assert rows
    assert min(row["face_side"] for row in rows) >= limit
    before = {row["key"]: row for row in FaceSet.open(whole).index.to_pylist()}
    shared = [row for row in rows if row["key"] in before]
    assert shared
    assert all(row["sha256"] == before[row["key"]]["sha256"] for row in shared)  # the same pixels
    with pytest.raises(UserError, match="other sources or by another detector"):
        build([illustrations / "0.png"], tmp_path / "b", size=48, options=options, detections=whole)


def _without_detector(original, never):
    def start(self, options):
        original(self, options)
        described = self.detector.described
        self.detector = never
        never.described = described

    return start


def test_interrupted_equals_unbroken_whatever_the_workers(illustrations, tmp_path, monkeypatch):
    build([illustrations], tmp_path / "one", size=40, workers=1, options=QUICK)
    calls = 0
    original = pipeline.handle

    def interrupted(job, tools):
        nonlocal calls
        calls += 1
        if calls in (3, 8):
            raise KeyboardInterrupt
        return original(job, tools)

    monkeypatch.setattr(pipeline, "handle", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt, match="repeat the command"):
            build([illustrations], tmp_path / "broken", size=40, workers=1, options=QUICK)
        assert not (tmp_path / "broken").exists()
    build([illustrations], tmp_path / "broken", size=40, workers=1, options=QUICK)
    assert calls == 2 + 14  # it went on, it did not begin again
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "one")


def test_killed_while_shards_are_written(illustrations, tmp_path, monkeypatch):
    build([illustrations], tmp_path / "one", size=40, workers=1, options=QUICK)
    original, closed = shards.ShardWriter.close, 0

    def full(self):
        nonlocal closed
        closed += 1
        if closed == 2:
            raise RuntimeError("as if killed")
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards.ShardWriter, "close", full)
        with pytest.raises(RuntimeError):
            build([illustrations], tmp_path / "set", size=40, workers=1, options=QUICK)
    build([illustrations], tmp_path / "set", size=40, workers=1, options=QUICK)
    assert files_of(tmp_path / "set") == files_of(tmp_path / "one")


def test_kill_nine_and_two_processes(illustrations, tmp_path):
    build([illustrations], tmp_path / "one", size=40, workers=1, options=QUICK)
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            from omokage.data.build import pieces
            from omokage.data.store import shards
            from omokage.data.build import build
            from omokage.data.build.options import Options
            if __name__ == "__main__":
                shards.SHARD_PICTURES, pieces.PIECE_FACES = 5, 3
                options = Options(
                    detector="cascade-example", clean=False, label=False, upscale="lanczos", duplicates=False
                )
                build([sys.argv[1]], sys.argv[2], size=40, workers=2, options=options)
        """)
    )
    command = [sys.executable, script, illustrations, tmp_path / "set"]
    state = tmp_path / ".set.partial" / ".state"
    process = subprocess.Popen(command)
    while process.poll() is None and not (state / "000000.json").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True)
    assert files_of(tmp_path / "set") == files_of(tmp_path / "one")


def test_sidecars_of_a_stream(illustrations, tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name in ("0.png", "0.txt", "notes.txt", "1.json", "1.png"):
            archive.add(illustrations / name, name)
    for source in (tmp_path / "a.tar.gz", illustrations):
        with open_source(source) as opened:
            named = {found.name: [b.name for b in beside] for found, beside in pictures(opened, True)}
        assert named["0.png"] == ["0.txt"]
        assert named["1.png"] == ["1.json"]
        assert named["notes.txt"] == []
        assert "0.txt" not in named


def test_several_records_beside_one_picture_count_strictly(tmp_path, capsys):
    folder = draw(4, tmp_path / "drawn", size=(96, 128), illustrations=True, workers=1)
    for number, text in enumerate(
        (
            '[{"id": 1, "rating": "e"}, {"id": 2}]',
            '[{"id": 1, "artist": "kei"}, {"id": 2, "artist": "Mira"}]',
            '[{"file": "x.png", "rating": "e"}, {"file": "illustration-000002.png", "tags": "hat"}]',
        )
    ):
        (folder / f"illustration-{number:06d}.json").write_text(text)
    (tmp_path / "list.txt").write_text("mira\n")
    command = f"build {folder} -o {tmp_path / 'set'} --no-detect --no-clean --workers 1"
    assert main([*command.split(), "--opt-out", f"{tmp_path / 'list.txt'}"]) == 0
    told = FaceSet.open(tmp_path / "set").manifest["counts"]["pictures"]
    assert (told["found"], told["kept"], told["unreadable_labels"]) == (4, 2, 2)
    assert told["reasons"] == {"opted out": 1, "rating": 1}
    assert "2 images have labels beside them that cannot be read, or that name no image" in (
        said := capsys.readouterr().out
    )
    assert "2 records, none of which names the picture: the strictest rating counts" in said


def test_tables_of_labels_are_not_pictures(tmp_path):
    folder = draw(2, tmp_path / "drawn", size=(96, 128), illustrations=True, workers=1)
    (folder / "prices.csv").write_text("item,price\ntea,3\n")
    (folder / "illustration-000000.json").write_text('{"tags": ["smile"]}')
    with open_source(folder) as opened:
        named = {found.name: [b.name for b in beside] for found, beside in pictures(opened, True)}
        assert opened.total == sum(1 + len(beside) for beside in named.values()) == 6
    first, second = "illustration-000000.png", "illustration-000001.png"
    assert named[first] == ["illustration-000000.json", "boxes.json", "factors.csv"]
    assert (named[second], named["prices.csv"]) == ([], [])
    options = Options(detector=None, clean=False)
    told = build([folder], tmp_path / "set", options=options, workers=1).pictures
    assert (told["found"], told["kept"], told["files_beside"], told["unreadable_labels"]) == (3, 2, 3, 0)
    assert FaceSet.open(tmp_path / "set").index["tags"].to_pylist() == ["smile", None]
    for path in folder.glob("*.png"):
        path.unlink()
    with open_source(folder) as opened:
        assert len(list(pictures(opened, True))) == opened.total == 4


def test_frames_of_animations_are_pictures_apart(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    scenes = [Image.fromarray(draw_illustration(i, (240, 320)).image) for i in range(5)]
    scenes[0].save(folder / "film.png", save_all=True, append_images=scenes[1:])
    scenes[1].save(folder / "still.png")
    options = dataclasses.replace(QUICK, detector="network", frames=2)
    report = build([folder], tmp_path / "set", workers=1, options=options)
    assert report.pictures["found"] == 2
    index = FaceSet.open(tmp_path / "set").index.to_pylist()
    film = [row for row in index if row["file"] == "film.png"]
    assert {row["frame"] for row in film} == {1, 3, 5}
    assert {row["frame"] for row in index if row["file"] == "still.png"} == {None}
    assert all(row["key"].startswith(f"film@{row['frame']}") for row in film)
    assert film[0]["done"].startswith("frame 1 of 5")
    # Other thresholds from what was detected: every face is found in its own frame again.
    again = dataclasses.replace(options, clean=True, limits=("face_side=24", "sharpness=off"))
    build([folder], tmp_path / "more", workers=1, options=again, detections=tmp_path / "set")
    boxes = ("key", "frame", "face_x", "face_y")
    more = {tuple(row[name] for name in boxes) for row in FaceSet.open(tmp_path / "more").index.to_pylist()}
    assert more
    assert more <= {tuple(row[name] for name in boxes) for row in index}


def test_pictures_that_are_faces_can_be_cleaned_too(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(draw_face(i, 64).image).save(folder / f"{i}.png")
    Image.new("RGB", (64, 64), (200, 200, 200)).save(folder / "plain.png")
    options = Options(detector=None, upscale=None, format="png", limits=("face_score=off",))
    report = build([folder], tmp_path / "set", size=64, workers=1, options=options)
    assert (report.found, report.kept) == (4, 3)
    faces = FaceSet.open(tmp_path / "set")
    assert np.array_equal(faces.pixels([0], 64)[0], draw_face(0, 64).image)
    small = Options(detector=None, upscale=None, clean=False)
    with pytest.raises(UserError, match="smaller than wanted"):
        build([folder], tmp_path / "large", size=128, workers=1, options=small)


def test_close_ups_are_told_and_can_be_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    boxes: dict[str, tuple] = {}
    for i in range(3):
        face = draw_face(i, 200)
        x, y, w, h = face.box
        Image.fromarray(face.image[y : y + h, x : x + w]).save(f"in/close{i}.png")  # nothing but the face
        Image.fromarray(np.pad(face.image, ((99,) * 2, (99,) * 2, (0, 0)), "edge")).save(f"in/far{i}.png")
        boxes |= {f"close{i}.png": (0, 0, w, h), f"far{i}.png": (99 + x, 99 + y, w, h)}

    class Known:
        described = "known"
        rest = iter(sorted(boxes))

        def __call__(self, pixels):
            return [Face(*map(float, boxes[next(self.rest)]), 1.0)]

    class Sure:
        file_hash = ""

        def __call__(self, *_):
            return 1.0

    def build_it(out, *more):
        Known.rest = iter(sorted(boxes))
        switches = ("--workers", "1", "--no-label", "--size", "48", "--upscale", "lanczos", "--no-duplicates")
        limits = [f"--threshold={name}=off" for name in ("sharpness", "colour", "detail", "face_score")]
        assert main(["build", "in", "-o", out, "--detector", "cascade", *switches, *limits, *more]) == 0
        return capsys.readouterr().out, FaceSet.open(out)

    monkeypatch.setattr(tools, "open_detector", lambda *_, **__: Known())
    monkeypatch.setattr(tools, "FaceScore", lambda **_: Sure())
    told, without = build_it("a")
    assert "3  too far beyond the border" in told
    assert "3 of 6 faces are close-ups" in told
    assert "--close-ups tight" in told
    assert "close_ups" not in without.manifest["options"]
    told, kept = build_it("b", "--close-ups", "tight")
    assert len(kept) == 6
    assert "3 close-ups are cut out more tightly" in told
    assert "are close-ups" not in told.replace("close-ups are cut", "")
    done = dict(zip(kept.keys, kept.index["done"].to_pylist(), strict=True))
    closer = {key for key, note in done.items() if note.startswith("close-up")}
    assert closer == {"close0", "close1", "close2"}
    assert set(without.index["sha256"].to_pylist()) < set(kept.index["sha256"].to_pylist())
    told, kept = build_it("c", "--close-ups", "tight", "--border", "leave-out", "--crop", "tight")
    assert len(kept) == 3  # not even the face's box is wholly in the picture
    assert "3 of 6 faces are close-ups" in told
    assert main(["build", "in", "-o", "d", "--close-ups", "wide"]) == 2
    assert main(["build", "in", "-o", "d", "--close-ups", "tight", "--as-faces"]) == 2


def test_the_machine_s_precision_is_chosen_once_and_named(illustrations, tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "best_precision", lambda device: "bf16")
    options = Options(clean=False, label=False, upscale=None, duplicates=False)
    build([illustrations], tmp_path / "set", workers=1, options=options)
    manifest = FaceSet.open(tmp_path / "set").manifest
    assert manifest["options"]["precision"] == manifest["tools"]["detector"]["precision"] == "bf16"
    # On a machine that chooses otherwise, it must be asked for; then the face set is this one.
    monkeypatch.setattr(hardware, "best_precision", lambda device: "fp32")
    same = dataclasses.replace(options, precision="bf16")
    assert build([illustrations], tmp_path / "set", workers=1, options=same).already


def test_transparency_lies_on_a_colour_of_choice(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGBA", (40, 40), (255, 255, 255, 0)).save(tmp_path / "in" / "clear.png")
    command = ["build", f"{tmp_path / 'in'}", "-o", f"{tmp_path / 'set'}", "--no-detect", "--no-clean"]
    command += ["--format", "png", "--workers", "1", "--background"]
    assert main([*command, "octarine"]) == 2
    assert "octarine" in capsys.readouterr().err
    assert main([*command, "#102030"]) == 0
    assert FaceSet.open(tmp_path / "set").image(0).getpixel((3, 3)) == (0x10, 0x20, 0x30)


def test_refusals(illustrations, tmp_path):
    for options, message in [
        (Options(detector="yolo"), "no detector"),
        (Options(crop="huge"), "unknown"),
        (Options(border="sea"), "unknown"),
        (Options(format="gif"), "unknown"),
        (Options(precision="fp8"), "--precision"),
        (Options(frames=0), "--frames"),
        (Options(ratings=("nice",)), "rating"),
        (Options(limits=("sharp=1",)), "not a threshold"),
        (Options(aspect=9.0), "aspect"),
        (Options(opt_out=str(tmp_path / "none.txt")), "opt-out"),
        (Options(detector=str(tmp_path / "none.onnx")), "none.onnx|onnxruntime"),
    ]:
        with pytest.raises(UserError, match=message):
            build([illustrations], tmp_path / "set", options=options)
        assert not (tmp_path / "set").exists()
    with pytest.raises(UserError, match="--as-faces"):
        build([illustrations], tmp_path / "set", as_faces=True, options=QUICK)
    (tmp_path / "out.txt").write_text("mori\n")
    report = build(
        [illustrations], tmp_path / "set", workers=1,
        options=Options(detector="cascade-example", clean=False, opt_out=str(tmp_path / "out.txt")),
    )  # fmt: skip
    assert report.pictures["reasons"]["opted out"] == 1
