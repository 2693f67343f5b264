import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def smooth_picture(seed: int, width: int = 24, height: int = 24) -> Image.Image:
    """A smooth coloured picture that no two seeds share."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    return smooth_picture


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture
def folder_of_faces(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a folder of n small JPEGs and PNGs, some in a folder below."""

    def make(n: int) -> Path:
        folder = tmp_path / "pictures"
        (folder / "more").mkdir(parents=True)
        for i in range(n):
            name = f"more/{i}.jpg" if i % 5 == 0 else f"{i}.png" if i % 7 == 0 else f"{i}.jpg"
            kind = "PNG" if name.endswith("png") else "JPEG"
            (folder / name).write_bytes(encoded(smooth_picture(i), kind))
        return folder

    return make
