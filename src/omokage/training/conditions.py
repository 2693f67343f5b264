"""The labels of a face set as conditions to generate by."""

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

from ..data.faceset import COLUMNS, FaceSet
from ..data.read import one_line
from ..data.sources import natural
from ..errors import UserError

UNKNOWN = "unknown"  # the value of a face that carries none
MAX_VALUES = 1000
MAX_COMBINATIONS = 100_000


class ConditionLabels:
    """Some labels of the faces ``used`` of a set; a face may carry several values of one ("blue|green").

    Args:
        names: columns of the index.
        used: indices of the faces that count; None: all of them.
        values: of each label, where a training has them already; other values are -1 then.

    Attributes:
        values: of each label, in the order of their numbers.

    Raises:
        UserError: no such label (the nearest one is named), or nothing in it that could be a condition.
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
        # Each face's numbers of values, padded (faces, labels, most), and how many they are (faces, labels).
        most = max(len(several) for column in carried.values() for several in column)
        self._numbers = np.full((len(faces), len(names), most), -1)
        self._many = np.ones((len(faces), len(names)), np.int64)
        for axis, name in enumerate(names):
            numbers = {value: i for i, value in enumerate(self.values[name])}
            for face, several in enumerate(carried[name]):
                self._numbers[face, axis, : len(several)] = [numbers.get(value, -1) for value in several]
                self._many[face, axis] = len(several)

    def drawn(self, indices: np.ndarray) -> Tensor:
        """Numbers of the values of faces ``indices``, (B, labels).

        Of several PyTorch's generator draws one, which the loop seeds from the position in training.
        """
        which = (torch.rand(len(indices), len(self.values)).numpy() * self._many[indices]).astype(np.int64)
        return torch.from_numpy(np.take_along_axis(self._numbers[indices], which[..., None], 2)[..., 0])

    def seen(self) -> Tensor:
        """How many of the faces used have each combination of values, (product of their numbers,).

        A face with several values counts in equal shares for each of its combinations.
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
        """Changes if a face carries something else, or the values or their order do."""
        said = hashlib.sha256(json.dumps(self.values).encode())
        said.update(self._numbers.tobytes() + self._many.tobytes())
        return said.hexdigest()

    def sentences(self) -> list[str]:
        """One line a label: its values, how many faces carry each, and how many none or several."""
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
                f"training.condition: no face of {one_line(faces.path)} carries a value of {name}; "
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
