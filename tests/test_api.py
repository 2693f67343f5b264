"""The Python API: what a notebook user sees."""

import inspect
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import omokage as om
from omokage.model import About


@pytest.fixture(scope="module")
def model():
    return om.load("fast-64", device="cpu")


def test_importing_it_loads_no_pytorch():
    code = (
        "import sys, omokage as om; assert 'torch' not in sys.modules; "
        "assert {'load', 'train', 'FaceSet'} <= set(dir(om)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_there_and_explained():
    assert set(om.__all__) <= set(dir(om))
    for name in om.__all__:
        value = getattr(om, name)
        assert inspect.getdoc(value), name
        if inspect.isfunction(value):
            hints = inspect.signature(value)
            assert all(p.annotation is not inspect.Parameter.empty for p in hints.parameters.values()), name


def test_a_wrong_name_says_which_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'laod'; it has .*load"):
        _ = om.laod


def test_faces_are_an_array_and_a_grid(model, tmp_path):
    faces = model.sample(seeds=range(5), psi=0.7)
    assert (faces.shape, faces.dtype) == ((5, 64, 64, 3), np.uint8)
    assert (faces[3] == model.sample([3], psi=0.7)[0]).all()
    shown = Image.open(io.BytesIO(faces._repr_png_()))
    assert shown.size == faces.grid().size
    assert Image.open(io.BytesIO(faces[2]._repr_png_())).size == (64, 64)
    assert (faces.astype(float) / 2)._repr_png_() is None  # numbers, no pictures
    path = faces.save(tmp_path / "faces.png", columns=5)
    said = Image.open(path).text
    assert (said["seeds"], said["psi"], said["snapshot"]) == ("0-4", "0.7", model.snapshot_hash)
    assert np.asarray(Image.open(path)).shape[0] == 64


def test_each_seed_may_have_its_own_psi(model):
    faces = model.sample([1, 2, 3], psi=[1.0, 0.5, 1.0])
    assert (faces[1] == model.sample([2], psi=0.5)[0]).all()
    assert (faces[2] == model.sample([3])[0]).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seeds": []}, "no seeds given"),
        ({"seeds": [-1]}, "0 or more"),
        ({"psi": float("nan")}, "finite"),
        ({"psi": [1.0, 0.5]}, "2 numbers for 16 seeds"),
        ({"psi": -1.0}, "has no styles"),
        ({"conditions": {"hair": "red"}}, "trained without conditions"),
        ({"jacobi": 4}, "draws whole images at once"),
        ({"noise": "none"}, "has no styles"),
        ({"pis": 1.0}, "no setting 'pis'; there are psi"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(model, arguments, said):
    with pytest.raises(om.UserError, match=said):
        model.sample(**arguments)


def test_a_model_says_what_it_is_and_how_it_can_be_sampled(model):
    assert "64×64 px" in repr(model)
    assert [setting.name for setting in model.settings] == ["psi"]
    assert isinstance(model.about, About)


def test_faces_that_are_not_finite_are_warned_of(model, monkeypatch):
    decode = type(model).decode

    def broken(self, z, settings=om.Settings()):
        images = decode(self, z, settings).clone()
        images[1, :, 3, 4] = float("nan")
        return images

    monkeypatch.setattr(type(model), "decode", broken)
    with pytest.warns(UserWarning, match=r"seeds \[5\]"):
        faces = model.sample([4, 5, 6])
    assert faces.finite.tolist() == [True, False, True]
    assert faces.text["not finite"] == "5"


def test_from_pictures_to_a_measured_run(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(24):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    faces, run = tmp_path / "faces", tmp_path / "run"
    om.build(tmp_path / "pictures", out=faces, as_faces=True, workers=1, progress=None)
    assert len(om.FaceSet.open(faces)) == 24
    small = {"model.channels": [8, 8, 8], "discriminator.channels": [8, 8, 8], "training.batch": 8}
    om.train("dcgan", data=faces, out=run, images=16, overrides=small)
    trained = om.load(run)
    assert trained.images_seen == 16
    assert trained.sample([0]).shape == (1, 32, 32, 3)
    lines = tmp_path / "lines.jsonl"
    with pytest.warns(UserWarning, match="24"):
        record = om.evaluate(trained, data=faces, protocol="fid24-full-tags", out=lines, progress=None)
    assert record["snapshot_hash"] == trained.snapshot_hash
    assert json.loads(lines.read_text())["fid"] == record["fid"]


def test_two_folders_have_a_distance(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8) // (1 if name == "a" else 2)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    with pytest.warns(UserWarning, match="12"):
        near = om.fid(tmp_path / "a", tmp_path / "a", "tags")
    with pytest.warns(UserWarning, match="12"):
        far = om.fid(tmp_path / "a", tmp_path / "b", "tags")
    assert near < 1e-4 < far
