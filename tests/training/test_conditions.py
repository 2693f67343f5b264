"""Conditions: what a model is trained with can be asked of it by name."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from omokage.__main__ import main
from omokage.data.build import build
from omokage.data.store.faceset import FaceSet
from omokage.errors import UserError
from omokage.model import load_model
from omokage.models.conditional import ConditionalGenerator, one_hot
from omokage.recipe import load_recipe, read_recipe
from omokage.running import check, train
from omokage.sampling import gathered, latents, sample
from omokage.settings import Settings
from omokage.snapshot import newest_snapshot, read_snapshot
from omokage.training.conditions import ConditionLabels, chances

COLOURS = {"blue": (30, 50, 220), "green": (30, 200, 40), "red": (220, 30, 30)}
SMALL = [
    "model.channels=[16]",
    "model.latent=8",
    "discriminator.channels=[16]",
    "training.batch=16",
    "training.log_kimg=0.8",
    "training.grid_kimg=100",
    "training.average_kimg=0.5",
    "training.mirror=false",
    "learning_rate={ default = 2e-3 }",
    "condition=hair,eyes",
]


def coloured(folder, count=240):
    """Pictures of one colour, the hair; dark in the lower half where the eyes are shut. And their labels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["file,hair,eyes,odd"]
    for i in range(count):
        hair, eyes = rng.choice(list(COLOURS), p=[0.5, 0.3, 0.2]), rng.choice(["open", "shut"])
        pixels = np.zeros((8, 8, 3)) + COLOURS[hair]
        pixels[4:] = 20 if eyes == "shut" else pixels[4:]
        pixels += rng.normal(0, 10, pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{hair},{eyes},{'' if i % 4 == 0 else 'a' if i % 4 == 1 else 'b|a'}")
    csv = folder.parent / "labels.csv"
    csv.write_text("\n".join(rows))
    return csv


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditions")
    csv = coloured(folder / "pictures")
    build([folder / "pictures"], folder / "faces", as_faces=True, labels=csv, workers=1)
    return folder / "faces"


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    # Large steps: the same faces in less than half the time.
    large = ["batch=40", "learning_rate={ default = 3e-3 }"]
    train(load_recipe("dcgan", [*SMALL, *large]), faces, out, images=8000)
    return out


def test_faces_look_as_their_conditions_say(run):
    model = load_model(run, device="cpu")
    assert model.conditions == {"hair": list(COLOURS), "eyes": ["open", "shut"]}
    for hair, colour in COLOURS.items():
        for eyes in ("open", "shut"):
            settings = Settings(conditions={"hair": hair, "eyes": eyes})
            drawn = gathered(sample(model, range(8), settings))[0].astype(float)
            upper, lower = drawn[:, :3].mean((0, 1, 2)), drawn[:, 5:].mean((0, 1, 2))
            assert np.abs(upper - colour).max() < 60, (hair, eyes, upper)
            assert np.abs(lower - (20 if eyes == "shut" else colour)).max() < 60, (hair, eyes, lower)


def test_without_names_conditions_come_as_often_as_in_training_and_by_seed(run, faces):
    model = load_model(run, device="cpu")
    network = model.network
    z = latents(range(2000), model.latent_shape)
    drawn = network.drawn(z[:, network.latent :])
    labels = ConditionLabels(FaceSet.open(faces), ["hair", "eyes"])
    expected = labels.seen() / labels.seen().sum()
    found = torch.bincount(drawn[:, 0] * 2 + drawn[:, 1], minlength=6) / 2000
    assert (found - expected).abs().max() < 0.035
    assert torch.equal(drawn[7:8], network.drawn(z[7:8, network.latent :]))
    # A latent that says red is a red face.
    for seed in range(4):
        picture = gathered(sample(model, [seed]))[0][0]
        asked = dict(zip(("hair", "eyes"), drawn[seed].tolist(), strict=True))
        named = {name: model.conditions[name][number] for name, number in asked.items()}
        assert (gathered(sample(model, [seed], Settings(conditions=named)))[0][0] == picture).all()
    fixed = network.drawn(z[:, network.latent :], [None, 1])
    assert (fixed[:, 1] == 1).all()
    assert len(fixed[:, 0].unique()) == 3


def test_one_hot_and_what_was_never_seen_together():
    inner = torch.nn.Identity()
    inner.latent_shape, inner.resolution = (2 + 5,), (1, 1)
    generator = ConditionalGenerator(inner, {"a": ["x", "y"], "b": ["p", "q", "r"]})
    generator.seen.copy_(torch.tensor([5.0, 0, 0, 0, 3, 0]))  # only x with p and y with q
    noise = latents(range(400), (5,))
    drawn = generator.drawn(noise)
    assert {tuple(row) for row in drawn.tolist()} == {(0, 0), (1, 1)}
    assert generator.drawn(noise, [None, 1]).unique(dim=0).tolist() == [[1, 1]]
    unseen = generator.drawn(noise, [0, 2])
    assert unseen.unique(dim=0).tolist() == [[0, 2]]
    assert {tuple(row) for row in generator.drawn(noise, [None, 2]).tolist()} == {(0, 2), (1, 2)}
    joined = generator.joined(torch.ones(1, 7), torch.tensor([[1, 0]]))
    torch.testing.assert_close(joined, torch.tensor([[1, 1, 0, 2**0.5, 3**0.5, 0, 0]]))
    assert one_hot(torch.tensor([[-1, 2]]), (2, 3)).tolist() == [[0, 0, 0, 0, 1]]


def test_a_snapshot_rebuilds_its_model_by_itself(run, tmp_path):
    lonely = tmp_path / "lonely.safetensors"
    lonely.write_bytes(newest_snapshot(run).read_bytes())
    model = load_model(lonely, device="cpu")
    assert model.conditions["hair"] == ["blue", "green", "red"]
    assert read_recipe(model.recipe.to_toml(), "again").conditions == model.conditions


@pytest.mark.parametrize(
    ("name", "narrow"),
    [
        ("dcgan", SMALL),
        ("dcgan", [*SMALL, "condition=odd", "share=0.7"]),  # several values, and none
        ("wgan-gp", [*SMALL, "critic_steps=2"]),
        ("dragan", SMALL),
        ("yao2021-vae", ["model.channels=[4, 4, 4, 4]", *SMALL[1:2], *SMALL[3:]]),
        (
            "illustration-gan",
            [*SMALL, "model.dense=[16]", "discriminator.resolution=8", "discriminator.dense=8"],
        ),
        (
            "sagan",
            [
                "model.channels=[8, 8]",
                "discriminator.channels=[8, 8]",
                "discriminator.resolution=8",
                *SMALL[3:],
            ],
        ),
    ],
)
def test_a_resumed_run_equals_an_unbroken_one(faces, tmp_path, name, narrow):
    recipe = load_recipe(name, narrow)
    train(recipe, faces, tmp_path / "unbroken", images=96)
    for images in (16, 64, 96):
        train(recipe, faces, tmp_path / "broken", images=images)
    one, other = (read_snapshot(newest_snapshot(tmp_path / run))[0] for run in ("unbroken", "broken"))
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    faces, finite = gathered(sample(load_model(tmp_path / "broken", device="cpu"), range(3)))
    assert finite.all()
    assert faces.std() > 0


def test_labels_of_several_values_and_of_none(faces, tmp_path):
    opened = FaceSet.open(faces)
    labels = ConditionLabels(opened, ["odd"])
    assert labels.values == {"odd": ["a", "b", "unknown"]}
    assert labels.sentences() == [
        "odd of 240 faces: a 180, b 120; none 60 (the value unknown), several 120 (one is drawn each time)"
    ]
    names = [opened.index["file"][i].as_py() for i in range(240)]
    number = np.array([int(name.removesuffix(".png")) for name in names])
    torch.manual_seed(0)
    draws = torch.stack([labels.drawn(np.arange(240))[:, 0] for _ in range(50)]).numpy()
    assert (draws[:, number % 4 == 0] == 2).all()
    assert (draws[:, number % 4 == 1] == 0).all()
    several = draws[:, number % 4 > 1]
    assert set(several.ravel()) == {0, 1}
    assert abs(several.mean() - 0.5) < 0.05
    assert labels.seen().tolist() == [120, 60, 60]  # shares: half of 120, and so on
    # A label that is not trained with has no number.
    assert set(
        ConditionLabels(opened, ["hair"], values={"hair": ["red"]}).drawn(np.arange(240)).unique().tolist()
    ) == {
        -1,
        0,
    }
    assert ConditionLabels(opened, ["odd"]).digest() == labels.digest()
    assert labels.digest() != ConditionLabels(opened, ["hair"]).digest()


def test_a_loud_line_says_what_is_used(faces, tmp_path, capsys):
    command = ["train", "dcgan", "--data", str(faces), "-o", str(tmp_path / "run"), "--images", "16"]
    assert main([*command, *SMALL, "share=0.5"]) == 0
    told = capsys.readouterr().err
    assert "trained on: 120 of 240 faces, chosen by seed 0" in told
    assert "condition: hair of 120 faces: blue" in told
    assert "condition: eyes of 120 faces: open" in told


def test_sampling_by_name(run, tmp_path, capsys):
    out = tmp_path / "faces.png"
    command = ["sample", str(run), "--seeds", "0-3", "-o", str(out)]
    pictures = []
    for options in (["--hair", "blue", "--eyes", "shut"], ["--condition", "hair=blue", "--eyes", "shut"], []):
        assert main([*command, *options]) == 0
        pictures.append(np.asarray(Image.open(out)))
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()
    for options, said in {
        ("--hair", "bleu"): "no hair 'bleu' (did you mean blue?); there are blue, green, red",
        ("--condition", "hiar=blue"): "no condition 'hiar' (did you mean hair?); there are",
        ("--condition", "hair"): "is not NAME=VALUE",
        ("--hair", "red", "--condition", "hair=blue"): "red and blue at once",
    }.items():
        capsys.readouterr()
        assert main([*command, *options]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
    assert main(["sample", "--hair", "blue", "-o", str(out)]) == 2  # the model that ships
    assert "was trained without conditions" in capsys.readouterr().err


def test_refusals(faces, tmp_path):
    for overrides, said in (
        (["condition=hiar"], r"no label 'hiar' \(did you mean hair\?\); there are hair, eyes, odd"),
        (["condition=file"], "no label 'file'"),
        (["condition=hair,hair"], "each label once"),
    ):
        with pytest.raises(UserError, match=said):
            train(load_recipe("dcgan", [*SMALL, *overrides]), faces, tmp_path / "run", images=16)
    with pytest.raises(UserError, match=r"glow takes no conditions; these do: .*dcgan"):
        load_recipe("glow-32", ["condition=hair"])
    with pytest.raises(UserError, match="leave the table out"):
        read_recipe(load_recipe("dcgan").to_toml() + '[conditions]\nhair = ["red"]\n', "mine.toml")
    # Another order, other values, other labels: another run.
    train(load_recipe("dcgan", SMALL), faces, tmp_path / "run", images=16)
    with pytest.raises(UserError, match="other settings"):
        train(load_recipe("dcgan", [*SMALL, "condition=eyes,hair"]), faces, tmp_path / "run", images=32)
    pictures = faces.parent / "pictures"
    csv = tmp_path / "labels.csv"
    lines = (faces.parent / "labels.csv").read_text().splitlines()
    lines[1] = lines[1].replace("blue", "red") if "blue" in lines[1] else lines[1].replace(",", ",blue|", 1)
    csv.write_text("\n".join(lines))
    build([pictures], tmp_path / "others", as_faces=True, labels=csv, workers=1)
    with pytest.raises(UserError, match="with other labels"):
        train(load_recipe("dcgan", SMALL), tmp_path / "others", tmp_path / "run", images=32)
    build([pictures], tmp_path / "bare", as_faces=True, workers=1)
    with pytest.raises(UserError, match=r"has no labels; .*--labels"):
        train(load_recipe("dcgan", SMALL), tmp_path / "bare", tmp_path / "new", images=16)


def test_an_unconditional_recipe_says_nothing_of_conditions(faces, tmp_path):
    train(load_recipe("dcgan", [*SMALL, "condition=[]"]), faces, tmp_path / "run", images=16)
    tensors, recipe, progress = read_snapshot(newest_snapshot(tmp_path / "run"))
    assert recipe.conditions == {}
    assert "[conditions]" not in recipe.to_toml()
    assert not any("network." in name for name in tensors)
    assert progress["face_set"] == FaceSet.open(faces).content_hash
    assert json.dumps(progress)


def tagged(index, **columns):
    """A face set in memory with these columns."""
    fixed = {"key": [str(i) for i in range(index)], "file": columns.pop("file", [""] * index)}
    table = pa.table({**fixed, **columns})

    class Faces:
        path, index = "faces", table

        def __len__(self):
            return len(table)

    return Faces()


def test_numbers_are_put_into_bins_of_equal_size():
    years = [1990 + i // 4 for i in range(80)]
    faces = tagged(80, file=[f"{i}_{year}.jpg" for i, year in enumerate(years)])
    labels = ConditionLabels(faces, ["year"])
    assert len(labels.values["year"]) == 8
    assert labels.values["year"][0] == "1990-1992"
    counts = np.bincount(labels.numbers[:, 0, 0])
    assert counts.max() <= 2 * counts.min()
    # Held-out faces go into the same bins, those beyond them into the nearest.
    others = tagged(3, file=["a_1950.jpg", "b_1991.jpg", "c_2050.jpg"])
    same = ConditionLabels(others, ["year"], values=labels.values)
    assert same.numbers[:, 0, 0].tolist() == [0, 0, 7]
    few = ConditionLabels(tagged(4, sharpness=[0.5, 0.25, None, 0.5]), ["sharpness"])
    assert few.values == {"sharpness": ["0.25", "0.5", "unknown"]}


def test_rare_values_come_more_often():
    hair = ["red"] * 88 + ["blue"] * 8 + ["red|blue"] * 2 + [None] * 2
    labels = ConditionLabels(tagged(100, hair=hair), ["hair"])
    often = chances(labels)
    assert often.sum() == pytest.approx(100)
    assert often[:88].sum() == pytest.approx(often[88:96].sum(), rel=0.2)
    assert often[0] < often[98] < often[96] < often[90] < 10
    rarest = chances(ConditionLabels(tagged(100, hair=["red"] * 99 + ["blue"]), ["hair"]))
    assert rarest[-1] == pytest.approx(10)


def test_a_balanced_run_on_chosen_faces_goes_on_bit_for_bit(faces, tmp_path):
    changes = [*SMALL, "balance=hair", "where=eyes=open", "seed=3"]
    recipe = load_recipe("dcgan", changes)
    snapshots = []
    for name, stops in (("one", [96]), ("two", [48, 96])):
        for images in stops:
            snapshots.append(train(recipe, faces, tmp_path / name, images=images))
    one, two = (read_snapshot(path)[0] for path in (snapshots[0], snapshots[-1]))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(UserError, match=r"face set|recipe"):
        train(load_recipe("dcgan", [*changes, "where=[]"]), faces, tmp_path / "one", images=128)
    with pytest.raises(UserError, match=r"training\.balance: .* has no label 'hare' \(did you mean hair"):
        check(load_recipe("dcgan", [*SMALL, "balance=hare"]), faces, None)
