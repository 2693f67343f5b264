"""From one picture to its faces: all steps in their order.

`handle` does them: read, label, detect, crop, clean, scale, encode. For pictures that are faces already
(`AsTheyCome`), detecting and cutting are off and the bytes are kept. An engine calls `handle` in this
process or in others; `finishing` does what needs all faces: copies, shards, index.
"""

import hashlib
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from PIL import Image

from ...errors import UserError
from ..derive.optout import OPTED_OUT, OptOut, read_opt_out
from ..sources.beside import lies_beside
from ..sources.labels import RATINGS, Ambiguous, Labels, is_table, marks_in, merge, read_sidecar
from ..steps.clean import CRITERIA, measure, thresholds, verdict
from ..steps.colours import ColourNames, check_confidence
from ..steps.crop import BORDERS, CLOSE_UPS, PRESETS, CropBox, closer_box, crop_box, cut, visible
from ..steps.detect import Detector, Face, FaceScore, open_detector
from ..steps.read import Picture, Unreadable, cover, read_frames, read_picture, to_png
from ..steps.upscale import Waifu2x, described, to_size, upscaler
from ..store.columns import OF_FACES
from ..store.format import deflate_member, tar_member
from ..text import one_line
from .report import THUMBNAIL

if TYPE_CHECKING:
    from ...hardware import Precision

FORMATS = ("jpg", "png", "webp")
PRECISIONS = ("auto", "bf16", "fp32")
MAX_FACES = 512
BESIDE = "labels of other files"  # reason for tables among pictures that are faces; not in `rejected.csv`
CLOSE_UP = "close-up "  # in `done`, before the size of a crop made by `crop.closer_box`


@dataclass(frozen=True)
class Options:
    """Options of the steps from illustrations to faces. Every step can be switched off.

    size: (height, width) of the faces in pixels; None: as large as they are in the picture.
    frames: N uses every N-th frame of an animation, from the first; None: the first frame only.
    detector: one of `detect.DETECTORS` or the path of an ONNX file; None: every picture is one face.
    rotations: the cascade also looks at rotated pictures. threshold: lowest score; None: the detector's.
    crop: one of `crop.PRESETS`; None: the face box. aspect: width over height; None: that of ``size``.
    enlarge: a further factor for the crop's sides. upright: rotate the crop by the tilt of the head.
    border: one of `crop.BORDERS`; "leave-out" leaves out faces whose crop is not wholly in the picture.
    close_ups: one of `crop.CLOSE_UPS`, for a face whose crop extends too far beyond the picture: it is left
        out (by the threshold of ``visible``, or by ``border``), or cropped by `crop.closer_box`.
    clean: whether thresholds are applied. limits: changed thresholds, like ``sharpness=0.05``.
    duplicates: whether copies are left out. mirrored: mirror images are copies too.
    upscale: one of `upscale.METHODS`; None: smaller crops are left out. noise, model: those of waifu2x.
    label: whether labels are read from files beside pictures, and colours are estimated.
    min_confidence: estimated colours with a lower confidence stay empty, 0 to 1.
    ratings: the ratings to use; pictures without a rating are always used.
    precision: of the face detector's network: "fp32", "bf16", or "auto". A build replaces "auto" by the best
        one for its machine, the same for all its workers.
    format: "jpg" (quality 95, full colour resolution), "png" or "webp" (both lossless).
    background: RGB under transparent pixels.
    opt_out: a list of artists and hashes that must not be used (`optout.read_opt_out`).
    """

    size: tuple[int, int] | None = None
    frames: int | None = None
    detector: str | None = "network"
    rotations: bool = False
    threshold: float | None = None
    crop: str | None = "portrait"
    aspect: float | None = None
    enlarge: float = 1.0
    upright: bool = False
    border: str = "reflect"
    close_ups: str = "leave-out"
    clean: bool = True
    limits: tuple[str, ...] = ()
    duplicates: bool = True
    mirrored: bool = False
    upscale: str | None = "auto"
    noise: int | None = 0
    model: str = "anime"
    label: bool = True
    min_confidence: float = 0.0
    ratings: tuple[str, ...] = ("general",)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    format: str = "jpg"
    background: tuple[int, int, int] = (255, 255, 255)
    opt_out: str | None = None

    def check(self) -> None:
        """Raises `UserError` for an impossible value."""
        for name, value, known in (
            ("--format", self.format, FORMATS),
            ("--precision", self.precision, PRECISIONS),
            ("--border", self.border, BORDERS),
            ("--close-ups", self.close_ups, CLOSE_UPS),
            ("--crop", self.crop, (*PRESETS, None)),
        ):
            if value not in known:
                listed = ", ".join(str(k) for k in known if k)
                raise UserError(f"{name} {one_line(value)!r} is unknown: give one of {listed}")
        if self.frames is not None and self.frames < 1:
            raise UserError(f"--frames {self.frames} is impossible: give 1 or more")
        check_confidence(self.min_confidence)
        if unknown := set(self.ratings) - set(RATINGS):
            raise UserError(
                f"rating {one_line(min(unknown))!r} is unknown: give some of {', '.join(RATINGS)}"
            )
        crop_box(Face(0, 0, 9, 9, 1), (9, 9), self.crop or "tight", aspect=self.ratio, enlarge=self.enlarge)
        thresholds(self.limits)

    @property
    def ratio(self) -> float:
        """Width over height of the crops."""
        if self.aspect is not None:
            return self.aspect
        return 1.0 if self.size is None else self.size[1] / self.size[0]


