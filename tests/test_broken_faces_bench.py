"""bench/broken_faces.py: blind, resumed, and its report follows from the marks."""

import importlib.util
import io
import json
import sys
import threading
import urllib.error
import urllib.request
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from omokage.data.build import build
from omokage.errors import UserError

BENCH = Path(__file__).resolve().parents[1] / "bench" / "broken_faces.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("broken_faces", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["broken_faces"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["broken_faces"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("real"), np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
    out = tmp_path_factory.mktemp("built") / "faces"
    build([folder], out, as_faces=True, workers=1)
    return out


@pytest.fixture
def loaded(bench, monkeypatch):
    """Runs ``a`` and ``b`` draw disks; ``b`` breaks seed 3."""
    from standins import DiskModel, Faulty

    def load_model(name):
        model = DiskModel((48, 48) if name == "large" else (32, 32))
        model = Faulty(model, [3]) if name == "b" else model
        return SimpleNamespace(
            recipe=SimpleNamespace(name=f"recipe-{name}"),
            images_seen=12_345,
            snapshot_hash="f" * 64,
            resolution=model.resolution,
            latent_shape=model.latent_shape,
            decode=model.decode,
        )

    monkeypatch.setattr(bench, "load_model", load_model)


@pytest.fixture
def prepared(bench, loaded, faces, tmp_path):
    folder = tmp_path / "marks"
    arguments = ["prepare", str(folder), "--run", "a", "--run", "b", "--data", str(faces)]
    assert bench.main([*arguments, "--seeds", "0-29", "--real", "9", "--twice", "12"]) == 0
    return folder


def test_the_list_is_shuffled_with_controls_and_repeats(bench, prepared):
    order = bench.Session(prepared).order
    once = [one for one in order if not one.again]
    assert len(once) == 30 + 29 + 9
    assert {(one.source, one.number) for one in once if one.source != bench.REAL} == {
        (name, seed) for name in "ab" for seed in range(30)
    } - {("b", 3)}
    assert len({one.number for one in once if one.source == bench.REAL}) == 9
    again = [one for one in order if one.again]
    assert sorted(one.source for one in again) == ["a"] * 6 + ["b"] * 6
    for one in again:
        first = next(i for i, other in enumerate(order) if other.face == one.face)
        assert not order[first].again
        assert order.index(one) - first > bench.APART or first + 1 + bench.APART >= len(order) - len(again)
    sources = [one.source for one in order]
    changes = sum(one != other for one, other in pairwise(sources))
    assert changes > len(order) / 3  # not in blocks
    assert bench.shuffled(once, 12, 1) != bench.shuffled(once, 12, 2)


def test_what_is_shown_tells_nothing(bench, prepared):
    session = bench.Session(prepared)
    kinds = set()
    for position, one in enumerate(session.order):
        data = session.png(position)
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.info == {}
            assert (np.asarray(picture) == session.pixels[one.face]).all()
            kinds.add((picture.size, picture.mode))
        assert b"recipe" not in data
    assert kinds == {((32, 32), "RGB")}
    page = bench.PAGE.read_text()
    assert "://" not in page
    assert "innerHTML" not in page


@pytest.fixture
def asked(bench, prepared):
    """Ask the page's server; the answer's status and body."""
    session = bench.Session(prepared)
    served = bench.server(session)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()

    def ask(path, body=None, **headers):
        address = f"http://127.0.0.1:{served.server_address[1]}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""

    yield ask
    served.shutdown()
    thread.join()
    served.server_close()


JSON = {"Content-Type": "application/json"}


def test_marks_are_kept_as_they_come_and_gone_on_with(bench, prepared, asked):
    assert asked("/")[1] == bench.PAGE.read_bytes()
    code, told = asked("/state")
    told = json.loads(told)
    assert (code, told["next"], told["marked"], told["total"]) == (200, 0, 0, 80)
    assert asked("/face/79")[1].startswith(b"\x89PNG")
    for position, kind in enumerate(["whole", "smeared eye", "half glasses"]):
        code, told = asked("/mark", json.dumps({"position": position, "mark": kind}).encode(), **JSON)
        assert json.loads(told)["next"] == position + 1
        assert len((prepared / bench.MARKS).read_text().splitlines()) == position + 1
    asked("/mark", b'{"position": 1, "mark": "whole"}', **JSON)  # changed her mind
    again = bench.Session(prepared)
    assert again.next() == 3
    assert again.marks == {0: "whole", 1: "whole", 2: "half glasses"}


def test_what_is_no_mark_is_refused(bench, prepared, asked):
    for body in (
        *(b"", b"[]", b"{", b'{"position": 80, "mark": "whole"}', b'{"position": -1, "mark": "whole"}'),
        *(b'{"position": true, "mark": "whole"}', b'{"position": 0, "mark": "ugly"}', b'{"position": 0}'),
        b'{"position": 0, "mark": ["whole"]}',
    ):
        assert asked("/mark", body, **JSON)[0] == 400, body
    assert asked("/mark", b'{"position": 0, "mark": "whole"}')[0] == 415  # as a form of another site sends it
    assert asked("/mark", b" " * 2000, **JSON)[0] == 413
    assert asked("/face/80")[0] == 404
    assert asked("/face/../plan.json")[0] == 404
    assert asked("/plan.json")[0] == 404
    assert asked("/state", Host="elsewhere.example:80")[0] == 403
    assert not (prepared / bench.MARKS).exists()


