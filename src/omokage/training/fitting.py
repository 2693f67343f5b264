"""Checks that the networks of a recipe fit together, before any face is read.

The networks are built without values, which takes no memory: on PyTorch's device "meta", where the objective
checks them, and as PyTorch's fake tensors, through which a batch is sent.
"""

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..abilities import Denoises, Grows, HasDensity, HasPosterior
from ..errors import UserError
from ..families import OBJECTIVES, build_discriminator, build_model
from ..models.conditional import unconditioned
from ..parameters import without_power_iterations
from ..recipe import ROWS, Recipe, Training
from ..schedule import Batch

# Errors that PyTorch and Python raise if sizes do not fit. Bugs raise them too, so messages quote their text.
_MISFITS = (RuntimeError, ValueError, IndexError, TypeError, ZeroDivisionError, AssertionError)


@dataclass(frozen=True)
class Fit:
    """Facts about networks that fit.

    Attributes:
        resolution: height and width of the images.
        judges: whether the objective computes numbers for held-out faces.
        groups: names of the parameter groups that have their own learning rate.
        cost: approximate floating-point operations of a step for each image, in billions; 0 if not counted.
    """

    resolution: tuple[int, int]
    judges: bool
    groups: tuple[str, ...]
    cost: float


def fitted(recipe: Recipe, processes: int = 1, trained: bool = False) -> Fit:
    """Build the networks and the objective of a recipe without values, and send a batch through.

    For a run that has already ``trained``, no batch is sent through: its networks are known to fit.

    Raises:
        UserError: no network can be built with the settings, or the networks do not fit together. If
            possible, the message gives settings that fit.
    """
    return _fitted(json.dumps(asdict(recipe) | {"title": "", "source": ""}), processes, trained)


@cache
def _fitted(written: str, processes: int, trained: bool) -> Fit:
    recipe = _recipe(json.loads(written))
    with _quiet(), torch.device("meta"):
        networks = _networks(recipe)
        if recipe.discriminator and not trained:
            _check_sizes(recipe, networks)
        settings = {key: value for key, value in recipe.objective.items() if key != "name"}
        phases = OBJECTIVES[recipe.objective["name"]].load()(networks, **settings)
    groups = tuple(group for phase in phases if phase.shares is None for group in phase.groups)
    for name in recipe.training.learning_rate:
        if name not in ("default", *groups):
            raise UserError(
                f"training.learning_rate: no phase {name!r}; there are {', '.join(('default', *groups))}"
            )
    judges = any(phase.judge is not None for phase in phases)
    cost = 0.0
    if not trained:
        # Imported here because the import takes two seconds.
        from torch._subclasses.fake_tensor import FakeTensorMode

        with _quiet(), FakeTensorMode(allow_non_fake_inputs=True):
            cost = _sent_through(recipe, _networks(recipe), processes)
    return Fit(tuple(networks["generator"].resolution), judges, groups, cost)  # type: ignore[arg-type]


def _recipe(plain: Mapping[str, Any]) -> Recipe:
    return Recipe(**{**plain, "training": Training(**plain["training"])})


@contextmanager
def _quiet() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), without_power_iterations():
        warnings.simplefilter("ignore")  # loading pretrained weights into meta tensors warns
        told = logging.getLogger("torch._subclasses.fake_tensor")
        before, told.disabled = told.disabled, True  # our own message replaces its report
        try:
            yield
        finally:
            told.disabled = before


def _networks(recipe: Recipe) -> nn.ModuleDict:
    networks = {"generator": _built("model", recipe.model, recipe.conditions)}
    if recipe.discriminator:
        networks["discriminator"] = _built("discriminator", recipe.discriminator, recipe.conditions)
    return nn.ModuleDict(networks)


