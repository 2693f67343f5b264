import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.listing import snapshots
from omokage.model import load_model
from omokage.recipe import load_recipe
from omokage.running import train
from omokage.sampling import gathered, sample
from omokage.snapshot import newest_snapshot, read_snapshot
from omokage.training.batches import Batches

SMALL = [
    "model.channels=[16, 8]",
    "model.latent=8",
    "discriminator.channels=[8, 16]",
    "discriminator.dropout=0.25",
    "training.batch=4",
    'training.augment=["translation", "cutout"]',
    "training.mirror=true",
    "training.log_kimg=0.008",
    "training.grid_kimg=0.02",
    "training.keep=0",
]


def small(*overrides: str):
    return load_recipe("dcgan", [*SMALL, *overrides])


STYLE_SIZE = ("resolution=[16, 16]", "channels=[8, 8, 8]")

# One recipe for each way in which a training may differ from the DCGAN's: optimiser, phases, networks.
NARROW = {
    "wgan": [*SMALL, "objective.critic_steps=3", "betas=[0.5, 0.9]"],
    "wgan-gp": [*SMALL, "objective.critic_steps=2"],
    "dragan": SMALL,
    "yao2021-dcgan-mnist": SMALL,
    "yao2021-vae": ["model.channels=[4, 4, 4, 4]", "model.latent=8", *SMALL[4:]],
    "stylegan2-64": [
        *(f"{table}.{key}" for table in ("model", "discriminator") for key in STYLE_SIZE),
        "model.latent=8",
        "model.style=8",
        "model.depth=2",
        "objective.r1_every=2",
        "objective.path_length_every=3",
        "objective.ada_every=2",
        "objective.ada_kimg=0.05",
        "training.micro_batch=2",
        *SMALL[4:],
    ],
    "fast-style": [
        *(f"model.{key}" for key in STYLE_SIZE),
        "model.latent=8",
        "model.style=8",
        "model.depth=2",
        "discriminator.seen_at=[[0, 32]]",
        "discriminator.resolution=16",
        "learning_rate={ default = 1e-3, generator = 2e-3 }",
        *SMALL[4:],
    ],
    "fast-128": [
        *(f"model.{key}" for key in STYLE_SIZE),
        "model.latent=8",
        "model.style=8",
        "model.depth=2",
        "discriminator.seen_at=[[0, 32]]",
        "discriminator.resolution=16",
        "learning_rate={ default = 1e-3, generator = 2e-3 }",
        *SMALL[4:],
    ],
    "r3gan-64": [
        *(f"{table}.channels=[8, 8, 8]" for table in ("model", "discriminator")),
        *(f"{table}.group=4" for table in ("model", "discriminator")),
        "objective.penalty_every=2",
        "objective.augmentation={ peak = 0.0, cosine = 0.02, last = 1.0 }",
        "training.second_beta=[[0, 0.5], [0.02, 0.99]]",
        "training.average_kimg={ peak = 0.0, cosine = 0.02, last = 0.01 }",
        *SMALL[4:],
    ],
    "edm-64": [
        "model.size=16", "model.channels=[8, 8]", "model.attention_at=8", "model.heads=2", "model.steps=2",
        *SMALL[4:],
    ],
    "sagan": [
        "model.channels=[8, 8, 8]",
        "discriminator.channels=[8, 8]",
        "model.attention_at=8",
        "discriminator.attention_at=8",
        "discriminator.resolution=16",
        *SMALL[4:],
    ],
    "illustration-gan": [
        *SMALL[:3],
        "model.dense=[16]",
        "discriminator.resolution=16",
        "discriminator.dense=8",
        *SMALL[4:],
    ],
}


def test_the_second_beta_and_the_averages_follow_their_schedules(faces, tmp_path, monkeypatch):
    from omokage.training import loop

    betas, halves = [], []
    descend, decay = loop._descend, loop.decay_for

    def descended(phase, optimiser, rates):
        betas.append(optimiser.param_groups[0]["betas"])
        descend(phase, optimiser, rates)

    def decayed(batch, half_life, images, ramp):
        halves.append(half_life)
        return decay(batch, half_life, images, ramp)

    monkeypatch.setattr(loop, "_descend", descended)
    monkeypatch.setattr(loop, "decay_for", decayed)
    curves = ("second_beta=[[0, 0.5], [0.008, 0.9]]", "average_kimg=[[0, 1], [0.008, 3]]", "betas=[0.1, 0.3]")
    train(small(*curves), faces, tmp_path / "run", images=12)
    assert betas == [(0.1, second) for second in (0.5, 0.7, 0.9) for _ in range(2)]  # of both phases
    assert halves == [2000.0, 3000.0, 3000.0]


