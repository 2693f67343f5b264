import os
import signal
from pathlib import Path

import pytest

# Started in the background of a script, a process ignores Ctrl-C, and so would those that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real faces; tests that need it are skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("OMOKAGE_DATA", beside))
    if not (folder / "getchu-faces-64.tar").is_file():
        pytest.skip(f"no real faces at {folder} (set OMOKAGE_DATA to the folder of getchu-faces-64.tar)")
    return folder
