import importlib.util
import io

import pytest
from rich.console import Console

from omokage import doctor
from omokage.doctor import Check, examine, show


def shown(findings: list[Check], width: int = 80) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    code = show(findings, console)
    return code, console.file.getvalue()


@pytest.fixture(scope="module")
def here() -> list[Check]:
    return examine()


def test_what_this_installation_has_is_found(here):
    by_name = {finding.name: finding for finding in here}
    for name in ("PyTorch", "EfficientNet-Lite0", "video", "Japanese font", "numpy", "cores", "disk", "bf16"):
        assert by_name[name].state in ("ok", "note"), by_name[name]
    assert "libx264" in by_name["video"].text
    assert shown(here)[0] == 0


def test_table_fits_80_columns_and_is_plain_when_piped(here):
    _, text = shown(here)
    assert "\x1b" not in text
    table = text.split("To mend")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pyarrow" else find(name)
    )
    findings = list(doctor._packages())
    code, text = shown(findings)
    assert code == 1
    assert "pip install pyarrow" in text
    assert "Essential and missing: pyarrow" in text


def test_a_missing_convenience_is_no_failure():
    code, text = shown([Check("Parts", "video", "missing", "sample --video needs PyAV", "pip install av")])
    assert code == 0
    assert "pip install av" in text


def test_names_from_outside_are_not_read_as_markup():
    _, text = shown([Check("Machine", "disk", "ok", "10 GB free in /home/[red]me[/red]")])
    assert "/home/[red]me[/red]" in text


def test_bf16_ratio_is_the_quotient_of_the_two_times(monkeypatch):
    import torch

    clock = [0.0]
    cost = {torch.float32: 0.03, torch.bfloat16: 0.01}

    def convolution(images, weight, **_):
        clock[0] += cost[images.dtype]

    monkeypatch.setattr(torch.nn.functional, "conv2d", convolution)
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: clock[0])
    assert doctor.bf16_ratio(0.5) == pytest.approx(3.0)


def test_memory_and_cores_are_plausible():
    total, free = doctor.memory_bytes()
    assert total is None or total > 2**28
    assert free is None or total is None or 0 < free <= total
    assert doctor.usable_cores() >= 1
