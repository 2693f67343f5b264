"""Prepares signals and standard streams when the command line starts, before slow imports.

Importing this module is enough. So Ctrl-C in the first second prints one line, and no file gets the number of
a closed standard stream. In other processes (a notebook, a test, a worker) it does nothing.
"""

import gc
import sys
from pathlib import Path

from . import interrupts, streams


def is_program() -> bool:
    """Whether this process was started as ``omokage`` or ``python -m omokage``."""
    processes = sys.modules.get("multiprocessing")
    if processes is not None and processes.parent_process() is not None:
        return False  # a worker process, whose command line looks like that of its parent
    started = Path(sys.argv[0] if sys.argv else "")
    return started.stem == "omokage" or started.parts[-2:] == ("omokage", "__main__.py")


if is_program():
    gc.disable()  # nothing that imports make can be freed; a verb that runs enables it again
    streams.keep()
    interrupts.begin()
