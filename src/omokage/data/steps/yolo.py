"""Finds faces by an ONNX file of the user's, with YOLO boxes."""

import hashlib
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..text import one_line
from .face import Face, clipped, separate


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
