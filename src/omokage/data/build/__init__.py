"""The order of things from sources to a face set."""

from .building import BuildReport, build

__all__ = ["BuildReport", "build"]
