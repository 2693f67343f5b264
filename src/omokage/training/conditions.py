"""The labels of a face set as conditions for the networks."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..data.sources.source import natural
from ..data.store.columns import COLUMNS
from ..data.store.faceset import FaceSet
from ..data.text import one_line
from ..errors import UserError

UNKNOWN = "unknown"  # the value of a face without a label
MAX_VALUES = 1000
MAX_COMBINATIONS = 100_000


class ConditionLabels:
    """Some labels of a face set. A face may have several values of one label ("blue|green").

    Args:
        names: columns of the index.
        used: indices of the training faces; None for all.
        values: the known values of each label, if the training has them already. Other values become -1.

    Attributes:
        values: the values of each label, in the order of their numbers.

    Raises:
        UserError: there is no such label (the nearest one is named), or its values cannot be conditions.
    """

    def __init__(
        self,
        faces: FaceSet,
        names: Sequence[str],
        used: np.ndarray | None = None,
        values: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        known = [name for name in faces.index.column_names if name not in COLUMNS]
        for name in names:
            if name not in known:
                raise UserError(_no_label(faces, name, known))
        self.used = np.arange(len(faces)) if used is None else used
        carried = {name: [_carried(text) for text in faces.index[name].to_pylist()] for name in names}
        self.counts = {
            name: Counter(value for i in self.used for value in column[i]) for name, column in carried.items()
        }
        self._several = {name: sum(len(carried[name][i]) > 1 for i in self.used) for name in names}
        if values is None:
            values = {name: sorted(self.counts[name], key=natural) for name in names}
            _check(faces, values)
        self.values = {name: list(known) for name, known in values.items()}
        # The value numbers of each face, padded: (faces, labels, most). And their count: (faces, labels).
        most = max(len(several) for column in carried.values() for several in column)
        self._numbers = np.full((len(faces), len(names), most), -1)
        self._many = np.ones((len(faces), len(names)), np.int64)
        for axis, name in enumerate(names):
            numbers = {value: i for i, value in enumerate(self.values[name])}
            for face, several in enumerate(carried[name]):
                self._numbers[face, axis, : len(several)] = [numbers.get(value, -1) for value in several]
                self._many[face, axis] = len(several)

    def drawn(self, indices: np.ndarray) -> Tensor:
        """Value numbers of the faces ``indices``: (B, labels).

        If a face has several values, one is drawn with PyTorch's generator. The training loop seeds it.
        """
        which = (torch.rand(len(indices), len(self.values)).numpy() * self._many[indices]).astype(np.int64)
        return torch.from_numpy(np.take_along_axis(self._numbers[indices], which[..., None], 2)[..., 0])

    def seen(self) -> Tensor:
        """The number of training faces with each combination of values: (number of combinations,).

        A face with several combinations counts in equal shares for each of them.
        """
        sizes = [len(known) for known in self.values.values()]
        table = np.zeros(sizes)
        single = self.used[self._many[self.used].max(1) == 1]
        np.add.at(table, tuple(self._numbers[single, :, 0].T), 1)
        for face in np.setdiff1d(self.used, single):
            choices = [self._numbers[face, i, :n] for i, n in enumerate(self._many[face])]
            for combination in product(*choices):
                table[combination] += 1 / prod(map(len, choices))
        return torch.from_numpy(table.reshape(-1)).float()

    def digest(self) -> str:
        """A hash of the values, their order, and the labels of each face."""
        said = hashlib.sha256(json.dumps(self.values).encode())
        said.update(self._numbers.tobytes() + self._many.tobytes())
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


def _carried(text: str | None) -> list[str]:
    values = [one_line(part, 100) for part in str(text or "").split("|") if part.strip()]
    return list(dict.fromkeys(values)) or [UNKNOWN]


def _no_label(faces: FaceSet, name: str, known: Sequence[str]) -> str:
    shown = one_line(faces.path)
    if not known:
        return (
            f"training.condition: {shown} has no labels; give them when it is built: "
            "omokage build SOURCE --labels labels.csv -o faces/"
        )
    near = get_close_matches(name, known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"training.condition: {shown} has no label {name!r}{meant}; there are {', '.join(known)}"


def _check(faces: FaceSet, values: Mapping[str, Sequence[str]]) -> None:
    for name, known in values.items():
        if list(known) == [UNKNOWN]:
            raise UserError(
                f"training.condition: no face in {one_line(faces.path)} has a value of {name}; "
                "do the file names in its labels match?"
            )
        if len(known) > MAX_VALUES:
            raise UserError(
                f"training.condition: {name} has {len(known):,} different values, at most {MAX_VALUES:,} "
                "are possible; give a label with few"
            )
    combinations = prod(len(known) for known in values.values())
    if combinations > MAX_COMBINATIONS:
        raise UserError(
            f"training.condition: {', '.join(values)} have {combinations:,} combinations of values, at most "
            f"{MAX_COMBINATIONS:,} are possible; leave one out"
        )
