"""Finds faces by the cascade that was published for anime faces."""

import hashlib
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..text import one_line
from .face import HEAD_TO_FACE, HEAD_TO_FACE_RISE, Face, clipped, separate

CASCADE = "lbpcascade_animeface.xml"


class CascadeDetector:
    """`lbpcascade_animeface` (nagadomi, MIT licence) through OpenCV.

    scale: factor from one window size to the next; closer to 1 means more sizes.
    neighbours: how many windows must agree on a face.
    smallest: side in pixels of the smallest window; a window is about as large as the head.
    angles: degrees by which the picture is rotated for further passes.
    min_score: faces with a lower score are left out.
    The defaults are those of the author's published example.
    """

    def __init__(
        self,
        scale: float = 1.1,
        neighbours: int = 5,
        smallest: int = 24,
        angles: Sequence[int] = (0,),
        min_score: float = 0.0,
        path: str | Path | None = None,
    ) -> None:
        import cv2

        if not hasattr(cv2, "CascadeClassifier"):
            raise UserError("this OpenCV has no cascades: pip install 'opencv-python-headless>=4.10,<5'")
        file = resources.files("omokage") / "assets" / CASCADE if path is None else Path(path).expanduser()
        try:
            text = file.read_bytes()
        except OSError as error:
            raise UserError(
                f"the cascade {one_line(file)} cannot be read: {one_line(error.strerror)}"
            ) from None
        storage = cv2.FileStorage(
            text.decode("utf-8", "replace"), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY
        )
        self._cascade = cv2.CascadeClassifier()
        if not self._cascade.read(storage.getFirstTopLevelNode()):
            raise UserError(f"{one_line(file)} is not a cascade that OpenCV can read")
        self.scale, self.neighbours, self.smallest = scale, neighbours, smallest
        self.angles, self.min_score = tuple(angles), min_score
        self.described = {
            "name": "cascade",
            "file": hashlib.sha256(text).hexdigest(),
            "scale": scale,
            "neighbours": neighbours,
            "smallest": smallest,
            "angles": list(self.angles),
            "least": min_score,
        }

    def __call__(self, picture: np.ndarray) -> list[Face]:
        import cv2

        grey = cv2.equalizeHist(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY))
        faces = []
        for angle in self.angles:
            faces += self._look(grey, angle)
        inside = (clipped(face, *grey.shape) for face in separate(faces))
        return [face for face in inside if face is not None and face.score >= self.min_score]

    def _look(self, grey: np.ndarray, angle: int) -> list[Face]:
        import cv2

        back = None
        if angle:
            height, width = grey.shape
            turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
            reach = np.abs(turn[:, :2]) @ [width, height]
            turn[:, 2] += reach / 2 - [width / 2, height / 2]
            grey = cv2.warpAffine(grey, turn, tuple(math.ceil(r) for r in reach))
            back = cv2.invertAffineTransform(turn)
        smallest = (self.smallest, self.smallest)
        found, agreeing = self._cascade.detectMultiScale2(
            grey, scaleFactor=self.scale, minNeighbors=self.neighbours, minSize=smallest
        )
        faces = []
        for (x, y, w, h), n in zip(found, agreeing, strict=True):
            centre = np.array([x + w / 2, y + h / 2 - HEAD_TO_FACE_RISE * HEAD_TO_FACE * h])
            if back is not None:
                centre = back @ [*centre, 1.0]
            wide, high = float(w) * HEAD_TO_FACE, float(h) * HEAD_TO_FACE
            left, top = float(centre[0]) - wide / 2, float(centre[1]) - high / 2
            score = float(n) / (float(n) + 3)
            # Rotating the picture anticlockwise by `angle` makes heads upright that lean clockwise by it.
            faces.append(Face(left, top, wide, high, score, float(angle) or None))
        return faces
