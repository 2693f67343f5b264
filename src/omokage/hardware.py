"""The machine: devices, precision, threads and memory."""

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["bf16", "fp32"]


def best_device() -> torch.device:
    """CUDA, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def best_precision(device: torch.device) -> Precision:
    """``bf16`` where ``device`` multiplies bfloat16 faster than float32, else ``fp32``.

    An Intel processor with AVX512-BF16 but without AMX, as virtual machines may show it, took 1.4 to 1.9
    times as long for a convolution in bf16 as in fp32 (measured on one). So it does not count there.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    if device.type == "cpu":
        gains = cpu_has("amx_tile") or (cpu_has("avx512_bf16") and not _by_intel())
        return "bf16" if gains else "fp32"
    return "fp32"


def cpu_has(instructions: str) -> bool:
    """Whether PyTorch finds these instructions; false if it cannot tell."""
    test = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return test is not None and bool(test())


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Compute on one thread in this block, so that sums do not depend on the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seed_generators(seed: int) -> None:
    """Seed PyTorch's global generators, as `torch.manual_seed` does, also millions of times.

    On a machine without an accelerator that function keeps, for each kind of device, a note of where it was
    called. This takes longer than a step of a small network. So only the CPU's generator is seeded there.

    >>> seed_generators(3)
    >>> torch.initial_seed()
    3
    """
    if _accelerated():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@cache
def _accelerated() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()


def peak_memory_mb(device: torch.device) -> int | None:
    """Peak memory of this process in megabytes; on a GPU, PyTorch's peak memory there.

    None if the system does not tell.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6)
    try:  # preferred: getrusage also counts the peak of the program that started this one
        status = Path("/proc/self/status").read_text()
        return round(int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6)
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB; on macOS in bytes
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)


def device_name(device: torch.device) -> str:
    """The name of the device's hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{processor()} ({'AMX' if cpu_has('amx_tile') else torch.backends.cpu.get_cpu_capability()})"
    return str(device)


def machine_name() -> str:
    """Device, threads and PyTorch's version in one line, for records of measurements."""
    return f"{device_name(best_device())}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


@cache
def _by_intel() -> bool:
    info = Path("/proc/cpuinfo")
    return "GenuineIntel" in (info.read_text() if info.is_file() else platform.processor())


def keep_freed_memory(side: int = 0) -> None:
    """Ask glibc to keep freed memory instead of returning it to the system.

    Activations are allocated and freed at every step. Memory that is fresh from the system costs a page fault
    every 4 KiB. Nothing is done with another C library, or if ``side``, the side of the images in pixels, is
    more than 256: glibc before 2.38 does not reuse large aligned blocks, and page faults are a small part of
    the work on large images.
    """
    if not sys.platform.startswith("linux") or side > 256:
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # malloc.h
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_top_pad, 64 * 2**20)
