import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omokage.data.build import build


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


def detailed_picture(seed: int, side: int = 64) -> Image.Image:
    """A picture with detail of every size, as drawings have, that no two seeds share."""
    draw = np.random.default_rng(seed)
    total = np.full((side, side, 3), 128.0)
    for cells, strength in ((3, 60), (6, 40), (12, 30), (24, 20)):
        coarse = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        fine = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), float)
        total += (fine - 128) * strength / 128
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def drawing() -> Callable[..., Image.Image]:
    return detailed_picture


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    """Builds a face set of pictures by name, with labels if given as a dict a name."""

    def make(name: str, pictures: dict[str, bytes], labels: dict[str, dict[str, str]] | None = None) -> Path:
        folder = tmp_path / f"{name}-pictures"
        for file, data in pictures.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        table = None
        if labels is not None:
            table = tmp_path / f"{name}.csv"
            columns = sorted({column for row in labels.values() for column in row})
            rows = [",".join([file, *(row.get(c, "") for c in columns)]) for file, row in labels.items()]
            table.write_text("\n".join([",".join(["file", *columns]), *rows]) + "\n")
        build([folder], tmp_path / name, as_faces=True, labels=table)
        return tmp_path / name

    return make