def everything(run: Path):
    tensors, _, progress = read_snapshot(newest_snapshot(run))
    return tensors, {key: progress[key] for key in ("images", "steps")}


def assert_same_state(one: Path, other: Path) -> None:
    (a, progress_a), (b, progress_b) = everything(one), everything(other)
    assert progress_a == progress_b
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


def assert_same_log(one: Path, other: Path) -> None:
    """Line by line, all numbers but times and memory."""
    told = [
        [
            {name: value for name, value in json.loads(line).items() if not name.startswith(TIMES)}
            for line in (run / "log.jsonl").read_text().splitlines()
        ]
        for run in (one, other)
    ]
    assert told[0] == told[1]
    assert len(told[0]) > 2


TIMES = ("minutes", "speed/", "memory/")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_equals_an_unbroken_one(faces, tmp_path, precision):
    recipe = small(f"training.precision={precision}")
    train(recipe, faces, tmp_path / "unbroken", images=48)
    for images in (12, 28, 48):
        train(recipe, faces, tmp_path / "broken", images=images)
    assert_same_state(tmp_path / "unbroken", tmp_path / "broken")
    assert_same_log(tmp_path / "unbroken", tmp_path / "broken")
    assert [path.name for path in snapshots(tmp_path / "broken")] == [
        f"snapshot-{images:012d}.safetensors" for images in (12, 28, 48)
    ]


@pytest.mark.parametrize("name", NARROW)
def test_so_it_does_with_every_kind_of_optimiser_phase_and_network(faces, tmp_path, name):
    recipe = load_recipe(name, NARROW[name])
    train(recipe, faces, tmp_path / "unbroken", images=28)
    for images in (4, 20, 28):  # 4: before a generator with a patient critic has had its first turn
        train(recipe, faces, tmp_path / "broken", images=images)
    assert_same_state(tmp_path / "unbroken", tmp_path / "broken")
    assert_same_log(tmp_path / "unbroken", tmp_path / "broken")


@pytest.mark.parametrize("still", ["generator", "discriminator"])
def test_a_phase_moves_its_own_network_only(faces, tmp_path, still):
    overrides = [*NARROW["wgan-gp"], f"learning_rate={{ default = 1e-3, {still} = 0.0 }}"]
    weights = []
    for images in (4, 16):
        train(load_recipe("wgan-gp", overrides), faces, tmp_path / "run", images=images)
        weights.append(everything(tmp_path / "run")[0])
    moved = {
        name.split(".")[1]
        for name, tensor in weights[0].items()
        if name.startswith("networks.")
        and name.endswith("weight")
        and not torch.equal(tensor, weights[1][name])
    }
    assert moved == {"generator", "discriminator"} - {still}


def test_the_encoder_of_redrawn_faces_has_a_rate_of_its_own(faces, tmp_path):
    overrides = [*NARROW["fast-style"], "learning_rate={ default = 1e-3, encoder = 0.0 }", "batch=8"]
    weights = []
    for images in (8, 24):
        train(load_recipe("fast-style", overrides), faces, tmp_path, images=images)
        weights.append(everything(tmp_path)[0])
    still = {
        name.split(".")[1]
        for name, tensor in weights[0].items()
        if name.startswith("networks.") and name.endswith("weight") and torch.equal(tensor, weights[1][name])
    }
    line = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    rates = {name: line[f"learning rate/{name}"] for name in ("discriminator", "generator", "encoder")}
    assert rates == {"discriminator": 1e-3, "generator": 1e-3, "encoder": 0.0}
    assert "reconstruction" in still
    assert "generator" not in still


