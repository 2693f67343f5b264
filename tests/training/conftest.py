from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omokage.data.build import build


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """A face set of ten pictures of noise, 16 px."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{i}.png")
    out = tmp_path_factory.mktemp("built") / "faces"
    build([folder], out, as_faces=True, workers=1)
    return out
