import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch

from omokage.hardware import best_precision, device_name, on_one_thread, peak_memory_mb

CPU = torch.device("cpu")


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory_mb(CPU)
    held = np.ones(50_000_000)
    after = peak_memory_mb(CPU)
    assert held.nbytes == 400_000_000
    assert before > 50
    assert after >= before
    assert after > 400


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells it apart")
def test_peak_memory_is_not_that_of_the_program_that_started_this_one():
    held = np.ones(100_000_000)
    asked = "import torch; from omokage.hardware import peak_memory_mb as p; print(p(torch.device('cpu')))"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert int(told) < held.nbytes / 1e6 < peak_memory_mb(CPU)


def test_one_thread_for_a_while():
    before = torch.get_num_threads()
    with suppress(ValueError), on_one_thread():
        assert torch.get_num_threads() == 1
        raise ValueError
    assert torch.get_num_threads() == before


def test_a_processor_is_named_with_what_matters_for_its_speed(monkeypatch):
    monkeypatch.setattr("omokage.hardware.processor", lambda: "Some Processor")
    monkeypatch.setattr("omokage.hardware.cpu_has", lambda name: name == "amx_tile")
    assert device_name(CPU) == "Some Processor (AMX)"
    assert best_precision(CPU) == "bf16"
    monkeypatch.setattr("omokage.hardware.cpu_has", lambda name: False)
    assert device_name(CPU) == f"Some Processor ({torch.backends.cpu.get_cpu_capability()})"
    assert best_precision(CPU) == "fp32"


@pytest.mark.parametrize(
    ("instructions", "intel", "precision"),
    [
        ("amx_tile avx512_bf16", True, "bf16"),
        ("avx512_bf16", True, "fp32"),
        ("avx512_bf16", False, "bf16"),
        ("", False, "fp32"),
    ],
)
def test_bf16_is_used_only_where_it_is_faster(monkeypatch, instructions, intel, precision):
    monkeypatch.setattr("omokage.hardware.cpu_has", lambda name: name in instructions.split())
    monkeypatch.setattr("omokage.hardware._by_intel", lambda: intel)
    assert best_precision(CPU) == precision
