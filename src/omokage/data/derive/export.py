"""Exports a face set as a folder of pictures, as Parquet files, or for Hugging Face `datasets`.

The pictures keep their bytes. The work is done in a hidden folder beside the result until it is complete; the
same command goes on where an interrupted one stopped.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ... import __version__
from ...errors import UserError
from ...files import replacing
from ...progress import Progress, Task, opened
from ..sources.keys import stem
from ..store.columns import as_text, label_columns
from ..store.faceset import FaceSet
from ..store.format import json_bytes, write_file
from ..store.unfinished import check_room, target, working_folder
from ..text import one_line
from .choose import nearest, nothing_left, where
from .optout import OPTED_OUT, read_opt_out

LAYOUTS = {
    "folder": "pictures/ and labels.csv, which `omokage build --labels` reads again",
    "parquet": "Parquet files with the pictures in a column of bytes, and the labels",
    "imagefolder": "pictures and metadata.jsonl, for `datasets.load_dataset`",
    "datasets": "Parquet files whose column `image` `datasets.load_dataset` decodes",
}
NOTE = "export.json"
_SHARD_BYTES = 256 * 2**20
_GROUP_ROWS = 1000
_PRIVATE = ("shard", "offset", "length")
_EXTENSIONS = ("jpg", "png", "webp")


@dataclass(frozen=True)
class ExportReport:
    """What an export did: ``kept + opted_out + unmet == found``.

    already: whether the export was finished before, so that nothing was done.
    opt_out: what the list matched (`optout.OptOut.summary`); None without a list.
    unknown: suggestions for conditions whose value no face has (`choose.nearest`); "" if there are none.
    """

    path: Path
    found: int
    kept: int
    opted_out: int
    unmet: int
    already: bool = False
    opt_out: dict[str, Any] | None = None
    unknown: str = ""


def export(
    faces: FaceSet | str | Path,
    out: str | Path,
    *,
    layout: str = "folder",
    conditions: Sequence[str] = (),
    opt_out: str | Path | None = None,
    name: str = "train",
    progress: Progress | None = None,
) -> ExportReport:
    """Write the pictures of a face set into the new folder ``out``.

    layout: one of `LAYOUTS`.
    conditions: export only rows that meet them (`choose.where`).
    opt_out: a list of hashes and artists to leave out (`optout.read_opt_out`).
    name: name of the split, for the layouts "imagefolder" and "datasets".

    Raises `UserError` for an unknown layout or column, a damaged face set, a full disk, or if no face would
    be left.
    """
    if layout not in LAYOUTS:
        raise UserError(f"the layout {one_line(layout)!r} is unknown: give {', '.join(LAYOUTS)}")
    if not (name.isidentifier() and name.isascii()):
        raise UserError(f"the split's name {one_line(name)!r} is impossible: give letters, digits and _")
    faces = faces if isinstance(faces, FaceSet) else FaceSet.open(faces)
    unwanted = read_opt_out(opt_out) if opt_out is not None else None
    unknown = nearest(faces.index, conditions)
    out = target(out)
    plan = {
        "by": "export",
        "of": faces.content_hash,
        "layout": layout,
        "where": list(conditions),
        "opt_out": unwanted.described if unwanted else None,
        "name": name,
    }
    with working_folder(out, plan, lambda folder: _complete(folder, plan)) as partial:
        if partial is not None:
            met = where(faces.index, conditions)
            theirs, summary = np.zeros(len(faces), bool), None
            if unwanted is not None:
                theirs, numbers_met = unwanted.of_rows(faces.index, faces.image_bytes)
                summary = unwanted.summary(numbers_met)
            rows = np.nonzero(met & ~theirs)[0]
            counts = {
                "found": len(faces),
                "kept": len(rows),
                OPTED_OUT: int(theirs.sum()),
                "unmet": int((~met & ~theirs).sum()),
            }
            if not len(rows):
                raise UserError(nothing_left(unknown))
            check_room(out, int(faces.index["bytes"].to_numpy()[rows].sum(dtype=np.int64)))
            write: Callable[[Path, FaceSet, np.ndarray, str, Task], None]
            write = _files if layout in ("folder", "imagefolder") else _parquets
            with opened(progress, "exporting faces", len(rows)) as task:
                write(partial, faces, rows, name if layout in ("imagefolder", "datasets") else "", task)
            note = {"omokage": __version__, **plan, "counts": counts, "met": summary}
            write_file(partial / NOTE, json_bytes(note))
    note = json.loads((out / NOTE).read_bytes())
    counts = note["counts"]
    numbers = (counts["found"], counts["kept"], counts[OPTED_OUT], counts["unmet"])
    return ExportReport(out, *numbers, already=partial is None, opt_out=note.get("met"), unknown=unknown)


def _complete(folder: Path, plan: dict[str, Any]) -> bool:
    try:
        note = json.loads((folder / NOTE).read_bytes())
        found = {key: note[key] for key in plan}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if found != json.loads(json.dumps(plan)):
        raise UserError(
            f"{one_line(folder)} is an export already, of another face set or with other options: "
            "give another folder with -o, or delete that one first"
        )
    return True


def _files(folder: Path, faces: FaceSet, rows: np.ndarray, split: str, task: Task) -> None:
    """Write pictures into a subfolder, and their table.

    The table is labels.csv beside the subfolder; for a split it is metadata.jsonl inside.
    """
    names = file_names(faces, rows)
    into = folder / (split or "pictures")
    for row, name in zip(rows, names, strict=True):
        path = into / name
        if not path.exists():  # a file that exists is complete
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, locked=True) as unfinished:
                unfinished.write_bytes(faces.image_bytes(int(row)))
        task.advance()
    index = _public(faces.index.take(rows))
    if split:
        records = index.select(_metadata(index)).to_pylist()
        lines = [
            json.dumps({"file_name": name, **record}, ensure_ascii=False)
            for name, record in zip(names, records, strict=True)
        ]
        write_file(into / "metadata.jsonl", ("\n".join(lines) + "\n").encode())
        return
    columns = label_columns(faces.index)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", *columns))
    writer.writerows(zip(names, *(as_text(index[column]).to_pylist() for column in columns), strict=True))
    write_file(folder / "labels.csv", text.getvalue().encode())


def file_names(faces: FaceSet, rows: np.ndarray) -> list[str]:
    """A safe file name for each row, made from its key. Keys come from a file and are not trusted."""
    index = faces.index.take(rows)
    taken: dict[str, int] = {}
    names = []
    for key, kind in zip(index["key"].to_pylist(), index["format"].to_pylist(), strict=True):
        if kind not in _EXTENSIONS:
            raise UserError(f"{one_line(faces.path)} is damaged: the format {one_line(kind)!r} is unknown")
        base = name = stem(f"{key}.{kind}")
        while name.casefold() in taken:
            taken[base.casefold()] += 1
            name = f"{base}-{taken[base.casefold()]}"
        taken[name.casefold()] = 1
        names.append(f"{name}.{kind}")
    return names


def _public(index: pa.Table) -> pa.Table:
    """``index`` without the columns of storage places; hashes as hex digits."""
    out = index.drop_columns([name for name in _PRIVATE if name in index.column_names])
    for i, field in enumerate(out.schema):
        if pa.types.is_binary(field.type) or pa.types.is_fixed_size_binary(field.type):
            out = out.set_column(i, field.name, as_text(out[field.name]))
    return out


def _metadata(index: pa.Table) -> list[str]:
    # `datasets` gives `file_name` and `image` a meaning of their own.
    return [name for name in index.column_names if name not in ("file_name", "image")]


def _parquets(folder: Path, faces: FaceSet, rows: np.ndarray, split: str, task: Task) -> None:
    """Write Parquet files with about 256 MB of pictures each; with a split, in the layout of `datasets`."""
    sizes = faces.index["bytes"].to_numpy()[rows].astype(np.int64)
    cuts = np.searchsorted(np.cumsum(sizes), np.arange(_SHARD_BYTES, sizes.sum(), _SHARD_BYTES)) + 1
    parts = [part for part in np.split(rows, np.unique(cuts)) if len(part)]
    into = folder / "data" if split else folder
    into.mkdir(exist_ok=True)
    names = file_names(faces, rows)
    start = 0
    for number, part in enumerate(parts):
        path = into / f"{split or 'faces'}-{number:05d}-of-{len(parts):05d}.parquet"
        if not path.exists():
            schema = _schema(faces, bool(split))
            with (
                replacing(path, locked=True) as unfinished,
                pq.ParquetWriter(unfinished, schema, compression="zstd") as writer,
            ):
                for at in range(0, len(part), _GROUP_ROWS):
                    some = part[at : at + _GROUP_ROWS]
                    table = _table(faces, some, names[start + at : start + at + len(some)], bool(split))
                    writer.write_table(table.cast(schema))
                    task.advance(len(some))
        else:
            task.advance(len(part))
        start += len(part)


def _table(faces: FaceSet, rows: np.ndarray, names: Sequence[str], as_datasets: bool) -> pa.Table:
    data = [faces.image_bytes(int(row)) for row in rows]
    index = _public(faces.index.take(rows))
    if as_datasets:
        struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        pairs = [{"bytes": picture, "path": name} for picture, name in zip(data, names, strict=True)]
        images = pa.array(pairs, struct)
    else:
        images = pa.array(data, pa.binary())
    index = index.select(_metadata(index))
    return index.add_column(0, "image", images)


def _schema(faces: FaceSet, as_datasets: bool) -> pa.Schema:
    schema = _table(faces, np.arange(0), [], as_datasets).schema
    if not as_datasets:
        return schema.with_metadata({"omokage": __version__})
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    for field in list(schema)[1:]:
        kind = {pa.float64(): "float64", pa.float32(): "float32", pa.bool_(): "bool"}.get(field.type)
        features[field.name] = {"dtype": kind or str(field.type), "_type": "Value"}
    # The metadata that `datasets` writes: with it, the column is decoded as pictures automatically.
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
