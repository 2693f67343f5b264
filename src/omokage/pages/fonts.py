"""Fonts of pages: Pillow's own, and a Japanese one for texts that Pillow's own has no letters for.

No Japanese font comes with the package. The extra ``studio`` brings one (IPAex Gothic, in the package
matplotlib-fontja); without it, those of the system are looked for. Only fonts with TrueType outlines are
taken: those with PostScript outlines cannot be cut down to the letters that a PDF needs.
"""

import importlib.util
import os
import sys
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from PIL import ImageFont

HINT = "pip install 'omokage[studio]' brings a Japanese font"
_PACKAGE, _FILE = "matplotlib_fontja", Path("fonts", "ipaexg.ttf")
_NAMES = (
    "ipaexg.ttf", "ipag.ttf", "NotoSansJP-Regular.ttf", "NotoSansJP-VariableFont_wght.ttf",
    "NotoSansJP[wght].ttf", "TakaoPGothic.ttf", "VL-PGothic-Regular.ttf", "mplus-1p-regular.ttf",
    "DroidSansFallbackFull.ttf", "YuGothR.ttc", "meiryo.ttc", "msgothic.ttc",
)  # fmt: skip


def _folders() -> list[Path]:
    """The folders in which systems keep fonts."""
    home = Path.home()
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts")]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    own = [home / ".fonts", home / ".local/share/fonts"]
    return [*own, Path("/usr/local/share/fonts"), Path("/usr/share/fonts")]


@cache
def japanese_font() -> Path | None:
    """A file with a Japanese font; None: there is none."""
    # The package is located without importing it: its module changes matplotlib.
    found = importlib.util.find_spec(_PACKAGE)
    places = [Path(place) / _FILE for place in (found.submodule_search_locations if found else None) or ()]
    known = {
        path.name: path
        for folder in reversed(_folders())
        if folder.is_dir()
        for path in folder.rglob("*.tt[fc]")
        if path.name in _NAMES
    }
    for path in (*places, *(known[name] for name in _NAMES if name in known)):
        try:
            if not missing("あ漢", ImageFont.truetype(path, 16)):
                return path
        except OSError:
            continue
    return None


def missing(text: str, font: Any) -> str:
    """The letters of ``text`` that a font of Pillow has no shape for, each once.

    >>> missing("Ay… é", ImageFont.load_default(16))
    'é'
    """
    none = _shape(font, "\U0010fffe")
    return "".join(c for c in dict.fromkeys(text) if not c.isspace() and _shape(font, c) == none)


@lru_cache(maxsize=4096)
def _shape(font: Any, letter: str) -> tuple[Any, bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


@cache
def plain_font(size: int) -> Any:
    """Pillow's own font at ``size`` pixels."""
    return ImageFont.load_default(size)


@cache
def _large(size: int) -> Any:
    path = japanese_font()
    return None if path is None else ImageFont.truetype(path, size)


@lru_cache(maxsize=4096)
def needs_japanese(text: str) -> bool:
    """Whether Pillow's own font lacks letters of ``text``, and a Japanese font is there."""
    return not text.isascii() and bool(missing(text, plain_font(16))) and japanese_font() is not None


def font_for(text: str, size: int) -> Any:
    """The font for ``text``, at ``size`` pixels: Pillow's own, or a Japanese one if that lacks letters."""
    return _large(size) if needs_japanese(text) else plain_font(size)


def not_shown(*texts: str) -> list[str]:
    """One line about the letters of these texts that no font here can show; empty: all are shown.

    >>> not_shown("Rei, 17")
    []
    """
    lost = "".join(dict.fromkeys("".join(missing(text, font_for(text, 16)) for text in texts)))
    if not lost:
        return []
    shown = lost if len(lost) <= 12 else f"{lost[:12]}…"
    hint = "" if japanese_font() is not None else f"; {HINT}"
    return [f"no font here has these letters, so they are shown as boxes: {shown}{hint}"]
