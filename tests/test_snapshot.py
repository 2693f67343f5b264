import pickle

import pytest
import torch
from safetensors.torch import save_file

from omokage.errors import UserError
from omokage.families import MODELS
from omokage.model import load_model
from omokage.recipe import load_recipe
from omokage.snapshot import read_snapshot, write_snapshot

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


def test_the_same_model_has_the_same_bytes(snapshot):
    whole = snapshot.read_bytes()
    tensors, recipe, progress = read_snapshot(snapshot)
    for _ in range(4):
        write_snapshot(snapshot, tensors, recipe, progress)
        assert snapshot.read_bytes() == whole
    again, _, _ = read_snapshot(snapshot)
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_snapshot_cut_off(snapshot, share):
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="damaged or cut off") as caught:
        load_model(snapshot)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS, not a snapshot"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page, not a snapshot: "),
    ],
)
def test_pages_and_pointers_are_named(tmp_path, data, words):
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=words):
        load_model(tmp_path / "model.safetensors")


def test_other_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(1)}, foreign)
    with pytest.raises(UserError, match="not a snapshot of Omokage"):
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
