"""`omokage study`: made from folders, face sets and snapshots; what is wrong is told in one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from study_visitors import browser, finish, squares, start

from omokage.__main__ import main
from omokage.families import build_model
from omokage.recipe import load_recipe
from omokage.snapshot import write_snapshot
from omokage.study.design import load_design
from omokage.study.stimuli import load_stimuli, read_metrics


@pytest.fixture
def folders(tmp_path):
    """Folders of real and generated pictures; one file cannot be read."""
    for name, seed in (("real", 0), ("gan", 1), ("vae", 2)):
        (tmp_path / name).mkdir()
        for file, image in squares(14, seed):
            image.save(tmp_path / name / file)
    (tmp_path / "vae" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\nand so on")
    return tmp_path


def new(folders, *more: str) -> int:
    return main(["study", "new", str(folders / "study"), "--trials", "4", *more])


def test_a_study_is_made_from_folders(folders, capsys):
    sources = ["--real", str(folders / "real"), "--generated", str(folders / "gan"), str(folders / "vae")]
    assert new(folders, *sources, "--chosen-by-hand", "vae=900", "--participants", "26", "--seed", "3") == 0
    told = capsys.readouterr().out
    assert "real: 14 pictures" in told
    assert "left out, not readable: 1 (vae/000.png" in told
    assert "token, shown only now: " in told
    design = load_design(folders / "study")
    assert design.sources == ("real", "gan", "vae")
    assert design.chosen_by_hand == {"vae": 900}
    assert (design.trials, design.stopping.participants, design.seed) == (4, 26, 3)
    assert load_stimuli(folders / "study").counts == {"real": 14, "gan": 14, "vae": 13}
    with browser(folders / "study") as client:
        finish(client, start(client))
    assert new(folders, *sources) == 2  # what is there stays
    assert "not empty" in capsys.readouterr().err


def test_a_run_is_drawn_and_recorded(folders, tagged_faces, capsys):
    recipe = load_recipe("dcgan", ["model.channels=[4,4,4,4]"])
    torch.manual_seed(0)
    weights = build_model(recipe.model).state_dict()
    run = folders / "runs" / "small"
    run.mkdir(parents=True)
    snapshot = run / "snapshot-000000001.safetensors"
    write_snapshot(snapshot, {f"average.{k}": v for k, v in weights.items()}, recipe, {"images": 64})
    (run / "evaluations.jsonl").write_text('not JSON\n{"fid": 99.5, "kid": 0.1}\n')
    sources = ["--real", str(tagged_faces.path), "--generated", str(run)]
    assert new(folders, *sources, "-n", "8", "--seed", "5", "--psi", "0.8", "--practice", "1") == 0
    record = load_stimuli(folders / "study")
    assert record.sources["small"]["seeds"] == "5-12"
    assert record.sources["small"]["psi"] == "0.8"
    assert record.sources["real"]["content"] == tagged_faces.content_hash
    assert record.counts == {"real": 8, "small": 8}
    assert read_metrics(folders / "study") == {"small": {"fid": 99.5, "kid": 0.1}}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--real", "real"], "--generated is missing"),
        (["--generated", "gan"], "--real is missing"),
        ([], "--generated is missing"),
        (["--real", "real", "--generated", "gan", "--design", "quiz"], "got quiz, allowed is pairs"),
        (["--real", "real", "--generated", "gan", "--preset", "rai2021"], "no such preset"),
        (["--real", "real", "--generated", "gan", "-n", "3"], "3 pictures, and one participant needs 6"),
        (["--real", "real", "--generated", "none"], "there is no"),
        (["--real", "real", "--generated", "gan", "--chosen-by-hand", "gan"], "is not SOURCE=N"),
        (["--real", "real", "--generated", "gan", "--chosen-by-hand", "x=1"], "not among the sources"),
        (["--real", "real", "--generated", "gan", "--exposures", "5O"], "is not a list of whole numbers"),
        (["--real", "real", "--generated", "real"], "is the same picture as"),
        (["--real", "real", "--generated", "gan", "--pixels", "32"], "no picture could be used"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_left(folders, capsys, more, told, monkeypatch):
    monkeypatch.chdir(folders)
    before = sorted(folders.iterdir())
    assert new(folders, *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert told in error
    assert sorted(folders.iterdir()) == before


def test_ratings_need_no_real_pictures(folders):
    rating = ("--design", "rating", "--parts", "hair,eyes")
    assert new(folders, "--generated", str(folders / "gan"), *rating) == 0
    design = load_design(folders / "study")
    assert (design.sources, design.parts, design.answers) == (("gan",), ("hair", "eyes"), 12)


def test_texts_of_a_study(folders, capsys):
    sources = ["--real", str(folders / "real"), "--generated", str(folders / "gan")]
    assert new(folders, *sources, "--preset", "rai2020") == 0
    study = str(folders / "study")
    capsys.readouterr()
    assert main(["study", "ethics", study]) == 0
    assert "withdraw" in capsys.readouterr().out.lower()
    assert main(["study", "preregister", study, "-o", str(folders / "plan.md")]) == 0
    assert "Stopping" in (folders / "plan.md").read_text()
    assert main(["study", "summary", "--published", "rai2020"]) == 0
    assert "312" in capsys.readouterr().out
    assert main(["study", "summary", "--people", "3"]) == 2


def test_the_way_from_answers_to_an_export_and_a_report(folders, capsys):
    sources = ["--real", str(folders / "real"), "--generated", str(folders / "gan")]
    assert new(folders, *sources) == 0
    study = folders / "study"
    assert main(["study", "report", str(study)]) == 2
    assert "no answers yet" in capsys.readouterr().err
    with browser(study) as client:
        for _ in range(4):
            finish(client, start(client))
    assert main(["study", "export", str(study), "-o", str(folders / "data")]) == 0
    assert "24 answers of 4 people" in capsys.readouterr().out
    rows = json.loads((folders / "data" / "study.json").read_text())
    assert len(rows["answers"]) == 24
    assert main(["study", "report", str(study), "-o", str(folders / "report")]) == 0
    assert "<html" in (folders / "report" / "index.html").read_text()
    pictures = {path.name for path in (study / "pictures").iterdir()}
    assert len(pictures) == 28
    assert np.asarray(Image.open(study / "pictures" / min(pictures))).shape == (24, 24, 3)


def test_a_plan_without_a_study_takes_as_many_pictures_as_a_new_one(capsys):
    assert main(["study", "plan", "--effect", "0.7", "--trials", "12", "--studies", "100"]) == 0
    assert "100 pictures of each kind" in capsys.readouterr().out


def test_a_new_database_is_told(folders, monkeypatch, capsys):
    monkeypatch.setattr("omokage.study.server.serve", lambda *_, **__: None)
    assert main(["study", "serve", str(folders), "--database", str(folders / "other.sqlite")]) == 0
    assert "other.sqlite: a new database" in capsys.readouterr().out
    (folders / "other.sqlite").touch()
    assert main(["study", "serve", str(folders), "--database", str(folders / "other.sqlite")]) == 0
    assert "a new database" not in capsys.readouterr().out
