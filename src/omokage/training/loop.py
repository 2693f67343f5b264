"""THE training loop: the same for every family."""

import copy
import dataclasses
import fcntl
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor, nn

from ..data.faceset import FaceSet
from ..data.provenance import write_provenance
from ..errors import UserError
from ..families import OBJECTIVES, build_discriminator, build_model
from ..hardware import best_device, best_precision, device_name, keep_freed_memory, peak_memory_mb
from ..model import Model
from ..objectives.phase import Phase, pace
from ..progress import Progress
from ..recipe import Recipe
from ..sampling import decoded, latents, to_pixels
from ..schedule import batch_at, value_at
from ..snapshot import snapshots
from .augment import augmenter
from .batches import Batches, shared
from .conditions import Labels
from .display import announce, training_display
from .ema import decay_for, update_average
from .heldout import held_out_numbers
from .logs import Logs
from .measure import fid_measure
from .optimisers import OPTIMISERS
from .state import TrainingState, resume, save
from .steps import Steps
from .watchdog import look, recover

GRID_SEEDS = range(64)


def train(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    minutes: float | None = None,
    images: int | None = None,
    heldout: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train ``recipe`` on the face set ``data`` in the run folder ``out``; called again, go on.

    ``minutes`` (of training, all pieces of the run together) and ``images`` (seen) say when to stop; the
    recipe's own number of images does so too. ``heldout`` is a face set that is not trained on: the log says
    how the objective judges its faces. Ctrl-C saves first. Returns the newest snapshot.

    Raises:
        UserError: no face set, a run of another recipe or face set in ``out``, or a run in use.
        KeyboardInterrupt: after Ctrl-C, when everything is saved.
    """
    fabric = _fabric(recipe)
    progress = progress if fabric.is_global_zero else None
    faces, run = FaceSet.open(data), Path(out)
    if isinstance(recipe.training.batch, int) and recipe.training.batch % fabric.world_size:
        raise UserError(
            f"training.batch: {recipe.training.batch} is no multiple of {fabric.world_size} processes"
        )
    with _claimed(run, fabric.is_global_zero), _stop_requests() as stop:
        # Set up: everything follows from the recipe, the seed and the face set.
        torch.manual_seed(recipe.training.seed)
        used = shared(len(faces), recipe.training.share, recipe.training.seed)
        if len(used) < len(faces):
            sentence = f"{len(used):,} of {len(faces):,} faces, chosen by seed {recipe.training.seed}"
            announce(progress, sentence, "trained on")
        recipe, labels = _conditioned(recipe, faces, used, progress)
        networks = _networks(recipe).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if labels:
            networks["generator"].seen.copy_(labels.seen())  # type: ignore[operator,union-attr]
        average = copy.deepcopy(networks["generator"]).eval().requires_grad_(False)
        keep_freed_memory(max(average.resolution))
        phases: list[Phase] = OBJECTIVES[recipe.objective["name"]].load()(
            networks, **{key: value for key, value in recipe.objective.items() if key != "name"}
        )
        _check_names(recipe, phases)
        optimisers = {
            phase.name: OPTIMISERS[recipe.training.optimiser](
                list(phase.groups.values()), [beta ** pace(phase, phases) for beta in recipe.training.betas]
            )
            for phase in phases
            if phase.shares is None
        }
        state = TrainingState(
            networks, average, optimisers, faces.content_hash + (f"+{labels.digest()}" if labels else "")
        )
        state.machine = _machine(fabric)

        # Resume where the newest whole snapshot stands.
        resume(state, recipe, run)
        if fabric.is_global_zero:
            write_provenance(faces, run)
        batches = Batches(
            faces,
            average.resolution,
            recipe.training.batch,
            recipe.training.seed,  # type: ignore[arg-type]
            fabric.global_rank,
            fabric.world_size,
            progress,
            used=used,
        )
        about = recipe.training.mirror, augmenter(recipe.training.augment), fabric.device
        steps, judged = Steps(batches, average, labels, *about), None
        if heldout:
            judged = Steps(*_held_out(recipe, heldout, faces, phases, average, progress), *about)
        measure = None
        if recipe.training.fid_kimg > 0 and fabric.is_global_zero:
            averaged = Model(average, recipe, {}, run, "")
            measure = fid_measure(recipe.training.fid_protocol, faces, averaged, progress)
        last = min(recipe.training.images, images or recipe.training.images)
        seconds = float("inf") if minutes is None else minutes * 60
        logs = Logs(run, state.images) if fabric.is_global_zero else None
        numbers = _Averages()
        begun, saved = time.monotonic() - state.seconds, time.monotonic()

        with training_display(progress, recipe.name, state, last, seconds) as show:
            while not _agreed(fabric, state.images >= last or state.seconds >= seconds or bool(stop)):
                started, before = time.monotonic(), state.images
                batch = batch_at(recipe.training.batch, before, fabric.world_size)

                # Draw a batch. All randomness follows from the position.
                torch.manual_seed(_position_seed(recipe.training.seed, fabric.global_rank, state))
                pixels = steps.pixels(before)
                waited = time.monotonic() - started
                step = steps.step(pixels, before)

                # Run the phases that are due.
                for phase in phases:
                    if (state.steps + 1) % phase.every == 0:
                        for part in step.parts(recipe.training.micro_batch):
                            with fabric.autocast():
                                loss, told = phase.loss(part)
                            share = len(part.real) / len(step.real)
                            (loss * share).backward(inputs=phase.parameters)
                            numbers.add({name: value.detach() for name, value in told.items()}, share)
                        _average_gradients(fabric, phase)
                        norm = _gradient_norm(phase)
                        if recipe.training.clip_gradients > 0:
                            nn.utils.clip_grads_with_norm_(
                                phase.parameters, recipe.training.clip_gradients, norm
                            )
                        numbers.add({f"gradient norm/{phase.name}": norm.detach()})
                        owner = phase.shares or phase.name
                        rates = _rates(recipe, next(one for one in phases if one.name == owner), before)
                        scaled = [rate * pace(phase, phases) for rate in rates.values()]
                        _descend(phase, optimisers[owner], scaled)

                # Average weights, count images.
                state.images = before + batch
                state.steps += 1
                decay = decay_for(
                    batch,
                    recipe.training.average_kimg * 1000,
                    state.images,
                    recipe.training.average_ramp,
                )
                update_average(average, networks["generator"], decay)
                state.seconds = time.monotonic() - begun
                numbers.time(time.monotonic() - started, waited, batch)

                # Log, draw the grid, snapshot.
                if _passed(before, state.images, recipe.training.log_kimg):
                    line = numbers.taken()
                    show(line)
                    if logs:
                        others: dict[str, float] = {}
                        if judged:
                            seed = _position_seed(recipe.training.seed, fabric.world_size, state)
                            with fabric.autocast():
                                others = held_out_numbers(networks, phases, judged, before, seed)
                        told_rates = {
                            f"learning rate/{name}": rate
                            for phase in phases
                            if phase.shares is None
                            for name, rate in _rates(recipe, phase, before).items()
                        }
                        minutes, peak = state.seconds / 60, peak_memory_mb(fabric.device)
                        memory = {} if peak is None else {"memory/peak MB": peak}
                        logs.write(
                            state.images, {"minutes": minutes, **line, **others, **told_rates, **memory}
                        )
                    # Where it goes badly, say so and go back.
                    trouble = look(line, phases, state.images, state.signs, recipe.training.patience_kimg)
                    if trouble := fabric.broadcast(trouble):
                        recover(trouble, fabric, state, recipe, run, logs, progress)
                        continue
                if logs and _passed(before, state.images, recipe.training.grid_kimg):
                    _write_grid(average, run, state.images, logs)
                if _passed(before, state.images, recipe.training.fid_kimg):
                    paused = time.monotonic()
                    if measure and logs:
                        logs.write(state.images, measure())
                    fabric.barrier()
                    begun += time.monotonic() - paused  # measuring is no training
                if time.monotonic() - saved > recipe.training.snapshot_minutes * 60:
                    saved = time.monotonic()
                    if fabric.is_global_zero and state.sound():
                        save(state, recipe, run)

        # Leave nothing undone.
        if logs:
            logs.close()
            save(state, recipe, run)
        if stop:
            raise KeyboardInterrupt(f"saved at {state.images:,} images; the same command goes on")
    return snapshots(run)[-1]


def _fabric(recipe: Recipe) -> Fabric:
    """The engine: one process, or those that torchrun started; on the fastest device there is."""
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
    """The run folder, made and kept from a second training until this one ends, however it ends."""
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


class _Stop:
    """Becomes true at Ctrl-C or a termination signal."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextmanager
def _stop_requests() -> Iterator[_Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request: no step is cut in half. A second one cuts."""
    stop = _Stop()

    def ask(number: int, frame: object) -> None:
        stop.asked = True
        signal.signal(number, before[signal.Signals(number)])

    if threading.current_thread() is not threading.main_thread():  # a notebook's worker: no signals there
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _agreed(fabric: Fabric, wanted: bool) -> bool:
    """Whether any process wants it: clocks and signals differ, and who stops alone leaves others waiting."""
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
) -> tuple[Recipe, Labels | None]:
    """The recipe with the values of its conditions, and the labels of the faces; says what they are."""
    if not recipe.training.condition:
        return recipe, None
    labels = Labels(faces, recipe.training.condition, used)
    if recipe.conditions not in ({}, labels.values):
        raise UserError(
            f"conditions: {faces.path} has other values than the recipe says; leave that table out of it, "
            "training fills it in"
        )
    for sentence in labels.sentences():
        announce(progress, sentence, "condition")
    return dataclasses.replace(recipe, conditions=labels.values), labels


def _held_out(
    recipe: Recipe,
    heldout: str | Path,
    faces: FaceSet,
    phases: list[Phase],
    average: Any,
    progress: Progress | None,
) -> tuple[Batches, Any, Labels | None]:
    """Batches of a face set that is not trained on, the model, and the labels of the set."""
    if all(phase.judge is None for phase in phases):
        raise UserError(
            f"--heldout: the objective {recipe.objective['name']} has nothing to say of other faces"
        )
    others = FaceSet.open(heldout)
    if others.content_hash == faces.content_hash:
        raise UserError(f"--heldout {heldout} has the faces that are trained on; give a set of others")
    both = len(set(others.index["sha256"].to_pylist()) & set(faces.index["sha256"].to_pylist()))
    if both:
        announce(progress, f"{both:,} pictures are among the faces trained on too", "held out")
    labels = None
    if recipe.training.condition:
        labels = Labels(others, recipe.training.condition, values=recipe.conditions)
    batch = min(batch_at(recipe.training.batch, recipe.training.images), len(others))
    batches = Batches(others, average.resolution, batch, recipe.training.seed, progress=progress)
    return batches, average, labels


def _position_seed(seed: int, rank: int, state: TrainingState) -> int:
    """A seed of its own for each step of each process; another one after going back, or it happens again."""
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


def _check_names(recipe: Recipe, phases: list[Phase]) -> None:
    known = ["default", *(name for phase in phases if phase.shares is None for name in phase.groups)]
    for name in recipe.training.learning_rate:
        if name not in known:
            raise UserError(f"training.learning_rate: no phase {name!r}; there are {', '.join(known)}")


def _rates(recipe: Recipe, phase: Phase, images: int) -> dict[str, float]:
    """The learning rate of each of a phase's groups."""
    rates = recipe.training.learning_rate
    return {name: value_at(rates.get(name, rates["default"]), images) for name in phase.groups}


def _passed(before: int, after: int, kimg: float) -> bool:
    """Whether a multiple of ``kimg`` thousand images, none if it is 0, was passed on the way."""
    return kimg > 0 and after // (kimg * 1000) > before // (kimg * 1000)


def _write_grid(average: nn.Module, run: Path, images: int, logs: Logs) -> None:
    z = latents(GRID_SEEDS, average.latent_shape).to(next(average.parameters()).device)  # type: ignore[arg-type]
    with torch.no_grad():
        faces = np.concatenate([to_pixels(part) for part in decoded(_Plain(average), z)])
    side = math.isqrt(len(faces))
    _, height, width, _ = faces.shape
    grid = faces.reshape(side, side, height, width, 3).swapaxes(1, 2).reshape(side * height, side * width, 3)
    folder = run / "grids"
    folder.mkdir(exist_ok=True)
    partial = folder / ".partial.png"
    Image.fromarray(grid).save(partial)
    os.replace(partial, folder / f"images-{images:012d}.png")
    logs.picture(images, "samples", grid)


class _Plain:
    """A network in training as something to sample from."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.latent_shape: tuple[int, ...] = network.latent_shape  # type: ignore[assignment]

    def decode(self, z: Tensor, settings: Any = None) -> Tensor:
        return self.network.decode(z)  # type: ignore[operator]


class _Averages:
    """Numbers since the last line of the log."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, float] = {}
        self._seconds = self._waited = self._images = 0.0

    def add(self, numbers: dict[str, Tensor], share: float = 1.0) -> None:
        """Numbers of a step, or of a part that is a ``share`` of it."""
        for name, value in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * share
            self._counts[name] = self._counts.get(name, 0) + share

    def time(self, seconds: float, waited: float, images: int) -> None:
        self._seconds += seconds
        self._waited += waited
        self._images += images

    def taken(self) -> dict[str, float]:
        """The means, which begin anew: images/s of whole steps and the share of time that waited for data."""
        means = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        speed = {
            "speed/images per second": self._images / self._seconds,
            "speed/waiting for data": self._waited / self._seconds,
        }
        self.__init__()  # type: ignore[misc]
        return means | speed
