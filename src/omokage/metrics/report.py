"""Protocols: a model and a face set to numbers, a JSON line with all that made them, and a table."""

import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

import omokage
from omokage.data.faceset import FaceSet
from omokage.errors import UserError
from omokage.hardware import device_name, peak_memory_mb
from omokage.metrics.features import EXTRACTORS, Extractor, face_features, load_extractor
from omokage.metrics.fid import Moments, fid
from omokage.metrics.kid import kid
from omokage.metrics.precision_recall import K_DENSITY_COVERAGE, K_PRECISION_RECALL, precision_recall
from omokage.metrics.sharpness import MOST_FACES, Detail, detail, sharpness
from omokage.progress import Progress, opened
from omokage.sampling import Decoder, sample
from omokage.settings import Settings

DEFAULT_PROTOCOL = "fid10k-full-inception2015"
PROTOCOLS = (DEFAULT_PROTOCOL, "fid2k-full-inception2015", "fid10k-full-tags")
_GRAMMAR = re.compile(
    r"fid(?P<count>[1-9]\d*)(?P<thousands>k?)-full-(?P<extractor>[a-z0-9]+)(-psi(?P<psi>\d+(\.\d+)?))?"
)
# The classifier two-sample test holds pictures in memory and learns nothing from more of them.
MOST_TWO_SAMPLE = 5_000


