"""From one picture to its faces: all steps in their order.

`handle` does them: read, label, detect, crop, clean, scale, encode. For pictures that are faces already
(`AsTheyCome`), detecting and cutting are off and the bytes are kept. An engine calls `handle` in this
process or in others; `finishing` does what needs all faces: copies, shards, index.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import UserError
from ..derive.optout import OPTED_OUT, OptOut
from ..sources.beside import lies_beside
from ..sources.labels import Labels, merge
from ..sources.sidecar import Ambiguous, marks_in, read_sidecar
from ..sources.table import is_table
from ..steps.clean import CRITERIA, measure, verdict
from ..steps.colours import ColourNames
from ..steps.crop import CropBox, closer_box, crop_box, cut, visible
from ..steps.encode import encode, thumbnail_of
from ..steps.face import Face
from ..steps.read import Picture, Unreadable, cover, read_frames, read_picture, to_png
from ..steps.upscale import to_size
from ..store.columns import OF_FACES
from ..store.format import deflate_member, tar_member
from ..text import one_line
from .options import AsTheyCome, Options
from .tools import Tools

MAX_FACES = 512
BESIDE = "labels of other files"  # reason for tables among pictures that are faces; not in `rejected.csv`
CLOSE_UP = "close-up "  # in `done`, before the size of a crop made by `crop.closer_box`


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to handle.

    data: its bytes, or the reason why they cannot be read. sidecars: (name, bytes) of files beside it.
    table: its row in a table of labels. found: faces that another build detected in it; None: detect.
    """

    key: str
    source: str
    file: str
    data: bytes | str
    sidecars: tuple[tuple[str, bytes], ...] = ()
    table: Labels | None = None
    found: "tuple[Finding, ...] | None" = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A face, the network's score for it, and its frame in an animation (`Picture.frame`)."""

    face: Face
    score: float | None = None
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one face: its row in `detected.parquet`, and its picture if it was kept.

    row: columns by name; ``reason`` is None for a kept face. member: deflated tar member.
    signature: `signatures.signatures` of the crop before scaling. thumbnail: JPEG of a face left out.
    """

    row: dict[str, Any]
    member: bytes = b""
    signature: bytes = b""
    thumbnail: bytes = b""


@dataclass(frozen=True, slots=True)
class Handled:
    """The result for one picture: rejected as a whole (``reason``, ``step``), or its faces.

    opted_out: the numbers of the entries of the opt-out list that match it.
    """

    source: str
    file: str
    step: str = ""
    reason: str = ""
    faces: tuple[Outcome, ...] = ()
    thumbnail: bytes = b""
    bad_labels: str = ""
    width: int = 0
    height: int = 0
    opted_out: tuple[int, ...] = ()


@dataclass
class _Known:
    labels: Labels = field(default_factory=Labels)
    bad: str = ""


def handle(job: Job, tools: Tools) -> Handled:
    """All steps for one picture. Faults of the picture become reasons; they never raise an error."""
    name = one_line(job.file, 1000)
    known = _labels(job, tools)
    thumbnail, size = b"", (0, 0)
    try:
        if isinstance(job.data, str):
            raise Unreadable(job.data)
        # Checked before the rating, so that the list's record counts all pictures that it matches.
        met = () if tools.opt_out is None else tools.opt_out.of_picture(job.data, known.labels, job.file)
        if met:
            return Handled(job.source, name, "label", OPTED_OUT, bad_labels=known.bad, opted_out=met)
        rating = known.labels.rating
        if rating is not None and rating not in tools.options.ratings:
            return Handled(job.source, name, "label", f"rating: {rating}", bad_labels=known.bad)
        if isinstance(tools.options, AsTheyCome):
            outcome = _as_it_came(job, read_picture(job.data), known, tools)
            outcome.row.update(source=job.source, file=name)
            return Handled(job.source, name, faces=(outcome,))
        outcomes: list[Outcome] = []
        for picture in _pictures(job.data, tools.options):
            pixels = np.ascontiguousarray(np.asarray(picture.image))
            if not thumbnail:
                size = pixels.shape[1], pixels.shape[0]
                thumbnail = thumbnail_of(pixels)
            outcomes += _of_one(job, picture, pixels, known, tools)
        if not outcomes:
            return Handled(job.source, name, "detect", "no face found", (), thumbnail, known.bad, *size)
        digest = hashlib.sha256(job.data).hexdigest()
        md5 = hashlib.md5(job.data, usedforsecurity=False).hexdigest()  # boards name pictures by it
    except Unreadable as reason:
        if isinstance(tools.options, AsTheyCome) and isinstance(job.data, bytes) and is_table(name, job.data):
            return Handled(job.source, name, "read", BESIDE)
        return Handled(job.source, name, "read", one_line(reason), bad_labels=known.bad)
    except MemoryError:
        return Handled(job.source, name, "read", "needs too much memory", bad_labels=known.bad)
    for outcome in outcomes:
        outcome.row.update(source=job.source, file=name, picture_sha256=digest, picture_md5=md5)
    return Handled(job.source, name, "", "", tuple(outcomes), thumbnail, known.bad, *size)


def _pictures(data: bytes, options: Options | AsTheyCome) -> Iterator[Picture]:
    if options.frames is None:
        yield read_picture(data, background=options.background)
    else:
        yield from read_frames(data, options.frames, background=options.background)


def _as_it_came(job: Job, picture: Picture, known: _Known, tools: Tools) -> Outcome:
    """A picture that is a face: its bytes are kept, unless it is resized or no file of `FORMATS`."""
    options = tools.options
    assert isinstance(options, AsTheyCome)
    assert isinstance(job.data, bytes)
    data, image, extension, done = job.data, picture.image, picture.extension, list(picture.done)
    row: dict[str, Any] = {"key": job.key, "step": None, "reason": None, "other": dict(known.labels.other)}
    if tools.colours is not None:
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB")))
        row |= _colours_of(pixels, None, Labels(), tools.colours, options.min_confidence)
    if options.size is not None and image.size != (options.size, options.size):
        done.append(f"{image.width}×{image.height} to {options.size}×{options.size}")
        image, extension = cover(image, (options.size, options.size)), None
    if extension is None:
        data, extension = to_png(image), "png"
    return _stored(row, data, extension, image.size, done)


def _stored(
    row: dict[str, Any], data: bytes, extension: str, size: tuple[int, int], done: Sequence[str]
) -> Outcome:
    """A face that is kept, ready for a shard. size: width and height. done: what was done to the picture."""
    row.update(
        done="; ".join(note for note in done if note),
        width=size[0],
        height=size[1],
        format=extension,
        sha256=hashlib.sha256(data).digest(),
        bytes=len(data),
    )
    return Outcome(row, deflate_member(tar_member(f"{row['key']}.{extension}", data)))


def _of_one(job: Job, picture: Picture, pixels: np.ndarray, known: _Known, tools: Tools) -> list[Outcome]:
    """The faces of one picture, or of one frame."""
    found = _faces(job, picture.frame, pixels, tools)
    key = job.key if picture.frame is None else f"{job.key}@{picture.frame}"
    return [
        _face(pixels, one, f"{key}+{n}" if len(found) > 1 else key, n, picture.done, known, tools)
        for n, one in enumerate(found, 1)
    ]


def _labels(job: Job, tools: Tools) -> _Known:
    known = _Known(job.table or Labels())
    if tools.options.label:
        for name, data in job.sidecars:
            try:
                picture = job.file if lies_beside(name, job.file) else None
                known.labels = merge(known.labels, read_sidecar(name, data, picture))
            except ValueError as reason:
                known.bad = f"{one_line(name, 200)}: {one_line(reason)}"
                told = reason.labels if isinstance(reason, Ambiguous) else marks_in(data)
                known.labels = merge(known.labels, told)
    return known


def _faces(job: Job, frame: int | None, pixels: np.ndarray, tools: Tools) -> list[Finding]:
    """The faces of a picture, highest score first, each with the network's score."""
    if job.found is not None:
        return [one for one in job.found if one.frame == frame]
    height, width = pixels.shape[:2]
    if tools.detector is None:
        faces = [Face(0.0, 0.0, float(width), float(height), 1.0)]
    else:
        faces = tools.detector(pixels)[:MAX_FACES]
    if isinstance(tools.options, Options) and tools.options.detector == "network":
        return [Finding(face, face.score, frame) for face in faces]
    judge = tools.judge
    return [Finding(face, None if judge is None else judge(pixels, face), frame) for face in faces]


