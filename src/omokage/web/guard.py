"""What stands before every page and every call: host names, sizes, headers. Pure ASGI.

The guard keeps no address, writes no log of requests, and knows nothing of what it guards.
"""

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 64 * 2**10
"""A request with a longer body is refused, unless the guard is told otherwise."""

MOST_PATH = 2048
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
"""Methods of requests that may change something."""

LOCAL = ("localhost", "127.0.0.1", "[::1]")

HEADERS = (
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


@dataclass(frozen=True)
class Refusal:
    """Why the guard does not pass a request on: the status, a sentence, and a word for programs."""

    status: int
    sentence: str
    code: str


def host_name(header: str) -> str:
    """The name in a Host header, without the port, in small letters.

    >>> host_name("Lab.example.org:8000"), host_name("[::1]:8000")
    ('lab.example.org', '[::1]')
    """
    header = header.strip().lower()
    if header.startswith("["):
        return header[: header.find("]") + 1]
    return header.partition(":")[0].rstrip(".")


def header(scope: Scope, name: bytes) -> str | None:
    """The value of a header, whose name is in small letters; None: it is not there."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


def from_own_page(scope: Scope) -> bool:
    """Whether a request comes from a page of this very server, or from a program; no other site's page."""
    site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin")
    if site is not None and site not in ("same-origin", "none"):
        return False
    if origin is None:
        return True  # no browser: one sends Origin or Sec-Fetch-Site with whatever changes something
    parts, host = urlsplit(origin), header(scope, b"host") or ""
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.strip().lower()


class Guard:
    """ASGI middleware: checks the host name and sizes, takes off the public path, adds headers.

    Args:
        app: what is guarded.
        hosts: names that the server answers to. A name that is not listed is refused, so that no other site
            can reach a server on somebody's own machine.
        policy: the Content-Security-Policy of every answer.
        prefix: path of the public address; taken off where the proxy has left it on.
        codes: whether refusals have a word for programs beside the sentence.
    """

    def __init__(
        self, app: App, *, hosts: tuple[str, ...], policy: str, prefix: str = "", codes: bool = False
    ) -> None:
        self.app, self.hosts, self.prefix = app, frozenset(host.lower() for host in hosts), prefix
        self.headers = ((b"content-security-policy", policy.encode()), *HEADERS)
        self.codes = codes

    def most_bytes(self, scope: Scope) -> int:
        """How long the body of a request may be."""
        return MOST_BYTES

    def check(self, scope: Scope) -> Refusal | None:
        """Further checks of a request that are made before it is passed on."""
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # websockets: there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        begun, taken, most = False, 0, self.most_bytes(scope)

        async def answered(message: Message) -> None:
            nonlocal begun
            if taken > most and not begun:
                raise _TooLarge
            if message["type"] == "http.response.start":
                begun = True
                kept = list(message.get("headers", ()))
                names = {name.lower() for name, _ in kept}
                kept += [pair for pair in self.headers if pair[0] not in names]
                if b"cache-control" not in names:
                    kept.append((b"cache-control", b"no-store"))
                message = {**message, "headers": kept}
            await send(message)

        if refused := self._refused(scope, most) or self.check(scope):
            await self._say(answered, refused)
            return
        scope = self._stripped(scope)
        if scope["path"] == "":
            await _move(answered, self.prefix + "/")
            return

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise _TooLarge
            return message

        try:
            await self.app(scope, limited, answered)
        except _TooLarge:
            if not begun:
                taken = 0
                await self._say(answered, _too_large(most))
        except Exception:
            _log.exception("a request failed: %s %s", scope["method"], scope["path"].rpartition("/")[0])
            if not begun:
                sentence = "Something went wrong on the server. Please try again."
                await self._say(answered, Refusal(500, sentence, "fault"))

    def _refused(self, scope: Scope, most: int) -> Refusal | None:
        headers = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or host_name(hosts[0].decode("latin-1")) not in self.hosts:
            return Refusal(400, "This server does not answer to this host name.", "host")
        if len(scope["path"]) > MOST_PATH or len(scope["query_string"]) > MOST_PATH:
            return Refusal(414, "The address is too long.", "too_large")
        for name, value in headers:
            if name == b"content-length" and (not value.isdigit() or int(value[:19]) > most):
                return _too_large(most)
        return None

    def _stripped(self, scope: Scope) -> Scope:
        path = scope["path"]
        if self.prefix and (path == self.prefix or path.startswith(self.prefix + "/")):
            path = path[len(self.prefix) :]
            return {**scope, "path": path, "raw_path": path.encode("utf-8", "replace")}
        return scope

    async def _say(self, send: Send, refused: Refusal) -> None:
        told = {"error": refused.sentence} | ({"code": refused.code} if self.codes else {})
        body = json.dumps(told).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if refused.status in (400, 401, 403, 413, 414):  # the rest of the request is not read
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"The request is larger than {most:,} bytes.", "too_large")


async def _move(send: Send, to: str) -> None:
    headers = [(b"location", to.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
