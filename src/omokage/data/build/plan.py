"""What a build will do: sources, options and labels, checked, and all that determines the face set."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UserError
from ..sources.labels import Labels
from ..sources.names import LABEL, LABELS, YEAR, NameLabels, with_named
from ..sources.source import Found, Source
from ..sources.table import LabelTable
from ..steps.read import RESIZE_RULE
from ..store.columns import COLUMNS, ESTIMATED, EXTRA, FOUND, OF_FACES
from ..store.manifest import read_manifest
from ..text import one_line
from .options import AsTheyCome, Options
from .pipeline import Finding, Handler, Job, found_before
from .tools import Tools

DETECTED = "detected.parquet"


@dataclass(frozen=True, slots=True)
class Named:
    """A picture, the files of labels beside it, its key, and the name of its source."""

    found: Found
    beside: tuple[Found, ...]
    key: str
    source: str


class Plan:
    """The plan of a build.

    options: `Options` for illustrations, `AsTheyCome` for pictures that are faces already.
    labels: a table of labels. by_name: labels from the names of files. detections: another face set of the
        same illustrations whose boxes are used.

    described: everything that determines the face set, as JSON; a part of its manifest.
    handler: handles one picture, in any process.
    columns: names of the columns of the index, in order. kinds: the types of those that are no text.
    others: names of those that come from a table, from the names of files, or from the source itself.

    Raises `UserError` if the options or the labels do not fit together, or a tool is missing.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        options: Options | AsTheyCome,
        labels: str | Path | None = None,
        by_name: NameLabels | None = None,
        detections: str | Path | None = None,
    ) -> None:
        self.sources, self.by_name = sources, by_name
        self.as_faces = isinstance(options, AsTheyCome)
        estimated = set(ESTIMATED) if isinstance(options, AsTheyCome) and options.estimate else set()
        if self.as_faces:
            taken = set(COLUMNS) | (estimated - set(OF_FACES))
            self.table = None if labels is None else LabelTable(labels, taken, verbatim=True)
        else:
            taken = {*COLUMNS, *EXTRA, *FOUND} - set(OF_FACES)
            self.table = None if labels is None else LabelTable(labels, taken)
        in_table = [] if self.table is None else self.table.columns
        self._carried = _carried(sources, in_table) if self.as_faces else {}
        if by_name is not None:
            by_name.refuse_columns(estimated - set(OF_FACES), "a column of estimates")
            known = taken if self.as_faces else taken - set(LABELS)
            such = "" if self.as_faces else "such "
            by_name.refuse_columns(known, f"a column of every {such}face set")
            by_name.refuse_columns(in_table, "a column of --labels")
            by_name.refuse_columns((LABEL,) if self._carried else (), "the label that a source has")
        tools = Tools(options)  # fails early, and describes the models
        self.options = tools.options
        self.handler = Handler(self.options, tools)
        if not self.as_faces:
            self._check_artists(labels, tools)
        named = [] if by_name is None else [n for n in by_name.columns if self.as_faces or n not in LABELS]
        self.others = [*([LABEL] if self._carried else []), *in_table, *named]
        fixed = [*COLUMNS] if self.as_faces else [*COLUMNS, *EXTRA]
        last = [name for name in ESTIMATED if name in estimated]
        self.columns = [*fixed, *(name for name in self.others if name not in {*fixed, *last}), *last]
        years = {YEAR: pa.int16()} if by_name is not None and by_name.how == YEAR else {}
        self.kinds = {**COLUMNS, **ESTIMATED, **({} if self.as_faces else EXTRA), **years}
        self.described = self._described(tools)
        self._before = None if detections is None else _Before(detections, self.described)

    def _check_artists(self, labels: str | Path | None, tools: Tools) -> None:
        named = self.by_name is not None and "artist" in self.by_name.columns
        told = labels is not None or self.options.label or named
        if not told and tools.opt_out is not None and tools.opt_out.names_artists:
            raise UserError(
                "the opt-out list names artists, and --no-label leaves artists unknown: leave --no-label out"
            )

    def _described(self, tools: Tools) -> dict[str, Any]:
        options = self.options
        plan: dict[str, Any] = {}
        if isinstance(options, AsTheyCome):
            rule = None if options.size is None else RESIZE_RULE
            chosen: dict[str, Any] = {"as_faces": True, "size": options.size, "resize_rule": rule}
            if options.estimate:
                chosen |= {"estimate": True, "min_confidence": options.min_confidence}
            if options.drop != "none":
                chosen["drop"] = options.drop
        else:
            chosen = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(options).items()}
            chosen.pop("opt_out")
            for name in ("close_ups", "min_confidence"):  # defaults are not told: older builds can go on
                if chosen[name] == getattr(Options, name):
                    del chosen[name]
            chosen = {"as_faces": False, **chosen}
        plan["options"] = chosen
        if tools.described:
            plan["tools"] = tools.described
        plan["sources"] = [source.described for source in self.sources]
        plan["labels"] = None if self.table is None else self.table.described
        if self.by_name is not None:
            plan["labels_from"] = self.by_name.described
        return json.loads(json.dumps(plan))

    def job(self, named: Named) -> Job:
        """What a picture needs to be handled in any process; its bytes are read here."""
        sidecars = []
        for file in named.beside:
            data = file.read()
            # A file that cannot be read is counted among the unreadable labels.
            sidecars.append((file.name, b"\xff" if isinstance(data, str) else data[: 2**22]))
        name = named.found.name
        row = None if self.table is None else self.table.get(name, named.source)
        said = None if self.by_name is None else self.by_name(named.source, name)
        if self.as_faces:
            carried = self._carried.get((named.source, one_line(name, 1000)))
            own = {} if carried is None else {LABEL: carried}
            other = {**own, **dict(() if row is None else row.other), **(said or {})}
            row = Labels(other=tuple(other.items())) if other else None
        elif said is not None:
            row = with_named(row, said)
        faces = None if self._before is None else self._before.faces(named.source, name)
        return Job(named.key, named.source, name, named.found.read(), tuple(sidecars), row, faces)


