import json
import os

import av
import numpy as np
import pytest

from omokage.errors import UserError
from omokage.pages.video import LONGEST_SIDE, check_film, tiled, write_video


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("colour", [(255, 0, 0), (20, 200, 90), (250, 240, 230)])
def test_colours_come_back(tmp_path, colour):
    frame = np.full((64, 64, 3), colour, np.uint8)
    write_video([frame] * 3, tmp_path / "flat.mp4", frames_per_second=10, text={})
    assert np.abs(frames_of(tmp_path / "flat.mp4")[1].astype(int) - colour).max() <= 4


def test_a_film_says_what_it_is(tmp_path):
    frame = np.zeros((64, 64, 3), np.uint8)
    path = write_video([frame] * 3, tmp_path / "a.mp4", text={"seeds": "0-1", "pictures": "é"})
    with av.open(str(path)) as container:
        assert json.loads(container.metadata["comment"]) == {"seeds": "0-1", "pictures": "é"}
        assert container.streams.video[0].average_rate == 30


def test_frames_that_break_or_that_there_are_none_of_leave_nothing(tmp_path):
    def frames():
        yield np.zeros((64, 64, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(frames(), tmp_path / "a.mp4", text={})
    with pytest.raises(ValueError, match="at least one frame"):
        write_video([], tmp_path / "a.mp4", text={})
    assert not os.listdir(tmp_path)


def test_faces_are_enlarged_to_even_sides():
    assert check_film((64, 64), (1, 1)) == 4
    assert check_film((33, 31), (1, 1)) == 10  # 9 times would be odd
    assert check_film((512, 512), (1, 1)) == 1


def test_tiles_stand_in_reading_order_between_gutters():
    faces = np.arange(1, 7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    (frame,) = tiled([faces], 3)
    assert frame.shape == (2 * 256 + 3 * 8, 3 * 256 + 4 * 8, 3)
    for i in range(6):
        y, x = 8 + (i // 3) * 264, 8 + (i % 3) * 264
        assert (frame[y : y + 256, x : x + 256] == i + 1).all()
    (alone,) = tiled([faces[:1]], 1)
    assert alone.shape == (256, 256, 3)


def test_a_film_that_few_players_show_is_refused():
    check_film((256, 256), (LONGEST_SIDE // 264, 1))
    with pytest.raises(UserError, match=r"16x1 walks of 256x256 px .* fewer tiles"):
        check_film((256, 256), (16, 1))