class Drawer(Decoder, Protocol):
    """What evaluation asks of a model; `omokage.snapshot.Model` answers it."""

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the images."""

    @property
    def snapshot_hash(self) -> str:
        """SHA-256 of the file that the model came from."""

    @property
    def images_seen(self) -> int:
        """How many images it was trained on."""


@dataclass(frozen=True)
class Measurement:
    """What a protocol's name says.

    Attributes:
        samples: how many images are generated, from the seeds ``seed`` to ``seed + samples - 1``.
        extractor: a name of `features.EXTRACTORS`; all faces of the set are the reference ("full").
        psi: truncation; 1 means none.
    """

    samples: int
    extractor: str
    psi: float = 1.0

    @property
    def name(self) -> str:
        """The protocol's name; ``psi`` is part of it unless it is 1.

        >>> Measurement(10_000, "inception2015", 0.7).name
        'fid10k-full-inception2015-psi0.7'
        """
        count = f"{self.samples // 1000}k" if self.samples % 1000 == 0 else str(self.samples)
        return f"fid{count}-full-{self.extractor}" + ("" if self.psi == 1 else f"-psi{self.psi:g}")


def parse_protocol(name: str) -> Measurement:
    """What ``fid{N}k-full-{extractor}`` or ``fid{N}-full-{extractor}``, with or without ``-psi{X}``, means.

    >>> parse_protocol("fid2k-full-tags")
    Measurement(samples=2000, extractor='tags', psi=1.0)

    Raises:
        UserError: not of that form, or an unknown extractor; the nearest right name is given.
    """
    match = _GRAMMAR.fullmatch(name)
    if match is None or match["extractor"] not in EXTRACTORS:
        suggestion = max(PROTOCOLS, key=lambda known: _likeness(name, known))
        if match is not None:
            extractor = get_close_matches(match["extractor"], EXTRACTORS, n=1, cutoff=0.0)[0]
            suggestion = name.replace(match["extractor"], extractor)
        raise UserError(
            f"unknown protocol {name!r}: did you mean {suggestion!r}? "
            f"The form is fid10k-full-EXTRACTOR, with {' or '.join(EXTRACTORS)}; or bpd-heldout-8bit"
        )
    samples = int(match["count"]) * (1000 if match["thousands"] else 1)
    if samples < 2:
        raise UserError(
            f"protocol {name!r} asks for {samples} sample: ask for two or more, ten thousand is usual"
        )
    psi = float(match["psi"]) if match["psi"] else 1.0
    return Measurement(samples, match["extractor"], psi)


def _likeness(typed: str, known: str) -> float:
    """How near; a beginning counts as the whole, or the shortest name would be the nearest to all of them."""
    return max(SequenceMatcher(None, typed, whole).ratio() for whole in (known, known[: len(typed)]))


def evaluate(
    model: Drawer,
    faces: FaceSet,
    protocol: str = DEFAULT_PROTOCOL,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    *,
    psi: float = 1.0,
    seed: int = 0,
    also: Sequence[str] = (),
    two_sample: bool = False,
    device: str | torch.device | None = None,
) -> dict[str, Any]:
    """Measure samples of ``model`` against all faces of a set: FID, KID and their kin.

    The faces are brought to the model's resolution (scaled to cover, centre cropped), then both sides go
    through the same extractor. Images that are not finite are counted, left out and reported, never replaced.

    Args:
        protocol: see `parse_protocol`.
        out: a file to append the result to, one line of JSON.
        psi: truncation, unless the protocol's name says it.
        seed: the first of the seeds, which follow one another.
        also: further extractors through which the same samples are measured, under ``"also"`` of the result.
        two_sample: make the classifier two-sample test too, under ``"two_sample"``.
        device: where the extractor runs; None takes the model's.

    Returns:
        The record that is written: the numbers, and everything that produced them.

    Raises:
        UserError: unknown protocol, too few faces, or fewer finite samples than the numbers need.
    """
    started = time.monotonic()
    measurement = parse_protocol(protocol)
    if psi != 1.0:
        if measurement.psi not in (1.0, psi):
            raise UserError(
                f"protocol {protocol!r} says psi {measurement.psi:g}, the option says {psi:g}: drop one"
            )
        measurement = Measurement(measurement.samples, measurement.extractor, psi)
    names = [measurement.extractor, *(name for name in also if name != measurement.extractor)]
    where = torch.device(device) if device is not None else getattr(model, "device", torch.device("cpu"))
    extractors = [load_extractor(name, device=where, progress=progress) for name in names]
    references = [
        face_features(faces, model.resolution, extractor, progress=progress) for extractor in extractors
    ]

    seeds = range(seed, seed + measurement.samples)
    # Whole from the start: small pieces that stay, between large ones that go, would break up the memory.
    vectors = [np.empty((measurement.samples, extractor.dimensions), np.float32) for extractor in extractors]
    kept = np.empty(
        (min(measurement.samples, MOST_TWO_SAMPLE) if two_sample else 0, *model.resolution, 3), np.uint8
    )
    fine = Detail()
    not_finite = done = 0
    with opened(progress, f"{measurement.samples:,} samples", measurement.samples) as task:
        for pixels, finite in sample(model, seeds, Settings(psi=measurement.psi)):
            not_finite += int((~finite).sum())
            fine.add(shown := pixels[finite])
            for extractor, found in zip(extractors, vectors, strict=True):
                found[done : done + len(shown)] = extractor(shown)
            kept[done : done + len(shown)] = shown[: max(len(kept) - done, 0)]
            done += len(shown)
            task.advance(len(pixels), f"{not_finite:,} not finite" if not_finite else "")
    if measurement.samples - not_finite < 2:
        raise UserError(
            f"{not_finite:,} of {measurement.samples:,} samples are not finite: this model is broken"
        )

    numbers = []
    for name, extractor, reference, found in zip(names, extractors, references, vectors, strict=True):
        fake = found[:done]
        moments = Moments(extractor.dimensions)
        moments.add(fake)
        mean, covariance = moments.result()
        distance = kid(reference.features, fake)
        manifold = precision_recall(reference.features, fake, device=where, progress=progress)
        numbers.append(
            {
                "protocol": Measurement(measurement.samples, name, measurement.psi).name,
                "fid": fid(mean, covariance, reference.mean, reference.covariance),
                "kid": distance.value,
                "kid_standard_error": distance.standard_error,
                "kid_subsets": [distance.subsets, distance.subset_size],
                **manifold._asdict(),
                "k": {"precision_recall": K_PRECISION_RECALL, "density_coverage": K_DENSITY_COVERAGE},
                "faces": reference.count,
                "faces_compared_singly": len(reference.features),
                **_about(extractor),
            }
        )
    height, width = model.resolution
    record: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **numbers[0],
        "samples": measurement.samples,
        "samples_not_finite": not_finite,
        "seeds": [seeds.start, seeds.stop - 1],
        "psi": measurement.psi,
        "weights": "averaged",
        "snapshot_hash": model.snapshot_hash,
        "images_seen": model.images_seen,
        "face_set_hash": faces.content_hash,
        "resolution": [height, width],
        "faces_resize_rule": references[0].key["faces_resize_rule"],
    }
    if numbers[1:]:
        record["also"] = numbers[1:]
    if sharp := sharpness(fine, _detail_of_faces(faces, model.resolution)):
        record["sharpness"] = sharp
    if two_sample:
        record["two_sample"] = _two_sample(faces, model.resolution, kept[:done], seed, progress)
    record |= {
        "omokage": omokage.__version__,
        "torch": torch.__version__,
        "device": device_name(where),
        "threads": torch.get_num_threads(),
        "minutes": round((time.monotonic() - started) / 60, 2),
        "peak_memory_mb": peak_memory_mb(where),
    }
    if out is not None:
        append_line(Path(out), record)
    return record


def _detail_of_faces(faces: FaceSet, size: tuple[int, int]) -> Detail:
    count = min(len(faces), MOST_FACES)
    chosen = np.sort(np.random.default_rng(0).choice(len(faces), count, replace=False))
    return detail(faces.pixels(part, size) for part in np.array_split(chosen, -(-count // 256)))


def _about(extractor: Extractor) -> dict[str, str]:
    return {
        "extractor": extractor.name,
        "extractor_file_hash": extractor.file_hash,
        "resize_rule": extractor.resize_rule,
        "extractor_precision": getattr(extractor, "precision", "fp32"),
    }


def _two_sample(
    faces: FaceSet, size: tuple[int, int], fake: np.ndarray, seed: int, progress: Progress | None
) -> dict[str, Any]:
    from omokage.metrics.two_sample import two_sample_accuracy

    # Each picture once: copies of one on both sides of the split would be no test.
    once = list({digest: i for i, digest in enumerate(faces.index["sha256"].to_pylist())}.values())
    count = min(len(once), len(fake), MOST_TWO_SAMPLE)
    chosen = np.sort(np.random.default_rng(seed).choice(once, count, replace=False))
    return two_sample_accuracy(
        faces.pixels(chosen, size), fake[:count], seed=seed, progress=progress
    ).as_dict()


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append ``record`` as one line of JSON, in one write, so that lines of two writers do not mix.

    A last line that was cut off is ended first.

    Raises:
        UserError: the file cannot be written.
    """
    line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.lseek(handle, 0, os.SEEK_END)
            if size:
                os.lseek(handle, size - 1, os.SEEK_SET)
                if os.read(handle, 1) != b"\n":
                    line = "\n" + line
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    except OSError as error:
        raise UserError(f"cannot append the result to {path}: {error.strerror or error}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file that `append_line` wrote; lines that are no record are left out.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read the results in {path}: {error.strerror or error}") from error
    records = []
    for line in text.splitlines():
        with suppress(json.JSONDecodeError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("protocol"), str):
                records.append(record)
    return records


