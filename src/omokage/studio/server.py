"""The server of the studio: one page, and the calls that it makes.

`create_app` makes the ASGI application, `serve` runs it. It stands on `omokage.explore`, as the commands do.
No address is stored and no log of requests is written.
"""

import asyncio
import json
import os
import sys
import threading
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from .. import __version__
from ..errors import UserError
from ..pages.upscale import FACTORS
from ..terms import sentence
from ..web.files import StaticFile, static_files, tag_of
from ..web.serving import COMMON, bound, chosen_language
from . import answers, bodies, controls, faces, uploads
from .controls import Offered
from .drawing import Drawn, Ticket
from .faces import Face, changed
from .jobs import Job
from .refused import Refused, unknown
from .rolling import Roll, Rolled
from .security import ANYWHERE, StudioGuard, is_local, names_of, new_token, outward_address
from .service import Opened, Studio, Waiting

HERE = Path(__file__).parent
LANGUAGES = ("en", "ja")
STILL_THERE = 15.0  # seconds without news after which a stream says that it is alive
MOST_FULL = 8 * 2**20  # bytes of faces at full size in one picture
FOR_EVER = "public, max-age=31536000, immutable"
T = TypeVar("T")

Client = Annotated[str, Header(alias="X-Client", max_length=100, description="A random name of the tab.")]


def create_app(
    offered: Sequence[Offered],
    *,
    data: Path | None = None,
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]"),
    token: str | None = None,
    cookie: str = "omokage-studio",
) -> FastAPI:
    """The ASGI application.

    Args:
        offered: the models; the first is shown first.
        data: the folder of the boards; None: they are forgotten at the end.
        hosts: host names that it answers to.
        token: needed for all calls; None: not needed.

    Raises:
        UserError: two models are the same, or the boards cannot be used.
    """
    studio = Studio(offered, data)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(studio.close)

    app = FastAPI(
        title="Omokage studio",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,  # its page loads from a foreign host
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.studio = studio
    app.add_middleware(StudioGuard, hosts=hosts, token=token, cookie=cookie)
    _describe(app)
    _tell_errors(app)
    _Page(studio, token, cookie).add(app)
    _Faces(studio).add(app)
    _Files(studio).add(app)
    _Boards(studio).add(app)
    return app


def _describe(app: FastAPI) -> None:
    made: dict[str, Any] = {}

    def description() -> dict[str, Any]:
        if not made:
            made.update(
                bodies.with_faces(get_openapi(title=app.title, version=app.version, routes=app.routes))
            )
        return made

    app.openapi = description  # type: ignore[method-assign]


def _tell_errors(app: FastAPI) -> None:
    def answer(status: int, sentence: str, code: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": sentence, "code": code}, status, headers)

    @app.exception_handler(Refused)
    async def _(request: Request, error: Refused) -> JSONResponse:
        return answer(error.status, str(error), error.code)

    @app.exception_handler(UserError)
    async def _(request: Request, error: UserError) -> JSONResponse:
        return answer(422, str(error), "invalid")

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        told = {404: "There is no such page.", 405: "This method is not allowed here."}
        codes = {404: "unknown_page", 405: "method"}
        status = error.status_code
        return answer(
            status, told.get(status, str(error.detail)), codes.get(status, "invalid"), error.headers
        )

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        place = place.encode("utf-8", "replace").decode()[:100]
        return answer(422, f"{place or 'body'}: {first['msg']}.", "invalid")


_PROBLEM = {
    "description": "Not granted",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
                "required": ["error", "code"],
            }
        }
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: _PROBLEM for status in (400, 401, 403, 404, 405, 409, 413, 422, 429, 503)
}
_API: dict[str, Any] = {"responses": _PROBLEMS}


def _api(answer: Any, **more: Any) -> dict[str, Any]:
    """How a call is described that answers with JSON; what it returns is not checked again."""
    return {"responses": {200: {"model": answer}, **_PROBLEMS}, **more}


_PICTURE: dict[str, Any] = {
    "responses": {200: {"description": "A picture", "content": {"image/png": {}}}, **_PROBLEMS},
    "response_class": Response,
}


