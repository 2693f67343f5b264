"""The verb ``figure``: what it writes and how it refuses, with the model that ships, which has no styles."""

import subprocess
import sys

import pytest
from PIL import Image

from omokage.__main__ import main


def test_uncurated_with_nothing_but_a_name(tmp_path, capsys):
    out = tmp_path / "u.png"
    assert main(["figure", "uncurated", "--rows", "1", "--sizes", "0,1", "-o", str(out), "--title", ""]) == 0
    assert capsys.readouterr().out.split()[-1] == str(out)
    picture = Image.open(out)
    assert picture.text["seeds"] == "0-2"
    assert picture.width > picture.height


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["uncurated", "--sizes", "0,half"], "write numbers with commas between"),
        (["uncurated", "--sizes", "0.5"], "--sizes: got 0.5"),
        (["truncation", "--psi", "1,-1"], "has no styles; give psi of 0 or more"),
        (["mixing", "SHIPPED"], "has no styles; use omokage figure uncurated, truncation or progression"),
        (["noise-detail", "SHIPPED", "--psi", "3"], "allowed is -2 to 2"),
        (["progression", "SHIPPED"], "no run folder"),
        (["mixing", "nowhere"], "nowhere"),
    ],
)
def test_refusals_are_one_line_and_code_2(tmp_path, capsys, monkeypatch, arguments, said):
    from omokage.snapshot import SHIPPED

    monkeypatch.chdir(tmp_path)
    words = [str(SHIPPED) if word == "SHIPPED" else word for word in arguments]
    assert main(["figure", *words]) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_lists_the_figures_without_importing_torch():
    code = (
        "import sys; from omokage.__main__ import main; main(['figure', '-h']); print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("uncurated", "mixing", "truncation", "noise-detail", "noise-components", "progression"):
        assert name in told
    assert told.split()[-1] == "False"
