"""What stands before every page and every call of a study."""

from urllib.parse import urlsplit

from ..errors import UserError
from ..web.guard import LOCAL, MOST_BYTES, App
from ..web.guard import Guard as Guarding
from .pages import POLICY

__all__ = ["LOCAL", "MOST_BYTES", "Guard", "split_public_url"]


class Guard(Guarding):
    """The guard of a study. The longest real request is a form of questions."""

    def __init__(self, app: App, *, hosts: tuple[str, ...], prefix: str = "") -> None:
        super().__init__(app, hosts=hosts, policy=POLICY, prefix=prefix)


def split_public_url(url: str) -> tuple[str, str]:
    """Host name and path of the address that participants open; UserError if it is none.

    >>> split_public_url("https://lab.example.org/faces/")
    ('lab.example.org', '/faces')
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UserError(f"--public-url: {url!r} is not an address like https://lab.example.org/faces")
    path = parts.path.rstrip("/")
    if any(not (letter.isalnum() or letter in "/-_.~") for letter in path) or ".." in path or "//" in path:
        raise UserError(f"--public-url: the path {path!r} may have letters, digits and -_.~ only")
    return parts.hostname.lower(), path