def test_the_generators_turn_comes_after_the_critics_steps(faces, tmp_path):
    recipe = load_recipe("wgan", [*NARROW["wgan"], "log_kimg=0.004", "objective.clip_weights=0.005"])
    first = train(recipe, faces, tmp_path / "run", images=28)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert ["loss/generator" in line for line in lines] == [False, False, True, False, False, True, False]
    assert all("loss/discriminator" in line for line in lines)
    tensors, _, progress = read_snapshot(first)
    assert (progress["images"], progress["steps"]) == (28, 7)  # images that the critic saw
    critic = [
        t for name, t in tensors.items() if name.startswith("networks.discriminator") and "weight" in name
    ]
    assert critic
    assert max(tensor.abs().max().item() for tensor in critic) <= 0.005
    assert max(t.abs().max().item() for n, t in tensors.items() if n.startswith("networks.generator")) > 0.01


def test_gradients_cut_to_nothing_move_nothing(faces, tmp_path):
    overrides = [
        *NARROW["wgan"],
        "objective.clip_weights=0",
        "objective.clip_gradients=1e-30",
        "log_kimg=0.004",
        "betas=[0, 0.9]",
    ]
    overrides.append("learning_rate={ default = 1e-3 }")
    weights = []
    for images in (4, 16):
        train(load_recipe("wgan", overrides), faces, tmp_path / "run", images=images)
        weights.append(everything(tmp_path / "run")[0]["networks.discriminator.layers.0.weight"])
    torch.testing.assert_close(*weights, rtol=0, atol=1e-20)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(line["gradient norm/discriminator"] > 1e-6 for line in lines)  # as it was before the cut


def test_the_seed_decides(faces, tmp_path):
    for seed in (0, 1):
        train(small(f"seed={seed}"), faces, tmp_path / str(seed), images=8)
    a, b = (everything(tmp_path / str(seed))[0] for seed in (0, 1))
    assert not torch.equal(a["average.layers.0.weight"], b["average.layers.0.weight"])


def test_log_and_grids(faces, tmp_path):
    train(small(), faces, tmp_path / "run", images=40)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [8, 16, 24, 32, 40]
    assert {
        "loss/discriminator",
        "loss/generator",
        "speed/images per second",
        "speed/waiting for data",
    } <= lines[0].keys()
    assert all(np.isfinite(value) for line in lines for value in line.values())
    assert [Image.open(path).size for path in sorted((tmp_path / "run" / "grids").glob("*.png"))] == [
        (128, 128)
    ] * 2
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_a_log_written_past_the_snapshot_is_said_again(faces, tmp_path):
    run = tmp_path / "run"
    train(small(), faces, run, images=16)
    with open(run / "log.jsonl", "a") as log:
        log.write('{"images": 24, "stale": 1}\n{"images": 32, "cut')
    train(small(), faces, run, images=32)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [8, 16, 24, 32]
    assert "stale" not in lines[2]