def _carried(sources: Sequence[Source], in_table: Sequence[str]) -> dict[tuple[str, str], str]:
    """Labels that sources have themselves, by the names of source and item."""
    knowing = [source for source in sources if source.labels]
    names = [source.name for source in sources]
    for source in knowing:
        if names.count(source.name) > 1:
            raise UserError(f"two sources are called {source.name}, but labels are found by name: rename one")
        if LABEL in in_table:
            raise UserError(f"{source.name} has labels of its own: give the column {LABEL!r} another name")
    return {
        (source.name, one_line(item, 1000)): label
        for source in knowing
        for item, label in source.labels.items()
    }


class _Before:
    """The faces that another build of the same sources detected, from its `detected.parquet`."""

    def __init__(self, folder: str | Path, plan: Mapping[str, Any]) -> None:
        folder = Path(folder).expanduser()
        shown = one_line(folder)
        manifest = read_manifest(folder, shown)
        same = [s.get("fingerprint") for s in manifest.get("sources", [])] == [
            s["fingerprint"] for s in plan["sources"]
        ]
        if (manifest.get("options") or {}).get("as_faces"):
            raise UserError(
                f"--detections {shown}: it was built with --as-faces, so nothing was detected; leave it out"
            )
        tools, own = manifest.get("tools") or {}, plan["tools"]
        if not same or tools.get("detector") != own["detector"] or tools.get("judge") != own["judge"]:
            raise UserError(
                f"--detections {shown}: built from other sources or by another detector; leave it out"
            )
        try:
            table = pq.read_table(folder / DETECTED, columns=list(FOUND))
        except Exception as error:
            raise UserError(
                f"--detections {shown}: {DETECTED} cannot be read: {one_line(error, 80)}"
            ) from None
        self._faces: dict[tuple[str, str], list[Finding]] = {}
        for row in table.to_pylist():
            self._faces.setdefault((row["source"], row["file"]), []).append(found_before(row))

    def faces(self, source: str, file: str) -> tuple[Finding, ...]:
        return tuple(self._faces.get((source, one_line(file, 1000)), ()))
