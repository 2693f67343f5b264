"""Small models in a studio, and a client that calls it as the page does."""

import pytest

pytest.importorskip("fastapi", reason="the studio needs its extra: pip install 'omokage[studio]'")

import warnings

import torch
from standins import small_model

from omokage.explore.directions import Direction, Directions, write_directions
from omokage.model import load_model, write_small
from omokage.studio import controls
from omokage.studio.server import create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a newer client that is not needed
    from starlette.testclient import TestClient


def directions_of(model):
    """Two directions that a user would see, and one for an attribute of two values."""
    generator = torch.Generator().manual_seed(0)
    width = model.mapping(torch.zeros(1, *model.latent_shape)).shape[2]
    names = {"hair=blue": (0, 1), "hair=red": (), "glasses": (2,)}
    rows = [
        Direction(
            name,
            torch.randn(width, generator=generator),
            *(name.split("=") if "=" in name else (name, "yes")),
            layers=layers,
        )
        for name, layers in names.items()
    ]
    vectors = torch.stack([row.vector for row in rows])
    return Directions("w", tuple(rows), vectors, tuple(names), {}, vectors[0], model.snapshot_hash, "0", 64)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """One with styles and directions, and one without either; both are snapshots on the disk."""
    folder = tmp_path_factory.mktemp("models")
    found = []
    for name in ("stylegan2", "dcgan"):
        path = folder / f"{name}.safetensors"
        write_small(small_model(name), path)
        if name == "stylegan2":
            beside = path.with_name("stylegan2.directions.safetensors")
            write_directions(beside, directions_of(load_model(path, "cpu")))
        found.append(controls.open_model(str(path)))
    return found


@pytest.fixture(scope="module")
def client(models):
    with TestClient(create_app(models), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def studio(client):
    return client.app.state.studio


@pytest.fixture(scope="session")
def styled(models):
    """The name of the model with styles."""
    return models[0].id


@pytest.fixture(scope="session")
def plain(models):
    """The name of the model without styles."""
    return models[1].id
