import gc
import importlib.metadata
import os
import signal
from functools import cache
from pathlib import Path

import pytest
from browsing import browser

__all__ = ["browser"]  # one for all tests: a second one cannot be started in the same process

# Workers of pytest-xdist share the cores: one thread each is quicker than all threads in all of them.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Started in the background of a script, a process ignores Ctrl-C, and so would those that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Each start of a training searches all installed packages for callbacks of Lightning. Here, once is enough.
importlib.metadata.entry_points = cache(importlib.metadata.entry_points)


# What is imported stays to the end, so the collector of cyclic garbage need not look at it again and again.
@pytest.hookimpl(wrapper=True)
def pytest_collection():
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real faces; tests that need it are skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("OMOKAGE_DATA", beside))
    if not (folder / "getchu-faces-64.tar").is_file():
        pytest.skip(f"no real faces at {folder} (set OMOKAGE_DATA to the folder of getchu-faces-64.tar)")
    return folder


@pytest.fixture
def disk_model():
    """A model that obeys the contract and draws something."""
    from standins import DiskModel

    return DiskModel()


@pytest.fixture
def family_model():
    """Builds small models of families by name."""
    from standins import family_model

    return family_model


@pytest.fixture(scope="session")
def picture_files(tmp_path_factory) -> list[Path]:
    """Three smooth pictures of other sizes than any model has."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("own")
    files = []
    for i, size in enumerate([(50, 40), (33, 64), (48, 48)]):
        corners = np.random.default_rng(i).integers(0, 256, (3, 3, 3), np.uint8)
        files.append(folder / f"own-{i}.png")
        Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC).save(files[-1])
    return files


@pytest.fixture(scope="session")
def tagged_faces(tmp_path_factory):
    """40 faces of 16 px: the hair of the first half red, of the second half blue; some of both or unknown."""
    import numpy as np
    from PIL import Image

    from omokage.data.build import build
    from omokage.data.store.faceset import FaceSet

    folder = tmp_path_factory.mktemp("tagged")
    rng, lines = np.random.default_rng(0), ["file,hair,eyes"]
    for i in range(40):
        pixels = rng.integers(90, 110, (16, 16, 3), np.uint8)
        pixels[:8, :, 0 if i < 20 else 2] = 220
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
        hair = {3: "red|blue", 4: ""}.get(i, "red" if i < 20 else "blue")
        lines.append(f"{i:02d}.png,{hair},green")
    labels = folder.parent / "labels.csv"
    labels.write_text("\n".join(lines) + "\n")
    build([folder], folder.parent / "tagged-set", as_faces=True, labels=labels, workers=1)
    return FaceSet.open(folder.parent / "tagged-set")
