"""The training loop. It is the same for every family."""

import copy
import dataclasses
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..abilities import SeesMaps
from ..data.derive.provenance import write_provenance
from ..data.store.faceset import FaceSet
from ..errors import UserError
from ..families import OBJECTIVES, build_discriminator, build_model
from ..hardware import (
    best_device,
    best_precision,
    device_name,
    keep_freed_memory,
    peak_memory_mb,
    seed_generators,
)
from ..interrupts import Stop, stop_requests
from ..listing import snapshots
from ..model import Model
from ..models.conditional import unconditioned
from ..objectives.phase import Phase, pace
from ..progress import Progress
from ..recipe import Recipe
from ..schedule import batch_at, value_at
from .augment import augmenter
from .batches import Batches, shared
from .conditions import ConditionLabels, balancing, chances, identity
from .display import Display, announce, training_display
from .ema import decay_for, update_average
from .freeze import Freeze
from .heldout import held_out_numbers
from .logs import Logs
from .maps import (
    EncodedSteps,
    MapBatches,
    MapSteps,
    check_same,
    maps_of,
    put_in,
    standardise,
    with_autoencoder,
)
from .optimisers import OPTIMISERS
from .preflight import Forecast, check, leaving_nothing, tell
from .start import begin_from
from .state import TrainingState, resume, save
from .steps import Steps
from .watchdog import look, recover

CUT = "stopped in the middle of a step; the same command goes on from the last snapshot"
FIRST_LINE = 10.0  # seconds until the first numbers, even if the first line of the log comes later

Draw = Callable[[Model], np.ndarray]
"""Draws a grid of samples of the current model: uint8 (H, W, 3)."""
Measure = Callable[[], dict[str, float]]
MakeMeasure = Callable[[Model, FaceSet], Measure]
"""Called before the first step with the model and the faces; returns the function that measures the model."""


