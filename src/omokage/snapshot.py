"""Snapshots: one file with weights, averaged weights, optimiser states, progress and the recipe."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from . import __version__
from .errors import UserError
from .files import replacing
from .listing import runs_within, snapshots
from .recipe import Recipe, read_recipe
from .sniff import what_it_is

FORMAT = "omokage-snapshot-1"
SCALE = ".scale of 8-bit numbers"


def write_snapshot(
    path: Path, tensors: Mapping[str, Tensor], recipe: Recipe, progress: Mapping[str, Any]
) -> None:
    """Write a snapshot. It gets its final name only after it is complete and on the disk."""
    metadata = {
        "format": FORMAT,
        "omokage": __version__,
        "recipe": recipe.to_toml(),
        "progress": json.dumps(progress, sort_keys=True),
    }
    try:
        with replacing(path, durable=True) as unfinished:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished, metadata)
            _order_metadata(unfinished)
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {path}: {reason}; make room and run the same command again") from None


def _order_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file, which come in random order: the same model has one hash."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(written) <= length:  # always, unless the library writes JSON in another way one day
            file.seek(8)
            file.write(written.ljust(length))


def read_snapshot(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], Recipe, dict[str, Any]]:
    """The tensors whose names start with ``prefix`` (removed from the names), the recipe and the progress.

    Raises:
        UserError: the file is not a snapshot, is cut off, or has a format that this version does not know.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path} is not a snapshot of Omokage (format {metadata.get('format')!r})")
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            tensors = unpacked({name.removeprefix(prefix): file.get_tensor(name) for name in names})
            progress = json.loads(metadata["progress"])
            return tensors, read_recipe(metadata["recipe"], str(path)), progress
    except (SafetensorError, KeyError, ValueError) as error:
        if (known := _what(Path(path))) is not None:
            raise UserError(f"{path} is {known}") from None
        raise UserError(f"{path} is damaged or cut off ({error}); use another snapshot of the run") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def packed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor as 8-bit numbers and one scale for each row, in a quarter of the space; `unpacked` reads them.

    The error of a number is at most 1/254 of the largest of its row.

    >>> tensor = torch.tensor([[1.0, -0.5], [100.0, 3.0]])
    >>> unpacked(packed("weight", tensor))["weight"]
    tensor([[  1.0000,  -0.5039],
            [100.0000,   3.1496]])
    """
    rows = tensor.float().flatten(1)
    scale = (rows.abs().amax(1) / 127).clamp_min(1e-30)
    numbers = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
    return {name: numbers, f"{name}{SCALE}": scale}


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they were before `packed`; the others stay as they are.

    Raises:
        ValueError: numbers and scales do not fit together.
    """
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(SCALE)}
    for name in tensors.keys() - found.keys():
        numbers = found.get(name.removesuffix(SCALE))
        if numbers is None or numbers.dtype != torch.int8 or len(numbers) != len(tensors[name]):
            raise ValueError(f"{name} fits no 8-bit numbers")
        scale = tensors[name].float().view(-1, *[1] * (numbers.dim() - 1))
        found[name.removesuffix(SCALE)] = numbers.float() * scale
    return found


def _what(path: Path) -> str | None:
    """What a file is that is not a snapshot, and what to do; None: it begins like a snapshot."""
    with path.open("rb") as file:
        known = what_it_is(file.read(1024))
    if known is None or known[0] == "a safetensors file":
        return None
    name, hint = known
    return f"{name}, not a snapshot" + (f": {hint}" if hint and name != "an archive" else "")


def newest_snapshot(run: str | Path) -> Path:
    """The newest snapshot of a run folder.

    Raises:
        UserError: no such folder, or no snapshot in it.
    """
    if not Path(run).is_dir():
        raise UserError(f"{run}: no such run; omokage train RECIPE --data faces/ --out {run} makes one")
    found = snapshots(run)
    if not found and (Path(run) / "index.parquet").is_file():
        raise UserError(f"{run} is a face set, not a run: name a run or a snapshot; face sets go with --data")
    if not found and (told := runs_within(run)):
        raise UserError(told)
    if not found:
        raise UserError(f"{run} has no snapshot yet; let omokage train run longer")
    return found[-1]


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill ``network`` with weights read from ``path``; UserError where they do not fit."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: its weights do not fit its recipe ({reason})") from None