def _face(
    pixels: np.ndarray,
    finding: Finding,
    key: str,
    number: int,
    done: tuple[str, ...],
    known: _Known,
    tools: Tools,
) -> Outcome:
    options, face = tools.options, finding.face
    assert isinstance(options, Options)
    shape = pixels.shape[:2]
    closer = False
    if options.crop is None or options.detector is None:
        size = max(1, round(face.width)), max(1, round(face.height))
        box = CropBox(face.x + face.width / 2, face.y + face.height / 2, *size)
    else:
        chosen = {"aspect": options.ratio, "upright": options.upright, "enlarge": options.enlarge}
        box = crop_box(face, shape, options.crop, **chosen)  # type: ignore[arg-type]
        least = 0.999 if options.border == "leave-out" else tools.limits.get("visible")
        if options.close_ups == "tight" and least is not None and visible(box, shape) < least:
            found = closer_box(face, shape, least, **chosen)  # type: ignore[arg-type]
            box, closer = (box, False) if found is None else (found, True)
    inside = visible(box, shape)
    row: dict[str, Any] = {
        "key": key,
        "frame": finding.frame,
        "face": number,
        "face_x": face.x,
        "face_y": face.y,
        "face_width": face.width,
        "face_height": face.height,
        "score": face.score,
        "tilt": face.tilt,
        "crop_x": box.x,
        "crop_y": box.y,
        "crop_width": box.width,
        "crop_height": box.height,
        "crop_angle": box.angle,
        **dict.fromkeys(CRITERIA),
        "step": None,
        "reason": None,
    }
    row["face_score"] = finding.score
    crop = cut(pixels, box, options.border)
    if options.clean:
        row.update(measure(crop, face, inside, finding.score))
    reason, step = verdict(row, tools.limits), "clean"
    if options.border == "leave-out" and inside < 0.999:
        reason, step = reason or "crop not wholly in the picture", "clean" if reason else "crop"
    target = options.size
    if (
        reason is None
        and target
        and options.upscale is None
        and (box.height < target[0] or box.width < target[1])
    ):
        reason, step = f"smaller than wanted: {box.width}×{box.height}", "upscale"
    if reason is not None:
        row.update(step=step, reason=reason)
        return Outcome(row, thumbnail=thumbnail_of(crop))
    row.update(_label_columns(pixels, face, known, tools))
    image, scaled = crop, ""
    if target is not None:
        image, scaled = to_size(crop, target, tools.enlarge)
    notes = [*done, _cut_note(box, inside, options, closer), scaled]
    size = image.shape[1], image.shape[0]
    stored = _stored(row, encode(image, options.format), options.format, size, notes)
    if not options.duplicates:
        return stored
    from ..derive.signatures import signatures

    return replace(stored, signature=signatures([crop]).tobytes())