def test_a_line_that_was_cut_off_is_counted_and_harms_no_other(bench, prepared, capsys):
    (prepared / bench.MARKS).write_text('{"position": 4, "mark": "whole"}\n{"position": 5, "ma')
    session = bench.Session(prepared)
    session.mark(6, "whole")
    session.mark(7, "whole")
    assert bench.Session(prepared).marks == {4: "whole", 6: "whole", 7: "whole"}
    assert bench.main(["report", str(prepared)]) == 0
    assert "1 lines of marks.jsonl are no marks" in capsys.readouterr().out


def test_the_report_counts_first_showings_and_agreement(bench, prepared, capsys):
    session = bench.Session(prepared)
    bench.main(["report", str(prepared)])
    assert "No face was marked twice yet" in capsys.readouterr().out
    for position, one in enumerate(session.order):
        kind = "whole"
        if one.source == "a" and one.number < 6:
            kind = "missing eye" if one.number < 2 else "broken mouth"
        session.mark(position, kind)
    second = [i for i, one in enumerate(session.order) if one.again]
    flipped = second[0]
    session.mark(flipped, "whole" if session.marks[flipped] != "whole" else "smeared eye")
    assert bench.main(["report", str(prepared)]) == 0
    told = capsys.readouterr().out
    assert (prepared / bench.REPORT).read_text() == told
    table = (line.split("|") for line in told.splitlines() if line.startswith("|"))
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in table}
    # 6 of 30 by Wilson 1927: (0.2 + z²/60 ± z sqrt(0.16 / 30 + z² / 3600)) / (1 + z²/30)
    assert rows["a"] == ["30", "20.0% (9.5 to 37.3)", "0", "2", "4", "0", "0", "0"]
    assert rows["b"] == [
        "30",
        "3.3% (0.6 to 16.7)",
        "0",
        "0",
        "0",
        "0",
        "0",
        "1",
    ]  # the one that is not finite
    assert rows["real faces"][:2] == ["9", "0.0% (0.0 to 29.9)"]
    assert "Agreement on 12 faces marked twice: whole or broken 91.7%" in told
    assert "recipe recipe-a, 12,345 images seen" in told


def test_sheets_typed_marks_and_the_table(bench, prepared, tmp_path, capsys):
    assert bench.main(["sheets", str(prepared)]) == 0
    assert len(list(prepared.glob("sheet-*.png"))) == 2  # 80 faces, 40 on each
    text = tmp_path / "typed.txt"
    text.write_text("until: 50\nsmeared eye: 3 7\nunsure: 9\n")
    assert bench.main(["typed", str(prepared), str(text)]) == 0
    session = bench.Session(prepared)
    assert len(session.marks) == 50
    assert (session.marks[3], session.marks[9], session.marks[10]) == ("smeared eye", "unsure", "whole")
    table = tmp_path / "table.csv"
    for _ in range(2):  # a set replaces itself
        assert bench.keep(session, "one", table) == 50
    rows = table.read_text().splitlines()
    assert len(rows) == 51
    one = session.order[3]
    hashed = session.face_set[:12] if one.source == bench.REAL else "f" * 12
    psi = "" if one.source == bench.REAL else "1"
    assert rows[4] == f"one,{hashed},{psi},{one.number},smeared eye,{int(one.again)}"
    for wrong in ("until: 81", "smeared eye: 3", "until: 9\nugly: 3", "until: 9\nunsure: 3\nsmeared eye: 3"):
        text.write_text(wrong)
        assert bench.main(["typed", str(prepared), str(text)]) == 2
    assert len(bench.Session(prepared).marks) == 50


def test_a_run_has_its_own_psi_and_seeds(bench, loaded, faces, tmp_path, capsys):
    folder = tmp_path / "marks"
    runs = ["--run", "a", "--run", "a", "0.7", "5-9"]
    common = ["prepare", str(folder), *runs, "--data", str(faces), "--seeds", "0-29"]
    assert bench.main([*common, "--real", "4", "--twice", "0"]) == 0
    found = {(one.source, one.psi) for one in bench.Session(folder).order}
    assert found == {("a", 1.0), ("a psi 0.7", 0.7), (bench.REAL, None)}
    assert sum(one.psi == 0.7 for one in bench.Session(folder).order) == 5


def test_kappa_is_agreement_beyond_chance(bench):
    pairs = [("x", "x")] * 20 + [("x", "y")] * 5 + [("y", "x")] * 10 + [("y", "y")] * 15
    assert bench.kappa(pairs) == pytest.approx(0.4)
    assert bench.kappa([("x", "x"), ("y", "y")]) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--run", "large"], "the size would tell"),
        (["--run", "elsewhere/a"], "two runs are called 'a'"),
        (["--real", "13"], "has 12 faces, --real asks for 13"),
        (["--twice", "31"], "only 30 faces"),
        (["--seeds", "0-3,2"], "a seed is there twice"),
    ],
)
def test_refusals_leave_nothing(bench, loaded, faces, tmp_path, capsys, options, told):
    common = ["prepare", str(tmp_path / "marks"), "--run", "a", "--data", str(faces), "--seeds", "0-29"]
    assert bench.main([*common, "--real", "4", "--twice", "4", *options]) == 2  # the later of two is taken
    assert told in capsys.readouterr().err
    assert not (tmp_path / "marks").exists()


def test_a_folder_is_prepared_once_and_must_be(bench, prepared, faces, tmp_path, capsys):
    assert bench.main(["prepare", str(prepared), "--run", "a", "--data", str(faces)]) == 2
    assert "is prepared already" in capsys.readouterr().err
    with pytest.raises(UserError, match="nothing prepared here"):
        bench.Session(tmp_path / "elsewhere")
