"""The server of a review: one page, the faces one by one, and a list of verdicts.

It listens on this machine alone. A call that changes something must come from its own page. Every verdict is
on the disk before it is answered. No address is stored and no log of requests is written.
"""

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ..data.derive.reviewing import KEEP, REJECT, Verdicts
from ..data.store.faceset import FaceSet
from ..web.files import static_files
from ..web.guard import CHANGING, LOCAL, Guard, Refusal, Scope, from_own_page
from ..web.serving import COMMON, bound

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
KINDS = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


class ReviewGuard(Guard):
    """The guard of a review: this machine's names alone, and no other site's calls."""

    def check(self, scope: Scope) -> Refusal | None:
        if scope["method"] in CHANGING and not from_own_page(scope):
            return Refusal(403, "Another page may not change anything here.", "origin")
        return None


class Verdict(BaseModel):
    """What the page sends: the number of a face, and what becomes of it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    face: int = Field(ge=0)
    verdict: Literal["keep", "reject", ""]


def create_app(faces: FaceSet, rows: Sequence[int] | np.ndarray, verdicts: Verdicts) -> FastAPI:
    """The ASGI application.

    Args:
        faces: a face set.
        rows: the rows that are shown, in this order.
        verdicts: the list that is read and written.
    """
    order = [int(row) for row in rows]
    digests = [digest.hex() for digest in faces.index["sha256"].take(order).to_pylist()]
    files = static_files(HERE / "static")
    page = (HERE / "static" / "page.html").read_text(encoding="utf-8")
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(ReviewGuard, hosts=LOCAL, policy=POLICY)

    def told() -> dict[str, Any]:
        given = [verdicts.review.verdicts.get(digest, "") for digest in digests]
        return {
            "faces": len(order),
            "verdicts": given,
            "kept": given.count(KEEP),
            "rejected": given.count(REJECT),
        }

    @app.get("/")
    def start() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/static/{name}")
    def file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name].content, media_type=files[name].media_type)

    @app.get("/api/review")
    def state() -> dict[str, Any]:
        return told()

    @app.get("/api/faces/{number}")
    def picture(number: int) -> Response:
        row = order[_known(number)]
        kind = KINDS.get(faces.index["format"][row].as_py())
        if kind is None:
            raise HTTPException(404)
        return Response(faces.image_bytes(row), media_type=kind)

    @app.get("/api/faces/{number}/about")
    def about(number: int) -> dict[str, str]:
        row = faces.index.slice(order[_known(number)], 1).to_pylist()[0]
        shown = ("key", "width", "height", "hair", "eyes", "artist", "sharpness", "score")
        return {name: str(row[name])[:200] for name in shown if row.get(name) is not None}

    @app.post("/api/verdicts")
    def judge(given: Verdict) -> dict[str, int]:
        number = _known(given.face)
        verdicts.add(digests[number], faces.keys[order[number]], given.verdict)
        return {name: value for name, value in told().items() if name != "verdicts"}

    def _known(number: int) -> int:
        if not 0 <= number < len(order):
            raise HTTPException(404)
        return number

    return app


def serve(
    faces: FaceSet,
    rows: Sequence[int] | np.ndarray,
    out: str | Path,
    *,
    port: int = 7861,
    browser: bool = False,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve the review of ``rows`` until interrupted; the verdicts go to the list ``out``.

    Raises:
        UserError: the list cannot be used, or the port is taken.
    """
    import uvicorn

    with closing(Verdicts(out)) as verdicts, bound("127.0.0.1", port) as listening:
        address = f"http://localhost:{listening.getsockname()[1]}/"
        app = create_app(faces, rows, verdicts)
        tell(f"review: {address}")
        tell(f"verdicts go to {verdicts.path}; Ctrl-C ends it, the same command goes on")
        server = uvicorn.Server(uvicorn.Config(app, **COMMON, timeout_graceful_shutdown=1))
        if browser:
            import webbrowser

            webbrowser.open(address)  # the socket listens already, so the page waits for the server
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
