"""Faces as users name them, and the recipes in pictures: every face comes back bit for bit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from standins import CONDITIONS, small_model

from omokage.abilities import HasStyles, TakesConditions
from omokage.errors import UserError
from omokage.explore.inputs import gather
from omokage.explore.latents import write_latents
from omokage.explore.points import Points, drawn, joined, stacked
from omokage.explore.provenance import Provenance, faces_of, points_of, read_provenance, settings_for
from omokage.families import MODELS
from omokage.model import About, Model
from omokage.samples import write_each, write_grid
from omokage.sampling import gathered, sample
from omokage.settings import Settings

CASES = [
    *((name, None) for name in sorted(MODELS)),
    *((name, CONDITIONS) for name in ("dcgan", "stylegan2") if MODELS[name].can(TakesConditions)),
]


def faces(model, points, settings):
    return stacked(drawn(model, points, settings), model.resolution)[0]


@pytest.mark.parametrize(("name", "conditions"), CASES, ids=lambda value: str(value and str(value)[:8]))
def test_seeds_latent_files_and_recipes_give_the_same_faces_bit_for_bit(name, conditions, tmp_path):
    model, settings = small_model(name, conditions), Settings(psi=0.7)
    wanted, _ = gathered(sample(model, [3, 17, 1], settings))
    for space in ("z", "w") if model.can(HasStyles) else ("z",):
        given = gather(["3,17", "1"], model, settings=settings, space=space)
        assert given.names == ["seed 3", "seed 17", "seed 1"]
        assert given.points.space == space
        assert (faces(model, given.points, settings) == wanted).all()
        path = tmp_path / f"{space}.safetensors"
        write_latents(path, given.points, given.names, model.about, origins=given.origins, settings=settings)
        # Read again with another psi for the seed: each point keeps its own.
        mixed = gather([path, "3"], model, settings=Settings(psi=1.0), space=space)
        again = faces(model, mixed.points, Settings(psi=1.0))
        assert (again[:3] == wanted).all()
        assert (again[3] == gathered(sample(model, [3]))[0][0]).all()
        own = settings_for(mixed.points, Settings(psi=1.0))
        told = Provenance("grid", model.about, faces_of(mixed.points, mixed.origins), own)
        back = Provenance.of_text(told.text())
        assert back == told
        assert (faces(model, points_of(model, back, space), back.settings) == again).all()


@pytest.fixture(scope="module")
def styled() -> Model:
    return small_model("stylegan2")


def test_a_picture_is_an_input_with_its_own_psi(styled, tmp_path):
    settings = Settings(psi=0.5, noise="none")
    grid = write_grid(styled, [5, 9], tmp_path / "grid.png", settings=settings)
    given = gather([str(grid), "2"], styled, settings=settings)
    assert given.names == ["grid.png 1", "grid.png 2", "seed 2"]
    assert given.seeds is None
    wanted, _ = gathered(sample(styled, [5, 9, 2], settings))
    assert (faces(styled, given.points, settings) == wanted).all()
    assert given.told == []
    (line,) = gather([grid], styled).told
    assert line.endswith("was drawn with noise none; here its faces are drawn with the defaults")


def test_faces_that_are_no_seeds_are_written_with_their_coordinates(styled, tmp_path):
    face = write_each(styled, [5], tmp_path, settings=Settings(psi=0.5))[0]
    given = gather([face, "2"], styled)
    paths = write_each(styled, given, tmp_path / "again")
    assert [path.name for path in paths] == ["face-0001.png", "face-0002.png"]
    with Image.open(face) as one, Image.open(paths[0]) as other:
        assert one.tobytes() == other.tobytes()
    told = read_provenance(paths[0])
    assert told.faces[0]["parents"] == [{"seed": 5, "settings": {"psi": "0.5"}}]
    assert set(read_provenance(paths[1]).faces[0]) == {"seed"}


def test_a_picture_of_an_earlier_version_is_read(styled, tmp_path):
    path = write_grid(styled, [5, 9, 10], tmp_path / "grid.png", settings=Settings(psi=0.5))
    with Image.open(path) as picture:
        text = {key: value for key, value in picture.text.items() if key not in ("omokage", "parameters")}
    told = Provenance.of_text(text)
    assert (told.kind, told.seeds, told.settings) == ("grid", [5, 9, 10], Settings(psi=0.5))
    assert told.about == styled.about


def test_gallery_tools_read_the_parameters(styled, tmp_path):
    settings = Settings(psi=0.5)
    (path,) = write_each(styled, [5], tmp_path, settings=settings)
    with Image.open(path) as picture:
        words, line = picture.text["parameters"].splitlines()
    pairs = dict(pair.split(": ") for pair in line.split(", "))
    assert words == "anime face"
    assert (pairs["Seed"], pairs["Size"], pairs["psi"]) == ("5", "16x16", "0.5")
    assert (pairs["Model"], pairs["Model hash"]) == ("stylegan2", "0" * 10)


def test_inverting_is_asked_once_for_all_pictures_in_their_order(styled, tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    asked = []

    def invert(files, model, *, settings, space):
        asked.append([file.name for file in files])
        w = torch.arange(len(files), dtype=torch.float32)[:, None, None]
        return Points(w=w.expand(-1, *model.mapping(torch.zeros(1, 8)).shape[1:])), ["done"]

    names = [str(tmp_path / "a.png"), "3", str(tmp_path / "b.png")]
    given = gather(names, styled, invert=invert)
    assert asked == [["a.png", "b.png"]]
    assert given.names == ["a.png", "seed 3", "b.png"]
    assert given.points.w[0].unique().tolist() == [0]
    assert given.points.w[2].unique().tolist() == [1]
    assert given.points.z is None
    assert given.told == ["done"]
    assert given.origins[0]["inverted"]


def test_what_is_no_face_is_refused_in_one_line(styled, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "own.png")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    given = gather(["3"], styled)
    write_latents(tmp_path / "w.safetensors", Points(w=given.points.w), ["x"], styled.about)
    write_latents(tmp_path / "other.safetensors", given.points, ["x"], About("y", 1, "1" * 64))
    save_file({"z": torch.zeros(2, 9)}, tmp_path / "wide.safetensors")
    save_file({"z": torch.full((2, 8), torch.nan)}, tmp_path / "nan.safetensors")
    (picture,) = write_each(styled, [5], tmp_path)
    other = replace(styled, snapshot_hash="1" * 64)
    for arguments, model, space, words in [
        ([], styled, None, "no faces named"),
        (["5-3"], styled, None, "faces: '5-3' runs backwards"),
        ([tmp_path / "none.png"], styled, None, "no such file; faces are seeds like 3"),
        ([tmp_path], styled, None, "is a folder"),
        ([tmp_path / "own.png"], styled, None, "not a picture that Omokage made"),
        ([tmp_path / "cut.safetensors"], styled, None, "is no latent file"),
        ([tmp_path / "w.safetensors"], styled, "z", "leave --in z out"),
        ([tmp_path / "other.safetensors"], styled, None, "latents of another model (y, 1 images seen"),
        ([tmp_path / "wide.safetensors"], styled, None, "this model needs (N, (8,))"),
        ([tmp_path / "nan.safetensors"], styled, None, "not finite"),
        ([picture], other, None, "made by another model"),
        (["3"], small_model("dcgan"), "w", "dcgan has no styles"),
    ]:
        with pytest.raises(UserError) as refusal:
            gather(arguments, model, space=space)
        assert words in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_recipes_of_others_are_hostile(styled, tmp_path):
    (path,) = write_each(styled, [5], tmp_path)
    with Image.open(path) as picture:
        told, pixels = json.loads(picture.text["omokage"]), np.asarray(picture)
    point = {"shape": [8], "float32": "AAAA"}
    for faces_, words in [
        ([{"z": point}], "damaged"),
        ([{"z": {"shape": [10**9], "float32": ""}}], "damaged"),
        ([{"seeds": "0-99999999999"}], "cannot be read"),
        ([[1]], "cannot be read"),
        ([{"name": "x"}], "no latents"),
        ([], "names no face"),
    ]:
        from omokage.pages.files import save_png

        save_png(pixels, path, {"omokage": json.dumps({**told, "faces": faces_})})
        with pytest.raises(UserError, match=words):
            gather([path], styled)
    save_png(pixels, path, {"omokage": "[" * 100_000})
    with pytest.raises(UserError, match="cannot be read"):
        gather([path], styled)


def test_points_of_two_spaces_are_not_joined(styled):
    in_z, in_w = (gather(["3"], styled, space=space).points for space in ("z", "w"))
    with pytest.raises(ValueError, match="different spaces"):
        joined([in_z, in_w])
    both = joined([in_w, Points(w=in_w.w + 1)])
    assert (both.z, both.space, len(both)) == (None, "w", 2)
    assert torch.equal(both[[1]].values, in_w.w + 1)
