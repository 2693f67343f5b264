"""Shared by the measurements: the path of the data."""

import argparse
import os
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def data_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``data``, the folder of the real faces; the default is OMOKAGE_DATA or ../shared/data."""
    parser.add_argument(
        "data",
        nargs="?",
        type=Path,
        default=Path(os.environ.get("OMOKAGE_DATA", BESIDE)),
        help="folder of the real faces (default: OMOKAGE_DATA, or ../shared/data beside the repository)",
    )