def _cut_note(box: CropBox, inside: float, options: Options, closer: bool) -> str:
    if options.detector is None:
        return ""
    note = f"{CLOSE_UP if closer else ''}cut out {box.width}×{box.height}"
    if box.angle:
        note += f", turned by {-box.angle:.0f}°"
    return note + (f", {options.border} at the border" if inside < 0.999 else "")


def _label_columns(pixels: np.ndarray, face: Face, known: _Known, tools: Tools) -> dict[str, Any]:
    labels = known.labels
    row: dict[str, Any] = {
        "tags": "|".join(labels.tags) or None,
        "rating": labels.rating,
        "artist": labels.artist,
        "license": labels.license,
        "url": labels.url,
        "other": dict(labels.other),
    }
    if tools.colours is not None:
        found = face if tools.detector is not None else None
        row |= _colours_of(pixels, found, labels, tools.colours, tools.options.min_confidence)
    return row


def _colours_of(
    pixels: np.ndarray, face: Face | None, labels: Labels, network: ColourNames, least: float
) -> dict[str, Any]:
    """Colours of hair and eyes: from tags, else by the network if it is as sure as ``least``."""
    row: dict[str, Any] = {}
    for of, estimate in zip(OF_FACES, network.estimates(pixels, face), strict=True):
        tagged = labels.colour(of)
        if tagged is not None:
            row[of], row[f"{of}_from"] = tagged, "tags"
            continue
        row[f"{of}_confidence"] = estimate.confidence
        if estimate.confidence >= least:
            row[of], row[f"{of}_from"] = estimate.name, "network"
    return row


class Handler:
    """`handle` with its tools, for any process. Only the options are sent; each process makes its own tools.

    tools: those of this process. The tools of another process must have the same `Tools.described`; if not,
    `UserError` is raised, because the face set would depend on which process did the work.
    """

    def __init__(self, options: Options | AsTheyCome, tools: Tools) -> None:
        self.options, self._tools, self._described = options, tools, tools.described

    @property
    def opt_out(self) -> OptOut | None:
        return self._tools.opt_out

    def __call__(self, job: Job) -> Handled:
        return handle(job, self._tools)

    def __reduce__(self) -> tuple[Any, ...]:
        return _handler_elsewhere, (self.options, self._described)


@lru_cache(maxsize=1)
def _tools(options: Options | AsTheyCome) -> Tools:
    tools = Tools(options)
    if "torch" in sys.modules:  # importing it only for this would take longer than it saves
        from ...hardware import keep_freed_memory

        keep_freed_memory()
    return tools


def _handler_elsewhere(options: Options | AsTheyCome, expected: dict[str, Any]) -> Handler:
    tools = _tools(options)
    if differing := sorted(name for name in expected if tools.described[name] != expected[name]):
        name = differing[0]
        raise UserError(
            f"a worker has other tools ({name}: {one_line(tools.described[name], 80)}, not "
            f"{one_line(expected[name], 80)}): install the same versions and files on every machine"
        )
    return Handler(options, tools)


def lost(job: Job) -> Handled:
    """The result for a picture that ended the process handling it."""
    return Handled(job.source, one_line(job.file, 1000), "read", "ended the process that handled it")


def found_before(row: Mapping[str, Any]) -> Finding:
    """The finding in a row of another build's `detected.parquet`."""
    box = (row["face_x"], row["face_y"], row["face_width"], row["face_height"])
    return Finding(Face(*box, row["score"], row["tilt"]), row["face_score"], row["frame"])
