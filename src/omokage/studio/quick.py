"""Previews through ONNX Runtime, where it is installed and the model can be exported; else none."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..model import Model
from .drawing import Quick


def quick(model: Model) -> Quick | None:
    """Draws previews of ``model``, within one level of the exact picture; None: there is nothing quicker."""
    try:
        onnx = import_module("omokage.interop.onnx")
    except ImportError:
        return None
    found: Callable[[Model], Any] | None = getattr(onnx, "previewer", None)
    return None if found is None else found(model)
