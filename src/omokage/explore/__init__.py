"""Exploration: points, pixels and captions out. No page is laid out here and no file is written."""