def train(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    minutes: float | None = None,
    images: int | None = None,
    heldout: str | Path | None = None,
    start: Path | None = None,
    autoencoder: Path | None = None,
    measure: MakeMeasure | None = None,
    draw: Draw | None = None,
    draw_film: Draw | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train ``recipe`` on the face set ``data`` in the run folder ``out``, or resume the run that is there.

    `omokage.running.train` is the easier way: it takes a recipe's name and supplies ``measure`` and ``draw``.

    Args:
        minutes: stop after this time of training, counted over all sessions of the run.
        images: stop after this many images. The recipe's own number of images is a limit too.
        heldout: a face set that is not trained on; the log has the objective's numbers for its faces.
        start: a snapshot whose weights a new run begins with, see `begin_from`.
        autoencoder: a snapshot of the autoencoder that the recipe's model draws with, see `with_autoencoder`.
        measure: makes the function whose numbers go into the log every ``fid_kimg``.
        draw: draws the grid of samples every ``grid_kimg``.
        draw_film: draws the small pictures that are kept for the film of the training.

    Returns:
        The newest snapshot.

    Raises:
        UserError: there is no face set, ``out`` has a run of another recipe or face set, or the run is in
            use.
        KeyboardInterrupt: after Ctrl-C, when everything is saved.
    """
    fabric = _fabric(recipe)
    progress = progress if fabric.is_global_zero else None
    run, first = Path(out), fabric.is_global_zero
    if isinstance(recipe.training.batch, int) and recipe.training.batch % fabric.world_size:
        raise UserError(
            f"training.batch: {recipe.training.batch} is not a multiple of {fabric.world_size} processes"
        )
    recipe, weights = with_autoencoder(recipe, autoencoder, start, run)
    checked = check(recipe, data, run if first else None, heldout=heldout, processes=fabric.world_size)
    faces = checked.faces
    assert faces is not None
    tell(checked, progress)
    with leaving_nothing(run, first), _claimed(run, first):
        # Set up. Everything is determined by the recipe, the seed and the face set.
        torch.manual_seed(recipe.training.seed)
        used = shared(len(faces), recipe.training.share, recipe.training.seed)
        if len(used) < len(faces):
            sentence = f"{len(used):,} of {len(faces):,} faces, chosen by seed {recipe.training.seed}"
            announce(progress, sentence, "trained on")
        recipe, labels = _conditioned(recipe, faces, used, progress)
        networks = _networks(recipe).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if labels:
            networks["generator"].seen.copy_(labels.seen())  # type: ignore[operator,union-attr]
        put_in(networks["generator"], weights)
        average = copy.deepcopy(networks["generator"]).eval().requires_grad_(False)
        keep_freed_memory(max(average.resolution))
        phases: list[Phase] = OBJECTIVES[recipe.objective["name"]].load()(
            networks, **{key: value for key, value in recipe.objective.items() if key != "name"}
        )
        optimisers = {
            phase.name: OPTIMISERS[recipe.training.optimiser](
                list(phase.groups.values()), [beta ** pace(phase, phases) for beta in recipe.training.betas]
            )
            for phase in phases
            if phase.shares is None
        }
        balanced = balancing(recipe, faces, used)
        state = TrainingState(networks, average, optimisers, identity(faces, labels, balanced))
        state.machine = _machine(fabric)
        freeze = Freeze(networks["generator"], recipe.training.freeze, recipe.training.freeze_kimg)

        # Resume from the newest complete snapshot; a new run may begin with the weights of another.
        if start and not snapshots(run):
            for sentence in begin_from(state, recipe, start):
                announce(progress, sentence, "from")
        resume(state, recipe, run)
        check_same(average, weights, run)
        if fabric.is_global_zero:
            write_provenance(faces, run)
        order = recipe.training.batch, recipe.training.seed, fabric.global_rank, fabric.world_size
        often = _chances(balanced, progress)
        about = recipe.training.mirror, augmenter(recipe.training.augment), fabric.device
        steps: Steps
        judged, inner = None, unconditioned(average)
        if isinstance(inner, SeesMaps):
            maps = maps_of(inner, faces, used, recipe.training.mirror, run, fabric, progress)
            if weights and not state.images:
                standardise(maps, networks["generator"], average)
            steps = MapSteps(MapBatches(maps, used, *order, often), average, labels, *about)
        else:
            batches = Batches(faces, average.resolution, *order, progress, used=used, chances=often)
            steps = Steps(batches, average, labels, *about)
        if heldout:
            kind = EncodedSteps if isinstance(inner, SeesMaps) else Steps
            judged = kind(*_held_out(recipe, heldout, faces, average, progress), *about)
        last = min(recipe.training.images, images or recipe.training.images)
        seconds = float("inf") if minutes is None else minutes * 60
        logs = Logs(run, state.images) if fabric.is_global_zero else None
        averaged = Model(average, recipe, {}, None, "")
        pauses = _pauses(recipe, state, averaged, faces, measure, draw, draw_film, logs)
        begun, saved = time.monotonic() - state.seconds, time.monotonic()
        forecast = Forecast(recipe, checked, progress)

        with (
            training_display(progress, recipe.name, state, last, seconds) as show,
            stop_requests(lambda told: announce(progress, told, "stopping"), CUT) as stop,
        ):
            begun += _paused(fabric, state, pauses, stop)  # work that Ctrl-C interrupted
            while not _agreed(fabric, state.images >= last or state.seconds >= seconds or bool(stop)):
                stepped, before = time.monotonic(), state.images
                batch = batch_at(recipe.training.batch, before, fabric.world_size)

                # Draw a batch. All randomness is seeded with the position in training.
                seed_generators(_position_seed(recipe.training.seed, fabric.global_rank, state))
                freeze.at(before)
                pixels = steps.pixels(before)
                waited = time.monotonic() - stepped
                step = steps.step(pixels, before)

                # Run the phases that are due.
                for phase in phases:
                    if (state.steps + 1) % phase.every == 0:
                        for part in step.parts(recipe.training.micro_batch):
                            with fabric.autocast():
                                loss, told = phase.loss(part)
                            share = len(part.real) / len(step.real)
                            learning = [one for one in phase.parameters if one.requires_grad]
                            (loss * share).backward(inputs=learning)
                            state.numbers.add(told, share)
                        _average_gradients(fabric, phase)
                        norm = _gradient_norm(phase)
                        if recipe.training.clip_gradients > 0:
                            nn.utils.clip_grads_with_norm_(
                                phase.parameters, recipe.training.clip_gradients, norm
                            )
                        state.numbers.add({f"gradient norm/{phase.name}": norm})
                        owner = phase.shares or phase.name
                        rates = _rates(recipe, next(one for one in phases if one.name == owner), before)
                        scaled = [rate * pace(phase, phases) for rate in rates.values()]
                        if recipe.training.second_beta:
                            second = value_at(recipe.training.second_beta, before)
                            _set_second_beta(optimisers[owner], second ** pace(phase, phases))
                        _descend(phase, optimisers[owner], scaled)

                # Average weights, count images.
                state.images = before + batch
                state.steps += 1
                decay = decay_for(
                    batch,
                    value_at(recipe.training.average_kimg, state.images) * 1000,
                    state.images,
                    recipe.training.average_ramp,
                )
                update_average(average, networks["generator"], decay)
                state.seconds = time.monotonic() - begun
                state.numbers.time(time.monotonic() - stepped, waited, batch)
                show.step()
                forecast.step(state.images, state.seconds)

                # Log.
                if _passed(before, state.images, recipe.training.log_kimg):
                    line = state.numbers.taken()
                    show.line(line)
                    if logs:
                        others = _others(recipe, networks, phases, judged, state, before, fabric)
                        logs.write(state.images, {"minutes": state.seconds / 60, **line, **others})
                    # If something is wrong, say so and go back.
                    trouble = look(line, phases, state.images, state.signs, recipe.training.patience_kimg)
                    if trouble := fabric.broadcast(trouble):
                        recover(trouble, fabric, state, recipe, run, logs, progress)
                        continue
                elif show.silent(FIRST_LINE):
                    _say_early(state, show, logs)

                # Draw the grid, measure, snapshot.
                every = {"grid": recipe.training.grid_kimg, "fid": recipe.training.fid_kimg}
                state.due = [pause for pause, kimg in every.items() if _passed(before, state.images, kimg)]
                if film_due(before, state.images, recipe.training.film):
                    state.due.append("film")
                begun += _paused(fabric, state, pauses, stop)  # measuring does not count as training
                if time.monotonic() - saved > recipe.training.snapshot_minutes * 60:
                    saved = time.monotonic()
                    if fabric.is_global_zero and state.sound():
                        save(state, recipe, run)

            # Write what is still due.
            if show.silent(0):
                _say_early(state, show, logs)
            if logs:
                logs.close()
                save(state, recipe, run)
        if stop.asked:
            raise KeyboardInterrupt(f"saved at {state.images:,} images; the same command goes on")
    return snapshots(run)[-1]


def _fabric(recipe: Recipe) -> Fabric:
    """The Fabric: one process, or those that torchrun started, on the fastest device of the machine."""
    precision = recipe.training.precision
    if precision == "auto":
        precision = best_precision(best_device())
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    fabric = Fabric(
        accelerator="auto",
        devices=local,
        num_nodes=int(os.environ.get("WORLD_SIZE", local)) // local,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def _machine(fabric: Fabric) -> dict[str, Any]:
    return {
        "device": device_name(fabric.device),
        "processes": fabric.world_size,
        "threads": torch.get_num_threads(),
        "precision": str(fabric.strategy.precision.precision),
        "torch": torch.__version__,
    }


@contextmanager
def _claimed(run: Path, first: bool) -> Iterator[None]:
    """Make the run folder and lock it against a second training until this one ends."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = open(run / ".lock", "w")  # noqa: SIM115 - held until the end
    except OSError as error:
        raise UserError(f"--out {run}: {error.strerror}; give a folder that can be written") from None
    with lock:
        try:
            if first:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{run} is being trained by another process; wait for it or give another --out"
            ) from None
        yield


