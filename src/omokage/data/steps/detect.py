"""Face detectors: the published cascade, a small network that ships with Omokage, or a user's ONNX file.

With the cascade and the network, a face's box goes from the hairline to the chin and from cheek to cheek.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...errors import UserError
from ..text import one_line

if TYPE_CHECKING:
    from ...hardware import Precision
    from .detector_network import DetectorNetwork

CASCADE, NETWORK = "lbpcascade_animeface.xml", "face-detector.safetensors"
DETECTORS = ("network", "cascade", "cascade-example")

HEAD_TO_FACE = 1 / 1.43
"""Side of the face over the side of the cascade's box, which includes part of the hair."""
HEAD_TO_FACE_RISE = 0.07
"""Distance of the face's centre above the centre of the cascade's box, in sides of the face."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a picture.

    x, y, width, height: its box in pixels, inside the picture; x and y are those of the upper left corner.
    score: confidence of the detector, 0 to 1; a cascade gives n/(n+3) for n agreeing windows.
    tilt: degrees by which the head leans, clockwise in the picture; None if the detector does not tell.
    """

    x: float
    y: float
    width: float
    height: float
    score: float
    tilt: float | None = None

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def side(self) -> float:
        """Side of the square of the same area."""
        return math.sqrt(self.width * self.height)


class Detector(Protocol):
    """Finds faces. described: its entry in a manifest; detectors with equal entries find the same faces."""

    described: dict[str, Any]

    def __call__(self, picture: np.ndarray) -> list[Face]:
        """Faces of an RGB picture, uint8 (H, W, 3), highest score first."""


def open_detector(
    name: str = "network",
    *,
    rotations: bool = False,
    threshold: float | None = None,
    precision: "Precision" = "fp32",
) -> Detector:
    """The detector ``name``: one of `DETECTORS`, or the path of an ONNX file (YOLO output).

    rotations: the cascade also looks at the picture rotated by 15 degrees to either side, for three times the
        work. The network finds tilted faces without it.
    threshold: lowest score of a face; None: the detector's default.
    precision: of the network's arithmetic. "bf16" is several times as fast on processors with hardware
        support; scores differ in the second digit. Other detectors ignore it.

    Raises `UserError` for an unknown name, or a missing or unusable file.
    """
    if threshold is not None and not 0 < threshold < 1:
        raise UserError(f"detector threshold {threshold:g} is impossible: give a number between 0 and 1")
    angles = (0, -15, 15) if rotations else (0,)
    if name == "network":
        least = NetworkDetector.threshold if threshold is None else threshold
        return NetworkDetector(threshold=least, precision=precision)
    if name == "cascade":
        return CascadeDetector(scale=1.05, neighbours=2, smallest=20, angles=angles, min_score=threshold or 0)
    if name == "cascade-example":
        return CascadeDetector(angles=angles, min_score=threshold or 0)
    if name.lower().endswith(".onnx"):
        return OnnxDetector(name, threshold=0.4 if threshold is None else threshold)
    known = ", ".join(DETECTORS)
    raise UserError(
        f"there is no detector {one_line(name)!r}: give one of {known}, or the path of an .onnx file"
    )


def overlap(a: Face, b: Face) -> float:
    """Intersection over union of two boxes.

    >>> overlap(Face(0, 0, 2, 2, 1), Face(1, 0, 2, 2, 1))
    0.3333333333333333
    """
    shared = _shared(a, b)
    return shared / (a.width * a.height + b.width * b.height - shared)


def _shared(a: Face, b: Face) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(width, 0.0) * max(height, 0.0)


