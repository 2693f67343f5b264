"""What stands before every page and every call of the studio."""

import hmac
import secrets
import socket
from http.cookies import CookieError, SimpleCookie

from ..web.guard import (
    CHANGING,
    LOCAL,
    MOST_BYTES,
    App,
    Guard,
    Refusal,
    Scope,
    from_own_page,
    header,
)

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""The Content-Security-Policy: nothing inline, nothing from another host."""

MOST_UPLOAD = 20 * 2**20
MOST_EXPORT = 2**20
EXPORTS = ("/api/export", "/api/jobs")
UPLOADS = ("/api/uploads", "/api/boards/import")
OPEN = ("/", "/terms", "/robots.txt")  # what is seen without a token, with the page's files and words
OPEN_FOLDERS = ("/static/", "/texts/")
SESSION = "/api/session"
ANYWHERE = ("0.0.0.0", "::")


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def is_local(host: str) -> bool:
    """Whether an address to listen on is of this machine alone.

    >>> is_local("127.0.0.1"), is_local("::1"), is_local("0.0.0.0")
    (True, True, False)
    """
    return host in ("localhost", "127.0.0.1", "::1", "[::1]")


def names_of(host: str, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The host names that a server on ``host`` answers to."""
    names = [*LOCAL, *more]
    if host in ANYWHERE:
        own = socket.gethostname()
        names += [own, f"{own}.local"]
        try:
            found = {str(each[4][0]) for each in socket.getaddrinfo(own, None)}
        except OSError:
            found = set()
        found.add(outward_address())
        names += [f"[{one}]" if ":" in one else one for one in found if one]
    elif not is_local(host):
        names.append(f"[{host}]" if ":" in host and not host.startswith("[") else host)
    return tuple(dict.fromkeys(name.lower() for name in names))


def outward_address() -> str:
    """This machine's address in the local network; "" if it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation (RFC 5737)
            return str(probe.getsockname()[0])
        except OSError:
            return ""


class StudioGuard(Guard):
    """The guard of the studio: also checks the origin of whatever changes something, and the token.

    Args:
        token: needed for everything but the page itself; None: not needed.
        cookie: the name of the cookie that has the token.
    """

    def __init__(
        self, app: App, *, hosts: tuple[str, ...], token: str | None = None, cookie: str = "omokage-studio"
    ) -> None:
        super().__init__(app, hosts=hosts, policy=POLICY, codes=True)
        self.token, self.cookie = token, cookie

    def most_bytes(self, scope: Scope) -> int:
        """Uploads, and the faces of a whole board, may be larger than other requests."""
        if scope["path"] in UPLOADS:
            return MOST_UPLOAD
        return MOST_EXPORT if scope["path"] in EXPORTS else MOST_BYTES

    def check(self, scope: Scope) -> Refusal | None:
        """Refuse what another site has sent, and whoever does not have the token."""
        if scope["method"] in CHANGING and not from_own_page(scope):
            return Refusal(403, "Another page may not change anything here.", "origin")
        if self.token is None or self._is_open(scope["path"]):
            return None
        if not (self._bears(scope) or (scope["path"] != SESSION and self._has_cookie(scope))):
            return Refusal(401, "This studio needs its token: open the address that was printed.", "token")
        return None

    def _is_open(self, path: str) -> bool:
        return path in OPEN or path.startswith(OPEN_FOLDERS)

    def _bears(self, scope: Scope) -> bool:
        scheme, _, token = (header(scope, b"authorization") or "").partition(" ")
        return scheme.lower() == "bearer" and self._is(token.strip())

    def _has_cookie(self, scope: Scope) -> bool:
        try:
            found = SimpleCookie(header(scope, b"cookie") or "").get(self.cookie)
        except CookieError:
            return False
        return found is not None and self._is(found.value)

    def _is(self, token: str) -> bool:
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())
