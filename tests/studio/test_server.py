"""The calls of the studio's page."""

import io

import numpy as np
import pytest
from PIL import Image

from omokage.sampling import gathered, sample
from omokage.settings import Settings


def picture(client, url):
    """A picture of the server, uint8 (H, W, 3)."""
    reply = client.get(url)
    assert reply.status_code == 200
    assert "immutable" in reply.headers["cache-control"]
    return np.asarray(Image.open(io.BytesIO(reply.content)))


def tiles(client, told):
    """The faces of a sprite, one after the other."""
    sprite, (height, width) = picture(client, told["sprite"]), told["tile"]
    for number in range(len(told["faces"])):
        y, x = number // told["columns"] * height, number % told["columns"] * width
        yield sprite[y : y + height, x : x + width]


@pytest.mark.parametrize("which", [0, 1])
def test_a_wall_shows_the_faces_that_sampling_draws(client, models, which):
    model = models[which].model
    told = client.post(
        "/api/wall", json={"model": models[which].id, "start": 5, "count": 20, "psi": 0.5}
    ).json()
    exact, _ = gathered(sample(model, range(5, 25), Settings(psi=0.5)))
    assert told["next"] == 25
    assert np.abs(np.stack(list(tiles(client, told))).astype(int) - exact).max() <= 1


def test_a_board_keeps_pins_and_undoes(client, styled):
    board = client.post("/api/boards", json={"name": "Heroine"}).json()
    edit = {"edit": "pin", "face": {"model": styled, "from": {"seed": 3}}, "made_by": "roll", "request": "a"}
    for _ in range(2):  # a repeated request is applied once
        told = client.post(f"/api/boards/{board['id']}/edits", json=edit).json()
    assert [pin["face"]["from"] for pin in told["pins"]] == [{"seed": 3}]
    assert client.post(f"/api/boards/{board['id']}/undo").json()["pins"] == []
    assert len(client.post(f"/api/boards/{board['id']}/redo").json()["pins"]) == 1