def separate(faces: Sequence[Face]) -> list[Face]:
    """One face per place, highest score first: a face that overlaps one with a higher score is dropped."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: (-f.score, f.x, f.y, f.width, f.height)):
        area = face.width * face.height
        if not any(
            overlap(face, k) > 0.25 or _shared(face, k) > 0.6 * min(area, k.width * k.height) for k in kept
        ):
            kept.append(face)
    return kept


def clipped(face: Face, height: int, width: int) -> Face | None:
    """The part of ``face`` inside a picture of this size; None if it lies outside."""
    left, top = max(face.x, 0.0), max(face.y, 0.0)
    right, bottom = min(face.x + face.width, float(width)), min(face.y + face.height, float(height))
    if right - left < 1 or bottom - top < 1:
        return None
    return Face(left, top, right - left, bottom - top, face.score, face.tilt)


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


class NetworkDetector:
    """The network that ships with the package, applied to an image pyramid of the picture.

    longest: pixels to which the longer side is reduced; faces smaller than 1/50 of it are not found.
    threshold: lowest score of a face.
    path: weights of another training (`bench/train_face_detector.py`); None: the shipped weights.
    precision: see `open_detector`.
    """

    threshold = 0.5

    def __init__(
        self,
        longest: int = 640,
        threshold: float = threshold,
        path: str | Path | None = None,
        precision: "Precision" = "fp32",
    ) -> None:
        file = resources.files("omokage") / "assets" / NETWORK if path is None else Path(path).expanduser()
        self.longest, self.least = longest, threshold
        self._network, file_hash = load_network(str(file), precision)
        self.described = {
            "name": "network",
            "file": file_hash,
            "longest": longest,
            "threshold": threshold,
            "precision": precision,
        }

    def __call__(self, picture: np.ndarray) -> list[Face]:
        import cv2

        height, width = picture.shape[:2]
        scale = min(1.0, self.longest / max(height, width))
        level = np.ascontiguousarray(picture)
        faces: list[Face] = []
        while True:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            if size != (level.shape[1], level.shape[0]):
                level = cv2.resize(level, size, interpolation=cv2.INTER_AREA)
            faces += self._look(level, size[0] / width, size[1] / height)
            scale /= 2
            if max(height, width) * scale < 28:
                break
        inside = (clipped(face, height, width) for face in separate(faces))
        return [face for face in inside if face is not None]

    def _look(self, level: np.ndarray, scale_x: float, scale_y: float) -> list[Face]:
        from .detector_network import LARGEST, SMALLEST, STRIDE, UNIT

        out = run_network(self._network, level)
        centre = out[0]
        best = np.pad(centre, 1, constant_values=-np.inf)
        around = np.max(
            [best[i : i + centre.shape[0], j : j + centre.shape[1]] for i in range(3) for j in range(3)], 0
        )
        least = math.log(self.least / (1 - self.least))
        rows, columns = np.nonzero((centre >= around) & (centre > least))
        faces = []
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            logit, dx, dy, log_w, log_h, sine, cosine = (float(v) for v in out[:, row, column])
            w, h = (UNIT * math.exp(min(max(v, -3.0), 3.0)) for v in (log_w, log_h))
            if not SMALLEST * 0.8 <= math.sqrt(w * h) <= LARGEST * 1.35:
                continue
            x, y = (column + 0.5 + dx) * STRIDE, (row + 0.5 + dy) * STRIDE
            score = 1 / (1 + math.exp(-logit))
            box = ((x - w / 2) / scale_x, (y - h / 2) / scale_y, w / scale_x, h / scale_y)
            faces.append(Face(*box, score, math.degrees(math.atan2(sine, cosine))))
        return faces


class FaceScore:
    """The network's score for a box that any detector found: 0 to 1, higher means more like a face."""

    def __init__(self, path: str | Path | None = None, precision: "Precision" = "fp32") -> None:
        file = resources.files("omokage") / "assets" / NETWORK if path is None else Path(path).expanduser()
        self._network, self.file_hash = load_network(str(file), precision)

    def __call__(self, picture: np.ndarray, face: Face) -> float:
        """Highest score at three sizes, near the middle of the box. ``picture`` is RGB, uint8 (H, W, 3)."""
        from .detector_network import STRIDE

        best = -30.0
        for side in (24, 36, 52):
            window = _window(picture, face, side)
            middle = window.shape[0] // STRIDE // 2
            reach = max(1, round(side / STRIDE / 4))
            centre = run_network(self._network, window)[0]
            near = centre[middle - reach : middle + reach, middle - reach : middle + reach]
            best = max(best, float(near.max()))
        return 1 / (1 + math.exp(-best))


def _window(picture: np.ndarray, face: Face, side: int) -> np.ndarray:
    """128×128 pixels around the face, scaled so that its side is ``side``; grey beyond the picture."""
    import cv2

    total = 128
    reach = face.side * total / side
    cx, cy = face.centre
    left, top = cx - reach / 2, cy - reach / 2
    x0, y0 = max(math.floor(left), 0), max(math.floor(top), 0)
    x1 = min(math.ceil(left + reach), picture.shape[1])
    y1 = min(math.ceil(top + reach), picture.shape[0])
    part = np.ascontiguousarray(picture[y0:y1, x0:x1])
    scale = total / reach
    if scale < 0.75:  # average first: warpAffine only interpolates
        size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
        sx, sy = size[0] / part.shape[1], size[1] / part.shape[0]
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    else:
        sx = sy = 1.0
    matrix = np.array([[scale / sx, 0, (x0 - left) * scale], [0, scale / sy, (y0 - top) * scale]])
    return cv2.warpAffine(part, matrix, (total, total), flags=cv2.INTER_LINEAR, borderValue=(128, 128, 128))


