"""Faces of the user's own pictures, found, turned upright and cropped as a model's faces are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omokage.data.steps.crop import CROPS, CropBox, crop_box, cut, visible
from omokage.data.steps.detect import Detector, open_detector
from omokage.data.steps.face import Face
from omokage.data.steps.read import Unreadable, cover, read_file, read_picture
from omokage.data.text import one_line
from omokage.errors import UserError

Framing = tuple[float, float]  # as an entry of `omokage.data.steps.crop.CROPS`
FRAMINGS = ("model", *CROPS)
LEAST_TILT = 8.0  # degrees; less is within the detector's error, and training faces lean a little too
ALREADY = 0.7  # a picture that overlaps its own crop by this much (IoU) is a face already
# Where eyes are in the box of a face, from its upper left corner: left, top, right, bottom, in its sides.
EYES = 0.05, 0.32, 0.95, 0.72
MOSTLY = 0.8  # if less of a crop is inside the picture, this is said
DETECTED_AT = 160  # small faces are enlarged to this before the detector looks at them


@dataclass(frozen=True)
class Aligned:
    """A face cut out of a picture.

    Attributes:
        pixels: uint8 (height, width, 3).
        how: what was done, in a few words.
        box: where it was in the picture; None: the whole picture.
    """

    pixels: np.ndarray
    how: str
    box: CropBox | None = None


def detected(picture: np.ndarray, detector: Detector) -> list[Face]:
    """Faces of a picture, uint8 (H, W, 3), largest first; small pictures are enlarged for the detector."""
    import cv2

    height, width = picture.shape[:2]
    factor = max(1.0, DETECTED_AT / max(height, width))
    if factor > 1:
        size = (round(width * factor), round(height * factor))
        picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_CUBIC)
    found = [
        Face(f.x / factor, f.y / factor, f.width / factor, f.height / factor, f.score, f.tilt)
        for f in detector(picture)
    ]
    return sorted(found, key=lambda face: -face.side)


def framing(faces: np.ndarray, detector: Detector) -> Framing | None:
    """How faces, uint8 (N, H, W, 3), lie in their pictures: a crop that cuts other pictures in the same way.

    None if the detector finds a face in fewer than half of them.
    """
    height, width = faces.shape[1:3]
    found = [near[0] for near in (detected(face, detector) for face in faces) if near]
    if 2 * len(found) < len(faces) or not found:
        return None
    side = float(np.median([face.side for face in found]))
    down = float(np.median([face.centre[1] for face in found]))
    return (height * width) ** 0.5 / side, down / height


def eyes_of(pictures: np.ndarray, detector: Detector) -> np.ndarray:
    """Where the eyes of faces are: float32 (N, H, W), 1 in a band over both eyes, 0 elsewhere, soft edges.

    ``pictures``: uint8 (N, H, W, 3). A picture in which the detector finds no face has no band.

    >>> eyes_of(np.zeros((1, 4, 4, 3), np.uint8), lambda picture: []).max()
    np.float32(0.0)
    """
    import cv2

    found = np.zeros(pictures.shape[:3], np.float32)
    for picture, band in zip(pictures, found, strict=True):
        for face in detected(picture, detector)[:1]:
            left, right = (round(face.x + share * face.width) for share in EYES[::2])
            top, bottom = (round(face.y + share * face.height) for share in EYES[1::2])
            band[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 1
            band[:] = cv2.GaussianBlur(band, (0, 0), max(0.3, face.side / 40))
    return found


def aligned(
    picture: np.ndarray,
    size: tuple[int, int],
    frame: Framing,
    detector: Detector,
) -> Aligned | None:
    """The largest face of a picture uint8 (H, W, 3), upright, at ``size`` (height, width); None: no face."""
    faces = detected(picture, detector)
    if not faces:
        return None
    face, there = faces[0], picture.shape[:2]
    turned = face.tilt is not None and abs(face.tilt) >= LEAST_TILT
    aspect = size[1] / size[0]
    box = crop_box(face, there, frame, aspect=aspect, upright=turned)
    others = f", the largest of {len(faces)}" if len(faces) > 1 else ""
    if not turned and _overlap(box, there) >= ALREADY:
        return Aligned(_resized(picture, size), f"taken whole: the face fills the picture{others}")
    pixels = _resized(cut(picture, box, "reflect"), size)
    said = f"face of {round(face.side)} px{others}, cropped to {box.width}x{box.height}"
    if turned:
        said += f", turned by {-(face.tilt or 0.0):.0f}°"
    if (inside := visible(box, there)) < MOSTLY:
        said += f", {1 - inside:.0%} of the crop is beyond the picture and mirrored"
    if min(box.width, box.height) < min(size) // 2:
        said += "; it is small, so fine detail is missing"
    return Aligned(pixels, said, box)


def _overlap(box: CropBox, picture: tuple[int, ...]) -> float:
    """Intersection over union of a crop that is not turned and its picture."""
    inside = visible(box, (picture[0], picture[1])) * box.width * box.height
    return inside / (box.width * box.height + picture[0] * picture[1] - inside)


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(cover(Image.fromarray(picture), size))


def picture_of(file: str | Path) -> np.ndarray:
    """The picture in a file, uint8 (H, W, 3), read as untrusted data.

    Raises:
        UserError: the file is not a picture or is damaged.
    """
    try:
        return np.asarray(read_picture(read_file(file)).image)
    except Unreadable as error:
        raise UserError(f"{one_line(file)}: {error}; give pictures such as PNG, JPEG or WebP") from None


def check_framing(crop: str) -> None:
    """Raise `UserError` for a crop that is not in `FRAMINGS`."""
    if crop not in FRAMINGS:
        raise UserError(f"--crop {one_line(crop)}: there are {', '.join(FRAMINGS)}")


def faces_of(
    files: Sequence[str | Path],
    size: tuple[int, int],
    *,
    crop: str = "model",
    samples: Callable[[], np.ndarray] | None = None,
    whole: bool = False,
    detector: Any = None,
    tell: Callable[[str], None] | None = None,
) -> list[Aligned]:
    """The face of each picture file, at ``size`` (height, width).

    Args:
        crop: "model" crops as the faces of ``samples`` are cropped; or a name of
            `omokage.data.steps.crop.CROPS`.
        samples: draws faces of the model, uint8 (N, H, W, 3); called at most once, only for "model".
        whole: take each picture as a face, without looking for one in it.
        tell: called with a line about each picture.

    Raises:
        UserError: a file is not a picture, or no face is found in it; the error says what to do.
    """
    check_framing(crop)
    pictures = [picture_of(file) for file in files]
    if whole:
        return [Aligned(_resized(picture, size), "taken whole") for picture in pictures]
    detector = open_detector() if detector is None else detector
    frame: Framing = CROPS["tight" if crop == "model" else crop]
    if crop == "model" and samples is not None:
        frame = framing(samples(), detector) or frame
    found = []
    for file, picture in zip(files, pictures, strict=True):
        one = aligned(picture, size, frame, detector)
        if one is None:
            raise UserError(
                f"{one_line(file)}: no face found; --whole takes the whole picture as a face, "
                "or cut the face out yourself"
            )
        if tell is not None:
            tell(f"{one_line(Path(file).name, 40)}: {one.how}")
        found.append(one)
    return found
