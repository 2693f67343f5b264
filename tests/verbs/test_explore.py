"""`omokage explore`, and bits per dimension of `omokage evaluate`, as a user types them."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from omokage.__main__ import main
from omokage.data.build import build
from omokage.explore.inversion import read_pictures
from omokage.explore.provenance import points_of, read_provenance
from omokage.families import MODELS
from omokage.model import load_model
from omokage.recipe import load_recipe
from omokage.sampling import to_pixels
from omokage.snapshot import write_snapshot

WHOLE = "a" * 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a flow, one of a GAN, and two parts of a split with tagged faces."""
    folder, rng = tmp_path_factory.mktemp("explore"), np.random.default_rng(0)
    hashes = {}
    for part, count in (("train", 6), ("heldout", 30)):
        pictures = folder / f"{part}-pictures"
        pictures.mkdir()
        lines = ["file,hair"]
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(pictures / f"{i}.png")
            lines.append(f"{i}.png,{'red' if i % 2 else 'blue'}")
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")
        build([pictures], folder / part, as_faces=True, labels=folder / "labels.csv", workers=1)
        manifest = json.loads((folder / part / "manifest.json").read_text())
        hashes[part] = manifest["content_hash"]
        manifest["split"] = {"of": WHOLE, "part": part, "holdout": 0.8, "seed": 0, "groups": "none"}
        (folder / part / "manifest.json").write_text(json.dumps(manifest))
    settings = ["model.size=16", "model.levels=2", "model.steps=1", "model.hidden=4"]
    for name, recipe in (
        ("flow", load_recipe("glow-32", settings)),
        ("gan", load_recipe("dcgan", ["model.channels=[4,4,4,4]"])),
    ):
        torch.manual_seed(0)
        network = MODELS[recipe.model["name"]].build(recipe.model)
        if name == "flow":
            network.log_prob(torch.rand(8, 3, 16, 16) * 2 - 1)
        (folder / name).mkdir()
        tensors = {f"average.{key}": value for key, value in network.state_dict().items()}
        progress = {"images": 64, "face_set": hashes["train"]}
        write_snapshot(folder / name / "snapshot-000000000064.safetensors", tensors, recipe, progress)
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_reconstruct_prints_the_error_of_each_picture(capsys):
    files = ["heldout-pictures/0.png", "heldout-pictures/1.png"]
    assert main(["explore", "reconstruct", *files, "--model", "flow", "-o", "back.png"]) == 0
    told = capsys.readouterr().out
    assert "0.png: largest error" in told
    assert "0.00% of values changed level" in told
    assert "in float32" in told
    assert main(["explore", "reconstruct", files[0], "-m", "flow", "-o", "back64.png", "--double"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert float(line.split("largest error ")[1].split(",")[0]) < 1e-9
    text = Image.open("back.png").text
    assert (text["recipe"], text["pictures"], text["precision"]) == ("glow-32", "0.png, 1.png", "float32")
    assert Image.open("back64.png").text["precision"] == "float64"


def test_interpolate_writes_a_strip_and_a_film(folder, capsys):
    files = ["heldout-pictures/0.png", "heldout-pictures/1.png"]
    assert main(["explore", "interpolate", *files, "--model", "flow", "--video", "only.mp4"]) == 0
    assert not (folder / "walk.png").exists()
    assert main(["explore", "interpolate", *files, "--model", "flow", "--steps", "3"]) == 0
    assert (folder / "walk.png").exists()
    assert "reconstructed with a largest error of" in capsys.readouterr().out
    told = read_provenance(folder / "walk.png")
    assert (told.kind, [face["name"] for face in told.faces]) == ("walk", ["0.png", "1.png"])
    assert told.complete
    # The walk begins and ends with the pictures themselves, which a flow gives back exactly.
    model, names = load_model("flow"), ("heldout-pictures/0.png", "heldout-pictures/1.png")
    drawn = to_pixels(model.decode(points_of(model, told, "z").values))
    assert (drawn == read_pictures(names, (16, 16))).all()


def test_outliers_writes_page_and_table(folder, capsys):
    assert main(["explore", "outliers", "heldout", "--model", "flow", "-o", "odd.png", "--show", "4"]) == 0
    assert capsys.readouterr().out.split() == ["odd.png", "odd.csv"]
    rows = list(csv.DictReader((folder / "odd.csv").open()))
    assert len(rows) == 30
    assert [float(row["corrected"]) for row in rows] == sorted(
        (float(row["corrected"]) for row in rows), reverse=True
    )
    text = Image.open("odd.png").text
    assert text["face set"] == json.loads((folder / "heldout" / "manifest.json").read_text())["content_hash"]
    assert "1909.11480" in text["score"]
    assert text["Title"] == "30 faces, from least to most typical"
    words = ["-o", "page.png", "--csv", "scores.csv", "--show", "1"]
    assert main(["explore", "outliers", "heldout", "--model", "flow", *words]) == 0
    assert (folder / "scores.csv").read_text() == (folder / "odd.csv").read_text()


def test_attribute_says_how_many_faces_the_means_have(capsys):
    tags = ["--from", "hair=red", "--to", "hair=blue"]
    assert main(["explore", "attribute", "-m", "flow", "--data", "heldout", *tags, "-o", "tag.png"]) == 0
    assert "mean of 9 faces with hair=red, of 15 with hair=blue" in capsys.readouterr().out
    text = Image.open("tag.png").text
    assert text["Title"] == "From hair=red to hair=blue"
    assert text["from"] == "hair=red, mean of 9 faces"
    assert text["strengths"] == "0, 0.5, 1, 1.5, 2"
    assert len(text["pictures"].split(", ")) == 6  # faces that had no part in the mean
    named = ["heldout-pictures/0.png", "heldout-pictures/1.png", "--strengths", "0,2"]
    assert main(["explore", "attribute", "-m", "flow", "--data", "heldout", *tags, *named]) == 0
    text = Image.open("attribute.png").text
    assert (text["pictures"], text["strengths"]) == ("0.png, 1.png", "0, 2")


@pytest.fixture
def broken(monkeypatch):
    """The flow's way to images breaks."""
    flow = MODELS["glow"].load()
    for way in ("inverse", "decode"):
        monkeypatch.setattr(flow, way, lambda self, z, **how: torch.full((len(z), 3, 16, 16), torch.inf))


TAGS = "--from hair=red --to hair=blue"


@pytest.mark.parametrize(
    ("arguments", "lost"),
    [
        ("reconstruct heldout-pictures/0.png heldout-pictures/1.png", 2),
        ("interpolate heldout-pictures/0.png heldout-pictures/1.png --steps 4", 4),
        (f"attribute --data heldout {TAGS} --strengths 0,1,2", 6 * 3),
    ],
)
def test_faces_that_are_not_finite_are_told(broken, tmp_path, capsys, arguments, lost):
    out = tmp_path / "page.png"
    assert main(["explore", *arguments.split(), "--model", "flow", "-o", str(out)]) == 0
    assert f"{lost} faces are not finite and shown black" in capsys.readouterr().err
    assert Image.open(out).text["not finite"] == f"{lost} faces"


def test_frames_that_are_not_finite_are_told(broken, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("omokage.exploring.write_video", lambda frames, *given, **how: [*frames])
    files = ["heldout-pictures/0.png", "heldout-pictures/1.png"]
    arguments = [*files, "--model", "flow", "--video", str(tmp_path / "walk.mp4")]
    assert main(["explore", "interpolate", *arguments]) == 0
    assert "not finite, shown black: frames 0-89" in capsys.readouterr().err


def test_latents_that_are_not_finite_are_told(tmp_path, capsys, monkeypatch):
    flow = MODELS["glow"].load()
    encode = flow.encode

    def breaking(self, images, *given):
        z = encode(self, images, *given)
        return torch.where(torch.arange(len(z)).view(-1, 1) < 2, torch.inf, z)  # two of each mean

    monkeypatch.setattr(flow, "encode", breaking)
    out = tmp_path / "page.png"
    arguments = f"explore attribute --data heldout {TAGS} --strengths 0,1 --model flow -o {out}"
    assert main(arguments.split()) == 0
    told = capsys.readouterr()
    assert "mean of 7 faces with hair=red, of 13 with hair=blue" in told.out
    for tag in ("red", "blue"):
        assert f"2 faces with hair={tag} are left out of the mean: latent not finite" in told.err
    text = Image.open(out).text
    assert text["from"] == "hair=red, mean of 7 faces, 2 left out: latent not finite"
    assert text["to"] == "hair=blue, mean of 13 faces, 2 left out: latent not finite"


def test_likelihoods_that_are_not_finite_are_told(tmp_path, capsys, monkeypatch):
    flow = MODELS["glow"].load()
    log_prob = flow.log_prob

    def breaking(self, images):
        found = log_prob(self, images)
        return torch.where(images.flatten(1)[:, 0] > 0.5, torch.nan, found)

    monkeypatch.setattr(flow, "log_prob", breaking)
    first = np.stack([np.asarray(Image.open(f"heldout-pictures/{i}.png"))[0, 0, 0] for i in range(30)])
    lost = int((first / 127.5 - 1 > 0.5).sum())
    assert 2 < lost < 20
    assert main(["explore", "outliers", "heldout", "--model", "flow", "-o", str(tmp_path / "o.png")]) == 0
    told = capsys.readouterr()
    assert f"the likelihood of {lost} of 30 faces is not finite; they come first" in told.err
    assert Image.open(tmp_path / "o.png").text["not finite"] == f"likelihood of {lost} of 30 faces"
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    assert [row["bits_per_dimension"] for row in rows].count("inf") == lost
    assert {row["bits_per_dimension"] for row in rows[:lost]} == {"inf"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("reconstruct PICTURE --model flow -o back.gif", "must end in .png"),
        ("reconstruct PICTURE --model gan", "dcgan cannot encode images; these families can"),
        ("interpolate PICTURE PICTURE --model flow --video walk.png", "must end in .mp4"),
        ("interpolate PICTURE PICTURE --model gan", "dcgan cannot encode images; these families can"),
        ("interpolate PICTURE --model flow", "two pictures or more, got 1"),
        ("interpolate PICTURE PICTURE --model flow --steps 1", "got 1, allowed is 2 to 100"),
        ("outliers FACES --model flow --csv scores.txt", "must end in .csv"),
        ("outliers FACES --model gan", "dcgan has no likelihood; these families can"),
        (f"attribute --model gan --data FACES {TAGS}", "dcgan cannot encode images; these families can"),
        (f"attribute --model flow --data FACES {TAGS} -o tag.gif", "must end in .png"),
    ],
)
def test_what_is_refused_leaves_nothing(folder, tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    places = {"PICTURE": "heldout-pictures/0.png", "FACES": "heldout", "flow": "flow", "gan": "gan"}
    words = [str(folder / places[word]) if word in places else word for word in arguments.split()]
    assert main(["explore", *words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_evaluate_measures_bits_per_dimension_on_the_held_out_part(folder, capsys):
    arguments = ["evaluate", "flow", "--data", "heldout", "--protocol", "bpd-heldout-8bit"]
    assert main(arguments) == 0
    assert "uniform dequantisation" in capsys.readouterr().out
    record = json.loads((folder / "flow" / "evaluations.jsonl").read_text().splitlines()[-1])
    assert record["trained_on_the_other_part"] is True
    assert record["interval"][0] < record["bits_per_dimension"] < record["interval"][1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("evaluate flow --data train --protocol bpd-heldout-8bit", "is the train part of a split"),
        ("evaluate -m shipped --data train --neighbours", "writes into the run folder; name a run"),
        ("evaluate flow -m shipped --data train", "several models: flow, shipped"),
        ("evaluate flow --data heldout --protocol bpd-heldout-12bit", "did you mean 'bpd-heldout-8bit'"),
        (
            "evaluate flow --data heldout --protocol bpd-heldout-8bit --psi 0.7",
            "draws no samples; drop --psi",
        ),
        ("evaluate gan --data heldout --protocol bpd-heldout-8bit", "dcgan has no likelihood"),
        ("explore reconstruct labels.csv --model flow", "labels.csv: text, not a picture"),
        ("explore reconstruct none.png --model flow", "none.png: no such file"),
        ("explore reconstruct heldout-pictures/0.png --model gan", "dcgan cannot encode images; these"),
        ("explore interpolate heldout-pictures/0.png --model flow", "two pictures or more, got 1"),
        ("explore outliers none --model flow", "no face set none"),
        ("explore outliers heldout --model gan", "dcgan has no likelihood"),
        ("explore attribute --model flow --data heldout --from red --to hair=blue", "write it like hair="),
        ("explore attribute -m flow --data train --from hair=red --to hair=blue", "3 faces have hair=red"),
        ("explore attribute -m flow --data train --from hair=a --to b=c --strengths x", "list of numbers"),
        ("explore reconstruct heldout-pictures/0.png", "stylegan2 cannot encode images; these"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments, told, capsys):
    assert main(arguments.split()) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert told in last


@pytest.mark.parametrize("verb", ["", "reconstruct", "interpolate", "outliers", "attribute"])
def test_help_fits_80_columns(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*f"explore {verb}".split(), "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
