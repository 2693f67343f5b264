"""How a server listens, and the language of its page."""

import errno
import socket
from typing import Any

from ..errors import UserError

# For uvicorn. No access log: it would store addresses.
COMMON: dict[str, Any] = {
    "access_log": False,
    "log_level": "warning",
    "server_header": False,
    "proxy_headers": False,
    "timeout_keep_alive": 30,
    "h11_max_incomplete_event_size": 32 * 2**10,
    "ws": "none",
}


def bound(host: str, port: int) -> socket.socket:
    """A socket that will listen there; UserError if that is impossible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where a socket names its protocol. Without it,
    # every answer waits 40 ms for an acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host.strip("[]"), port))
    except OSError as error:
        listening.close()
        told = {errno.EADDRINUSE: "something listens there already; give another --port"}
        why = told.get(error.errno or 0, f"cannot listen there: {error.strerror or error}")
        raise UserError(f"{host}:{port}: {why}") from None
    return listening


def chosen_language(languages: tuple[str, ...], asked: str | None, accepted: str) -> str:
    """The language of a page: the one asked for, else the browser's first that there is, else the first.

    >>> chosen_language(("en", "ja"), None, "fr;q=0.9, ja;q=0.8")
    'ja'
    """
    if asked in languages:
        return str(asked)

    def weight(entry: str) -> float:
        try:
            return float(entry.partition("q=")[2] or 1)
        except ValueError:
            return 0.0

    for entry in sorted(accepted.split(","), key=weight, reverse=True):
        tag = entry.partition(";")[0].strip().lower()
        for language in languages:
            if tag and tag.split("-")[0] == language.lower().split("-")[0]:
                return language
    return languages[0]
