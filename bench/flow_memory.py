"""Memory and time of Glow's backward passes: recomputed through the inverse, or with stored activations.

    python bench/flow_memory.py [--size 64 --levels 3 --hidden 64 --batch 16] [--repeats 5] [--write]
    python bench/flow_memory.py --published [3 4] [--write]

Each case runs in its own process. The peak is the rise of resident memory (on a GPU: allocated memory) in one
forward and backward pass, minus the bytes of the gradients. This is the memory of the activations. Weights,
gradients and optimiser states grow with the number of flow steps; they are listed too. Times are medians over
passes of the two ways, measured alternately in one process. On a CPU they are processor seconds, which other
work hardly changes. The gradients of the two ways are compared in the same process.

``--published`` measures only a Glow of the published size (32 steps a level, 512 hidden channels, 64 px,
batch 16) with the given numbers of levels. It runs the first training step, including the data-dependent
initialisation and Adam. The peak is that of the whole process, from start to end. Each number of levels takes
about a minute on one core. The limit is 8 GB.
``--write`` writes the table, or adds rows to it, in bench/results.
"""

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch

from omokage.hardware import best_device, machine_name, processor
from omokage.models.glow import Glow

RESULTS = Path(__file__).parent / "results" / "flow_memory.md"
PUBLISHED = Path(__file__).parent / "results" / "flow_memory_published.md"
MIB = 2**20
LIMIT = 8e9  # bytes, of a training step of the published size
PUBLISHED_HEAD = """# A training step of a Glow of the published size

`python bench/flow_memory.py --published --write`: the first step, with Adam, in float32, in a process of its
own. The peak is the process's largest resident memory from start to end (on a GPU: allocated memory).
Seconds are by the clock; other work makes them longer. CPU seconds are those of the step alone.

| levels × steps | million parameters | peak, GB | within 8 GB | seconds | CPU seconds | date | machine |
|---|---|---|---|---|---|---|---|
"""


class Peak:
    """The peak of memory in a block, and the memory before it, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> "Peak":
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak
            self.before = resident("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self.highest = torch.cuda.max_memory_allocated()
        else:
            self.highest = resident("VmHWM")


def resident(entry: str) -> int:
    """An entry of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(entry)


def build(settings: dict, saving: bool) -> tuple[Glow, torch.Tensor]:
    """An untrained flow, and images."""
    torch.manual_seed(0)
    names = ("size", "levels", "steps", "hidden")
    flow = Glow(**{name: settings[name] for name in names}, reversible=saving).to(best_device())
    size = settings["size"]
    return flow, (torch.rand(settings["batch"], 3, size, size) * 2 - 1).to(best_device())


@torch.no_grad()
def disturbed(flow: Glow, images: torch.Tensor) -> tuple[Glow, torch.Tensor]:
    """The flow with changed weights: at the start, half of its gradients would be zero."""
    flow.log_prob(images[:2])
    for parameter in flow.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
    flow.log_prob(images[:2])
    return flow, images


def one_pass(flow: Glow, images: torch.Tensor) -> None:
    """Forward and backward."""
    (-flow.log_prob(images).mean() / images[0].numel()).backward()
    if images.device.type == "cuda":
        torch.cuda.synchronize()


def memory(settings: dict) -> dict:
    flow, images = disturbed(*build(settings, settings["saving"]))
    one_pass(flow, images[:2])  # so that one-time setup of libraries is not counted
    flow.zero_grad()
    with Peak(best_device()) as peak:
        one_pass(flow, images)
    weights = sum(p.numel() * p.element_size() for p in flow.parameters())
    return {"activations": peak.highest - peak.before - weights, "weights": weights}


def speed(settings: dict) -> dict:
    clock = time.process_time if best_device().type == "cpu" else time.perf_counter
    flow, images = disturbed(*build(settings, True))
    seconds: dict[bool, list[float]] = {True: [], False: []}
    gradients = {}
    for repeat in range(settings["repeats"] + 1):
        for flow.reversible in (True, False):
            flow.zero_grad()
            began = clock()
            one_pass(flow, images)
            if repeat:  # the first is a warm-up
                seconds[flow.reversible].append(clock() - began)
            gradients[flow.reversible] = torch.cat([p.grad.flatten() for p in flow.parameters()])
    # Relative to the whole gradient: if rounding flips a ReLU, the gradient of a small layer changes by a
    # thousandth, in both ways.
    difference = float((gradients[True] - gradients[False]).norm() / gradients[False].norm())
    saving, plain = (statistics.median(seconds[way]) for way in (True, False))
    return {"saving": saving, "plain": plain, "difference": difference}