def _built(table: str, settings: Mapping[str, Any], conditions: Mapping[str, Sequence[str]]) -> Any:
    build: Callable[..., Any] = build_model if table == "model" else build_discriminator
    try:
        return build(dict(settings), conditions)
    except _MISFITS as error:
        raise UserError(
            f"{table}: no network {settings['name']} can be built with these settings ({_short(error)}); "
            f"{_sizes_of(settings)}"
        ) from None


def _sizes_of(settings: Mapping[str, Any]) -> str:
    """The current settings that sizes may depend on, in words."""
    numbers = {
        key: value
        for key, value in settings.items()
        if (isinstance(value, int) and not isinstance(value, bool)) or isinstance(value, list)
    }
    return "look at " + ", ".join(f"{key} = {value}" for key, value in numbers.items())


def _check_sizes(recipe: Recipe, networks: nn.ModuleDict) -> None:
    """Raise `UserError` unless the discriminator takes images of the model's size and channels."""
    grey = [settings.get("image_channels", 3) for settings in (recipe.model, recipe.discriminator)]
    if grey[0] != grey[1]:
        raise UserError(
            f"model and discriminator do not fit: the model {recipe.model['name']} draws images of {grey[0]} "
            f"channels, the discriminator {recipe.discriminator['name']} takes {grey[1]}; give both the same "
            "image_channels"
        )
    drawn = tuple(networks["generator"].resolution)  # type: ignore[arg-type]
    whole: Any = networks["discriminator"]
    inner: Any = unconditioned(whole)
    taken = getattr(inner, "resolution", drawn)
    if tuple(taken) == drawn:
        return
    ways = [
        f"for {px(drawn)}: {_suiting('discriminator', recipe.discriminator, drawn, taken)}",
        f"for {px(taken)}: {_suiting('model', recipe.model, taken, drawn)}",
    ]
    known = [way for way in ways if not way.endswith(": ")]
    hint = f"; {' or '.join(known)}" if known else ""
    raise UserError(
        f"model and discriminator do not fit: the model {recipe.model['name']} draws {px(drawn)}, the "
        f"discriminator {recipe.discriminator['name']} takes {px(taken)}{hint}"
    )


def _suiting(table: str, settings: Mapping[str, Any], size: tuple[int, int], now: tuple[int, int]) -> str:
    """Settings that give a network that ``size``, as written after ``omokage train``; "" if none is found."""
    for change in _changes(table, settings, size, now):
        try:
            network = ROWS[table][settings["name"]].build({**settings, **change})
        except (UserError, *_MISFITS):
            continue
        if tuple(network.resolution) == tuple(size):
            return " ".join(f"{table}.{key}={_compact(value)}" for key, value in change.items())
    return ""


