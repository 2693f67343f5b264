"""The labels of a face set as conditions for the networks."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from math import prod

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..data.sources.keys import natural
from ..data.store.columns import COLUMNS, as_numbers, column, has_column, is_numeric, label_columns
from ..data.store.faceset import FaceSet
from ..data.text import one_line
from ..errors import UserError
from ..recipe import Recipe

_NUMBER = r"-?[0-9.]+(?:e[+-]?[0-9]+)?"
_BIN = re.compile(f"({_NUMBER})(?:-({_NUMBER}))?")
UNKNOWN = "unknown"  # the value of a face without a label
MAX_VALUES = 1000
MAX_COMBINATIONS = 100_000
BINS = 8  # at most, for numbers
MAX_CHANCE = 10.0  # how often a face may come in an epoch if rare values are drawn more often


class ConditionLabels:
    """Some labels of a face set. A face may have several values of one label ("blue|green").

    Numbers are put into `BINS` bins with about as many faces each, called like "1998-2003", ends included.

    Args:
        names: columns of the index, or the year that names of files carry.
        used: indices of the training faces; None for all.
        values: the known values of each label, if the training has them already. Other values become -1; of
            numbers, those beyond the bins count for the nearest one.
        setting: the setting that names the labels, in messages.

    Attributes:
        values: the values of each label, in the order of their numbers.
        numbers: the value numbers of each face, padded with -1: int64 (faces, labels, most).
        many: how many values each face has: int64 (faces, labels).

    Raises:
        UserError: there is no such label (the nearest one is named), or its values cannot be conditions.
    """

    def __init__(
        self,
        faces: FaceSet,
        names: Sequence[str],
        used: np.ndarray | None = None,
        values: Mapping[str, Sequence[str]] | None = None,
        setting: str = "training.condition",
    ) -> None:
        known = label_columns(faces.index)
        for name in names:
            if name in COLUMNS or not has_column(faces.index, name):
                raise UserError(_no_label(faces, name, known, setting))
        self.used = np.arange(len(faces)) if used is None else used
        carried = {
            name: _carried(column(faces.index, name), self.used, None if values is None else values[name])
            for name in names
        }
        self.counts = {
            name: Counter(value for i in self.used for value in every[i]) for name, every in carried.items()
        }
        self._several = {name: sum(len(carried[name][i]) > 1 for i in self.used) for name in names}
        if values is None:
            numeric = {name for name in names if is_numeric(column(faces.index, name))}
            values = {
                name: sorted(self.counts[name], key=_by_number if name in numeric else natural)
                for name in names
            }
            _check(faces, values, setting)
        self.values = {name: list(known) for name, known in values.items()}
        most = max(len(several) for every in carried.values() for several in every)
        self.numbers = np.full((len(faces), len(names), most), -1)
        self.many = np.ones((len(faces), len(names)), np.int64)
        for axis, name in enumerate(names):
            numbers = {value: i for i, value in enumerate(self.values[name])}
            for face, several in enumerate(carried[name]):
                self.numbers[face, axis, : len(several)] = [numbers.get(value, -1) for value in several]
                self.many[face, axis] = len(several)

    def drawn(self, indices: np.ndarray) -> Tensor:
        """Value numbers of the faces ``indices``: (B, labels).

        If a face has several values, one is drawn with PyTorch's generator. The training loop seeds it.
        """
        which = (torch.rand(len(indices), len(self.values)).numpy() * self.many[indices]).astype(np.int64)
        return torch.from_numpy(np.take_along_axis(self.numbers[indices], which[..., None], 2)[..., 0])

    def seen(self) -> Tensor:
        """The number of training faces with each combination of values: (number of combinations,).

        A face with several combinations counts in equal shares for each of them.
        """
        sizes = [len(known) for known in self.values.values()]
        table = np.zeros(sizes)
        single = self.used[self.many[self.used].max(1) == 1]
        np.add.at(table, tuple(self.numbers[single, :, 0].T), 1)
        for face in np.setdiff1d(self.used, single):
            choices = [self.numbers[face, i, :n] for i, n in enumerate(self.many[face])]
            for combination in product(*choices):
                table[combination] += 1 / prod(map(len, choices))
        return torch.from_numpy(table.reshape(-1)).float()

    def digest(self) -> str:
        """A hash of the values, their order, and the labels of each face."""
        said = hashlib.sha256(json.dumps(self.values).encode())
        said.update(self.numbers.tobytes() + self.many.tobytes())
        return said.hexdigest()

    def sentences(self) -> list[str]:
        """One line for each label: the number of faces with each value, with none, and with several."""
        lines = []
        for name, known in self.values.items():
            counts = self.counts[name]
            listed = ", ".join(f"{value} {counts[value]:,}" for value in known if value != UNKNOWN)
            lines.append(
                f"{name} of {len(self.used):,} faces: {listed}; none {counts[UNKNOWN]:,}"
                f"{' (the value unknown)' if counts[UNKNOWN] else ''}, several {self._several[name]:,}"
                f"{' (one is drawn each time)' if self._several[name] else ''}"
            )
        return lines


def _carried(
    values: pa.ChunkedArray, used: np.ndarray, known: Sequence[str] | None
) -> list[list[str]]:
    """The values of each face: those joined by a bar, the bin of a number, or `UNKNOWN`."""
    if not is_numeric(values):
        return [_parts(text) for text in values.to_pylist()]
    numbers = as_numbers(values)
    bins = _bins(numbers[used]) if known is None else [(*_ends(name), name) for name in known]
    bins = sorted(one for one in bins if one[2] != UNKNOWN)
    if not bins:
        return [[UNKNOWN]] * len(numbers)
    tops = np.array([high for _, high, _ in bins])
    place = np.minimum(np.searchsorted(tops, numbers), len(bins) - 1)
    return [[UNKNOWN if np.isnan(n) else bins[i][2]] for n, i in zip(numbers, place, strict=True)]


def _by_number(name: str) -> tuple[bool, tuple[float, float]]:
    """Sorts the names of bins, with `UNKNOWN` at the end."""
    return name == UNKNOWN, (0.0, 0.0) if name == UNKNOWN else _ends(name)


def _parts(text: object) -> list[str]:
    values = [one_line(part, 100) for part in str(text or "").split("|") if part.strip()]
    return list(dict.fromkeys(values)) or [UNKNOWN]


def _bins(numbers: np.ndarray) -> list[tuple[float, float, str]]:
    """Bins of about as many numbers each: the lowest and the highest number in it, and its name.

    >>> [name for _, _, name in _bins(np.array([1998, 1999, 2000, 2001, 2002, 2003] * 9, float))]
    ['1998', '1999', '2000', '2001', '2002', '2003']
    >>> [name for _, _, name in _bins(np.arange(2000, 2020.0))][:2]
    ['2000-2002', '2003-2004']
    """
    known = np.unique(numbers[np.isfinite(numbers)])
    if len(known) <= BINS:
        return [(float(n), float(n), f"{n:g}") for n in known]
    cuts = np.quantile(numbers[np.isfinite(numbers)], np.linspace(0, 1, BINS + 1)[1:-1])
    found = []
    for part in np.split(known, np.unique(np.searchsorted(known, cuts, side="right"))):
        if len(part):
            low, high = f"{part[0]:.6g}", f"{part[-1]:.6g}"
            found.append((float(low), float(high), low if low == high else f"{low}-{high}"))
    return found


def _ends(name: str) -> tuple[float, float]:
    """The lowest and the highest number of a bin, from its name.

    >>> _ends("1998-2003"), _ends("7"), _ends("-2--0.5")
    ((1998.0, 2003.0), (7.0, 7.0), (-2.0, -0.5))
    """
    match = _BIN.fullmatch(name)
    if match is None:
        return float("nan"), float("nan")
    return float(match[1]), float(match[2] or match[1])


def chances(labels: ConditionLabels) -> np.ndarray:
    """How often each training face comes in an epoch if rare values are drawn more often: (used,), mean 1.

    All values of a label would come equally often, but no face comes more than `MAX_CHANCE` times. A face
    with several values has the mean of their chances. Faces without a value come as often as before.
    """
    total = len(labels.used)
    found = np.ones(total)
    for axis, values in enumerate(labels.values.values()):
        numbers, many = labels.numbers[labels.used, axis], labels.many[labels.used, axis]
        shares = np.zeros(len(values))
        held = numbers >= 0
        np.add.at(shares, numbers[held], (1 / many[:, None] * held)[held])
        unknown = values.index(UNKNOWN) if UNKNOWN in values else -1
        known = np.array([i for i in range(len(values)) if i != unknown and shares[i]], int)
        rare = np.ones(len(values))
        if len(known):
            rare[known] = shares[known].sum() / len(known) / shares[known]
        found *= np.where(held, rare[numbers], 0).sum(1) / many
    for _ in range(20):  # what is cut off goes to the others
        found = np.minimum(found * total / found.sum(), MAX_CHANCE)
    return found


def balancing(recipe: Recipe, faces: FaceSet, used: np.ndarray) -> ConditionLabels | None:
    """The labels whose rare values are drawn more often; None if there are none."""
    if not recipe.training.balance:
        return None
    return ConditionLabels(faces, recipe.training.balance, used, setting="training.balance")


def identity(faces: FaceSet, labels: ConditionLabels | None, balanced: ConditionLabels | None) -> str:
    """What a run is trained on: a run goes on only with the same faces and labels."""
    told = [faces.content_hash]
    told += [] if labels is None else [labels.digest()]
    return "+".join(told if balanced is None else [*told, f"balance:{balanced.digest()}"])


def _no_label(faces: FaceSet, name: str, known: Sequence[str], setting: str) -> str:
    shown = one_line(faces.path)
    if not known:
        return (
            f"{setting}: {shown} has no labels; give them when it is built: "
            "omokage build SOURCE --labels labels.csv -o faces/"
        )
    near = get_close_matches(name, known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"{setting}: {shown} has no label {name!r}{meant}; there are {', '.join(known)}"


def _check(faces: FaceSet, values: Mapping[str, Sequence[str]], setting: str) -> None:
    for name, known in values.items():
        if list(known) == [UNKNOWN]:
            raise UserError(
                f"{setting}: no face in {one_line(faces.path)} has a value of {name}; "
                "do the file names in its labels match?"
            )
        if len(known) > MAX_VALUES:
            raise UserError(
                f"{setting}: {name} has {len(known):,} different values, at most {MAX_VALUES:,} "
                "are possible; give a label with few"
            )
    combinations = prod(len(known) for known in values.values())
    if combinations > MAX_COMBINATIONS:
        raise UserError(
            f"{setting}: {', '.join(values)} have {combinations:,} combinations of values, at most "
            f"{MAX_COMBINATIONS:,} are possible; leave one out"
        )
