"""One page that shows and compares runs: their measurements, faces and logs."""
