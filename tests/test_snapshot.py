import pickle

import pytest
import torch
from safetensors.torch import save_file

from omokage.errors import UserError
from omokage.families import MODELS
from omokage.model import Model, load_model, write_small
from omokage.recipe import load_recipe
from omokage.sampling import latents, sample
from omokage.snapshot import newest_snapshot, write_snapshot

SMALL = ["model.channels=[16, 8]", "model.latent=8", "discriminator.channels=[8, 16]"]
PROGRESS = {"images": 12, "steps": 3, "seconds": 1.0, "face_set": "0"}


@pytest.fixture
def snapshot(tmp_path):
    recipe = load_recipe("dcgan", SMALL)
    torch.manual_seed(0)
    network = MODELS["dcgan"].build(recipe.model)
    path = tmp_path / "run" / "snapshot-000000000012.safetensors"
    path.parent.mkdir()
    write_snapshot(path, {f"average.{k}": v for k, v in network.state_dict().items()}, recipe, PROGRESS)
    return path


def test_it_rebuilds_the_model_from_run_or_file(snapshot):
    a, b = load_model(snapshot.parent, "cpu"), load_model(snapshot, "cpu")
    z = latents(range(3), a.latent_shape)
    assert torch.equal(a.decode(z), b.decode(z))
    assert a.images_seen == 12
    assert newest_snapshot(snapshot.parent) == snapshot


def test_half_precision_draws_the_same_faces(snapshot, tmp_path):
    model = load_model(snapshot, "cpu")
    write_small(model, tmp_path / "small.safetensors")
    small = load_model(tmp_path / "small.safetensors", "cpu")
    a, b = next(sample(model, range(4))), next(sample(small, range(4)))
    assert abs(a.astype(int) - b).max() <= 2
    assert (tmp_path / "small.safetensors").stat().st_size < 0.8 * snapshot.stat().st_size


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_snapshot_cut_off(snapshot, share):
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="damaged or cut off") as caught:
        load_model(snapshot)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(1)}, foreign)
    with pytest.raises(UserError, match="no snapshot of Omokage"):
        load_model(foreign)

    class Bomb:
        def __reduce__(self):
            return (print, ("executed",))

    pickled = tmp_path / "pickle.safetensors"
    pickled.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="damaged"):
        load_model(pickled)


def test_nothing_of_a_pickle_runs(tmp_path, capsys):
    class Bomb:
        def __reduce__(self):
            return (print, ("executed",))

    path = tmp_path / "snapshot.safetensors"
    torch.save({"weights": Bomb()}, path)
    with pytest.raises(UserError):
        load_model(path)
    assert "executed" not in capsys.readouterr().out


def test_weights_of_another_shape_or_family(snapshot, tmp_path):
    model = load_model(snapshot, "cpu")
    wrong = tmp_path / "wrong.safetensors"
    for recipe in (load_recipe("dcgan", [*SMALL, "model.latent=9"]), load_recipe("fast")):
        write_snapshot(
            wrong, {f"average.{k}": v for k, v in model.network.state_dict().items()}, recipe, PROGRESS
        )
        with pytest.raises(UserError, match="do not fit its recipe") as caught:
            load_model(wrong)
        assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        load_model(tmp_path / "none")
    with pytest.raises(UserError, match="no such file"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="no snapshot yet"):
        load_model(tmp_path)


def test_a_full_disk_leaves_nothing_behind(snapshot, tmp_path, monkeypatch):
    model = load_model(snapshot, "cpu")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("omokage.snapshot.os.replace", full)
    with pytest.raises(UserError, match="No space left"):
        write_small(model, tmp_path / "small.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_psi_shrinks_latents():
    recipe = load_recipe("dcgan", SMALL)
    model = Model(MODELS["dcgan"].build(recipe.model).eval(), recipe, PROGRESS, None, "")
    z = latents(range(2), (8,))
    assert torch.equal(model.decode(z, 0.0)[0], model.decode(z, 0.0)[1])
    assert torch.equal(model.decode(z, 0.5), model.decode(z * 0.5))
