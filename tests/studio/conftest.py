"""Small models in a studio, and a client that calls it as the page does."""

import pytest

pytest.importorskip("fastapi", reason="the studio needs its extra: pip install 'omokage[studio]'")

from dataclasses import replace

from standins import small_model
from starlette.testclient import TestClient

from omokage.studio.controls import Offered
from omokage.studio.server import create_app


def offered(family="stylegan2", number=1, **how):
    """A tiny model that has learnt nothing, as the studio offers it."""
    model = replace(small_model(family, how.pop("conditions", None)), snapshot_hash=str(number) * 64)
    return Offered(model, f"runs/{family}", how.pop("directions", None), "This model has no directions yet.")


@pytest.fixture(scope="session")
def models():
    """One with styles and one without."""
    return [offered("stylegan2", 1), offered("dcgan", 2)]


@pytest.fixture(scope="module")
def client(models):
    with TestClient(create_app(models), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="session")
def styled(models):
    return models[0].id


@pytest.fixture(scope="session")
def plain(models):
    return models[1].id
