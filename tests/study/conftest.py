"""Small studies over drawn squares, and people who click through them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omokage.study.making import make_study
from omokage.study.stimuli import Source


def squares(count: int, seed: int, side: int = 24) -> list[tuple[str, Image.Image]]:
    """Small pictures of noise; no two are alike."""
    rng = np.random.default_rng(seed)
    return [
        (f"{number:03d}.png", Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)))
        for number in range(count)
    ]


@pytest.fixture
def new_study(tmp_path: Path):
    """Makes a study: settings in, folder and dashboard token out."""
    made = 0

    def make(pictures: int = 12, sources: tuple[str, ...] = ("real", "gan"), **settings: Any):
        nonlocal made
        made += 1
        folder = tmp_path / f"study-{made}"
        given = [Source(name, squares(pictures, seed)) for seed, name in enumerate(sources)]
        _, _, token = make_study(folder, {"practice": 0, **settings}, given)
        return folder, token

    return make
