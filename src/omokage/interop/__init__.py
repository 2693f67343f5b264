"""Import of models from other programs."""
