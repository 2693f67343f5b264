import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from omokage.explore.video import write_video, write_walk

from omokage.errors import UserError
from omokage.sampling import sample


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_walk_is_a_film_that_players_play(disk_model, tmp_path):
    out = write_walk(disk_model, [3, 9], tmp_path / "walk.mp4", frames_per_leg=6, psi=0.7)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (stream.codec.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height, stream.average_rate) == (256, 256, 30)
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert len(list(container.decode(video=0))) == 12
        said = json.loads(container.metadata["comment"])
    assert (said["seeds"], said["psi"], said["snapshot"]) == ("3,9", "0.7", disk_model.snapshot_hash)
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser starts before all of it is loaded


def test_each_stop_of_a_walk_is_the_face_of_its_seed(disk_model, tmp_path):
    seeds = list(range(12))
    out = write_walk(disk_model, seeds, tmp_path / "walk.mp4", frames_per_leg=4, tiles=(3, 2))
    frames = frames_of(out)
    assert len(frames) == 2 * 4
    assert frames[0].shape == (2 * 256 + 3 * 8, 3 * 256 + 4 * 8, 3)
    faces = np.concatenate(list(sample(disk_model, seeds))).astype(float)
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


@pytest.mark.parametrize("colour", [(255, 0, 0), (20, 200, 90), (250, 240, 230)])
def test_colours_come_back(tmp_path, colour):
    frame = np.full((64, 64, 3), colour, np.uint8)
    write_video([frame] * 3, tmp_path / "flat.mp4", frames_per_second=10, text={})
    assert np.abs(frames_of(tmp_path / "flat.mp4")[1].astype(int) - colour).max() <= 4


@pytest.mark.parametrize(
    ("seeds", "settings", "says"),
    [
        ([1], {}, "at least 2"),
        (range(6), {"tiles": (4, 1)}, "multiple of 4"),
        (range(8), {"tiles": (0, 1)}, "at least 1"),
        (range(8), {"frames_per_leg": 0}, "at least 1"),
        (range(80), {"tiles": (40, 1)}, "fewer tiles"),
    ],
)
def test_impossible_walks_are_refused(disk_model, tmp_path, seeds, settings, says):
    disk_model.decode = None
    with pytest.raises(UserError, match=says):
        write_walk(disk_model, seeds, tmp_path / "walk.mp4", **settings)
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

    def break_later(z, psi):
        calls.append(len(z))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return decode(z, psi)

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