def published(settings: dict) -> dict:
    flow, images = build(settings, True)
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-4)
    began, spent = time.perf_counter(), time.process_time()
    one_pass(flow, images)
    optimiser.step()
    took, spent = time.perf_counter() - began, time.process_time() - spent
    finite = all(bool(parameter.isfinite().all()) for parameter in flow.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if images.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    parameters = sum(p.numel() for p in flow.parameters())
    return {"peak": peak, "seconds": took, "cpu": spent, "parameters": parameters, "finite": finite}


def machine() -> str:
    """The machine in words."""
    if best_device().type == "cuda":
        return torch.cuda.get_device_name()
    return f"{processor()}, {torch.get_num_threads()} threads"


def published_rows(options: argparse.Namespace) -> list[str]:
    """A row for each number of levels, each measured in its own process."""
    rows = []
    for levels in options.published:
        size = {name: getattr(options, name) for name in ("size", "hidden", "batch")}
        size |= {"levels": levels, "steps": max(options.steps)}
        step = apart("published", **size)
        verdict = "yes" if step["peak"] <= LIMIT else "no"
        sound = "" if step["finite"] else ", weights not finite"
        shape = (
            f"{levels} × {size['steps']}, {size['hidden']} channels, {size['size']} px, batch {size['batch']}"
        )
        rows.append(
            f"| {shape} | {step['parameters'] / 1e6:.1f} | {step['peak'] / 1e9:.2f} | {verdict}{sound} |"
            f" {step['seconds']:.0f} | {step['cpu']:.0f} | {date.today()} | {machine()}, PyTorch"
            f" {torch.__version__} |"
        )
        print(rows[-1], flush=True)
    return rows


def apart(work: str, **settings: object) -> dict:
    """The result of ``work``, run in its own process."""
    command = [sys.executable, __file__, "--case", json.dumps({"work": work, **settings})]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(told.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--hidden", type=int, help="default: 64, published 512")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs=2, default=[8, 32])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--published", type=int, nargs="*", metavar="LEVELS")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        work = {"memory": memory, "speed": speed, "published": published}[options.case.pop("work")]
        print(json.dumps(work(options.case)))
        return

    if options.published is not None:
        options.published = options.published or [3, 4]
        options.hidden = 512 if options.hidden is None else options.hidden
        rows = published_rows(options)
        if options.write:
            before = PUBLISHED.read_text(encoding="utf-8") if PUBLISHED.exists() else PUBLISHED_HEAD
            PUBLISHED.write_text(before + "".join(f"{row}\n" for row in rows), encoding="utf-8")
        return

    options.hidden = 64 if options.hidden is None else options.hidden
    shape = {name: getattr(options, name) for name in ("size", "levels", "hidden", "batch")}
    few, many = options.steps
    lines = [
        "| backward pass | " + " | ".join(f"{steps} steps, MiB" for steps in (few, many)) + " | rise |",
        "|---|---|---|---|",
    ]
    weights = {}
    for saving, title in ((True, "through the inverse"), (False, "kept activations")):
        found = {steps: apart("memory", **shape, steps=steps, saving=saving) for steps in (few, many)}
        weights = {steps: found[steps]["weights"] / MIB for steps in found}
        low, high = (found[steps]["activations"] / MIB for steps in (few, many))
        lines.append(f"| {title} | {low:,.0f} | {high:,.0f} | {high / low - 1:+.0%} |")
        print(lines[-1], flush=True)
    lines.append(f"| (weights alone) | {weights[few]:,.1f} | {weights[many]:,.1f} | |")
    timed = apart("speed", **shape, steps=few, repeats=options.repeats)
    lines += [
        "",
        f"Time of a pass at {few} steps: {timed['saving']:.3f} s through the inverse, {timed['plain']:.3f} s"
        f" with kept activations, {timed['saving'] / timed['plain']:.2f} times. Relative difference of the"
        f" gradients, float32: {timed['difference']:.1e}.",
    ]
    table = "\n".join(lines)
    print(table)
    if options.write:
        about = ", ".join(f"{name} {value}" for name, value in shape.items())
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(
            f"# Memory of a Glow's backward pass\n\n`python {' '.join(sys.argv)}`, {date.today()},"
            f" {machine_name()}; {about}.\n\n{table}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
