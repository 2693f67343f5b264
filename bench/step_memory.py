"""Memory and time of one training step of a recipe, all phases, on noise.

    python bench/step_memory.py rai2020-stylegan-512 --batch 4 [--images N] [--steps 1] [key=value ...]

The peak is the highest resident memory of the process (on a GPU: allocated memory): weights, averages,
gradients, optimiser states, activations and PyTorch itself. ``--images`` is the position in training; by
default, all sizes have grown in. ``--precision bf16`` is what a GPU uses. ``--write`` appends a line to
bench/results/step_memory.md.
"""

import argparse
import copy
import resource
import time
from datetime import date
from pathlib import Path

import torch
from torch import nn

from omokage.families import DISCRIMINATORS, MODELS, OBJECTIVES
from omokage.hardware import best_device, keep_freed_memory
from omokage.objectives.phase import Step
from omokage.recipe import load_recipe
from omokage.training.ema import update_average
from omokage.training.optimisers import OPTIMISERS

RESULTS = Path(__file__).parent / "results" / "step_memory.md"
HEAD = """# Memory of one training step

Written by `python bench/step_memory.py RECIPE --batch N --write`.

| recipe | batch | precision | device | peak, GiB | date |
|---|---|---|---|---|---|
"""


def main() -> None:
    """Run the steps and print the peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--images", type=int, default=10**9, help="seen before the step")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()

    device = best_device()
    torch.manual_seed(0)
    recipe = load_recipe(args.recipe, args.overrides)
    networks = nn.ModuleDict({"generator": MODELS[recipe.model["name"]].build(recipe.model)})
    if recipe.discriminator:
        networks["discriminator"] = DISCRIMINATORS[recipe.discriminator["name"]].build(recipe.discriminator)
    networks = networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = networks["generator"]
    keep_freed_memory(max(generator.resolution))
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    settings = {key: value for key, value in recipe.objective.items() if key != "name"}
    phases = OBJECTIVES[recipe.objective["name"]].load()(networks, **settings)
    optimisers = {
        phase.name: OPTIMISERS[recipe.training.optimiser](phase.parameters, recipe.training.betas)
        for phase in phases
        if phase.shares is None
    }
    size = getattr(generator, "image_channels", 3), *generator.resolution
    began = time.monotonic()
    for _ in range(args.steps):
        real = torch.randn(args.batch, *size, device=device).clamp(-1, 1)
        real = real.contiguous(memory_format=torch.channels_last)
        z = torch.randn(args.batch, *generator.latent_shape, device=device)
        step = Step(real, z, lambda images: images, args.images)
        for phase in phases:
            for part in step.parts(recipe.training.micro_batch):
                with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16"):
                    loss, _ = phase.loss(part)
                (loss * (len(part.real) / args.batch)).backward(inputs=phase.parameters)
            optimiser = optimisers[phase.shares or phase.name]
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            print(f"{phase.name}: loss {loss.item():.4f}, peak so far {peak(device):.2f} GiB", flush=True)
            del loss
        update_average(average, generator, 0.99)
    seconds = (time.monotonic() - began) / args.steps
    line = (
        f"| {args.recipe} | {args.batch} | {args.precision} | {device.type} | {peak(device):.2f} | "
        f"{date.today()} |"
    )
    print(line, f"{seconds:.1f} s a step", sep="\n")
    if args.write:
        written = RESULTS.read_text() if RESULTS.exists() else HEAD
        RESULTS.write_text(written + line + "\n")


def peak(device: torch.device) -> float:
    """The highest memory so far, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
