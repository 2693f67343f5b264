import numpy as np
import pytest
import torch
from PIL import Image
from standins import Faulty, PlainDisks

from omokage.errors import UserError
from omokage.explore.history import spread, stages
from omokage.settings import Settings


@pytest.fixture
def model():
    return PlainDisks((4, 4))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of nine snapshots and five grids; a snapshot's faces are as bright as its place in the run."""
    folder = tmp_path / "run"
    (folder / "grids").mkdir(parents=True)
    for i in range(9):
        (folder / f"snapshot-{1000 * 2**i:012d}.safetensors").touch()
    for i in range(5):
        cells = np.arange(64, dtype=np.uint8).repeat(16).reshape(8, 8, 4, 4).swapaxes(1, 2).reshape(32, 32)
        picture = np.stack([cells, np.full((32, 32), 50 * i, np.uint8), cells], 2)
        Image.fromarray(picture).save(folder / "grids" / f"images-{500 * (i + 1):012d}.png")

    def load(path):
        model = PlainDisks((4, 4))
        at = int(path.stem.removeprefix("snapshot-"))
        model.decode = lambda z, settings: torch.full((len(z), 3, 4, 4), settings.psi * at / 256_000)
        return Faulty(model, [70] if at == 4000 else [])

    monkeypatch.setattr("omokage.explore.history.load_model", load)
    return folder


@pytest.mark.parametrize("psi", [1.0, 0.5])
def test_snapshots_draw_the_seeds_as_asked(run, model, psi):
    moments = stages(run, model, [5, 70], Settings(psi=psi))
    assert [moment.images for moment in moments] == [1000 * 2**i for i in range(9)]
    for moment in moments:
        faces = moment.faces()
        assert faces.finite.tolist() == [True, moment.images != 4000]
        value = round((psi * moment.images / 256_000 + 1) * 127.5)
        assert np.abs(faces.pixels[0].astype(int) - value).max() <= 1


def test_grids_show_the_seeds_asked_for(run, model):
    moments = stages(run, model, [0, 9, 63], Settings(), "grids")
    assert [moment.images for moment in moments] == [500, 1000, 1500, 2000, 2500]
    for i, moment in enumerate(moments):
        for face, seed in zip(moment.faces().pixels, [0, 9, 63], strict=True):
            assert (face == (seed, 50 * i, seed)).all()


@pytest.mark.parametrize(("seeds", "settings"), [([64], Settings()), ([0], Settings(psi=0.7))])
def test_grids_cannot_show_other_seeds_or_psi(run, model, seeds, settings):
    with pytest.raises(UserError, match="show the seeds 0 to 63 at psi 1 only; use --from snapshots"):
        stages(run, model, seeds, settings, "grids")


def test_the_richer_source_that_shows_what_is_asked_is_chosen(run, model):
    assert len(stages(run, model, [0], Settings())) == 9
    for path in list(run.glob("snapshot-*"))[2:]:
        path.unlink()
    assert len(stages(run, model, [0], Settings())) == 5  # grids
    assert len(stages(run, model, [64], Settings())) == 2  # which show no such seed


def test_a_grid_of_another_size_is_refused(run, model):
    model.resolution = (8, 8)
    moments = stages(run, model, [0], Settings(), "grids")
    with pytest.raises(UserError, match="not have the size of this run's pictures; use --from snapshots"):
        moments[0].faces()


def test_a_single_moment_is_no_progression(run, model):
    for path in list(run.glob("snapshot-*"))[1:]:
        path.unlink()
    with pytest.raises(UserError, match=r"1 of snapshots.*training\.keep=0"):
        stages(run, model, [0], Settings(), "snapshots")


def test_moments_are_spread_by_equal_factors(run, model):
    moments = stages(run, model, [5], Settings())
    assert [moment.images for moment in spread(moments, 5)] == [1000, 4000, 16_000, 64_000, 256_000]
    assert spread(moments, 9) == moments
    assert [moment.images for moment in spread(moments, 2)] == [1000, 256_000]
