"""Omokage (面影): data sets of anime faces, generative models trained on them, and honest measurements.

Everything that commands do can be called from Python:

    import omokage as om
    model = om.load()                                    # the model that ships; or om.load("runs/x")
    faces = model.sample(seeds=range(16), psi=0.7)       # uint8 (16, H, W, 3), a grid in a notebook
    om.build(["pictures/"], out="faces/", as_faces=True)
    om.train("fast", data="faces/", out="runs/fast", minutes=60)
    om.evaluate("runs/fast", data="faces/")

The names below are imported when they are first used, so ``import omokage`` takes a moment only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import FaceModel, Pictures, build, evaluate, fid, load, train
    from .data.store.faceset import FaceSet
    from .errors import UserError
    from .settings import Settings

__all__ = [
    "FaceModel",
    "FaceSet",
    "Pictures",
    "Settings",
    "UserError",
    "build",
    "evaluate",
    "fid",
    "load",
    "train",
]

_PLACES = {"FaceSet": "data.store.faceset", "Settings": "settings", "UserError": "errors"}  # the rest: api


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f".{_PLACES.get(name, 'api')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
