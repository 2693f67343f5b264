"""Rolling a page: the critic, and directions for what is rare."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from omokage.critic import QUANTILES, Critic
from omokage.explore.points import drawn, joined, stacked
from omokage.model import PLAIN
from omokage.sampling import gathered, latents, sample
from omokage.settings import Settings
from omokage.studio import drawing, faces
from omokage.studio.drawing import Drawn
from omokage.studio.faces import Resolver
from omokage.studio.rolling import Looking, OnlyFinite, Roll, roll
from omokage.studio.server import create_app


@pytest.fixture(scope="module")
def model(models):
    """The styled model with a critic that likes the first entry of its features."""
    model = models[0].model
    features = model.first_features(latents(range(256), model.latent_shape))
    critic = Critic(features.shape[1], hidden=4)
    with torch.no_grad():
        critic.mean.copy_(features.mean(0))
        critic.scale.copy_(features.std(0) + 1e-6)
        critic.quantiles.copy_(critic(features).sort().values.quantile(torch.linspace(0, 1, QUANTILES)))
    return replace(model, critic=critic.eval().requires_grad_(False))


@pytest.fixture
def draw(model, models):
    resolver = Resolver(model, directions=models[0].directions)

    def drawing(wanted):
        pixels, finite = stacked(drawn(model, joined(resolver.points(wanted)), PLAIN), model.resolution)
        return [Drawn(faces.key(face), *row) for face, *row in zip(wanted, pixels, finite, strict=True)]

    return drawing


def asked(models, **more):
    told = {"model": models[0].id, "start": 10, "count": 12, "psi": 0.8, "settings": {}, "fixed": {}}
    return Roll(**{**told, "replace": True, **more})


def test_the_critic_puts_other_faces_of_the_same_seeds_in_place_of_broken_ones(model, models, draw):
    found = roll(model, asked(models), draw, critic=OnlyFinite())
    exact, _ = gathered(sample(model, range(10, 22), Settings(psi=0.8, critic=3.0)))
    plain, _ = gathered(sample(model, range(10, 22), Settings(psi=0.8)))
    assert (np.stack([one.pixels for one in draw(found.faces)]) == exact).all()
    assert all(face.settings == {"critic": 3.0} for face in found.faces)
    others = int((exact != plain).any((1, 2, 3)).sum())
    assert 0 < others < 12
    assert (found.replaced, found.next) == (others, 22)
    assert found.told == [f"The model's critic chose another face for {others} seeds."]
    assert found.notes == [{"code": "replaced", "n": others}]


def test_a_critic_that_is_asked_to_try_more_is_not_slowed_down(model, models, draw):
    found = roll(model, asked(models, settings={"critic": 5}), draw, critic=OnlyFinite())
    assert {face.settings["critic"] for face in found.faces} == {5.0}


def test_a_picture_is_looked_at_once():
    class Network:
        threshold, looked = 0.5, 0

        def scores(self, pictures):
            self.looked += len(pictures)
            return np.where(pictures.mean((1, 2, 3)) > 100, 0.1, 1.2)

    network = Network()
    critic = Looking(network)
    pictures = [np.full((8, 8, 3), level, np.uint8) for level in (0, 200, 0)]
    wanted = [Drawn(str(key), picture, True) for key, picture in enumerate(pictures)]
    for _ in range(2):
        whole, scores = critic(wanted)
        assert whole.tolist() == [False, True, False]
        assert scores == [0.0, 0.9, 0.0]  # within 0 to 1
    assert network.looked == 2


def test_what_is_rare_is_steered_for(model, models, draw):
    """The network sees blue hair in no face, and the model has a direction for it."""

    class Blind:
        def __call__(self, pixels):
            rows = np.zeros((len(pixels), 12), "f4")
            rows[:, 0] = 1
            return type("Seen", (), {"probabilities": {"hair": rows}, "__len__": lambda self: len(pixels)})()

    wanted = asked(models, fixed={"hair": "blue"}, replace=False, count=6)
    found = roll(model, wanted, draw, network=Blind(), directions=models[0].directions)
    assert len(found.faces) == 6
    assert all(face.edits == {"hair=blue": 2.0} for face in found.faces)
    assert [note["code"] for note in found.notes] == ["few", "steered"]
    assert found.next == 10 + 4 * 6 + 8  # four pages were tried, in parts of 32
    without = roll(model, wanted, draw, network=Blind())
    assert without.faces == []
    assert without.next == 10 + 16 * 6


def test_what_a_page_opens_with_is_drawn_before_it_asks(models, plain, monkeypatch):
    monkeypatch.setattr("omokage.studio.service.preview", lambda model: None)  # it takes seconds to make
    real, batches = drawing._drawn, []
    monkeypatch.setattr(drawing, "_drawn", lambda *given: batches.append(1) or real(*given))
    app = create_app([models[1]])
    with TestClient(app, base_url="http://localhost") as client:
        app.state.studio.prepare().join(60)
        drawn = len(batches)
        start = 0
        for broken in ("show", "replace", "replace"):
            asked = {"model": plain, "start": start, "psi": 0.8, "broken": broken}
            told = client.post("/api/wall", json=asked).json()
            start = told["next"] if broken == "replace" else 0
    assert start == 48
    assert len(batches) == drawn > 0
