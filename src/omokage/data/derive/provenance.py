"""A summary of where the faces of a set came from; a run keeps it for its model card."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..store.faceset import FaceSet
from ..store.format import write_file
from ..text import one_line
from .optout import OPTED_OUT

FACES = "faces.json"
"""File in a run folder that describes its training data."""

NAMED = 500
"""Number of licences and artists that are named, the most frequent first; the rest is counted."""


def provenance(faces: FaceSet) -> dict[str, Any]:
    """Sources, licences, artists, ratings and opt-outs from the manifest and the index, as JSON.

    ``licenses``, ``artists`` and ``ratings`` have ``named`` (number of faces by name), ``others`` (number of
    names beyond `NAMED`) and ``unknown`` (number of faces). They are missing if the index has no such column.
    A face by several artists counts for each.
    """
    manifest = faces.manifest
    options, tools = manifest.get("options") or {}, manifest.get("tools") or {}
    counts = manifest.get("counts") or {}
    reasons = (counts.get("pictures") or counts).get("reasons") or {}
    told: dict[str, Any] = {
        "content_hash": faces.content_hash,
        "faces": len(faces),
        "omokage": manifest.get("omokage"),
        "sources": [
            {key: one_line(source[key]) for key in ("name", "kind", "fingerprint") if key in source}
            for source in manifest.get("sources") or ()
        ],
        "rating_filter": options.get("ratings"),
        "opt_out": tools.get("opt_out") or (manifest.get("derived") or {}).get("opt_out"),
        "opted_out": reasons.get(OPTED_OUT, 0),
    }
    for name, column in (("licenses", "license"), ("artists", "artist"), ("ratings", "rating")):
        if column in faces.index.column_names:
            told[name] = _counted(faces.index[column].to_pylist())
    return told


def write_provenance(faces: FaceSet, run: Path) -> None:
    """Write `provenance` into a run folder."""
    told = json.dumps(provenance(faces), indent=1, ensure_ascii=False)
    write_file(run / FACES, told.encode("utf-8") + b"\n")


def _counted(values: list[str | None]) -> dict[str, Any]:
    names = Counter(one_line(part) for value in values if value for part in str(value).split("|"))
    common = sorted(names.items(), key=lambda item: (-item[1], item[0]))[:NAMED]
    return {
        "named": dict(common),
        "others": len(names) - len(common),
        "unknown": sum(not value for value in values),
    }
