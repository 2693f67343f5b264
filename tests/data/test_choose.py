from pathlib import Path

import pyarrow as pa
import pytest

from omokage.data.derive.choose import described_column, where
from omokage.data.store.columns import ABOUT, COLUMNS, ESTIMATED, EXTRA, column, has_column
from omokage.errors import UserError

INDEX = pa.table(
    {
        "key": ["a", "b", "c", "d"],
        "hair": ["blue", "blue | Red", None, ""],
        "width": pa.array([64, 96, 128, 64], pa.int32()),
        "score": [0.5, None, 0.9, float("nan")],
        "sha256": pa.array([bytes([i]) * 32 for i in range(4)], pa.binary(32)),
        "original_sha256": ["aa" * 32, None, "", "ff" * 32],
        "artist": ["Ann", "Bo|cy", None, "ann "],
        "file": ["1_1999.jpg", "b/2-2004.png", "3.png", "2001_4.jpg"],
    }
)


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        ([], "abcd"),
        (["hair=blue"], "ab"),
        (["hair = Red"], "b"),
        (["hair=red"], ""),
        (["hair~RED"], "b"),
        (["hair!=blue"], "cd"),
        (["hair="], "cd"),
        (["hair!="], "ab"),
        (["width=64"], "ad"),
        (["width!=64"], "bc"),
        (["width>=96", "width<128"], "b"),
        (["score>0.6"], "c"),
        (["score<=0.5"], "a"),
        (["sha256=" + "01" * 32], "b"),
        (["key>a"], None),
        (["width>wide"], None),
        (["width"], None),
        (["=3"], None),
        (["hare=blue"], None),
        (["year>=2000"], "b"),
        (["year=1999"], "a"),
        (["year="], "cd"),
    ],
)
def test_conditions(conditions, rows):
    if rows is None:
        with pytest.raises(UserError):
            where(INDEX, conditions)
    else:
        assert "".join(k for k, met in zip("abcd", where(INDEX, conditions), strict=True) if met) == rows


def test_the_reason_names_the_column_and_the_nearest():
    with pytest.raises(UserError, match="no column 'hare': did you mean 'hair'"):
        where(INDEX, ["hare=blue"])
    with pytest.raises(UserError, match="no column 'zzz': it has key, hair, width"):
        where(INDEX, ["zzz=1"])
    with pytest.raises(UserError, match="'wide' is not a number"):
        where(INDEX, ["width>wide"])
    with pytest.raises(UserError, match="the column 'key' does not hold numbers"):
        where(INDEX, ["key>1"])


def test_columns_are_described():
    assert described_column(INDEX, "hair") == {"known": 2, "values": {"blue": 2, "Red": 1}}
    assert described_column(INDEX, "width") == {"known": 4, "lowest": 64, "median": 80, "highest": 128}
    assert described_column(INDEX, "score") == {"known": 2, "lowest": 0.5, "median": 0.7, "highest": 0.9}
    nothing = pa.table({"n": pa.nulls(2, pa.int32()), "w": pa.nulls(2, pa.string())})
    assert described_column(nothing, "n") == {"known": 0}
    assert described_column(nothing, "w") == {"known": 0, "values": {}}


def test_a_year_in_names_is_a_column_unless_another_has_its_name():
    assert column(INDEX, "year").to_pylist() == [1999, 2004, None, None]
    told = {"known": 2, "lowest": 1999.0, "median": 2001.5, "highest": 2004.0}
    assert described_column(INDEX, "year") == told
    own = INDEX.append_column("year", pa.array(["7", "8", "", None]))
    assert column(own, "year").to_pylist() == ["7", "8", "", None]
    without = INDEX.drop_columns("file").append_column("file", pa.array(["a.png"] * 4))
    assert not has_column(without, "year")
    with pytest.raises(UserError, match="no column 'year'"):
        where(without, ["year=1999"])


def test_every_column_of_an_index_is_explained():
    assert {*COLUMNS, *EXTRA, *ESTIMATED, "year"} == set(ABOUT)
    page = (Path(__file__).resolve().parents[2] / "docs" / "columns.md").read_text(encoding="utf-8")
    for name, text in ABOUT.items():
        assert f"| `{name}` | {text} |" in page, name