def _agreed(fabric: Fabric, wanted: bool) -> bool:
    """Whether any process wants to. All must agree: a process that stops alone leaves the others waiting."""
    if fabric.world_size == 1:
        return wanted
    return bool(fabric.all_reduce(torch.tensor(float(wanted), device=fabric.device), reduce_op="sum"))


def _networks(recipe: Recipe) -> nn.ModuleDict:
    networks = {"generator": build_model(recipe.model, recipe.conditions)}
    if recipe.discriminator:
        networks["discriminator"] = build_discriminator(recipe.discriminator, recipe.conditions)
    return nn.ModuleDict(networks)


def _conditioned(
    recipe: Recipe, faces: FaceSet, used: np.ndarray, progress: Progress | None
) -> tuple[Recipe, ConditionLabels | None]:
    """The recipe with the values of its conditions filled in, and the labels of the faces. Prints both."""
    if not recipe.training.condition:
        return recipe, None
    labels = ConditionLabels(faces, recipe.training.condition, used)
    if recipe.conditions not in ({}, labels.values):
        raise UserError(
            f"conditions: the labels of {faces.path} have other values than the recipe; leave the table "
            "conditions out of the recipe, training fills it in"
        )
    for sentence in labels.sentences():
        announce(progress, sentence, "condition")
    return dataclasses.replace(recipe, conditions=labels.values), labels


