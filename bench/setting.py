"""What measurements have in common: where the data lies, and what they ran on."""

import argparse
import os
import platform
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def data_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``data``, the folder of the real faces: OMOKAGE_DATA or ../shared/data where it is left out."""
    parser.add_argument(
        "data",
        nargs="?",
        type=Path,
        default=Path(os.environ.get("OMOKAGE_DATA", BESIDE)),
        help="folder of the real faces (default: OMOKAGE_DATA, or ../shared/data beside the repository)",
    )


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