_FILE: dict[str, Any] = {
    "responses": {
        200: {"description": "A file", "content": {"application/octet-stream": {}}},
        **_PROBLEMS,
    },
    "response_class": Response,
}
_EVENTS: dict[str, Any] = {
    "responses": {200: {"description": "Events", "content": {"text/event-stream": {}}}, **_PROBLEMS},
    "response_class": Response,
}
_BYTES: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        "parameters": [
            {
                "name": "X-File-Name",
                "in": "header",
                "schema": {"type": "string"},
                "description": "The name of the file, percent-encoded; nothing is made of it.",
            }
        ],
    },
}


async def _gone(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unless_gone(request: Request, result: asyncio.Future[T], leave: Callable[[], None]) -> T:
    """The result; if the client goes away before, ``leave`` is called, which must end it."""
    gone = asyncio.ensure_future(_gone(request))
    both: set[asyncio.Future[Any]] = {result, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            leave()
        return await result
    finally:
        gone.cancel()


async def _drawn(request: Request, opened: Opened, ticket: Ticket) -> list[Drawn]:
    """The faces of a ticket; it is taken back if the client goes away."""
    if ticket.result.done():
        return ticket.result.result()
    result = asyncio.wrap_future(ticket.result)
    return await _unless_gone(request, result, lambda: opened.drawing.drop(ticket))


class _Page:
    """The page, its files and its words."""

    def __init__(self, studio: Studio, token: str | None, cookie: str) -> None:
        self.studio, self.token, self.cookie = studio, token, cookie
        self.files = _static()
        self.words = _words()

    def add(self, app: FastAPI) -> None:
        app.get("/", include_in_schema=False)(self.page)
        app.get("/robots.txt", include_in_schema=False)(self.robots)
        app.get("/terms", include_in_schema=False)(self.terms)
        app.get("/static/{name:path}", include_in_schema=False)(self.static)
        app.get("/texts/{name}", include_in_schema=False)(self.texts)
        app.post("/api/session", status_code=204, response_class=Response, **_API)(self.session)
        app.get("/api/studio", **_api(answers.StudioTold))(self.about)

    async def page(self) -> Response:
        """The page."""
        file = self.files.get("index.html")
        if file is None:
            return HTMLResponse("<!doctype html><title>Omokage studio</title><p>The page is missing.", 200)
        return Response(file.content, media_type=file.media_type, headers={"Cache-Control": "no-cache"})

    async def static(self, request: Request, name: str) -> Response:
        """A script, a stylesheet or an image of the page."""
        file = self.files.get(name)
        if file is None or name == "index.html":
            raise HTTPException(404)
        return _cached(request, file)

    async def texts(self, request: Request, name: str) -> Response:
        """All words of the page in one language."""
        file = self.words.get(name)
        if file is None:
            raise HTTPException(404)
        return _cached(request, file)

    async def robots(self) -> Response:
        """No search engine."""
        return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")

    async def terms(self) -> Response:
        """The terms of the weights that ship."""
        return Response(controls.TERMS, media_type="text/plain; charset=utf-8")

    async def session(self) -> Response:
        """Keep the token, which the header Authorization has, in a cookie for pictures and events."""
        response = Response(status_code=204)
        if self.token is not None:
            response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return response

    async def about(self, request: Request) -> JSONResponse:
        """Models, language and version: what the page must know before it shows anything."""
        language = chosen_language(LANGUAGES, None, request.headers.get("accept-language", "")[:500])
        told = {
            "models": await asyncio.to_thread(self.studio.described, language),
            "language": language,
            "version": __version__,
            "upscalers": list(FACTORS),
            "token_needed": self.token is not None,
        }
        return JSONResponse(told)


def _cached(request: Request, file: StaticFile) -> Response:
    headers = {"Cache-Control": "no-cache", "ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _static() -> dict[str, StaticFile]:
    """The files of the page by name, read once; nothing else is ever sent."""
    folder = HERE / "static"
    found = static_files(folder) if folder.is_dir() else {}
    index = folder / "index.html"
    if index.is_file():
        content = index.read_bytes()
        found["index.html"] = StaticFile(content, "text/html; charset=utf-8", tag_of(content))
    return found


def _words() -> dict[str, StaticFile]:
    """The words of the page by language; those about selling stand in one place, `omokage.terms`."""
    found = {}
    for path in sorted((HERE / "texts").glob("*.toml")):
        words = tomllib.loads(path.read_text(encoding="utf-8"))
        words["terms"] = {"shipped": sentence("shipped", path.stem), "own": sentence("own", path.stem)}
        content = json.dumps(words, ensure_ascii=False).encode()
        found[f"{path.stem}.json"] = StaticFile(content, "application/json", tag_of(content))
    return found


class _Faces:
    """Everything that draws."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._rollers = ThreadPoolExecutor(32, thread_name_prefix="studio-roller")  # they mostly wait

    def add(self, app: FastAPI) -> None:
        app.post("/api/draw", **_api(answers.DrawnTold))(self.draw)
        app.post("/api/wall", **_api(answers.WallTold))(self.wall)
        app.post("/api/grid", **_api(answers.GridTold))(self.grid)
        app.post("/api/flatten", **_api(answers.FacesTold))(self.flatten)
        app.post("/api/describe", **_api(answers.DescriptionTold))(self.describe)
        app.post("/api/command", **_api(answers.CommandTold))(self.command)
        app.get("/api/faces/{key}.png", **_PICTURE)(self.face)
        app.get("/pictures/{name}.png", **_PICTURE)(self.picture)
        app.get("/latents/{name}.safetensors", **_FILE)(self.latents)

    async def _together(
        self,
        request: Request,
        wanted: list[Face],
        opened: Opened,
        client: str,
        body: Any,
        *,
        exact: bool = False,
        wall: bool = True,
    ) -> dict[str, Any]:
        """Draw faces into one sprite."""
        channel = None if body.channel is None else (client, body.channel)
        ticket = opened.drawing.submit(wanted, exact=exact, channel=channel, order=body.order)
        drawn = await _drawn(request, opened, ticket)
        if not wall and sum(one.pixels.nbytes for one in drawn) > MOST_FULL:
            raise Refused("These faces are too large for one picture; ask for fewer at once.", "too_large")
        sprite = self.studio.pictures.sprite([one.pixels for one in drawn], wall=wall)
        told = [
            {"key": one.key, "seed": face.seed, "finite": one.finite, "score": None}
            for one, face in zip(drawn, wanted, strict=True)
        ]
        lost = sum(not one.finite for one in drawn)
        lines = [f"{lost} of {len(drawn)} faces are not finite and shown black."] if lost else []
        return {
            "sprite": sprite.url,
            "columns": sprite.columns,
            "tile": list(sprite.tile),
            "faces": told,
            "told": lines,
        }

    async def draw(self, request: Request, body: bodies.Draw, client: Client = "") -> JSONResponse:
        """Draw faces. A later request of the same client and channel takes the place of earlier ones."""
        wanted, opened = self.studio.parse(body.faces)
        wall = body.size == "wall"
        return JSONResponse(
            await self._together(request, wanted, opened, client, body, exact=body.exact, wall=wall)
        )

    async def wall(self, request: Request, body: bodies.Wall, client: Client = "") -> JSONResponse:
        """Roll new faces: those of the seeds from ``start`` on, or those of them that show what is fixed."""
        opened = self.studio.opened(body.model)
        asked = Roll(
            body.model,
            body.start,
            body.count,
            body.psi,
            body.settings,
            body.fixed,
            body.broken == "replace",
        )
        channel = None if body.channel is None else (client, body.channel)
        rolled, drawn = await self._rolled(request, opened, asked, channel, body.order)
        self.studio.remember(rolled.faces)
        lost = sum(not one.finite for one in drawn)
        if lost:
            rolled.tell(f"{lost} of {len(drawn)} faces are not finite and shown black.", "black", n=lost)
        told: dict[str, Any] = {
            "faces": [faces.document(face) for face in rolled.faces],
            "keys": [one.key for one in drawn],
            "finite": [one.finite for one in drawn],
            "scores": rolled.scores,
            "next": rolled.next,
            "replaced": rolled.replaced,
            "told": rolled.told,
            "notes": rolled.notes,
        }
        if drawn:
            sprite = self.studio.pictures.sprite([one.pixels for one in drawn], wall=True)
            told |= {"sprite": sprite.url, "columns": sprite.columns, "tile": list(sprite.tile)}
        else:
            told |= {"sprite": None, "columns": 1, "tile": list(opened.model.resolution)}
        return JSONResponse(told)

    async def _rolled(
        self,
        request: Request,
        opened: Opened,
        asked: Roll,
        channel: tuple[str, str] | None,
        order: int,
    ) -> tuple[Rolled, list[Drawn]]:
        """A page of faces; it is given up if the client goes away."""
        if not asked.replace and not asked.wanted:
            some = [asked.face(seed) for seed in range(asked.start, asked.start + asked.count)]
            ticket = opened.drawing.submit(some, channel=channel, order=order)
            rolled = Rolled(some, asked.start + asked.count, scores=[None] * len(some))
            return rolled, await _drawn(request, opened, ticket)
        waiting = Waiting()

        def work() -> tuple[Rolled, list[Drawn]]:
            def draw(some: Sequence[Face]) -> list[Drawn]:
                return opened.draw(some, channel=channel, order=order, wait=waiting)

            return self.studio.roll(asked, draw)

        done = asyncio.get_running_loop().run_in_executor(self._rollers, work)
        return await _unless_gone(request, done, waiting.leave)

    async def grid(self, request: Request, body: bodies.Grid, client: Client = "") -> JSONResponse:
        """A face with two things changed: one row and one column for each value."""
        (face,), opened = self.studio.parse([body.face])
        rows, columns = body.rows, body.columns
        if len(rows.values) * len(columns.values) > bodies.MOST_FACES:
            raise Refused(f"A grid may have {bodies.MOST_FACES} faces.")
        cells = [
            faces.document(
                changed(opened.model, changed(opened.model, face, rows.what, row), columns.what, column)
            )
            for row in rows.values
            for column in columns.values
        ]
        wanted, opened = self.studio.parse(cells)
        told = await self._together(request, wanted, opened, client, body)
        headings = {"row_names": [*map(str, rows.values)], "column_names": [*map(str, columns.values)]}
        return JSONResponse({**told, **headings, "documents": cells})

    async def flatten(self, body: bodies.Flatten) -> JSONResponse:
        """The same faces without nesting: their points are kept on the server."""
        wanted, _ = self.studio.parse(body.faces)
        flat = await asyncio.to_thread(lambda: [self.studio.flatten(face) for face in wanted])
        return JSONResponse({"faces": [faces.document(face) for face in flat]})

    async def describe(self, body: bodies.OneFace) -> JSONResponse:
        """How a face was made: in lines, its parents, and its recipe."""
        (face,), _ = self.studio.parse([body.face])
        return JSONResponse(await asyncio.to_thread(self.studio.describe, face))

    async def command(self, body: bodies.Command) -> JSONResponse:
        """The command line that repeats something, and the files that it needs."""
        wanted, _ = self.studio.parse([*([] if body.face is None else [body.face]), *body.faces])
        return JSONResponse(await asyncio.to_thread(self.studio.command, body.action, wanted, body.name))

    async def face(self, key: str) -> Response:
        """A face that was drawn or pinned, exact and with its recipe."""
        png = await asyncio.to_thread(self.studio.png, key)
        return Response(png, media_type="image/png")

    async def latents(self, name: str) -> Response:
        """A latent file that a command needs."""
        data = self.studio.latents.get(name)
        if data is None:
            raise unknown("file", "This file is no longer kept; ask for the command again.")
        return Response(data, media_type="application/octet-stream", headers=_attached("face.safetensors"))

    async def picture(self, name: str) -> Response:
        """A picture that was drawn lately, by the hash of its content."""
        png = self.studio.pictures.get(name)
        if png is None:
            raise unknown("picture", "This picture is no longer kept; draw it again.")
        return Response(png, media_type="image/png", headers={"Cache-Control": FOR_EVER})


class _Files:
    """Everything that comes and goes as a file, and the long work behind it."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._reading = threading.Lock()  # a large picture takes much memory while it is decoded

    def add(self, app: FastAPI) -> None:
        app.post("/api/uploads", **_api(answers.UploadTold, **_BYTES))(self.upload)
        app.delete("/api/uploads/{upload}", status_code=204, response_class=Response, **_API)(self.forget)
        app.post("/api/export", **_api(answers.JobStarted))(self.export)
        app.post("/api/jobs", **_api(answers.JobStarted))(self.start)
        app.get("/api/jobs/{job}", **_api(answers.JobTold))(self.job)
        app.delete("/api/jobs/{job}", status_code=204, response_class=Response, **_API)(self.cancel)
        app.get("/api/jobs/{job}/events", **_EVENTS)(self.events)
        app.get("/files/{job}/{name}", **_FILE)(self.file)

    async def upload(self, request: Request) -> JSONResponse:
        """Bring a drawing, or one of Omokage's own pictures: the file is the body."""
        data = await request.body()
        return JSONResponse(await asyncio.to_thread(self._read, data))

    def _read(self, data: bytes) -> dict[str, Any]:
        with self._reading:
            upload = uploads.read_upload(data)
            recipe = uploads.recipe_in(data)
        self.studio.uploads.keep(upload)
        return upload.json() | ({} if recipe is None else {"restored": self.studio.restored(recipe)})

    async def forget(self, upload: str) -> Response:
        """Forget a drawing now."""
        self.studio.uploads.forget(upload)
        return Response(status_code=204)

    async def export(self, body: bodies.Export) -> JSONResponse:
        """Make a file."""
        return self._export(body)

    def _export(self, body: bodies.Export) -> JSONResponse:
        if body.faces:
            self.studio.parse_all(body.faces)
        if body.board is not None:
            self.studio.store.state(body.board)
        elif not body.faces:
            raise Refused("faces: at least one is needed, or a board")
        job = self.studio.jobs.start(lambda job: self.studio.export(body.model_dump(), job))
        return JSONResponse({"job": job.id})

    async def start(self, body: bodies.Job) -> JSONResponse:
        """Start long work: find the face for a drawing, or make a file."""
        if isinstance(body, bodies.ExportJob):
            return self._export(body)
        self.studio.opened(body.model)
        self.studio.uploads.get(body.upload)
        box = None if body.box is None else dict(zip(("x", "y", "width", "height"), body.box, strict=True))
        if box is not None and min(box["width"], box["height"]) <= 0:
            raise Refused("box: x, y, width and height, both above 0")
        job = self.studio.jobs.start(
            lambda job: self.studio.invert(body.upload, box, body.model, job), "search"
        )
        return JSONResponse({"job": job.id})

    async def job(self, job: str) -> JSONResponse:
        """How far a job is."""
        return JSONResponse(self.studio.jobs.job(job).json())

    async def cancel(self, job: str) -> Response:
        """Cancel a job; one that is over is forgotten with its files."""
        await asyncio.to_thread(self.studio.jobs.cancel, job)
        return Response(status_code=204)

    async def events(self, request: Request, job: str) -> StreamingResponse:
        """What happens to a job, as server-sent events."""
        found = self.studio.jobs.job(job)
        last = request.headers.get("last-event-id", "")
        start = int(last) if last.isascii() and last.isdigit() and len(last) < 12 else 0
        return StreamingResponse(_told(found, start), media_type="text/event-stream")

    async def file(self, job: str, name: str) -> FileResponse:
        """A file that a job has made."""
        found = self.studio.jobs.file(job, name)
        return FileResponse(found.path, media_type=found.media_type, headers=_attached(name))


async def _told(job: Job, last: int) -> AsyncIterator[bytes]:
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(news.set)

    with job.watched(wake):
        while True:
            news.clear()
            over = job.over
            for event in job.since(last):
                last = event.number
                yield f"id: {last}\nevent: {event.kind}\ndata: {json.dumps(event.data)}\n\n".encode()
            if over:
                return
            try:
                await asyncio.wait_for(news.wait(), STILL_THERE)
            except TimeoutError:
                yield b": still at work\n\n"


def _attached(name: str) -> dict[str, str]:
    """The header that makes a browser save a file under its name (RFC 6266)."""
    plain = "".join(
        letter if (letter.isascii() and letter.isalnum()) or letter in "-_. " else "_" for letter in name
    )
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    }


class _Boards:
    """Everything about boards. The reply to an edit means that it is on the disk."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.store = studio, studio.store

    def add(self, app: FastAPI) -> None:
        app.get("/api/boards", **_api(list[answers.BoardName]))(self.all)
        app.post("/api/boards", **_api(answers.BoardTold))(self.create)
        app.post("/api/boards/import", **_api(answers.BoardTold, **_BYTES))(self.bring)
        app.get("/api/boards/{board}", **_api(answers.BoardTold))(self.one)
        app.delete("/api/boards/{board}", status_code=204, response_class=Response, **_API)(self.delete)
        app.post("/api/boards/{board}/restore", **_api(answers.BoardTold))(self.restore)
        app.post("/api/boards/{board}/edits", **_api(answers.BoardTold))(self.edit)
        app.post("/api/boards/{board}/undo", **_api(answers.BoardTold))(self.undo)
        app.post("/api/boards/{board}/redo", **_api(answers.BoardTold))(self.redo)

    async def all(self) -> JSONResponse:
        """All boards."""
        return JSONResponse(self.store.boards())

    async def create(self, body: bodies.NewBoard) -> JSONResponse:
        """A new board."""
        return JSONResponse(await asyncio.to_thread(self.store.create, body.name, body.request))

    async def bring(self, request: Request) -> JSONResponse:
        """A new board out of a board file, which is the body."""
        data = await request.body()
        return JSONResponse(await asyncio.to_thread(self.studio.bring_board, data))

    async def one(self, board: str) -> JSONResponse:
        """A board with its pins."""
        return JSONResponse(self.store.board(board))

    async def delete(self, board: str) -> Response:
        """Delete a board; it can be restored."""
        await asyncio.to_thread(self.store.delete, board)
        return Response(status_code=204)

    async def restore(self, board: str) -> JSONResponse:
        """Bring a deleted board back."""
        return JSONResponse(await asyncio.to_thread(self.store.restore, board))

    async def edit(self, board: str, body: bodies.Edit) -> JSONResponse:
        """Change a board."""
        told = body.model_dump(exclude={"edit", "request", "face"}, exclude_none=True)
        points: Any = {}
        if body.edit == "pin":
            (face,), _ = self.studio.parse([body.face])
            points = await asyncio.to_thread(self.studio.packed_points, face)
            told |= {"face": faces.document(face), "key": faces.key(face)}
        return JSONResponse(
            await asyncio.to_thread(self.store.edit, board, body.edit, told, body.request, points)
        )

    async def undo(self, board: str, body: bodies.Step | None = None) -> JSONResponse:
        """Undo the last edit."""
        request = None if body is None else body.request
        return JSONResponse(await asyncio.to_thread(self.store.undo, board, request))

    async def redo(self, board: str, body: bodies.Step | None = None) -> JSONResponse:
        """Redo what was undone."""
        request = None if body is None else body.request
        return JSONResponse(await asyncio.to_thread(self.store.redo, board, request))


def serve(
    models: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    data: Path | None = None,
    directions: Path | None = None,
    hosts: tuple[str, ...] = (),
    browser: bool = False,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve the studio until interrupted.

    Args:
        models: runs, snapshots or names of models that ship; none: the model that ships.
        host, port: where to listen. Beyond this machine alone, a token is needed, which is told once.
        data: the folder of the boards; None: the user's own folder for data.
        directions: a file of `omokage directions`, for the model that it belongs to.
        hosts: further host names to answer to.
        browser: open the page in the browser.
        tell: called with lines for the user.

    Raises:
        UserError: a model that cannot be loaded, boards that cannot be used, or a port that is taken.
    """
    import uvicorn

    with bound(host, port) as listening:
        port = listening.getsockname()[1]
        offered = [controls.open_model(source, directions) for source in models or ("shipped",)]
        if directions is not None and all(one.directions is None for one in offered):
            raise UserError(f"--directions {directions}: they belong to none of these models")
        token = None if is_local(host) else new_token()
        app = create_app(
            offered,
            data=data_folder() if data is None else data,
            hosts=names_of(host, hosts),
            token=token,
            cookie=f"omokage-studio-{port}",
        )
        name = "localhost" if host in ANYWHERE or is_local(host) else host
        address = f"http://{name}:{port}/" + (f"#token={token}" if token else "")
        listening.listen()  # who opens the address at once waits for the server, and is not turned away
        tell(f"studio: {address}")
        if host in ANYWHERE and (other := outward_address()):
            tell(f"from other machines: http://{other}:{port}/#token={token}")
        if token:
            tell("the address has the token that this studio needs; it is shown only now")
        tell("Ctrl-C ends it; boards stay")
        app.state.studio.prepare()
        config = uvicorn.Config(
            app, **COMMON, host=host, port=port, limit_concurrency=512, timeout_graceful_shutdown=1
        )
        server = uvicorn_server(config)
        if browser and _has_screen():
            _open_when_ready(server, address)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


def _has_screen() -> bool:
    """Whether a browser would open in a window, and not in this terminal."""
    graphical = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in graphical)


def uvicorn_server(config: Any) -> Any:
    """The server of uvicorn."""
    import uvicorn

    return uvicorn.Server(config)


def _open_when_ready(server: Any, address: str) -> None:
    import webbrowser

    def wait() -> None:
        while not server.started and not server.should_exit:
            time.sleep(0.05)
        if server.started:
            webbrowser.open(address)

    threading.Thread(target=wait, daemon=True).start()


def data_folder() -> Path:
    """The user's folder for boards."""
    from platformdirs import user_data_path

    return user_data_path("omokage") / "studio"
