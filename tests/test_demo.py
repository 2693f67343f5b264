import io
import json
import re
from types import SimpleNamespace

import av
import pytest
from PIL import Image
from rich.console import Console

from omokage.demo import demo
from omokage.errors import UserError
from omokage.model import SHIPPED, load_model


@pytest.fixture
def needs():
    if not SHIPPED.is_file():
        pytest.skip(f"the model that ships is not in this tree ({SHIPPED.name})")


def test_demo_makes_what_it_says_and_can_be_repeated(needs, tmp_path, monkeypatch):
    monkeypatch.setenv("OMOKAGE_CACHE", f"{tmp_path / 'cache'}")
    monkeypatch.chdir(tmp_path)  # paths as short as a user's
    for _ in range(2):
        told = Console(file=io.StringIO(), width=80, highlight=False)
        made = demo(
            "demo",
            faces=12,
            images=8,
            protocol="fid12-full-tags",
            overrides=("batch=4", "log_kimg=0.004"),
            frames_per_leg=15,
            console=told,
        )
        text = told.file.getvalue()
        assert all(item.where.exists() for item in made)
        assert all(item.where.name in text for item in made)
        assert max(map(len, text.split("Next")[0].splitlines())) <= 80
    places = {item.where.name: item.where for item in made}
    for name in ("before.png", "samples.png"):
        with Image.open(places[name]) as grid:
            assert min(grid.size) >= 8 * 64
    page = places["index.html"].read_text()
    assert set(re.findall(r'src="([^"]+)"', page)) == {
        *("before.png", "samples.png", "shipped-sheet.png", "shipped-walk.mp4")
    }
    assert "omokage train fast-style --from shipped" in page
    assert "omokage studio" in page
    assert "http" not in page  # nothing from another host
    with av.open(str(places["shipped-walk.mp4"])) as film:
        assert film.streams.video[0].frames == 2 * 15
    records = [json.loads(line) for line in places["evaluations.jsonl"].read_text().splitlines()]
    assert [record["samples"] for record in records] == [12] * 4  # before and after, twice
    for first, again in zip(records[:2], records[2:], strict=True):
        assert first["fid"] == pytest.approx(again["fid"], rel=1e-3)
        assert f"{again['fid']:.1f}" in page
    assert load_model(places["run"]).about.images_seen == 8
    log = (places["run"] / "log.jsonl").read_text()
    assert log


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "demo").write_text("not a folder")
    with pytest.raises(UserError, match="demo"):
        demo(tmp_path / "demo", faces=4)


@pytest.fixture
def steps(monkeypatch):
    """The demo with every step replaced by a note of its name."""
    done = []

    def noted(name):
        def call(*_, **__):
            done.append(name)
            if name == "load_model":
                return SimpleNamespace(about=SimpleNamespace(images_seen=30), progress={"seconds": 60.0})
            return {"fid": 12.34} if name == "evaluate" else None

        return call

    for place in (
        "omokage.data.drawn.draw",
        "omokage.data.build.build",
        "omokage.training.loop.train",
        "omokage.metrics.report.evaluate",
        "omokage.metrics.report.print_results",
        "omokage.data.store.faceset.FaceSet.open",
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
    inception = "fid400-full-inception2015"
    (tmp_path / "demo").mkdir()
    made = demo(tmp_path / "demo", protocol=inception, console=told)
    first, _, rest = told.file.getvalue().partition("Draw 700 faces")
    assert "FID will be skipped" in first
    assert "nowhere.pt" in first
    assert "Evaluate" not in rest
    assert "evaluate" not in steps
    assert [step for step in steps if step not in ("load_model", "open")] == [
        *("draw", "build", "train", "write_grid", "write_grid", "write_sheet", "write_walk")
    ]
    assert len(made) == 8
    assert "FID was not measured" in (tmp_path / "demo" / "index.html").read_text()
    assert "omokage evaluate" in rest  # what to type once the file is there

    steps.clear()
    demo(tmp_path / "demo", protocol="fid400-full-tags", console=told)  # needs no Inception
    assert steps.count("evaluate") == 2
    assert "12.3" in (tmp_path / "demo" / "index.html").read_text()


def test_faces_that_are_not_finite_are_told(steps, tmp_path, monkeypatch):
    def breaking(*_, broken=None, **__):
        if broken is not None:
            broken += [3, 4, 9]

    monkeypatch.setattr("omokage.samples.write_grid", breaking)
    told = Console(file=io.StringIO(), width=80, highlight=False)
    (tmp_path / "demo").mkdir()
    demo(tmp_path / "demo", console=told)
    assert "not finite and shown black: seeds 3-4,9" in told.file.getvalue()


def test_a_face_set_is_no_place_for_the_demo(steps, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="is a face set"):
        demo(tmp_path)
    assert steps == []
