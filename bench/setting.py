"""What measurements have in common: where the data lies."""

import argparse
import os
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
