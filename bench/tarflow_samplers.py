"""TarFlow's samplers compared: token by token with a cache, and Jacobi iterations; time and difference.

    python bench/tarflow_samplers.py RUN [--count 32] [--iterations 4 8 16 32] [--temperature 1.0]
        [--guidance 0] [--write]

All samplers get the same latents. Differences are from the images of the cached sampler, in levels of 256:
the mean over colour values, the largest, and the share of images with no difference above one level. Times
are for one pass over all images; samplers are measured alternately, and the median of ``--repeats`` is taken.
"""

import argparse
import statistics
import time
from datetime import date
from pathlib import Path

import torch

from omokage.errors import UserError
from omokage.hardware import machine_name
from omokage.model import load_model
from omokage.sampling import BATCH, latents
from omokage.settings import Settings

RESULTS = Path(__file__).parent / "results" / "tarflow_samplers.md"


@torch.no_grad()
def drawn(
    network: torch.nn.Module, z: torch.Tensor, sampler: str, iterations: int, guidance: float
) -> torch.Tensor:
    """Images (N, C, H, W) in levels, before clamping and denoising, where the samplers can differ."""
    beyond = {"guidance": guidance} if guidance else {}
    parts = [
        network.inverse(part, sampler=sampler, iterations=iterations, **beyond)  # type: ignore[operator]
        for part in z.split(BATCH)
    ]
    return torch.cat(parts).cpu().double() * 127.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--iterations", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--guidance", type=float, default=0.0, help="of a model trained with conditions")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    model = load_model(options.run)
    if model.recipe.model["name"] != "tarflow":
        raise UserError(
            f"{options.run}: {model.recipe.model['name']} has no samplers to choose from; name a tarflow"
        )
    model.check(Settings(guidance=options.guidance))  # refused if the model has no guidance
    z = options.temperature * latents(range(options.count), model.latent_shape).to(model.device)
    ways = [("cached", 0), *(("jacobi", iterations) for iterations in options.iterations)]
    seconds: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    images = {}
    for _ in range(options.repeats):
        for way in ways:
            began = time.perf_counter()
            images[way] = drawn(model.network, z, *way, options.guidance)
            seconds[way].append(time.perf_counter() - began)
    exact, usual = images["cached", 0], statistics.median(seconds["cached", 0])
    lines = ["| way | images/s | times as fast | mean difference | largest | images within a level |"]
    lines.append("|---|---|---|---|---|---|")
    for way in ways:
        took, error = statistics.median(seconds[way]), (images[way] - exact).abs().flatten(1)
        same = (error.amax(1) <= 1).double().mean()
        name = "cached" if way[0] == "cached" else f"Jacobi, {way[1]} iterations a block"
        lines.append(
            f"| {name} | {options.count / took:.2f} | {usual / took:.2f} | {error.mean():.3g} |"
            f" {error.max():.3g} | {same:.0%} |"
        )
    table = "\n".join(lines)
    print(table)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(
            "# TarFlow's samplers\n\n"
            f"`python bench/tarflow_samplers.py RUN --count {options.count} --temperature"
            f" {options.temperature:g} --guidance {options.guidance:g}`, {date.today()},"
            f" {machine_name()}."
            f" {model.recipe.name}, {model.images_seen:,} images seen,"
            f" snapshot {model.snapshot_hash[:12]}. Differences are in levels of 256.\n\n{table}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
