"""Face detectors: the published cascade, a small network that ships with Omokage, or a user's ONNX file.

With the cascade and the network, a face's box goes from the hairline to the chin and from cheek to cheek.
"""

import hashlib
import math
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...errors import UserError
from ..text import one_line
from .cascade import CascadeDetector
from .face import Face, clipped, separate
from .yolo import OnnxDetector

if TYPE_CHECKING:
    from ...hardware import Precision
    from .detector_network import DetectorNetwork

NETWORK = "face-detector.safetensors"
DETECTORS = ("network", "cascade", "cascade-example")


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