_WAY = ("protocol", "face_set_hash", "resolution", "extractor_precision")
COLUMNS = (
    ("FID", "fid", "{:.2f}"),
    ("KID × 10³", "kid", "{:.2f}"),
    ("precision", "precision", "{:.3f}"),
    ("recall", "recall", "{:.3f}"),
    ("density", "density", "{:.3f}"),
    ("coverage", "coverage", "{:.3f}"),
)
LIKELIHOOD_COLUMNS = (("bits per dimension", "bits_per_dimension", "{:.4f}"), ("faces", "faces", "{:,}"))


def tables(records: Iterable[dict[str, Any]], labels: Sequence[str] | None = None) -> list[Table]:
    """One table for each way of measuring, rows in the order given.

    A way is the protocol, the face set, the resolution and the extractor's precision: only numbers of one
    table can be compared. ``labels`` name the rows; without them, snapshot and images seen do.
    """
    groups: dict[tuple[Any, ...], list[tuple[str, dict[str, Any]]]] = {}
    for i, record in enumerate(records):
        label = labels[i] if labels else _label(record)
        for numbers in (record, *record.get("also", ())):
            whole = {**record, **numbers}
            way = tuple(str(whole.get(name)) for name in _WAY)
            groups.setdefault(way, []).append((label, whole))
    made = []
    for (protocol, face_set, resolution, precision), rows in groups.items():
        about = (
            f"{rows[0][1].get('faces', '?'):,} faces" if isinstance(rows[0][1].get("faces"), int) else "faces"
        )
        size = "×".join(re.findall(r"\d+", resolution))
        how = rows[0][1].get("dequantisation")
        caption = f"{about} ({face_set[:8]}) at {size}, {f'{how} dequantisation' if how else precision}"
        table = Table(
            title=Text(protocol, style="bold"),
            caption=Text(caption),
            title_justify="left",
            caption_justify="left",
        )
        table.add_column("model")
        columns = LIKELIHOOD_COLUMNS if "bits_per_dimension" in rows[0][1] else COLUMNS
        for title, _, _ in columns:
            table.add_column(title, justify="right", no_wrap=True)
        for label, row in rows:
            table.add_row(Text(label), *(Text(_cell(row, key, form)) for _, key, form in columns))
        made.append(table)
    return made


