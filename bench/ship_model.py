"""Make the model that ships from a trained run: averaged weights in half precision.

python bench/ship_model.py runs/fast/snapshot-000000327680.safetensors
"""

import argparse
import sys
from pathlib import Path

from omokage.model import SHIPPED, load_model, write_small

MOST_BYTES = 8_000_000


def main() -> None:
    """Write the model; check that it is small enough and can be loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("snapshot", type=Path)
    write_small(load_model(parser.parse_args().snapshot, device="cpu"), SHIPPED)
    model = load_model(None, device="cpu")
    size = SHIPPED.stat().st_size
    print(f"{SHIPPED}: {size:,} bytes, {model.images_seen:,} images seen, SHA-256 {model.snapshot_hash}")
    if size > MOST_BYTES:
        sys.exit(f"error: more than {MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
