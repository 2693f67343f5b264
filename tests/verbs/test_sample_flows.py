"""``omokage train`` and ``omokage sample`` of flows: labels, guidance, temperature, samples that break."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from omokage.__main__ import main
from omokage.data.build import build
from omokage.families import MODELS, build_model
from omokage.recipe import load_recipe
from omokage.sampling import latents
from omokage.snapshot import newest_snapshot, read_snapshot, write_snapshot

TINY = {
    "realnvp": ["realnvp-32", "model.size=8", "model.scales=2", "model.hidden=4", "model.blocks=1"],
    "glow": ["glow-32", "model.size=8", "model.levels=2", "model.steps=1", "model.hidden=4"],
    "tarflow": ["tarflow-64", "size=8", "width=8", "heads=1", "blocks=2", "layers=1"],
}
LABELLED = [
    *TINY["tarflow"],
    "condition=hair,eyes",
    "training.batch=4",
    "training.log_kimg=0.008",
    "training.grid_kimg=0.02",
    "learning_rate={ default = 1e-2 }",
]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled") / "pictures"
    folder.mkdir()
    rng, lines = np.random.default_rng(0), ["file,hair,eyes"]
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{'blue' if i % 2 else 'red'},{'blue' if i % 3 else 'green'}")
    labels = folder.parent / "labels.csv"
    labels.write_text("\n".join(lines))
    out = folder.parent / "faces"
    build([folder], out, as_faces=True, labels=labels, workers=1)
    return out


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    arguments = ["train", *LABELLED, "--data", str(faces), "--out", str(out), "--images", "48"]
    assert main(arguments) == 0
    return out


def sampled(run, tmp_path, *options):
    path = tmp_path / "faces.png"
    assert main(["sample", str(run), "--seeds", "0-3", "-o", str(path), *options]) == 0
    picture = Image.open(path)
    return np.array(picture), picture.text


def test_labels_and_guidance_from_the_command_line(run, tmp_path, capsys):
    plain, text = sampled(run, tmp_path, "--hair", "blue")
    assert text["conditions"] == "hair=blue"
    assert "guidance" not in text
    assert (sampled(run, tmp_path, "--hair", "blue", "--guidance", "0")[0] == plain).all()
    guided, text = sampled(run, tmp_path, "--hair", "blue", "--guidance", "2.0")
    assert text["guidance"] == "2"
    assert not (guided == plain).all()
    assert not (sampled(run, tmp_path, "--hair", "red")[0] == plain).all()
    # Four tokens, so four iterations are exact and one is not.
    exact, text = sampled(run, tmp_path, "--hair", "blue", "--guidance", "2.0", "--jacobi", "4")
    assert text["Jacobi iterations"] == "4"
    assert np.abs(exact.astype(int) - guided).max() <= 1
    early, _ = sampled(run, tmp_path, "--hair", "blue", "--guidance", "2.0", "--jacobi", "1")
    assert np.abs(early.astype(int) - guided).max() > 1
    assert "all 4 images are finite" in capsys.readouterr().out


def test_a_labelled_run_goes_on_as_if_unbroken(run, faces, tmp_path):
    for images in ("12", "48"):
        arguments = ["train", *LABELLED, "--data", str(faces), "--out", str(tmp_path / "broken")]
        assert main([*arguments, "--images", images]) == 0
    one, other = (read_snapshot(newest_snapshot(path))[0] for path in (run, tmp_path / "broken"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert (one["networks.generator.network.blocks.0.label.weight"] != 0).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--guidance", "-1"], "allowed is 0 to 20"),
        (["--jacobi", "-1"], "allowed is 0 to 65,536"),
        (["--psi", "0.5", "--temperature", "0.7"], "give one of them"),
        (["--hair", "bleu"], "did you mean blue"),
    ],
)
def test_refusals_of_sampling(run, arguments, said, capsys):
    assert main(["sample", str(run), *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_what_has_no_temperature_no_guidance_or_no_conditions_says_so(tmp_path, capsys):
    assert main(["sample", "--temperature", "0.7", "-o", str(tmp_path / "a.png")]) == 2
    assert "these do: glow, realnvp, tarflow" in capsys.readouterr().err
    assert main(["sample", "--guidance", "2", "-o", str(tmp_path / "a.png")]) == 2
    able = "latent-transformer, pixel-transformer, tarflow, unet"
    assert f"has no guidance; these families can: {able}" in capsys.readouterr().err
    assert main(["sample", "--jacobi", "4", "-o", str(tmp_path / "a.png")]) == 2
    assert "draws whole images at once; these families can: tarflow" in capsys.readouterr().err
    path = snapshot("tarflow", tmp_path)
    files = [str(tmp_path / f"{name}.png") for name in ("tokens", "iterations")]
    for file, options in zip(files, ([], ["--jacobi", "4"]), strict=True):
        assert main(["sample", str(path), "-n", "3", "-o", file, *options]) == 0
    tokens, iterations = (np.array(Image.open(file)).astype(int) for file in files)
    assert np.abs(tokens - iterations).max() <= 1
    assert main(["sample", str(path), "--guidance", "2"]) == 2
    assert "was trained without conditions" in capsys.readouterr().err
    for name in ("glow-64", "realnvp-64"):
        assert main(["train", name, "condition=hair", "--dry-run"]) == 2
        told = capsys.readouterr().err.strip()
        assert "takes no conditions; these do:" in told
        assert "tarflow" in told
        assert "\n" not in told


def snapshot(name, folder):
    """A tiny flow off its start, as of a run."""
    recipe = load_recipe(TINY[name][0], TINY[name][1:])
    torch.manual_seed(0)
    network = build_model(recipe.model)
    with torch.no_grad():
        network.log_prob(torch.rand(16, 3, 8, 8) * 2 - 1)
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    path = folder / f"{name}.safetensors"
    tensors = {f"average.{key}": value for key, value in network.state_dict().items()}
    write_snapshot(path, tensors, recipe, {"images": 1})
    return path


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_thousand_samples_at_temperature_are_counted(name, tmp_path, capsys, monkeypatch):
    path, out = snapshot(name, tmp_path), tmp_path / "many.png"
    arguments = ["sample", str(path), "-n", "1000", "--temperature", "0.7", "-o", str(out)]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "all 1,000 images are finite" in told.out
    assert Image.open(out).text["psi"] == "0.7"

    # Where some break, their number and seeds are told.
    module = MODELS[name].load()
    decode = module.decode

    def breaking(self, z, *arguments, **settings):
        return torch.where(z[:, :1, None, None] > 0.7 * 2, math.nan, decode(self, z, *arguments, **settings))

    monkeypatch.setattr(module, "decode", breaking)
    assert main(arguments) == 0
    told = capsys.readouterr()
    broken = [seed for seed in range(1000) if latents([seed], (192,))[0, 0] > 2]
    assert 10 < len(broken) < 40
    assert f"{len(broken)} of 1,000 images are not finite and shown black: seeds {broken[0]}," in told.err
    assert "finite" not in told.out
