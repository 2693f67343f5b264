"""The verbs of exploration: what they write, what they tell and how they refuse."""

import json
from itertools import pairwise
from pathlib import Path

import cv2
import pytest
import torch
from PIL import Image
from standins import small_model

from omokage.__main__ import main
from omokage.model import write_small
from omokage.snapshot import write_snapshot


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Snapshots of small models, with and without styles, as files and as a run."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("dcgan", "stylegan2"):
        write_small(small_model(name), folder / f"{name}.safetensors")
    (folder / "run").mkdir()
    write_small(small_model("dcgan"), folder / "run" / "snapshot-000000000096.safetensors")
    return folder


@pytest.fixture(autouse=True)
def here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)


def test_mixed_faces_walk_and_the_run_file_says_everything(capsys):
    assert main(["sample", "run", "5", "--psi", "0.5", "--each", "-o", "each"]) == 0
    assert main(["sample", "-m", "run", "3,17", "--save-latents", "board.safetensors", "-o", "a.png"]) == 0
    assert main(["show", "board.safetensors"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == ["z: 2 points of 8", "faces: seed 3, seed 17"]
    assert main(["show", "board.safetensors", "-o", "x.png"]) == 2
    assert "omokage sample board.safetensors -o x.png draws" in capsys.readouterr().err
    words = ["walk", "8", "board.safetensors", "each/seed-000005.png", "--seeds", "1-2", "--model", "run"]
    assert main([*words, "-o", "w.mp4", "--seconds", "0.4", "--no-loop"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "w.mp4"
    assert int(cv2.VideoCapture("w.mp4").get(cv2.CAP_PROP_FRAME_COUNT)) == 12
    told = json.loads(Path("w.mp4.json").read_text())
    assert told["command"] == "omokage " + " ".join([*words, "-o", "w.mp4", "--seconds", "0.4", "--no-loop"])
    assert told["outputs"] == ["w.mp4"]
    assert told["model"]["snapshot"] == small_hash("run")
    assert [face.get("seed", face.get("name")) for face in told["faces"]] == [
        8, "seed 3", "seed 17", "seed-000005.png", 1, 2
    ]  # fmt: skip
    assert told["arguments"]["seconds"] == 0.4


def small_hash(name: str) -> str:
    from omokage.model import load_model

    return load_model(name).snapshot_hash


@pytest.mark.parametrize(
    "words",
    [
        ["walk", "1-3", "-o", "x.png", "--steps", "3"],
        ["walk", "1-2", "-o", "x.png", "--loop", "--ease", "long", "--path", "linear", "--in", "z"],
        ["traverse", "1", "4", "-o", "x.png", "--entries", "1,3", "--times=-1:1"],
        ["truncate", "1-2", "-o", "x.png", "--psi", "1,0.5,-0.5", "--upscale", "2"],
        ["mix", "1", "--from", "2,3", "--styles", "coarse", "-o", "x.png", "--save-latents", "m.safetensors"],
        ["sample", "1", "-o", "x.png", "--sheet", "--psi", "0.7"],
    ],
)
def test_each_picture_is_shown_and_made_again(words, capsys):
    assert main([*words, "--model", "stylegan2.safetensors"]) == 0
    assert main(["show", "x.png", "--model", "stylegan2.safetensors"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "model: stylegan2, 96 images seen" in told
    assert told[-1] == "made again: the same, bit for bit; -o FILE.png keeps it"
    assert main(["show", "x.png", "--model", "stylegan2.safetensors", "-o", "y.png"]) == 0
    with Image.open("x.png") as one, Image.open("y.png") as other:
        assert one.tobytes() == other.tobytes()
    assert Path("x.png.json").exists() == (words[0] != "sample")
    assert Path("m.safetensors").exists() == (words[0] == "mix")


def test_a_traversal_goes_along_the_directions_of_a_file(capsys):
    from omokage.explore.directions import Direction, Directions, write_directions

    rows = (
        Direction("hair=blue", torch.eye(8)[0], layers=(1, 2)),
        Direction("glasses", torch.eye(8)[1], offered=False),
    )
    snapshot = small_hash("stylegan2.safetensors")
    none, names = torch.zeros(8), ("hair=blue",)
    file = Directions("w", rows, none[None], names, {}, none, snapshot, "0" * 64, 10)
    write_directions("d.safetensors", file)
    words = ["traverse", "3", "--directions", "d.safetensors", "--times=-1:1", "-o", "x.png"]
    assert main([*words, "--model", "stylegan2.safetensors"]) == 0
    assert main(["show", "x.png", "--model", "stylegan2.safetensors"]) == 0
    told = capsys.readouterr().out
    assert "directions: name hair=blue layers 1,2\n" in told  # the one that is offered
    assert "made again: the same, bit for bit" in told
    for more, said in [
        (["--along", "hair=green"], "hair=blue"),
        (["--in", "z"], "the directions are in w"),
        (["--entries", "1"], "exclude each other"),
    ]:
        assert main([*words, *more, "--model", "stylegan2.safetensors"]) == 2
        assert said in capsys.readouterr().err
    assert main([*words, "--model", "run"]) == 2
    assert "another snapshot" in capsys.readouterr().err
    beside = ["traverse", "3", "--along", "hair=blue", "-o", "y.png", "--model", "stylegan2.safetensors"]
    assert main(beside) == 2
    assert "no directions of this model" in capsys.readouterr().err
    Path("d.safetensors").rename("stylegan2.directions.safetensors")  # found beside the model
    assert main(beside) == 0


def test_without_metadata_a_picture_says_nothing(capsys):
    words = ["traverse", "1", "--model", "run", "--entries", "1", "--no-metadata"]
    assert main([*words, "-o", "x.png"]) == 0
    assert Image.open("x.png").text == {}
    assert main(["show", "x.png"]) == 2
    assert "no recipe in it" in capsys.readouterr().err
    assert main(["walk", "1-2", "--model", "run", "--no-metadata", "-o", "w.mp4", "--seconds", "0.1"]) == 0
    import av

    with av.open("w.mp4") as film:
        assert "comment" not in film.metadata


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["walk", "1", "-m", "run"], "a walk needs two faces or more; got 1"),
        (["walk", "1-2", "-m", "run", "-o", "w.avi"], "must end in .mp4, .webp, .gif (a film) or .png"),
        (["walk", "1-3", "-m", "run", "--tiles", "2x1"], "2x1 walks need a multiple of 2 faces, at least 4"),
        (["walk", "1-2", "-m", "run", "--tiles", "x"], "--tiles: got 'x'"),
        (["walk", "1-2", "-m", "run", "--seconds", "nan"], "got nan"),
        (["walk", "1-2", "-m", "run", "--in", "w"], "dcgan has no styles"),
        (["walk", "run", "1-2", "-m", "run"], "several models: run, run"),
        (["walk", "1-2", "x.jpg", "-m", "run"], "x.jpg: no such file"),
        (["walk", "1-2", "-m", "run", "--upscale", "3"], "--upscale 3: allowed is 2, 4 or 8"),
        (["traverse", "-m", "run", "--entries", "99"], "z of this model has the entries 1 to 8"),
        (["traverse", "-m", "run", "--times", "x"], "--times: got 'x'"),
        (["truncate", "-m", "run", "--psi", "-1"], "psi below 0 works with"),
        (["mix", "-m", "run"], "dcgan has no styles"),
        (["mix", "-m", "stylegan2.safetensors", "--styles", "9"], "write coarse, middle, fine, or layers"),
        (["walk", "nowhere", "1-2"], "nowhere"),
        (["montage", "run"], "a film or progression needs two"),
        (["montage", "nowhere"], "no such run folder"),
        (["montage", "run", "--clock", "sun"], "--clock sun: there are images and minutes"),
        (["show", "nowhere.png"], "no such file"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(words, said, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert error.count("error: ") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_the_model_is_told_when_a_picture_is_of_another(capsys):
    assert main(["sample", "1", "-m", "run", "-o", "x.png"]) == 0
    assert main(["show", "x.png"]) == 0
    assert "of another model; name that one with --model" in capsys.readouterr().out
    assert main(["walk", "x.png", "2", "-m", "stylegan2.safetensors"]) == 2
    assert "made by another model (dcgan, 96 images seen" in capsys.readouterr().err


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Two runs with pictures for a film, curves, and a measurement."""
    folder, found = tmp_path_factory.mktemp("runs"), []
    for number, moments in enumerate(([500, 1000, 2000, 4000], [500, 1500])):
        run = folder / f"run{number}"
        (run / "film").mkdir(parents=True)
        model = small_model("dcgan")
        tensors = {f"average.{name}": value for name, value in model.network.state_dict().items()}
        last = run / f"snapshot-{moments[-1]:012d}.safetensors"
        write_snapshot(last, tensors, model.recipe, {"images": moments[-1]})
        for images in moments:
            shade = Image.new("RGB", (64, 64), (images * 255 // 4000,) * 3)
            shade.save(run / "film" / f"images-{images:012d}.webp", quality=90)
        lines = [
            {"images": images, "minutes": images / 100, "loss/generator": 1.0 + images / 4000, "fid/a": 50.0}
            for images in range(500, moments[-1] + 1, 250)
        ]
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        found.append(run)
    return found


@pytest.mark.parametrize(("number", "clock"), [(1, "images"), (2, "minutes")])
def test_a_montage_shows_runs_on_one_clock(runs, number, clock, capsys):
    words = ["montage", *map(str, runs[:number]), "--clock", clock, "-o", "m.mp4", "--seconds", "1"]
    assert main(words) == 0
    assert "run0: 4 moments" in capsys.readouterr().out
    film = cv2.VideoCapture("m.mp4")
    width, height = (int(film.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    frames = []
    while True:
        there, frame = film.read()
        if not there:
            break
        frames.append(frame)
    places = 4 if number == 1 else 5
    assert len(frames) == places * round(30 / places) + 60
    assert film.get(cv2.CAP_PROP_FPS) == 30
    assert (width % 2, height % 2) == (0, 0)
    # The first face of the first run goes from dark to light, in the steps that were kept.
    face = [frame[120, 90].mean() for frame in frames]
    assert face[0] == pytest.approx(500 * 255 // 4000, abs=6)
    assert face[-1] == pytest.approx(255, abs=6)
    assert face == sorted(face)
    # Curves grow: the last frame has more ink in the charts than the first.
    ink = [int((frame[height * 2 // 3 :].min(2) < 150).sum()) for frame in frames]
    assert ink[0] < ink[15] < ink[-1]
    told = json.loads(Path("m.mp4.json").read_text())
    assert told["arguments"]["clock"] == clock


def test_a_picture_shows_moments_of_one_run(runs, tmp_path, capsys):
    out = tmp_path / "m.png"
    assert main(["montage", str(runs[0]), "-o", str(out), "--seeds", "0-3", "--rows", "2"]) == 0
    assert "2 of" in capsys.readouterr().out
    stages = Image.open(out).text["stages"].split(",")
    assert len(stages) == 2
    assert main(["montage", *map(str, runs[:2]), "-o", str(tmp_path / "two.png")]) == 2
    assert "a picture shows one run, got 2" in capsys.readouterr().err
    assert not (tmp_path / "two.png").exists()


def test_a_montage_of_other_seeds_needs_snapshots(runs, capsys):
    assert main(["montage", str(runs[0]), "--seeds", "16-20"]) == 2
    assert "1 of snapshots" in capsys.readouterr().err
    assert main(["montage", str(runs[0]), "--seeds", "16", "--from", "film"]) == 2
    assert "show the seeds 0 to 15 at psi 1 only" in capsys.readouterr().err


def test_training_keeps_pictures_for_its_film(tmp_path):
    from omokage.training.logs import Logs
    from omokage.training.loop import film_due

    due = [images for images in range(0, 10_000_000, 512) if film_due(images, images + 512, 0.03)]
    assert 240 < len(due) < 260
    due = [images for images in range(0, 400_000, 64) if film_due(images, images + 64, 0.03)]
    steps = [(b - a) / a for a, b in pairwise(due[60:])]
    assert max(steps) < 0.035
    assert not any(film_due(images, images + 64, 0) for images in range(0, 10_000, 64))
    logs = Logs(tmp_path, 0)
    logs.film(500, torch.zeros(32, 32, 3, dtype=torch.uint8).numpy())
    logs.close()
    with Image.open(tmp_path / "film" / "images-000000000500.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (32, 32))
