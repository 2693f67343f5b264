"""Exploration of a model: returns latents, pixels and captions. Pages and files are made elsewhere."""
