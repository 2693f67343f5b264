"""Drawings that a user brings: read as hostile, kept in memory alone, and searched for in a model.

Nothing of an upload is ever written. The face that is found for it is a point, which a pin keeps.
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from ..data.steps.crop import CROPS, crop_box, cut
from ..data.steps.detect import Detector, open_detector
from ..data.steps.face import Face, overlap
from ..data.steps.read import Unreadable, cover, read_picture
from ..data.text import one_line
from ..explore.alignment import aligned, detected, framing
from ..explore.inversion import FRAMED, Effort, inverted
from ..explore.points import Points
from ..explore.provenance import Provenance
from ..model import Model
from ..progress import Progress
from ..sampling import gathered, sample
from .caches import Cache
from .pictures import smaller
from .refused import Refused, unknown

MOST_PIXELS = 40_000_000
MOST_RESTORED = 1000  # faces of a recipe
KEPT_SIDE = 1600  # px: faces are cut out of the picture at most so large
MOST_BYTES = 48 * 2**20  # of all uploads that are kept
BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
SAME = 0.7  # overlap from which a box is that of a face that was found
EVERY = 4  # steps of a search for one picture of it


@dataclass(frozen=True)
class Upload:
    """A picture that was brought.

    Attributes:
        id: SHA-256 of its bytes.
        pixels: uint8 (H, W, 3), made smaller if it was large.
        scale: pixels of ``pixels`` for one of the picture.
        width, height: of the picture.
        faces: found in it, in pixels of the picture, largest first.
        told: what was done to it.
    """

    id: str
    pixels: np.ndarray
    scale: float
    width: int
    height: int
    faces: Sequence[Face]
    told: Sequence[str]

    def json(self) -> dict[str, Any]:
        """As the page gets it."""
        found = [
            {
                "box": [round(face.x, 1), round(face.y, 1), round(face.width, 1), round(face.height, 1)],
                "score": round(face.score, 3),
            }
            for face in self.faces
        ]
        size = {"width": self.width, "height": self.height}
        return {"upload": self.id, **size, "faces": found, "told": list(self.told)}


@lru_cache(maxsize=1)
def detector() -> Detector:
    """The face detector."""
    return open_detector()


def read_upload(data: bytes) -> Upload:
    """The picture in untrusted bytes, with the faces in it.

    Raises:
        Refused: no PNG, JPEG, WebP or GIF, too large, or damaged; one friendly sentence.
    """
    if not data:
        raise Refused("This file is empty.", "unreadable")
    if not (data.startswith(BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")):
        raise Refused("This is not a PNG, JPEG, WebP or GIF picture, whatever its name says.", "unreadable")
    try:
        picture = read_picture(data, max_pixels=MOST_PIXELS)
    except Unreadable as error:
        sentence = f"This picture cannot be read: {one_line(error, 200)}."
        if "too many pixels" in str(error):
            sentence = f"This picture is too large: at most {MOST_PIXELS // 10**6} megapixels are read."
        raise Refused(sentence, "unreadable") from None
    image, told = picture.image, list(picture.done)
    width, height = image.size
    if min(width, height) < 16:
        raise Refused("This picture is too small: 16 pixels a side are needed.", "unreadable")
    pixels = smaller(np.asarray(image), KEPT_SIDE)
    scale = pixels.shape[1] / width
    found = [
        Face(f.x / scale, f.y / scale, f.width / scale, f.height / scale, f.score, f.tilt)
        for f in detected(pixels, detector())
    ]
    if not found:
        told.append("No face was found in it; draw a box around one, or take the whole picture.")
    return Upload(hashlib.sha256(data).hexdigest(), pixels, scale, width, height, found, told)


def recipe_in(data: bytes) -> Provenance | None:
    """The recipe of an Omokage PNG in untrusted bytes; None: there is none that can be read."""
    if not data.startswith(BEGINNINGS[0]):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    return None
                picture.load()  # text may follow the pixels
                text = {str(key): value for key, value in picture.info.items()}
        return Provenance.of_text(text, MOST_RESTORED)
    except Exception:  # decoders raise many kinds of errors; whoever reads its pixels says what is wrong
        return None


class Uploads:
    """The uploads that are kept, the latest ones."""

    def __init__(self) -> None:
        self._kept: Cache[str, Upload] = Cache(MOST_BYTES, lambda upload: upload.pixels.nbytes + 2000)

    def keep(self, upload: Upload) -> None:
        """Keep it until there are too many, or the studio ends."""
        self._kept.put(upload.id, upload)

    def get(self, id: str) -> Upload:
        """The upload; Refused if it is not known."""
        found = self._kept.get(id)
        if found is None:
            raise unknown("upload", "This drawing has been forgotten; bring it again.")
        return found

    def forget(self, id: str) -> None:
        """Forget an upload; Refused if it is not known."""
        if not self._kept.drop(id):
            raise unknown("upload", "This drawing has been forgotten already.")


def crop_of(upload: Upload, box: Mapping[str, float] | None, model: Model) -> np.ndarray:
    """The face in a box of an upload, cropped as the model's own faces are, at its size.

    box: x, y, width and height in pixels of the picture; None: the largest face in it, or all of it.
    """
    frame = framing_of(model)
    if box is None:
        found = aligned(upload.pixels, model.resolution, frame, detector())
        if found is not None:
            return found.pixels
        return _resized(upload.pixels, model)
    x, y, wide, high = (box[name] * upload.scale for name in ("x", "y", "width", "height"))
    own = Face(x, y, wide, high, 1.0)
    near = [face for face in detected(upload.pixels, detector()) if overlap(face, own) > SAME]
    if near:
        turned = near[0].tilt is not None and abs(near[0].tilt) >= 8
        aspect = model.resolution[1] / model.resolution[0]
        crop = crop_box(near[0], upload.pixels.shape[:2], frame, aspect=aspect, upright=turned)
        return _resized(cut(upload.pixels, crop, "reflect"), model)
    height, width = upload.pixels.shape[:2]
    left, top = max(0, round(own.x)), max(0, round(own.y))
    right, bottom = min(width, round(own.x + own.width)), min(height, round(own.y + own.height))
    if right - left < 8 or bottom - top < 8:
        raise Refused("This box is too small, or outside the picture.")
    return _resized(upload.pixels[top:bottom, left:right], model)


def _resized(pixels: np.ndarray, model: Model) -> np.ndarray:
    return np.array(cover(Image.fromarray(np.ascontiguousarray(pixels)), model.resolution))


_framings: dict[str, Any] = {}


def framing_of(model: Model) -> Any:
    """How the model's faces lie in their pictures; found once."""
    if model.snapshot_hash not in _framings:
        shown, _ = gathered(sample(model, range(FRAMED)))
        _framings[model.snapshot_hash] = framing(shown, detector()) or CROPS["tight"]
    return _framings[model.snapshot_hash]


@dataclass(frozen=True)
class Found:
    """The face that was found for a drawing.

    Attributes:
        point: it, one row.
        picture, face: uint8 (H, W, 3), what was searched for and what was found.
        words: how near it is, as a sentence.
        share: of the model's own faces that are nearer; 0: none is.
    """

    point: Points
    picture: np.ndarray
    face: np.ndarray
    words: str
    share: float


def search(
    upload: Upload,
    box: Mapping[str, float] | None,
    model: Model,
    *,
    watch: Callable[[np.ndarray], None],
    progress: Progress,
    effort: Effort | None = None,
) -> Found:
    """Find the face of a model that is most like a drawing; ``watch`` gets the face of every `EVERY`-th step.

    Raises:
        UserError: as `omokage.explore.inversion.inverted`.
    """
    picture = crop_of(upload, box, model)
    steps = 0

    def step(rows: Sequence[int], drawn: np.ndarray) -> None:
        nonlocal steps
        if steps % EVERY == 0:
            watch(drawn[0])
        steps += 1

    found = inverted(model, picture[None], effort=effort, watch=step, progress=progress)
    share = float(found.fit.nearer[0])
    return Found(found.points, picture, found.faces[0], found.words(0), share)
