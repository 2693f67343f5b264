import io
import json

import av
import pytest
from PIL import Image
from rich.console import Console

from omokage.demo import demo
from omokage.errors import UserError
from omokage.metrics.features import inception_file
from omokage.model import SHIPPED


@pytest.fixture
def needs():
    if not SHIPPED.is_file():
        pytest.skip(f"the model that ships is not in this tree ({SHIPPED.name})")
    try:
        inception_file()
    except UserError as error:
        pytest.skip(str(error))


def test_demo_makes_what_it_says_and_can_be_repeated(needs, tmp_path, monkeypatch):
    monkeypatch.setenv("OMOKAGE_CACHE", f"{tmp_path / 'cache'}")
    monkeypatch.chdir(tmp_path)  # paths as short as a user's
    for _ in range(2):
        told = Console(file=io.StringIO(), width=80, highlight=False)
        made = demo(
            "demo",
            faces=12,
            minutes=0.01,
            protocol="fid12-full-inception2015",
            overrides=("batch=4",),
            frames_per_leg=15,
            console=told,
        )
        text = told.file.getvalue()
        assert all(item.where.exists() for item in made)
        assert all(item.where.name in text for item in made)
        assert max(map(len, text.split("Next")[0].splitlines())) <= 80
    places = {item.where.name: item.where for item in made}
    with Image.open(places["shipped-grid.png"]) as grid:
        assert min(grid.size) >= 8 * 64
    with av.open(str(places["shipped-walk.mp4"])) as film:
        assert film.streams.video[0].frames > 100
    records = [json.loads(line) for line in places["evaluations.jsonl"].read_text().splitlines()]
    assert [record["samples"] for record in records] == [12, 12]
    assert records[0]["fid"] == pytest.approx(records[1]["fid"], rel=1e-3)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "demo").write_text("not a folder")
    with pytest.raises(UserError, match="demo"):
        demo(tmp_path / "demo", faces=4)


@pytest.fixture
def steps(monkeypatch):
    """The demo with every step replaced by a note of its name."""
    done = []

    def noted(name):
        return lambda *_, **__: done.append(name)

    for place in (
        "omokage.data.drawn.draw",
        "omokage.data.build.build",
        "omokage.training.loop.train",
        "omokage.metrics.report.evaluate",
        "omokage.metrics.report.print_results",
        "omokage.data.faceset.FaceSet.open",
        "omokage.model.load_model",
        "omokage.samples.write_grid",
        "omokage.samples.write_sheet",
        "omokage.samples.write_walk",
    ):
        monkeypatch.setattr(place, noted(place.rpartition(".")[2]))
    return done


def test_without_the_inception_file_only_fid_is_left_out_and_that_is_said_first(steps, tmp_path, monkeypatch):
    monkeypatch.setenv("OMOKAGE_INCEPTION", str(tmp_path / "nowhere.pt"))
    told = Console(file=io.StringIO(), width=80, highlight=False)
    made = demo(tmp_path / "demo", console=told)
    first, _, rest = told.file.getvalue().partition("Draw 2,000 faces")
    assert "FID will be skipped" in first
    assert "nowhere.pt" in first
    assert "Evaluate" not in rest
    assert "evaluate" not in steps
    assert [step for step in steps if step not in ("load_model", "open")] == [
        *("draw", "build", "train", "write_grid", "write_grid", "write_sheet", "write_walk")
    ]
    assert len(made) == 7
    assert "omokage evaluate" in rest  # what to type once the file is there

    steps.clear()
    demo(tmp_path / "demo", protocol="fid2k-full-tags", console=told)  # needs no Inception
    assert "evaluate" in steps


def test_faces_that_are_not_finite_are_told(steps, tmp_path, monkeypatch):
    def breaking(*_, broken=None, **__):
        if broken is not None:
            broken += [3, 4, 9]

    monkeypatch.setattr("omokage.samples.write_grid", breaking)
    told = Console(file=io.StringIO(), width=80, highlight=False)
    demo(tmp_path / "demo", protocol="fid2k-full-tags", console=told)
    assert "not finite and shown black: seeds 3-4,9" in told.file.getvalue()


def test_a_face_set_is_no_place_for_the_demo(steps, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="is a face set"):
        demo(tmp_path)
    assert steps == []