def _chances(labels: ConditionLabels | None, progress: Progress | None) -> np.ndarray | None:
    """How often each face comes in an epoch; None: each once. Prints what is evened out."""
    if labels is None:
        return None
    found = chances(labels)
    for sentence in labels.sentences():
        announce(progress, sentence, "balance")
    often = f"faces come {found.min():.2g} to {found.max():.2g} times in an epoch"
    announce(progress, often, "balance")
    return found


def _held_out(
    recipe: Recipe,
    heldout: str | Path,
    faces: FaceSet,
    average: Any,
    progress: Progress | None,
) -> tuple[Batches, Any, ConditionLabels | None]:
    """Batches of the held-out face set, the model ``average``, and the labels of the set."""
    others = FaceSet.open(heldout)
    both = len(set(others.index["sha256"].to_pylist()) & set(faces.index["sha256"].to_pylist()))
    if both:
        announce(progress, f"{both:,} pictures are among the training faces too", "held out")
    labels = None
    if recipe.training.condition:
        labels = ConditionLabels(others, recipe.training.condition, values=recipe.conditions)
    batch = min(batch_at(recipe.training.batch, recipe.training.images), len(others))
    batches = Batches(others, average.resolution, batch, recipe.training.seed, progress=progress)
    return batches, average, labels


def _position_seed(seed: int, rank: int, state: TrainingState) -> int:
    """The seed of a step of a process. It changes after going back, or the same trouble would come again."""
    position = (seed, rank, state.images, *([state.rollbacks] if state.rollbacks else []))
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0] >> 1)


def _average_gradients(fabric: Fabric, phase: Phase) -> None:
    if fabric.world_size > 1:
        gradients = [parameter.grad for parameter in phase.parameters if parameter.grad is not None]
        flat = fabric.all_reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduce_op="mean")
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):  # type: ignore[union-attr]
            gradient.copy_(mean.view_as(gradient))


