"""What is measured while a model trains leaves no trace in it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from omokage.data.build import build
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.metrics.report import evaluate
from omokage.model import load_model
from omokage.recipe import load_recipe
from omokage.running import train
from omokage.snapshot import newest_snapshot, read_snapshot
from omokage.training.batches import Batches, shared
from omokage.training.heldout import untouched

SMALL = [
    "model.channels=[16, 8]",
    "model.latent=8",
    "discriminator.channels=[8, 16]",
    "training.batch=4",
    "training.log_kimg=0.008",
    "training.grid_kimg=100",
    "training.keep=0",
]
# Batch norm and dropout; spectral norm; a penalty; a frozen network in two precisions; no discriminator.
EVERY_KIND = {
    "dcgan": [*SMALL, "discriminator.dropout=0.25", 'augment=["translation", "cutout"]'],
    "sagan": [
        "model.channels=[8, 8, 8]",
        "discriminator.channels=[8, 8]",
        "discriminator.resolution=16",
        *SMALL[3:],
    ],
    "wgan-gp": [*SMALL, "critic_steps=2"],
    "yao2021-vae": ["model.channels=[4, 4, 4, 4]", "model.latent=8", *SMALL[3:]],
    "fast": ["model.channels=[8, 8, 8, 8, 8]", "discriminator.width=8", "seen_at=[[0, 64]]", *SMALL[3:]],
    "realnvp-32": ["model.size=8", "model.scales=2", "model.hidden=4", *SMALL[3:]],
}


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held out")
    rng = np.random.default_rng(1)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{i}.png")
    build([folder], folder.parent / "others", as_faces=True, workers=1)
    return folder.parent / "others"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OMOKAGE_CACHE", str(tmp_path / "cache"))


def state(run):
    tensors, _, progress = read_snapshot(newest_snapshot(run))
    return tensors, {name: progress[name] for name in ("images", "steps", "rollbacks", "signs")}


def assert_same(one, other):
    (a, progress_a), (b, progress_b) = state(one), state(other)
    assert progress_a == progress_b
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", EVERY_KIND)
def test_held_out_faces_change_nothing(faces, others, tmp_path, name):
    recipe = load_recipe(name, EVERY_KIND[name])
    train(recipe, faces, tmp_path / "without", images=24)
    train(recipe, faces, tmp_path / "with", images=24, heldout=others)
    assert_same(tmp_path / "without", tmp_path / "with")
    key = {"yao2021-vae": "held-out/elbo", "realnvp-32": "held-out/bits per dimension"}.get(
        name, "logits/held-out"
    )
    told = [line[key] for line in log(tmp_path / "with")]
    assert len(told) == 3
    assert len(set(told)) == 3
    assert all(np.isfinite(told))
    assert all(key not in line for line in log(tmp_path / "without"))
    mine, theirs = (
        {k: v for k, v in line.items() if k[:5] in ("loss/", "logit")}
        for line in (log(tmp_path / "without")[-1], log(tmp_path / "with")[-1])
    )
    assert mine == {k: v for k, v in theirs.items() if k != key}


def test_held_out_logits_are_the_discriminators(faces, others, tmp_path):
    """With a rate of 0 and no randomness, they are those of the first weights."""
    overrides = [*SMALL, "mirror=false", "learning_rate={ default = 0 }", "log_kimg=0.004", "precision=fp32"]
    recipe = load_recipe("wgan-gp", [*overrides, "critic_steps=1"])
    train(recipe, faces, tmp_path / "run", images=4, heldout=others)
    from omokage.families import build_discriminator

    discriminator = build_discriminator(recipe.discriminator)
    tensors = state(tmp_path / "run")[0]
    prefix = "networks.discriminator."
    weights = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    discriminator.load_state_dict(weights)
    pixels = Batches(FaceSet.open(others), (16, 16), 4, 0).at(0)
    expected = discriminator(pixels.float() / 127.5 - 1).mean().item()
    assert log(tmp_path / "run")[0]["logits/held-out"] == pytest.approx(expected, abs=1e-5)


def test_untouched_gives_buffers_and_random_state_back():
    norm = nn.BatchNorm1d(3)
    torch.manual_seed(5)
    with untouched(norm):
        norm(torch.rand(4, 3))
        assert not torch.is_grad_enabled()
        assert norm.num_batches_tracked == 1
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(3))


def test_held_out_refusals_and_a_word_about_common_faces(faces, others, tmp_path, capsys):
    from omokage.progress import TerminalProgress

    with pytest.raises(UserError, match="has the training faces; give a set of other"):
        train(load_recipe("dcgan", SMALL), faces, tmp_path / "run", images=8, heldout=faces)
    with pytest.raises(UserError, match="no face set"):
        train(load_recipe("dcgan", SMALL), faces, tmp_path / "run", images=8, heldout=tmp_path / "nothing")
    source = tmp_path / "overlapping"
    source.mkdir()
    for set_, name in ((faces, "a.png"), (others, "b.png")):
        (source / name).write_bytes(FaceSet.open(set_).image_bytes(0))
    build([source], tmp_path / "overlap", as_faces=True, workers=1)
    train(
        load_recipe("dcgan", SMALL),
        faces,
        tmp_path / "run",
        images=8,
        heldout=tmp_path / "overlap",
        progress=TerminalProgress(),
    )
    assert "held out: 1 pictures are among the training faces too" in capsys.readouterr().err


FID = ["fid_kimg=0.012", "fid_protocol=fid20-full-tags"]


@pytest.mark.parametrize("name", ["dcgan", "sagan"])
def test_fid_changes_nothing_and_is_that_of_evaluate(faces, tmp_path, name):
    recipe = load_recipe(name, EVERY_KIND[name])
    measured = load_recipe(name, [*EVERY_KIND[name], *FID])
    train(recipe, faces, tmp_path / "without", images=24)
    train(measured, faces, tmp_path / "with", images=24)
    assert_same(tmp_path / "without", tmp_path / "with")
    # Resumed from a run without it, and in pieces.
    for images, piece in ((8, recipe), (16, measured), (24, measured)):
        train(piece, faces, tmp_path / "broken", images=images)
    assert_same(tmp_path / "without", tmp_path / "broken")
    lines = {
        run: [line for line in log(tmp_path / run) if "fid/fid20-full-tags" in line]
        for run in ("with", "broken")
    }
    assert [line["images"] for line in lines["with"]] == [12, 24]
    for one, other in zip(lines["with"], lines["broken"], strict=True):
        assert one["fid/fid20-full-tags"] == pytest.approx(other["fid/fid20-full-tags"], rel=1e-6)
    record = evaluate(load_model(tmp_path / "with", device="cpu"), FaceSet.open(faces), "fid20-full-tags")
    assert record["fid"] == pytest.approx(lines["with"][-1]["fid/fid20-full-tags"], rel=1e-6)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "with" / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("fid/fid20-full-tags")] == [12, 24]


def test_the_time_of_measuring_is_no_training(faces, tmp_path, monkeypatch):
    import omokage.metrics.while_training as measuring

    waited = 1.5

    def slow(*arguments):
        import time

        return lambda: time.sleep(waited) or {"fid2-full-tags": 1.0}

    monkeypatch.setattr(measuring, "fid_measure", slow)
    overrides = ["fid_kimg=0.004", "log_kimg=0.008"]
    train(load_recipe("dcgan", [*SMALL, *overrides]), faces, tmp_path / "run", images=16)
    lines = [line for line in log(tmp_path / "run") if "minutes" in line]
    assert lines[-1]["images"] == 16
    assert lines[-1]["minutes"] * 60 < 3 * waited  # four measurements
    assert read_snapshot(newest_snapshot(tmp_path / "run"))[2]["seconds"] < 3 * waited


def test_an_unknown_protocol_is_refused_before_anything_is_trained(faces, tmp_path):
    recipe = load_recipe("dcgan", [*SMALL, "fid_kimg=1", "fid_protocol=fid1k-full-tag"])
    with pytest.raises(UserError, match="did you mean 'fid1k-full-tags'"):
        train(recipe, faces, tmp_path / "run", images=8)
    with pytest.raises(UserError, match="fid_kimg"):
        load_recipe("dcgan", ["fid_kimg=-1"])


@pytest.mark.parametrize("share", [0.5, 0.25, 0.1])
def test_a_share_of_the_faces_is_what_is_seen(faces, share):
    opened = FaceSet.open(faces)
    used = shared(len(opened), share, seed=3)
    assert len(used) == max(1, round(share * 10))
    assert set(used) < set(shared(10, 0.8, 3))
    assert (used == shared(10, share, 3)).all()
    assert any((used != shared(10, share, seed)).any() for seed in range(4, 9))
    for memory in (2**30, 0):
        batches = Batches(opened, (16, 16), 4, 3, memory=memory, used=used)
        seen = np.concatenate([batches.indices(images) for images in range(0, 40, 4)])
        counts = np.bincount(seen, minlength=10)
        assert set(np.flatnonzero(counts)) == set(used)
        assert counts[used].max() - counts[used].min() <= 1  # each epoch has each once
        assert (batches.at(8).permute(0, 2, 3, 1).numpy() == opened.pixels(batches.indices(8), 16)).all()


def test_all_faces_are_seen_in_the_order_of_before(faces):
    order = Batches(FaceSet.open(faces), (16, 16), 5, 7).indices(5)
    assert (order == np.random.default_rng((7, 0)).permutation(10)[5:]).all()


def test_share_is_part_of_a_run(faces, tmp_path):
    for images in (8, 16):
        train(load_recipe("dcgan", [*SMALL, "share=0.5"]), faces, tmp_path / "broken", images=images)
    train(load_recipe("dcgan", [*SMALL, "share=0.5"]), faces, tmp_path / "unbroken", images=16)
    assert_same(tmp_path / "broken", tmp_path / "unbroken")
    with pytest.raises(UserError, match="other settings"):
        train(load_recipe("dcgan", SMALL), faces, tmp_path / "broken", images=24)
    with pytest.raises(UserError, match="above 0 and at most 1"):
        load_recipe("dcgan", ["share=0"])
