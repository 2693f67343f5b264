"""Small networks of every family draw what they drew when this was recorded, but for one level.

After a change that is meant to change pixels, ``PYTHONPATH=src:tests python tests/test_golden.py`` records
them anew.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from standins import CONDITIONS, small_model

from omokage.abilities import TakesConditions
from omokage.families import MODELS
from omokage.sampling import gathered, sample
from omokage.settings import Settings

FILE = Path(__file__).parent / "golden.json"
CASES = [
    *sorted(MODELS),
    *(f"{name} with conditions" for name in sorted(MODELS) if MODELS[name].can(TakesConditions)),
]
PSIS = (1.0, 0.7)


def drawn(case):
    """Means of 8x8 patches, uint8 (psi, seed, 8, 8, 3), of the seeds 0 and 1 at both psi."""
    name, _, conditional = case.partition(" ")
    model = small_model(name, CONDITIONS if conditional else None)
    found = []
    for psi in PSIS:
        faces, finite = gathered(sample(model, range(2), Settings(psi=psi)))
        assert finite.all()
        height, width = (side // 8 for side in faces.shape[1:3])
        patches = faces.reshape(2, 8, height, 8, width, 3).mean((2, 4))
        found.append(patches.round().astype(np.uint8))
    return np.stack(found)


@pytest.mark.parametrize("case", CASES)
def test_it_draws_what_it_drew(case):
    recorded = json.loads(FILE.read_text())[case]
    golden = np.frombuffer(bytes.fromhex(recorded), np.uint8).reshape(2, 2, 8, 8, 3).astype(int)
    # Flat pictures, or the same for every psi and seed, would say little.
    assert golden.std((2, 3)).max() > 4
    assert np.abs(golden[0] - golden[1]).max() > 4
    assert np.abs(golden[:, 0] - golden[:, 1]).max() > 4
    assert np.abs(drawn(case) - golden).max() <= 1


def test_every_family_is_recorded():
    assert sorted(json.loads(FILE.read_text())) == sorted(CASES)


if __name__ == "__main__":
    FILE.write_text(json.dumps({case: drawn(case).tobytes().hex() for case in CASES}, indent=0) + "\n")
