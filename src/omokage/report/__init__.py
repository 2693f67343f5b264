"""One page that shows and compares runs: what they measured, drew and logged."""