@dataclass(frozen=True)
class AsTheyCome:
    """Options for pictures that are faces already. Nothing is found or cut, and their bytes are kept.

    size: None keeps the size; a number resizes to size×size pixels by `read.RESIZE_RULE`, stored as PNG.
    drop: which copies are left out, one of `copies.DROPS`.
    estimate: a network names the colours of hair and eyes (`colours.ColourNames`).
    min_confidence: names with a lower confidence stay empty, 0 to 1.
    """

    size: int | None = None
    drop: str = "none"
    estimate: bool = False
    min_confidence: float = 0.0

    # What is off, by the names of `Options`.
    label: ClassVar[bool] = False
    frames: ClassVar[int | None] = None
    background: ClassVar[tuple[int, int, int]] = (255, 255, 255)
    ratings: ClassVar[tuple[str, ...]] = ()


def resolved(options: Options) -> Options:
    """``options`` with each automatic choice replaced by the one for this machine."""
    if options.precision != "auto":
        return options
    import torch

    from ...hardware import best_precision

    return replace(options, precision=best_precision(torch.device("cpu")))


class Tools:
    """The tools for handling pictures: networks, loaded once per process. described: for the manifest."""

    options: "Options | AsTheyCome"
    detector: Detector | None = None
    judge: FaceScore | None = None
    colours: ColourNames | None = None
    enlarge: Waifu2x | None = None
    opt_out: OptOut | None = None
    limits: Mapping[str, float | None]
    described: dict[str, Any]

    def __init__(self, options: "Options | AsTheyCome") -> None:
        import cv2
        import PIL

        if isinstance(options, AsTheyCome):
            self.options, self.limits, self.described = options, {}, {}
            if options.estimate:
                self.colours = ColourNames()
                self.described = {"colours": self.colours.file_hash}
            return
        options.check()
        self.options = options = resolved(options)
        precision: Precision = "bf16" if options.precision == "bf16" else "fp32"
        if options.detector is not None:
            self.detector = open_detector(
                options.detector,
                rotations=options.rotations,
                threshold=options.threshold,
                precision=precision,
            )
        # Faces found by the network have its score already; those of other detectors are scored by it.
        if options.clean and options.detector != "network":
            self.judge = FaceScore(precision=precision)
        self.colours = ColourNames() if options.label else None
        if options.upscale is not None:
            self.enlarge = upscaler(options.upscale, options.noise, options.model)
        self.limits = thresholds(options.limits) if options.clean else {}
        self.opt_out = None if options.opt_out is None else read_opt_out(options.opt_out)
        self.described = {
            "detector": None if self.detector is None else self.detector.described,
            "judge": None if self.judge is None else self.judge.file_hash,
            "colours": None if self.colours is None else self.colours.file_hash,
            "upscale": None if options.upscale is None else described(self.enlarge),
            "thresholds": self.limits,
            "opt_out": None if self.opt_out is None else self.opt_out.described,
            "versions": {"opencv": cv2.__version__, "pillow": PIL.__version__, "numpy": np.__version__},
        }


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
    signature: `duplicates.signatures` of the crop before scaling. thumbnail: JPEG of a face left out.
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
    from ..derive.duplicates import signatures

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


def encode(image: np.ndarray, format: str) -> bytes:
    """RGB uint8 (H, W, 3) as a file of one of `FORMATS`. The same input gives the same bytes."""
    out = io.BytesIO()
    settings: dict[str, dict[str, Any]] = {
        "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
        "png": {"format": "PNG"},
        "webp": {"format": "WEBP", "lossless": True, "quality": 50, "method": 4},
    }
    Image.fromarray(image).save(out, **settings[format])
    return out.getvalue()


def thumbnail_of(pixels: np.ndarray) -> bytes:
    """A small JPEG of an RGB picture, for the report."""
    import cv2

    scale = THUMBNAIL / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    out = io.BytesIO()
    Image.fromarray(small).save(out, "JPEG", quality=80)
    return out.getvalue()


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
