"""Names of files as keys of faces, and their order."""

import re
import unicodedata
from pathlib import PurePosixPath

from .source import digest


def natural(name: str) -> str:
    """A sorting key that puts 2 before 10.

    >>> sorted(["f10", "f2", "f02", "F1"], key=natural)
    ['F1', 'f02', 'f2', 'f10']
    """

    # A number sorts by its length without leading zeros, then by its digits. int() refuses very long numbers.
    def number(match: re.Match[str]) -> str:
        digits = match[0].lstrip("0")
        return f"0{len(digits):07d}{digits}"

    return re.sub("[0-9]+", number, name.casefold()) + "\0" + name


def stem(name: str) -> str:
    """The key made from a file's relative name: without the extension, in safe characters.

    >>> stem("a b/日本.v2.JPG"), stem("x" * 200 + ".png")[-20:]
    ('a b/日本_v2', 'xxxxxxxxx-6c64d543f1')
    """
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    parts = [*path.parts[:-1], path.stem]
    # No dots: WebDataset takes everything up to the first dot of the last part as the key.
    parts = [part for part in parts if part not in ("/", ".")]
    parts = ["".join(c if c.isalnum() or c in "_- " else "_" for c in part) for part in parts]
    key = "/".join(part.strip() or "_" for part in parts) or "_"
    raw = key.encode("utf-8", "replace")
    if len(raw) > 80:  # fits the name field of a tar header with room for a number and the extension
        key = raw[:64].decode("utf-8", "ignore") + "-" + digest(name)[:10]
    return key


class Keys:
    """Makes unique keys from file names, in the order of calls. A repeated key gets a number."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        base = key = stem(name)
        # Keys must differ in more than case, so that a set can be exported to any file system.
        while key.casefold() in self._next:
            number = self._next[base.casefold()] = self._next.get(base.casefold(), 1) + 1
            key = f"{base}-{number}"
        self._next[key.casefold()] = 1
        return key