def _gradient_norm(phase: Phase) -> Tensor:
    gradients = [parameter.grad for parameter in phase.parameters if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def _set_second_beta(optimiser: torch.optim.Optimizer, second: float) -> None:
    for group in optimiser.param_groups:
        group["betas"] = (group["betas"][0], second)


def _descend(phase: Phase, optimiser: torch.optim.Optimizer, rates: Sequence[float]) -> None:
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate
    if phase.clip_gradients:
        torch.nn.utils.clip_grad_value_(phase.parameters, phase.clip_gradients)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    if phase.clip_weights:
        with torch.no_grad():
            for parameter in phase.parameters:
                parameter.clamp_(-phase.clip_weights, phase.clip_weights)


def _rates(recipe: Recipe, phase: Phase, images: int) -> dict[str, float]:
    """The learning rate of each parameter group of a phase."""
    rates = recipe.training.learning_rate
    return {name: value_at(rates.get(name, rates["default"]), images) for name in phase.groups}


def _passed(before: int, after: int, kimg: float) -> bool:
    """Whether a multiple of ``kimg`` thousand images was passed; False if ``kimg`` is 0."""
    return kimg > 0 and after // (kimg * 1000) > before // (kimg * 1000)


FILM_IMAGES = 500  # pictures of the film are at least so many images apart


def film_due(before: int, after: int, share: float) -> bool:
    """Whether a picture for the film is due between ``before`` and ``after`` images seen.

    One is due each time the images seen have grown by ``share``, but after `FILM_IMAGES` at the earliest. So
    their number grows with the logarithm of a training's length, and the film moves evenly.

    >>> [images for images in range(0, 5000, 100) if film_due(images, images + 100, 0.5)]
    [400, 900, 1400, 2200, 3300]
    """
    if share <= 0:
        return False
    due = float(FILM_IMAGES)
    while due <= before:
        due += max(FILM_IMAGES, due * share)
    return due <= after


def _others(
    recipe: Recipe,
    networks: nn.ModuleDict,
    phases: list[Phase],
    judged: Steps | None,
    state: TrainingState,
    before: int,
    fabric: Fabric,
) -> dict[str, float]:
    """The numbers in a line of the log that are not means: held-out faces, learning rates, memory."""
    told: dict[str, float] = {}
    if judged:
        seed = _position_seed(recipe.training.seed, fabric.world_size, state)
        with fabric.autocast():
            told |= held_out_numbers(networks, phases, judged, before, seed)
    for phase in phases:
        if phase.shares is None:
            rates = _rates(recipe, phase, before)
            told |= {f"learning rate/{name}": rate for name, rate in rates.items()}
    peak = peak_memory_mb(fabric.device)
    return told if peak is None else told | {"memory/peak MB": peak}


def _say_early(state: TrainingState, show: Display, logs: Logs | None) -> None:
    """Show and log the means so far, before the first line of the log is due."""
    means = state.numbers.means()
    show.line(means)
    if logs:
        logs.early(state.images, {"minutes": state.seconds / 60, **means})


def _pauses(
    recipe: Recipe,
    state: TrainingState,
    averaged: Model,
    faces: FaceSet,
    measure: MakeMeasure | None,
    draw: Draw | None,
    draw_film: Draw | None,
    logs: Logs | None,
) -> dict[str, Callable[[], float]]:
    """The work between steps, by name. Each returns how many of its seconds do not count as training."""
    pauses: dict[str, Callable[[], float]] = {}
    if draw and logs:

        def drawn() -> float:
            logs.grid(state.images, draw(averaged))
            return 0.0

        pauses["grid"] = drawn
    if draw_film and logs:

        def filmed() -> float:
            paused = time.monotonic()
            logs.film(state.images, draw_film(averaged))
            return time.monotonic() - paused

        pauses["film"] = filmed
    if measure and logs and recipe.training.fid_kimg > 0:
        measured = measure(averaged, faces)

        def fid() -> float:
            paused = time.monotonic()
            logs.write(state.images, measured())
            return time.monotonic() - paused

        pauses["fid"] = fid
    return pauses


def _paused(
    fabric: Fabric, state: TrainingState, pauses: Mapping[str, Callable[[], float]], stop: Stop
) -> float:
    """Do what is due. Returns how many of the seconds do not count as training.

    Ctrl-C interrupts it. The snapshot then lists what is still due, and the resumed run does that first.
    """
    if not state.due:
        return 0.0
    began, seconds = time.monotonic(), 0.0
    while state.due and not stop:
        with stop.at_once():
            seconds += pauses.get(state.due[0], float)()
            del state.due[0]
    if fabric.world_size > 1:
        fabric.barrier()
        return time.monotonic() - began
    return seconds
