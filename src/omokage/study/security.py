"""What stands before every page and every call: host names, sizes, headers. Pure ASGI.

The guard keeps no address, writes no log of requests, and knows nothing of the study.
"""

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import UserError
from .pages import POLICY

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 64 * 2**10
"""A request with a longer body is refused; the longest real one is a form of questions."""

MOST_PATH = 2048
LOCAL = ("localhost", "127.0.0.1", "[::1]")

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    (b"x-robots-tag", b"noindex, nofollow"),
)

_log = logging.getLogger(__name__)


class _TooLarge(Exception):
    """More bytes came than are allowed. What the application makes of it does not matter."""


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


def host_name(header: str) -> str:
    """The name in a Host header, without the port, in small letters.

    >>> host_name("Lab.example.org:8000"), host_name("[::1]:8000")
    ('lab.example.org', '[::1]')
    """
    header = header.strip().lower()
    if header.startswith("["):
        return header[: header.find("]") + 1]
    return header.partition(":")[0].rstrip(".")


class Guard:
    """ASGI middleware: checks the host name and sizes, takes off the public path, adds headers.

    Args:
        app: what is guarded.
        hosts: names that the server answers to. A name that is not listed is refused, so that no other site
            can reach a study on somebody's own machine.
        prefix: path of the public address; taken off where the proxy has left it on.
    """

    def __init__(self, app: App, *, hosts: tuple[str, ...], prefix: str = "") -> None:
        self.app, self.hosts, self.prefix = app, frozenset(host.lower() for host in hosts), prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # websockets: there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        begun, taken = False, 0

        async def answered(message: Message) -> None:
            nonlocal begun
            if taken > MOST_BYTES and not begun:
                raise _TooLarge
            if message["type"] == "http.response.start":
                begun = True
                kept = list(message.get("headers", ()))
                names = {name.lower() for name, _ in kept}
                kept += [pair for pair in HEADERS if pair[0] not in names]
                if b"cache-control" not in names:
                    kept.append((b"cache-control", b"no-store"))
                message = {**message, "headers": kept}
            await send(message)

        if refused := self._refused(scope):
            await _say(answered, *refused)
            return
        scope = self._stripped(scope)
        if scope["path"] == "":
            await _move(answered, self.prefix + "/")
            return

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BYTES:
                raise _TooLarge
            return message

        try:
            await self.app(scope, limited, answered)
        except _TooLarge:
            if not begun:
                taken = 0
                await _say(answered, 413, f"The request is larger than {MOST_BYTES:,} bytes.")
        except Exception:
            _log.exception("a request failed: %s %s", scope["method"], scope["path"].rpartition("/")[0])
            if not begun:
                await _say(answered, 500, "Something went wrong on the server. Please try again.")

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or host_name(hosts[0].decode("latin-1")) not in self.hosts:
            return 400, "This server does not answer to this host name."
        if len(scope["path"]) > MOST_PATH or len(scope["query_string"]) > MOST_PATH:
            return 414, "The address is too long."
        for name, value in headers:
            if name == b"content-length" and (not value.isdigit() or int(value[:19]) > MOST_BYTES):
                return 413, f"The request is larger than {MOST_BYTES:,} bytes."
        return None

    def _stripped(self, scope: Scope) -> Scope:
        path = scope["path"]
        if self.prefix and (path == self.prefix or path.startswith(self.prefix + "/")):
            path = path[len(self.prefix) :]
            return {**scope, "path": path, "raw_path": path.encode("utf-8", "replace")}
        return scope


async def _say(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (400, 413, 414):  # the rest of the request is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _move(send: Send, to: str) -> None:
    headers = [(b"location", to.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
