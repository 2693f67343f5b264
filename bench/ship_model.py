"""Make the model that ships from a trained run: averaged weights in half precision, encoder and critic.

python bench/ship_model.py runs/style
omokage directions shipped -o directions/
python bench/ship_model.py --directions directions/
"""

import argparse
import shutil
import sys
from pathlib import Path

from omokage.explore.directions import FILE, beside, read_directions
from omokage.model import SHIPPED, load_model, write_small

MOST_BYTES = 16_000_000


def main() -> None:
    """Write the model, or the directions beside it; check what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("snapshot", type=Path, nargs="?")
    parser.add_argument("--directions", type=Path)
    asked = parser.parse_args()
    if asked.snapshot is not None:
        write_small(load_model(asked.snapshot, device="cpu"), SHIPPED)
    model = load_model(None, device="cpu")
    size = SHIPPED.stat().st_size
    print(f"{SHIPPED}: {size:,} bytes, {model.images_seen:,} images seen, SHA-256 {model.snapshot_hash}")
    print("with a critic" if model.critic is not None else "without a critic")
    if asked.directions is not None:
        read_directions(asked.directions).check(model)
        print(shutil.copyfile(asked.directions / FILE, beside(SHIPPED)[0]))
    if size > MOST_BYTES:
        sys.exit(f"error: more than {MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