def test_killed_at_any_moment_it_goes_on(faces, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "omokage", "train", "dcgan", "--data", str(faces), "--out", str(run)]
    command += ["--images", "100000", "training.snapshot_minutes=1e-6", *SMALL]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(snapshots(run)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert len(snapshots(run)) >= 3
    for path in snapshots(run):
        read_snapshot(path)
    reached = everything(run)[1]["images"]
    train(small(), faces, run, images=reached + 8)
    train(small(), faces, tmp_path / "unbroken", images=reached + 8)
    assert_same_state(run, tmp_path / "unbroken")


def test_ctrl_c_saves_and_says_how_to_go_on(faces, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "omokage", "train", "dcgan", "--data", str(faces), "--out", str(run)]
    process = subprocess.Popen([*command, *SMALL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "log.jsonl").exists() or not (run / "log.jsonl").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in told
    assert "Traceback" not in told
    assert everything(run)[1]["images"] > 0


def test_a_snapshot_cut_in_half_is_passed_over(faces, tmp_path):
    run = tmp_path / "run"
    for images in (8, 16):
        train(small(), faces, run, images=images)
    newest = newest_snapshot(run)
    os.truncate(newest, newest.stat().st_size // 2)
    with pytest.raises(UserError, match="damaged or cut off"):
        load_model(newest)
    train(small(), faces, run, images=24)
    train(small(), faces, tmp_path / "unbroken", images=24)
    assert_same_state(run, tmp_path / "unbroken")


def test_refusals(faces, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match="no phase 'generater'; there are default, discriminator, generator"):
        train(small("learning_rate={ default = 1e-3, generater = 1 }"), faces, run, images=8)
    train(small(), faces, run, images=8)
    with pytest.raises(UserError, match="other settings"):
        train(small("model.latent=9"), faces, run, images=16)
    with pytest.raises(UserError, match="batch"):
        load_recipe("dcgan", ["training.batch=0"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out"):
        train(small(), faces, tmp_path / "file", images=8)
    import fcntl

    with open(run / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            train(small(), faces, run, images=16)


def test_a_snapshot_rebuilds_its_model_by_itself(faces, tmp_path):
    path = train(small(), faces, tmp_path / "run", images=8)
    lonely = tmp_path / "lonely.safetensors"
    os.rename(path, lonely)
    model = load_model(lonely, device="cpu")
    assert (model.latent_shape, model.resolution, model.images_seen) == ((8,), (16, 16), 8)
    assert gathered(sample(model, range(3)))[0].shape == (3, 16, 16, 3)


def test_a_batch_that_changes_follows_from_the_position(faces, tmp_path):
    recipe = small("training.batch=[[0, 8], [0.016, 8], [0.016, 4], [0.028, 2]]", "log_kimg=0.001")
    train(recipe, faces, tmp_path / "unbroken", images=40)
    for images in (8, 18, 25, 40):
        train(recipe, faces, tmp_path / "broken", images=images)
    assert_same_state(tmp_path / "unbroken", tmp_path / "broken")
    lines = [json.loads(line) for line in (tmp_path / "unbroken" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [8, 16, 20, 23, 26, 28, 30, 32, 34, 36, 38, 40]


def test_no_face_is_left_out_where_the_batch_changes(faces):
    batch = [[0, 6], [0.008, 2]]
    plain = Batches(FaceSet.open(faces), (16, 16), 1, seed=3)
    for memory in (0, 2**20):  # decoded as they come, and all at once
        changing = Batches(FaceSet.open(faces), (16, 16), batch, seed=3, memory=memory)
        seen, images = [], 0
        while images < 30:
            seen.append(changing.at(images))
            images += len(seen[-1])
        assert torch.equal(torch.cat(seen), torch.cat([plain.at(i) for i in range(images)]))


def test_lazy_phases_come_at_their_steps_and_use_the_optimisers_of_others(faces, tmp_path):
    recipe = load_recipe("stylegan2-64", [*NARROW["stylegan2-64"], "log_kimg=0.004"])
    path = train(recipe, faces, tmp_path / "run", images=28)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert ["penalty/r1" in line for line in lines] == [False, True, False, True, False, True, False]
    assert ["path length" in line for line in lines] == [False, False, True, False, False, True, False]
    assert all("gradient norm/generator" in line for line in lines)
    assert lines[0]["learning rate/generator"] == pytest.approx(2e-3)
    tensors, _, _ = read_snapshot(path)
    assert {name.split(".")[1] for name in tensors if name.startswith("optimisers.")} == {
        "discriminator",
        "generator",
    }
    steps = {
        int(value)
        for name, value in tensors.items()
        if name.startswith("optimisers.discriminator") and name.endswith(".step")
    }
    assert max(steps) == 7 + 3


def test_a_micro_batch_gives_the_weights_of_the_whole(faces, tmp_path):
    """Where nothing is drawn at random and nothing depends on the batch, up to rounding."""
    weights = []
    for size in (0, 2, 3):
        run = tmp_path / str(size)
        recipe = load_recipe(
            "stylegan2-64",
            [
                *(key for key in NARROW["stylegan2-64"] if "micro" not in key and "augment" not in key),
                f"micro_batch={size}",
                "objective.ada_target=0.0",
                "objective.path_length=0.0",
                "model.mixing=0.0",
                "model.noise=false",
                "discriminator.group=1",
                "precision=fp32",
                "batch=6",
                "optimiser=rmsprop",
                "learning_rate={ default = 1e-4 }",
            ],
        )
        train(recipe, faces, run, images=12)
        weights.append(everything(run)[0])
    for others in weights[1:]:
        for name, tensor in weights[0].items():
            if name.startswith("networks.") and "w_average" not in name:
                torch.testing.assert_close(others[name], tensor, atol=2e-5, rtol=1e-4)
