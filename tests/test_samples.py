import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw
from standins import Faulty

from omokage import __version__
from omokage.errors import UserError
from omokage.pages.sheet import INK, PAPER
from omokage.samples import checked_seeds, write_each, write_grid, write_sheet, write_walk
from omokage.sampling import gathered, sample
from omokage.settings import Settings


def faces_of(model, seeds, psi=1.0):
    return gathered(sample(model, seeds, Settings(psi=psi)))[0]


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_grid_shows_the_faces_in_the_order_of_the_seeds(disk_model, tmp_path):
    seeds = [5, 0, 1, 2, 70, 71, 3]
    out = write_grid(disk_model, seeds, tmp_path / "grid.png", settings=Settings(psi=0.7), columns=4)
    picture = np.asarray(Image.open(out))
    assert picture.shape == (2 * 32 + 1, 4 * 32 + 3, 3)
    for i, face in enumerate(faces_of(disk_model, seeds, 0.7)):
        y, x = (i // 4) * 33, (i % 4) * 33
        assert (picture[y : y + 32, x : x + 32] == face).all()
    assert (picture[33:, 99:] == 255).all()  # the place that no face fills


def test_a_grid_says_how_it_was_made(disk_model, tmp_path):
    settings = Settings(psi=0.5)
    path = write_grid(disk_model, [0, 1, 2, 9], tmp_path / "grid.png", settings=settings)
    text = Image.open(path).text
    assert json.loads(text.pop("omokage"))["faces"] == [{"seeds": "0-2,9"}]
    assert "Seed: 0" in text.pop("parameters")
    assert text == {
        "Software": f"omokage {__version__}",
        "recipe": "disk",
        "snapshot": disk_model.about.snapshot_hash,
        "images seen": "12345",
        "seeds": "0-2,9",
        "psi": "0.5",
        "columns": "2",
    }


def test_a_file_a_seed(disk_model, tmp_path):
    seeds = [17, 3, 1_234_567]
    paths = write_each(disk_model, seeds, tmp_path / "new" / "faces")
    assert [path.name for path in paths] == ["seed-000017.png", "seed-000003.png", "seed-1234567.png"]
    for path, seed, face in zip(paths, seeds, faces_of(disk_model, seeds), strict=True):
        image = Image.open(path)
        assert (np.asarray(image) == face).all()
        assert image.text["seeds"] == str(seed)
    assert len(os.listdir(tmp_path / "new" / "faces")) == 3


@pytest.mark.parametrize("name", ["grid.jpg", "grid", "grid.mp4"])
def test_a_wrong_name_is_refused_before_sampling(disk_model, tmp_path, name):
    disk_model.decode = None
    with pytest.raises(UserError, match=r"\.png"):
        write_grid(disk_model, [0], tmp_path / name)


def test_a_picture_too_large_to_open_is_refused_before_sampling(disk_model, tmp_path):
    disk_model.resolution = (512, 512)
    disk_model.decode = None
    with pytest.raises(UserError, match="one file a seed"):
        write_grid(disk_model, range(1000), tmp_path / "grid.png")


def test_progress_counts_the_faces(disk_model, tmp_path):
    class Counter:
        def task(self, label, total):
            self.total, self.done = total, 0
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def advance(self, n=1, note=""):
            self.done += n

    counter = Counter()
    write_grid(disk_model, range(70), tmp_path / "grid.png", progress=counter)
    assert (counter.total, counter.done) == (70, 70)


def test_images_that_are_not_finite_are_named_and_never_hidden(disk_model, tmp_path):
    faulty, broken = Faulty(disk_model, [17, 3]), []
    path = write_grid(faulty, range(20), tmp_path / "grid.png", broken=broken)
    assert broken == [3, 17]  # though the last batch is filled up with copies
    assert Image.open(path).text["not finite"] == "3,17"
    broken = []
    paths = write_each(faulty, [2, 3], tmp_path / "each", broken=broken)
    assert broken == [3]
    assert ["not finite" in Image.open(path).text for path in paths] == [False, True]
    assert Image.open(write_sheet(faulty, [3], tmp_path / "sheet.png")).text["not finite"] == "3"
    broken = []
    write_walk(faulty, [1, 3, 5], tmp_path / "walk.mp4", frames_per_leg=2, broken=broken)
    assert broken == [2]
    with pytest.warns(UserWarning, match="not finite, shown black: frames 2"):
        write_walk(faulty, [1, 3, 5], tmp_path / "walk.mp4", frames_per_leg=2)


@pytest.mark.parametrize(("seeds", "says"), [([], "no seeds"), ([3, -1], "-1")])
def test_impossible_seeds_are_refused(seeds, says):
    with pytest.raises(UserError, match=says):
        checked_seeds(seeds)


@pytest.mark.parametrize(("resolution", "shown"), [((64, 64), 128), ((48, 32), 128), ((256, 256), 256)])
def test_faces_are_enlarged_and_framed_by_paper(disk_model, tmp_path, resolution, shown):
    disk_model.resolution = resolution
    out = write_sheet(disk_model, range(6), tmp_path / "sheet.png")
    sheet = Image.open(out)
    pixels = np.asarray(sheet)
    margin, gap, label = shown * 3 // 8, shown // 8, shown // 4
    shown_height = resolution[0] * shown // resolution[1]
    assert sheet.width == max(2 * margin + 3 * shown + 2 * gap, 4 * shown)
    bottom = sheet.height - margin + label // 2
    for row in range(2):
        for column in range(3):
            y, x = bottom - (2 - row) * (shown_height + label), margin + column * (shown + gap)
            assert (pixels[y + shown_height // 2, x : x + shown] != PAPER).any(1).all()
    for edge in (pixels[: margin // 2], pixels[:, : margin // 2], pixels[:, -margin // 2 :], pixels[-8:]):
        assert (edge == PAPER).all()
    assert sheet.text["seeds"] == "0-5"
    assert sheet.text["Title"] == "6 generated faces"


def test_the_title_and_every_seed_are_written(disk_model, tmp_path, monkeypatch):
    written = []
    draw_text = ImageDraw.ImageDraw.text

    def listen(self, xy, text, *args, **kwargs):
        written.append(text)
        return draw_text(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", listen)
    seeds, settings = [4, 123_456_789_012], Settings(psi=0.7)
    out = write_sheet(disk_model, seeds, tmp_path / "sheet.png", title="Two", settings=settings)
    assert written[0] == "Two"
    told = ("disk", "12,345", "psi 0.7", disk_model.about.snapshot_hash[:12])
    assert all(part in written[1] for part in told)
    assert written[2:] == ["4", "123456789012"]
    assert (np.asarray(Image.open(out)) == INK).all(2).any()


def test_long_texts_stay_on_the_sheet(disk_model, tmp_path):
    disk_model.resolution = (64, 64)
    title = "A rather long title " * 5
    out = write_sheet(disk_model, [2**63 - 1], tmp_path / "sheet.png", title=title)
    pixels = np.asarray(Image.open(out)).astype(int)
    inked = np.abs(pixels - PAPER).sum(2) > 60
    assert not inked[:, :40].any()
    assert not inked[:, -40:].any()


def test_one_face_is_not_called_faces(disk_model, tmp_path):
    out = write_sheet(disk_model, [0], tmp_path / "sheet.png")
    assert Image.open(out).text["Title"] == "1 generated face"


def test_a_sheet_of_a_wrong_name_is_refused(disk_model, tmp_path):
    with pytest.raises(UserError, match=r"must end in \.png"):
        write_sheet(disk_model, [0], tmp_path / "sheet.pdf")


def test_a_walk_is_a_film_that_players_play(disk_model, tmp_path):
    settings = Settings(psi=0.7)
    out = write_walk(disk_model, [3, 9], tmp_path / "walk.mp4", frames_per_leg=6, settings=settings)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (stream.codec.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height, stream.average_rate) == (256, 256, 30)
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert len(list(container.decode(video=0))) == 12
        said = json.loads(container.metadata["comment"])
    assert (said["seeds"], said["psi"], said["snapshot"]) == ("3,9", "0.7", disk_model.about.snapshot_hash)
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser starts before all of it is loaded


def test_each_stop_of_a_walk_is_the_face_of_its_seed(disk_model, tmp_path):
    seeds = list(range(12))
    out = write_walk(disk_model, seeds, tmp_path / "walk.mp4", frames_per_leg=4, tiles=(3, 2))
    frames = frames_of(out)
    assert len(frames) == 2 * 4
    assert frames[0].shape == (2 * 256 + 3 * 8, 3 * 256 + 4 * 8, 3)
    faces = faces_of(disk_model, seeds).astype(float)
    for stop in range(2):
        for place in range(6):
            y, x = 8 + (place // 3) * 264, 8 + (place % 3) * 264
            shown = frames[4 * stop][y : y + 256, x : x + 256].reshape(32, 8, 32, 8, 3).mean((1, 3))
            assert np.abs(shown - faces[6 * stop + place]).mean() < 3


def test_the_same_walk_gives_the_same_file(disk_model, tmp_path):
    files = [write_walk(disk_model, [1, 2], tmp_path / name, frames_per_leg=5) for name in ("a.mp4", "b.mp4")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_sides_are_even_for_an_odd_resolution(disk_model, tmp_path):
    disk_model.resolution = (33, 31)
    frames = frames_of(write_walk(disk_model, [1, 2], tmp_path / "walk.mp4", frames_per_leg=2))
    assert frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0
    assert min(frames[0].shape[:2]) >= 256


@pytest.mark.parametrize(
    ("seeds", "how", "says"),
    [
        ([1], {}, "at least 2"),
        (range(6), {"tiles": (4, 1)}, "multiple of 4"),
        (range(8), {"tiles": (0, 1)}, "at least 1"),
        (range(8), {"frames_per_leg": 0}, "at least 1"),
        (range(80), {"tiles": (40, 1)}, "fewer tiles"),
    ],
)
def test_impossible_walks_are_refused(disk_model, tmp_path, seeds, how, says):
    disk_model.decode = None
    with pytest.raises(UserError, match=says):
        write_walk(disk_model, seeds, tmp_path / "walk.mp4", **how)
    assert not os.listdir(tmp_path)


def test_a_missing_encoder_says_what_to_install(disk_model, tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(UserError, match=r"libx264.*pip install"):
        write_walk(disk_model, [1, 2], tmp_path / "walk.mp4")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match="pip install av"):
        write_walk(disk_model, [1, 2], tmp_path / "walk.mp4")
    assert not os.listdir(tmp_path)


def test_a_walk_that_breaks_leaves_nothing(disk_model, tmp_path):
    decode, calls = disk_model.decode, []

    def break_later(z, settings):
        calls.append(len(z))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return decode(z, settings)

    disk_model.decode = break_later
    with pytest.raises(KeyboardInterrupt):
        write_walk(disk_model, [1, 2], tmp_path / "walk.mp4", frames_per_leg=30)
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told_in_one_line(disk_model, tmp_path):
    (tmp_path / f".walk.{os.getpid()}.unfinished.mp4").symlink_to("/dev/full")
    with pytest.raises(UserError, match="cannot write: No space left") as caught:
        write_walk(disk_model, [1, 2], tmp_path / "walk.mp4", frames_per_leg=4)
    assert "\n" not in str(caught.value)
    assert not os.listdir(tmp_path)
