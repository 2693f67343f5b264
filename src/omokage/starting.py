"""What the command line's process does first, before it imports what takes long; imported for that alone.

Ctrl-C in the first second ends in one line, and standard streams that are closed are nobody's file numbers.
Does nothing in any other process: a notebook, a test, a worker.
"""

import sys
from pathlib import Path

from . import interrupts, streams


def is_program() -> bool:
    """Whether this process was started as ``omokage`` or ``python -m omokage``."""
    processes = sys.modules.get("multiprocessing")
    if processes is not None and processes.parent_process() is not None:
        return False  # a worker, which begins like its parent
    started = Path(sys.argv[0] if sys.argv else "")
    return started.stem == "omokage" or started.parts[-2:] == ("omokage", "__main__.py")


if is_program():
    streams.keep()
    interrupts.begin()