def _label(record: dict[str, Any]) -> str:
    seen = record.get("images_seen")
    images = f", {seen:,} images" if isinstance(seen, int) else ""
    return f"{str(record.get('snapshot_hash', '?'))[:8]}{images}"


def _cell(row: dict[str, Any], key: str, form: str) -> str:
    value = row.get(key)
    if not isinstance(value, int | float):
        return ""
    if key == "kid":
        error = row.get("kid_standard_error")
        return form.format(value * 1e3) + (f" ± {error * 1e3:.2f}" if isinstance(error, int | float) else "")
    if key == "bits_per_dimension" and isinstance(interval := row.get("interval"), list):
        return f"{form.format(value)} ({form.format(interval[0])} to {form.format(interval[1])})"
    return form.format(value)


def print_results(
    records: Iterable[dict[str, Any]], console: Console | None = None, labels: Sequence[str] | None = None
) -> None:
    """Print `tables`, and say so where there is more than one; then what spoils or adds to a number."""
    console = console or Console(highlight=False)
    records = list(records)
    made = tables(records, labels)
    if len(made) > 1:
        console.print(
            Text(f"{len(made)} ways of measuring: numbers of different tables cannot be compared.", "yellow")
        )
    for table in made:
        console.print(table)
    for i, record in enumerate(records):
        label = labels[i] if labels else _label(record)
        if record.get("samples_not_finite"):
            bad, asked = record["samples_not_finite"], record["samples"]
            console.print(
                Text(f"{label}: {bad:,} of {asked:,} samples were not finite and were left out", "red")
            )
        elif "samples_not_finite" in record:
            console.print(Text(f"{label}: all {record['samples']:,} samples were finite", "dim"))
        if record.get("faces_not_finite"):
            bad, asked = record["faces_not_finite"], record["faces"]
            told = f"{label}: of {bad:,} of {asked:,} faces the likelihood was not finite; they were left out"
            console.print(Text(told, "red"))
        if record.get("trained_on_the_other_part") is False:
            told = (
                f"{label}: it is not known whether the model has seen these faces (no train part beside them)"
            )
            console.print(Text(told, "yellow"))
        if record.get("trained_noise"):
            told = (
                f"{label}: trained with normal noise in place of dequantisation, so the bound is a loose one"
            )
            console.print(Text(told, "yellow"))
        if sharp := record.get("sharpness"):
            console.print(
                Text(
                    f"{label}: sharpness {sharp['value']:.2f} (1 is that of real faces; {sharp['protocol']})"
                )
            )
        if two_sample := record.get("two_sample"):
            low, high = two_sample["interval"]
            console.print(
                Text(
                    f"{label}: two-sample test {two_sample['accuracy']:.3f} ({low:.3f} to {high:.3f}; "
                    f"0.5 is chance; {two_sample['protocol']})"
                )
            )
