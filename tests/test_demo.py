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
            faces=24,
            minutes=0.01,
            protocol="fid24-full-inception2015",
            overrides=("batch=4",),
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
    assert [record["samples"] for record in records] == [24, 24]
    assert records[0]["fid"] == pytest.approx(records[1]["fid"], rel=1e-3)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "demo").write_text("not a folder")
    with pytest.raises(UserError, match="demo"):
        demo(tmp_path / "demo", faces=4)
