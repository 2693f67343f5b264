"""A picture as the bytes of a file."""

import io
from typing import Any

import numpy as np
from PIL import Image

THUMBNAIL = 96  # longest side in pixels


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