@lru_cache(maxsize=4)
def load_network(path: str, precision: "Precision" = "fp32") -> tuple["DetectorNetwork", str]:
    """The network with weights from a safetensors file, and the file's SHA-256; `UserError` if unusable."""
    import safetensors.torch
    import torch

    from .detector_network import DetectorNetwork

    try:
        data = Path(path).read_bytes()
        weights = {name: value.float() for name, value in safetensors.torch.load(data).items()}
        network = DetectorNetwork()
        missing = set(network.state_dict()) - set(weights)
        if any(not name.endswith("num_batches_tracked") for name in missing):
            raise KeyError(f"no {min(missing)}")
        network.load_state_dict(weights, strict=False)
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise UserError(
            f"the face detector {one_line(path)} cannot be read: {reason}; reinstall omokage"
        ) from None
    except Exception as error:  # safetensors and torch raise many kinds of errors
        raise UserError(f"{one_line(path)} is not an omokage face detector: {one_line(error, 100)}") from None
    network.eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.Sequential) and len(module) >= 2:
            convolution, norm = module[0], module[1]
            if isinstance(convolution, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                module[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
                module[1] = torch.nn.Identity()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision == "bf16":
        network.bfloat16().head.float()
    return network, hashlib.sha256(data).hexdigest()


def run_network(network: "DetectorNetwork", picture: np.ndarray) -> np.ndarray:
    """Outputs float32 (`OUTPUTS`, h, w) for an RGB picture, uint8 (H, W, 3).

    The picture is padded with grey to sides divisible by 16.
    """
    import torch

    from ...hardware import on_one_thread
    from .detector_network import STRIDE

    height, width = picture.shape[:2]
    padded = np.full((-(-height // 16) * 16, -(-width // 16) * 16, 3), 127.5, np.float32)
    padded[:height, :width] = picture
    padded /= np.float32(127.5)
    padded -= 1
    x = torch.from_numpy(padded).permute(2, 0, 1)[None]
    with on_one_thread(), torch.inference_mode():
        out = network(x.to(next(network.parameters()).dtype))[0]
    # Cells with their centre outside the picture do not count.
    return out[:, : -(-height // STRIDE), : -(-width // STRIDE)].numpy()


class OnnxDetector:
    """A user's detector: an ONNX file that takes one picture (1, 3, H, W) in [0, 1] and returns YOLO boxes.

    These outputs are understood: (1, 4 + classes, N) and (1, N, 4 + classes) with box centres and sizes in
    input pixels (YOLOv8 and later), (1, N, 5 + classes) with an objectness (YOLOv5, v7), and (1, N, 6) with
    corners, score and class (exported with non-maximum suppression). Its training decides which part of the
    head its boxes cover.
    """

    def __init__(self, path: str | Path, threshold: float = 0.4) -> None:
        path = Path(path).expanduser()
        try:
            import onnxruntime
        except ImportError:
            raise UserError("an ONNX detector needs onnxruntime: pip install 'omokage[onnx]'") from None
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"the detector {one_line(path)} cannot be read: {one_line(error.strerror)}"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            wanted = self._session.get_inputs()[0]
        except Exception as error:
            raise UserError(
                f"{one_line(path)} is not an ONNX file that runs here: {one_line(error, 120)}"
            ) from None
        shape = wanted.shape
        if len(shape) != 4 or (shape[1] not in (3, None) and not isinstance(shape[1], str)):
            raise UserError(f"{one_line(path)} takes {shape}, not one picture (1, 3, height, width)")
        self._input, self._path, self.threshold = wanted.name, path, threshold
        self._size = tuple(side if isinstance(side, int) and side > 0 else 640 for side in shape[2:])
        self.described = {
            "name": "onnx",
            "file": hashlib.sha256(data).hexdigest(),
            "threshold": threshold,
        }

    def __call__(self, picture: np.ndarray) -> list[Face]:
        import cv2

        height, width = picture.shape[:2]
        scale = min(self._size[0] / height, self._size[1] / width)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        padded = np.full((*self._size, 3), 114, np.uint8)
        left, top = (self._size[1] - inner[0]) // 2, (self._size[0] - inner[1]) // 2
        padded[top : top + inner[1], left : left + inner[0]] = cv2.resize(
            np.ascontiguousarray(picture), inner, interpolation=mode
        )
        batch = padded.transpose(2, 0, 1)[None].astype(np.float32) / 255
        try:
            out = np.asarray(self._session.run(None, {self._input: batch})[0], np.float64)
        except Exception as error:
            raise UserError(f"the detector {one_line(self._path)} fails: {one_line(error, 120)}") from None
        faces = []
        for x, y, w, h, score in self._boxes(out):
            if score >= self.threshold and w > 0 and h > 0:
                x, y = (x - w / 2 - left) / scale, (y - h / 2 - top) / scale
                faces.append(Face(x, y, w / scale, h / scale, min(float(score), 1.0)))
        inside = (clipped(face, height, width) for face in separate(faces))
        return [face for face in inside if face is not None]

    def _boxes(self, out: np.ndarray) -> np.ndarray:
        """Rows of centre x, centre y, width, height, score."""
        if out.ndim == 3 and out.shape[0] == 1:
            out = out[0]
        if out.ndim != 2 or max(out.shape) < 5:
            raise UserError(f"the detector {one_line(self._path)} gives {out.shape}, not YOLO boxes")
        values, boxes = out.shape
        turned = boxes != 6 and values >= 5 and (boxes < 5 or values < boxes)
        rows = out.T if turned else out
        if not turned and rows.shape[1] == 6 and np.all(rows[:, 2] >= rows[:, 0]) and np.all(rows[:, 4] <= 1):
            x0, y0, x1, y1, score = rows[:, :5].T
            return np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, score], 1)
        alone = turned or rows.shape[1] == 5  # no objectness
        score = rows[:, 4:].max(1) if alone else rows[:, 4] * rows[:, 5:].max(1)
        return np.concatenate([rows[:, :4], score[:, None]], 1)
