"""Options of a build: of the steps from illustrations to faces, and for pictures that are faces already."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from ...errors import UserError
from ..sources.ratings import RATINGS
from ..steps.clean import thresholds
from ..steps.colours import check_confidence
from ..steps.crop import BORDERS, CLOSE_UPS, PRESETS, crop_box
from ..steps.face import Face
from ..text import one_line

FORMATS = ("jpg", "png", "webp")
PRECISIONS = ("auto", "bf16", "fp32")


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
    opt_out: a list of artists and hashes that must not be used (`optout.read_opt_out`).
    """

    size: int | None = None
    drop: str = "none"
    estimate: bool = False
    min_confidence: float = 0.0
    opt_out: str | None = None

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