def _changes(
    table: str, settings: Mapping[str, Any], size: tuple[int, int], now: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """Changes that may give a size: of the size setting, of the number of channel counts, or of both."""
    own: list[dict[str, Any]] = [{}]
    for key in ("resolution", "size"):
        if isinstance(settings.get(key), list):
            own = [{key: list(size)}]
        elif key in settings and size[0] == size[1]:
            own = [{key: size[0]}]
    yield from (change for change in own if change)
    channels = settings.get("channels")
    if not channels:
        return
    number = len(channels) + round(math.log2(size[0] / now[0]))  # each has twice the size of the last
    if number < 1:
        return
    more = list(channels[:number])
    while len(more) < number:  # finer images have fewer channels, coarser features more
        more.append(max(8, more[-1] // 2) if table == "model" else min(512, 2 * more[-1]))
    change: dict[str, Any] = {"channels": more}
    if "strides" in settings:
        change["strides"] = ([*settings["strides"], *[2] * number])[:number]
    yield {**own[0], **change}


def _sent_through(recipe: Recipe, networks: nn.ModuleDict, processes: int) -> float:
    """The approximate cost of a step for each image. Raises `UserError` if a batch does not go through."""
    from torch.utils.flop_counter import FlopCounterMode

    generator: Any = networks["generator"]
    batch = smallest_part(recipe.training.batch, recipe.training.micro_batch, processes)
    given = [torch.zeros(batch, len(recipe.conditions), dtype=torch.int64)] if recipe.conditions else []
    images = torch.empty(batch, getattr(generator, "image_channels", 3), *generator.resolution)
    latents = torch.empty(batch, *generator.latent_shape)
    inner = unconditioned(generator)
    if isinstance(inner, Grows):
        inner.grow(10**15)  # all sizes have grown in
    counter = FlopCounterMode(display=False)
    cost = 0.0

    def through(table: str, run: Callable[[], Any]) -> Any:
        nonlocal cost
        settings = recipe.model if table == "model" else recipe.discriminator
        try:
            with counter, torch.no_grad():
                found = run()
        except _MISFITS as error:
            if _of_numbers(error):
                return None
            if batch == 1 and "more than 1 value" in str(error):
                raise UserError(
                    f"training.batch: 1 image at a time is too few for the batch norm of {settings['name']}; "
                    "give 2 or more (for training.micro_batch too)"
                ) from None
            raise UserError(
                f"{table}: {settings['name']} cannot be trained with these settings ({_short(error)}); "
                f"{_sizes_of(settings)}"
            ) from None
        cost += counter.get_total_flops() / batch / 1e9
        return found

    if batch > 1:
        networks.eval()  # in training mode some draw random values, which fake tensors lack
    if isinstance(inner, Denoises):
        noisy = torch.empty(batch, *inner.shape)
        through("model", lambda: generator.denoised(noisy, torch.ones(batch), *given))
        return 3 * cost
    if isinstance(inner, HasDensity):
        through("model", lambda: generator.log_prob(images, *given))
        return 3 * cost
    if isinstance(inner, HasPosterior):
        through("model", lambda: generator.posterior(images))
    drawn = through("model", lambda: generator(latents, *given))
    if isinstance(drawn, Tensor) and drawn.shape != images.shape:
        raise UserError(
            f"model: {recipe.model['name']} draws {px(tuple(drawn.shape[2:]))} in {drawn.shape[1]} channels "
            f"but declares {px(tuple(images.shape[2:]))} in {images.shape[1]}"
        )
    if not recipe.discriminator:
        return 3 * cost
    drawing, cost = cost, 0.0
    discriminator: Any = networks["discriminator"]
    look = getattr(discriminator, "features", lambda seen: seen)
    through("discriminator", lambda: discriminator(look(images), *given))
    # The discriminator sees real images, generated ones, and generated ones again in the generator's phase.
    # A backward pass costs twice as much as a forward pass.
    return 3 * (drawing + 3 * cost)


def _of_numbers(error: Exception) -> bool:
    """Whether the error is about missing values of fake tensors, and not about sizes."""
    return type(error).__module__.startswith("torch._subclasses") or "fake" in str(error).lower()


def smallest_part(batch: Batch, micro_batch: int, processes: int = 1) -> int:
    """The number of images in the smallest part of any step.

    >>> smallest_part(64, 0), smallest_part(64, 48), smallest_part([[0, 8], [9, 4]], 0, processes=2)
    (64, 16, 2)
    """
    sizes = [batch] if isinstance(batch, int) else [int(size) for _, size in batch]
    shares = [max(1, size // processes) for size in sizes]
    if micro_batch:
        shares = [share % micro_batch or micro_batch if share > micro_batch else share for share in shares]
    return min(shares)


def px(size: Sequence[int]) -> str:
    """A height and a width in words.

    >>> px((64, 64)), px((96, 128))
    ('64 px', '96x128 px')
    """
    return f"{size[0]} px" if size[0] == size[1] else f"{size[0]}x{size[1]} px"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _short(error: Exception) -> str:
    text = " ".join((str(error) or type(error).__name__).split())
    return text if len(text) <= 160 else text[:157] + "..."
