"""Fine-tuning: what is taken of another model, what begins anew, and what is refused."""

import pytest
import torch

from omokage.errors import UserError
from omokage.model import SHIPPED, load_model, snapshot_file, write_small
from omokage.progress import TerminalProgress
from omokage.running import train
from omokage.snapshot import newest_snapshot, read_snapshot, write_snapshot

SMALL = {
    "model.channels": [4, 4, 4],
    "discriminator.channels": [4, 4, 4],
    "training.batch": 5,
    "training.learning_rate": {"default": 1e-9},
}


def trained(faces, out, images=10, overrides=None, **how):
    return train("dcgan", faces, out, images=images, overrides=SMALL | (overrides or {}), **how)


@pytest.fixture(scope="module")
def first(faces, tmp_path_factory):
    run = tmp_path_factory.mktemp("first") / "run"
    trained(faces, run, overrides={"training.learning_rate": {"default": 1e-2}})
    return run


def test_all_networks_and_averages_are_taken(faces, first, tmp_path):
    trained(faces, tmp_path / "second", images=5, start=first, overrides={"training.seed": 1})
    before, _, progress = read_snapshot(newest_snapshot(first))
    after, _, tuned = read_snapshot(newest_snapshot(tmp_path / "second"))
    learned = [name for name in before if name.startswith("networks.") and name.endswith("weight")]
    assert any("discriminator" in name for name in learned)
    for name in learned:
        torch.testing.assert_close(after[name], before[name], atol=1e-5, rtol=1e-5)
    assert tuned["images"] == 5  # counters begin anew
    assert tuned["origin"]["images"] == progress["images"] == 10
    assert tuned["origin"]["snapshot"] == load_model(first).snapshot_hash


def test_the_same_command_resumes_and_does_not_begin_again(faces, first, tmp_path):
    how = {"start": first, "overrides": {"training.learning_rate": {"default": 1e-2}}}
    trained(faces, tmp_path / "a", images=20, **how)
    trained(faces, tmp_path / "b", images=10, **how)
    trained(faces, tmp_path / "b", images=20, **how)
    a, b = (read_snapshot(newest_snapshot(tmp_path / name)) for name in "ab")
    assert all(torch.equal(a[0][name], b[0][name]) for name in a[0])
    assert b[2]["origin"] == a[2]["origin"]


def test_a_snapshot_for_sampling_gives_its_averages(faces, first, tmp_path, capsys):
    small = tmp_path / "small.safetensors"
    write_small(load_model(first, "cpu"), small)
    trained(faces, tmp_path / "tuned", images=5, start=small, progress=TerminalProgress())
    told = " ".join(capsys.readouterr().err.split())
    assert "averaged weights only" in told
    assert "it has no discriminator: that begins anew" in told
    before, after = load_model(small, "cpu"), load_model(tmp_path / "tuned", "cpu")
    z = torch.randn(4, *before.latent_shape)
    torch.testing.assert_close(after.decode(z), before.decode(z), atol=0.05, rtol=0)


def test_a_part_of_a_network_is_taken(faces, first, tmp_path, capsys):
    tensors, recipe, progress = read_snapshot(newest_snapshot(first))
    one = next(name for name in tensors if name.startswith("networks.discriminator") and "0.weight" in name)
    kept = {name: own for name, own in tensors.items() if "discriminator" not in name or name == one}
    write_snapshot(tmp_path / "part.safetensors", kept, recipe, progress)
    start = tmp_path / "part.safetensors"
    trained(faces, tmp_path / "t", images=5, start=start, progress=TerminalProgress())
    assert f"its discriminator: {tensors[one].numel():,} of its numbers are taken" in " ".join(
        capsys.readouterr().err.split()
    )
    after, _, _ = read_snapshot(newest_snapshot(tmp_path / "t"))
    torch.testing.assert_close(after[one], tensors[one], atol=1e-5, rtol=1e-5)


def test_a_discriminator_that_does_not_fit_begins_anew(faces, first, tmp_path, capsys):
    wide = {"discriminator.channels": [8, 4, 4]}
    trained(faces, tmp_path / "t", images=5, start=first, overrides=wide, progress=TerminalProgress())
    assert "its discriminator does not fit" in " ".join(capsys.readouterr().err.split())


def test_a_generator_that_does_not_fit_is_refused_in_one_line(faces, first, tmp_path):
    with pytest.raises(UserError, match=r"a dcgan does not fit dcgan: .* there and .* here") as refused:
        trained(faces, tmp_path / "t", start=first, overrides={"model.channels": [8, 4, 4]})
    assert "\n" not in str(refused.value)
    assert "recipe dcgan" in str(refused.value)
    with pytest.raises(UserError, match="a skipgan does not fit dcgan"):
        trained(faces, tmp_path / "u", start="fast-64")


def test_names_of_models(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert snapshot_file("shipped") == snapshot_file() == SHIPPED
    assert snapshot_file(first) == newest_snapshot(first)
    with pytest.raises(UserError, match="no such"):
        snapshot_file("nothing")
    with pytest.raises(UserError, match="no such"):
        snapshot_file(tmp_path / "nothing.safetensors")


STYLES = {
    "model.latent": 4,
    "model.style": 4,
    "model.depth": 1,
    "model.resolution": [8, 8],
    "model.channels": [4, 4],
    "model.architecture": "orig",
    "discriminator.resolution": [8, 8],
    "discriminator.channels": [4, 4],
    "training.batch": 5,
    "training.learning_rate": {"default": 1e-9},
}
LARGER = STYLES | {
    "model.resolution": [16, 16],
    "model.channels": [4, 4, 3],
    "discriminator.resolution": [16, 16],
    "discriminator.channels": [4, 4, 4],
}


def styled(faces, out, overrides, **how):
    return train("stylegan2-64-small", faces, out, images=5, overrides=overrides, **how)


def test_a_generator_grows_to_larger_images(faces, tmp_path, capsys):
    styled(faces, tmp_path / "small", STYLES | {"training.learning_rate": {"default": 1e-2}})
    styled(faces, tmp_path / "large", LARGER, start=tmp_path / "small", progress=TerminalProgress())
    told = " ".join(capsys.readouterr().err.split())
    assert "it grows from 8×8 to 16×16 px" in told
    assert "its discriminator: " in told
    before, _, _ = read_snapshot(newest_snapshot(tmp_path / "small"))
    after, _, _ = read_snapshot(newest_snapshot(tmp_path / "large"))
    generator = [name for name in before if name.startswith("average.") and name.endswith("weight")]
    kept = [name for name in generator if name in after]
    assert {name.split(".to_image")[0] for name in generator if name not in kept} == {"average.blocks.1"}
    assert len(kept) > 4
    for name in kept:
        torch.testing.assert_close(after[name], before[name], atol=1e-5, rtol=1e-5)
    assert load_model(tmp_path / "large", "cpu").resolution == (16, 16)


@pytest.mark.parametrize("change", [{"model.channels": [4, 3, 4]}, {"model.latent": 8}])
def test_only_the_same_generator_grows(faces, tmp_path, change):
    styled(faces, tmp_path / "small", STYLES)
    with pytest.raises(UserError, match="does not fit"):
        styled(faces, tmp_path / "large", LARGER | change, start=tmp_path / "small")
    with pytest.raises(UserError, match="does not fit"):  # nor does one shrink
        styled(faces, tmp_path / "less", STYLES | {"model.channels": [4, 3]}, start=tmp_path / "small")
