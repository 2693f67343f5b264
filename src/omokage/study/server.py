"""The server of a study: pages and calls for participants, and a dashboard behind a token.

`create_app` makes the ASGI application, `serve` runs it. Every answer of a participant is in the database
before it is acknowledged. No address is stored and no log of requests is written.
"""

import asyncio
import hmac
import json
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy.engine import Connection
from starlette.exceptions import HTTPException

from ..errors import UserError
from ..web.serving import COMMON, bound, chosen_language
from . import dashboard, pages, sessions, store
from .design import Design, check_pictures, load_design
from .opening import DATABASE
from .security import LOCAL, Guard, split_public_url
from .sessions import Refused
from .stimuli import Stimuli, all_padded, load_stimuli
from .store import Store, database_url

STARTS_PER_MINUTE = 600
"""More participants than this in a minute are asked to wait: a flood must not fill the database."""

TIMES_SECONDS = 2.0
"""How often pictures are counted at most; other processes' new participants are seen after that."""

MOST_SHOWN = 20_000
"""Pictures of current trials that are kept in mind."""

T = TypeVar("T")


def _plain(text: str) -> str:
    if any((ord(letter) < 32 and letter not in "\n\t") or 0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ValueError("control characters are not allowed")
    return text


Short = Annotated[str, Field(max_length=100), AfterValidator(_plain)]
Long = Annotated[str, Field(max_length=2000), AfterValidator(_plain)]
Milliseconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
"""Up to 115 days: a page may stay open."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PanelIds(_Body):
    """Identifiers that a recruiting service has put into the address."""

    PROLIFIC_PID: Short | None = None
    STUDY_ID: Short | None = None
    SESSION_ID: Short | None = None


class NewParticipant(_Body):
    """What somebody sends who agrees to take part."""

    language: Short
    consents: list[Short] = Field(max_length=100)
    age_confirmed: bool
    panel: PanelIds | None = None
    attempt: Annotated[str, Field(min_length=22, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")] | None = None


class Token(BaseModel):
    """What a new participant gets; the token must be kept."""

    token: str
    withdrawal_code: str


class Refusal(_Body):
    """Why somebody does not take part."""

    reason: Literal["no_consent", "too_young"]


class Device(_Body):
    """What the browser says about the device. ``visit`` is random and new whenever the page is loaded."""

    device: Literal["phone", "tablet", "desktop"] | None = None
    viewport_width: int | None = Field(None, ge=0, le=100_000)
    viewport_height: int | None = Field(None, ge=0, le=100_000)
    pixel_ratio: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    refresh_hz: float | None = Field(None, ge=1, le=2000, allow_inf_nan=False)
    pointer: Literal["touch", "mouse"] | None = None
    visit: Short | None = None


class Questions(_Body):
    """Answers to the researcher's questions, by the question's id; null: not answered."""

    answers: dict[Short, Long | Annotated[float, Field(allow_inf_nan=False)] | None] = Field(max_length=100)


class Answer(_Body):
    """An answer to the current trial; times in milliseconds."""

    trial: Short
    response: Short | int
    rt: Milliseconds
    time_elapsed: Milliseconds
    exposure_measured_ms: Milliseconds | None = None
    frames_off: float | None = Field(None, ge=-1e6, le=1e6, allow_inf_nan=False)
    resumed: bool | Literal[0, 1] | None = None


class Withdrawal(_Body):
    """A withdrawal code, as a person typed it."""

    code: Short


class State(_Body):
    """The wanted state of the study."""

    state: Literal["open", "paused", "closed"]


@dataclass
class Served:
    """What one process needs to serve a study.

    words: texts by language; padded: the pictures as they are sent.
    """

    folder: Path
    design: Design
    stimuli: Stimuli
    store: Store
    padded: dict[str, bytes]
    words: dict[str, dict[str, Any]]
    pilot: bool
    public_url: str | None
    token_hash: str

    @property
    def hash(self) -> str:
        """Of design and pictures: what the first participant freezes."""
        return self.design.hash(self.stimuli.hash)


class _Times:
    """How often each picture was shown, counted anew every few seconds and kept up to date in between.

    Counting takes longer the more people have answered, and answers must not wait for it.
    """

    def __init__(self, count: Callable[[], Awaitable[Counter[str]]]) -> None:
        self._count, self._counts, self._then = count, Counter[str](), -TIMES_SECONDS
        self._counting = asyncio.Lock()

    async def now(self) -> Counter[str]:
        """The counts; whoever starts adds the pictures of the new trials."""
        async with self._counting:
            if time.monotonic() - self._then >= TIMES_SECONDS:
                self._then = time.monotonic()
                self._counts = await self._count()
        return self._counts


class _Starts:
    """How many participants may start now; refills by the minute, for everybody together."""

    def __init__(self, most: int) -> None:
        self._most, self._left, self._then = most, float(most), time.monotonic()
        self._lock = threading.Lock()

    def one(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._left = min(self._most, self._left + (now - self._then) * self._most / 60)
            self._then = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


def open_study(
    folder: str | Path, *, database: str | None = None, pilot: bool = False, public_url: str | None = None
) -> Served:
    """Open a study's folder and database for serving.

    Raises:
        UserError: a part is missing or damaged, there are too few pictures, or the design or its pictures
            were changed after the first participant.
    """
    folder = Path(folder)
    design, stimuli = load_design(folder), load_stimuli(folder)
    if set(stimuli.counts) != set(design.sources):
        raise UserError(
            f"{folder / 'design.toml'}: sources are {', '.join(design.sources)}, and the pictures are of "
            f"{', '.join(stimuli.counts)}"
        )
    check_pictures(design, stimuli.counts)
    words = {language: pages.texts(language, folder) for language in design.languages}
    for language in design.languages:
        consent_as_shown(design, words[language], language)  # a statement without a text is told now
    token_hash = read_token_hash(folder)
    padded = all_padded(stimuli)
    opened = Store(database_url(database or folder / DATABASE), create=database is not None)
    try:
        check_frozen(opened, design.hash(stimuli.hash), folder)
    except UserError:
        opened.close()
        raise
    return Served(folder, design, stimuli, opened, padded, words, pilot, public_url, token_hash)


def consent_as_shown(design: Design, words: dict[str, Any], language: str) -> list[dict[str, str]]:
    """The statements of consent with the words that somebody sees today, to be kept beside the consent.

    Raises UserError if a statement has no text in this language.
    """
    values = {
        "title": design.title,
        "trials": design.trials,
        "minimum_age": design.minimum_age or "",
        "withdrawal_days": design.withdrawal_days or "",
        "last_day": sessions.last_day(design).isoformat(),
        "researcher": design.researcher.name,
        "researcher_email": design.researcher.email,
        "supervisor": design.supervisor.name,
        "supervisor_email": design.supervisor.email,
    }
    own = {one.id: one.text for one in design.consent if one.text}
    for name, text in own.items():
        if language not in text:
            raise UserError(f"design.toml: the statement {name} has no text in the language {language}")
    statements = {**words["consent"]["statements"], **{name: text[language] for name, text in own.items()}}
    wording = {**words, "consent": {**words["consent"], "statements": statements}}
    return pages.consent_shown(wording, [one.id for one in design.consent], values)


def check_frozen(opened: Store, digest: str, folder: Path) -> None:
    """UserError if the design or its pictures are no longer those of the first participant."""
    import sqlalchemy as sa

    with opened.reading() as connection:
        row = connection.execute(sa.select(store.study)).one()
    if row.frozen_hash is not None and row.frozen_hash != digest:
        raise UserError(
            f"{folder / 'design.toml'} or the pictures were changed after the first participant "
            f"({row.frozen_at}); put the old ones back, or make a new study"
        )


def read_token_hash(folder: str | Path) -> str:
    """The hash of the dashboard's token, from ``tokens.json``; UserError if there is none."""
    path = Path(folder) / "tokens.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["dashboard_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: cannot be read; make a new token: omokage study token {folder}") from None


def create_app(
    folder: str | Path,
    *,
    database: str | None = None,
    pilot: bool = False,
    public_url: str | None = None,
    hosts: tuple[str, ...] = (),
) -> FastAPI:
    """The ASGI application of a study.

    Args:
        folder: the study.
        database: a URL of PostgreSQL, or a path of SQLite; None: ``study.sqlite`` in the folder.
        pilot: mark everybody who starts now as a pilot, who is reported apart and freezes nothing.
        public_url: the address that participants open, if it is not this server's own.
        hosts: further names that the server answers to.

    Raises:
        UserError: see `open_study`.
    """
    names, prefix = list(LOCAL), ""
    if public_url:
        host, prefix = split_public_url(public_url)
        names.append(host)
    served = open_study(folder, database=database, pilot=pilot, public_url=public_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(served.store.close)

    app = FastAPI(
        title="A study",
        openapi_url="/api/openapi.json",
        docs_url=None,  # its page loads from a foreign host
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.served = served
    app.add_middleware(Guard, hosts=(*names, *hosts), prefix=prefix)
    _tell_errors(app)
    _Participants(served).add(app)
    _Dashboard(served).add(app)
    return app


def _tell_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def _(request: Request, error: Refused) -> JSONResponse:
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return JSONResponse({"error": error.sentence}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        told = {404: "There is no such page.", 405: "This method is not allowed here."}
        return JSONResponse(
            {"error": told.get(error.status_code, str(error.detail))}, error.status_code, error.headers
        )

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        place = place.encode("utf-8", "replace").decode()[:100]
        return JSONResponse({"error": f"{place or 'body'}: {first['msg']}."}, 422)


async def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > 200:
        raise Refused(401, "A token is needed.")
    return token.strip()


Bearer = Annotated[str, Depends(_bearer)]
# Why a request is not granted, in one sentence. Models in place of this schema would take long, call by call.
_PROBLEM = {
    "description": "Not granted",
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
        }
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: _PROBLEM for status in (400, 401, 403, 404, 409, 413, 422, 429)
}


class _Calls:
    """Runs work on the database without blocking the loop."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="study-reader")

    def _now(self, work: Callable[[Connection], T]) -> T:
        with self.served.store.reading() as connection:
            return work(connection)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """The result of quick reading."""
        if self.served.store.local:
            return self._now(work)  # a thread would take longer than the reading
        return await self.read_apart(work)

    async def read_apart(self, work: Callable[[Connection], T]) -> T:
        """The result of reading that may take long, in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._now, work)

    def write(self, work: Callable[[Connection], T]) -> Awaitable[T]:
        return asyncio.wrap_future(self.served.store.submit(work))


class _Participants(_Calls):
    """Everything that a participant's page calls."""

    def __init__(self, served: Served) -> None:
        super().__init__(served)
        self._starts = _Starts(STARTS_PER_MINUTE)
        self._sources = served.stimuli.source_of
        self._shown: dict[tuple[str, str], str] = {}
        self._times = _Times(self._count)

    async def _count(self) -> Counter[str]:
        pilot = self.served.pilot
        return await self.read_apart(lambda c: sessions.times_shown(c, int(time.time()), pilot))

    def _remember(self, token: str, shown: dict[str, str]) -> None:
        """Keep the pictures of current trials in mind: their browser asks for them next."""
        for key, picture in shown.items():
            self._shown[token, key] = picture
        while len(self._shown) > MOST_SHOWN:
            del self._shown[next(iter(self._shown))]

    def add(self, app: FastAPI) -> None:
        api: dict[str, Any] = {"responses": _PROBLEMS}
        app.get("/", include_in_schema=False)(self.page)
        app.get("/static/{name}", include_in_schema=False)(self.static)
        app.get("/robots.txt", include_in_schema=False)(self.robots)
        app.get("/api/study", **api)(self.study)
        app.get("/api/texts/{language}", **api)(self.texts)
        app.post("/api/participants", status_code=201, **api)(self.start)
        app.post("/api/refusals", **api)(self.refusal)
        app.get("/api/session", **api)(self.session)
        app.post("/api/session/device", **api)(self.device)
        app.post("/api/session/questions", **api)(self.questions)
        app.get("/api/trials/next", **api)(self.next)
        app.get("/api/pictures/{key}", response_class=Response, **api)(self.picture)
        app.post("/api/answers", **api)(self.answer)
        app.get("/api/debriefing", **api)(self.debriefing)
        app.post("/api/withdrawals", **api)(self.withdrawal)

    async def page(self, request: Request, lang: str | None = None) -> HTMLResponse:
        """The participant's page."""
        served = self.served
        language = chosen_language(
            served.design.languages, lang, request.headers.get("accept-language", "")[:500]
        )
        return HTMLResponse(pages.page(language, served.design.title, served.folder))

    async def static(self, request: Request, name: str) -> Response:
        """A script, a stylesheet or an image of the page."""
        file = pages.static_file(name)
        if file is None:
            raise HTTPException(404)
        headers = {"Cache-Control": "no-cache", "ETag": file.etag}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    async def robots(self) -> Response:
        """No search engine."""
        return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")

    async def study(self) -> dict[str, Any]:
        """What a page must know before anybody has started."""
        design = self.served.design
        plain = design.model_dump(mode="json")
        names = (
            *("title", "kind", "preset", "languages", "practice", "checks", "break_every", "size"),
            *("minimum_age", "withdrawal_days", "researcher", "supervisor", "consent", "questions"),
            *("scale", "parts", "show_score", "mask"),
        )
        parts = len(design.parts) if design.kind == "rating" else 1
        return {name: plain[name] for name in names} | {
            "state": await self.read(sessions.state),
            "open": await self.read(lambda c: sessions.may_start(c, design, self.served.pilot)),
            "trials": design.answers - design.practice * parts,
            "last_day": sessions.last_day(design).isoformat(),
            "pilot": self.served.pilot,
            "panel": design.panel is not None,
        }

    async def texts(self, language: str) -> dict[str, Any]:
        """All words of the page in one language."""
        if language not in self.served.words:
            raise Refused(404, "There are no texts in this language.")
        return self.served.words[language]

    async def start(self, body: NewParticipant) -> Token:
        """Take part: gives the token that all other calls need."""
        served = self.served
        if body.language not in served.words:
            raise Refused(422, "language: the study is not in this language.")
        if served.design.minimum_age and not body.age_confirmed:
            raise Refused(422, "age_confirmed: the minimum age must be confirmed.")
        if not self._starts.one():
            raise Refused(429, "Many people are starting at the moment. Please try again in a minute.")
        words = served.words[body.language]
        panel = body.panel.model_dump(exclude_none=True) if body.panel else None
        times = await self._times.now()

        def work(connection: Connection) -> sessions.Started:
            return sessions.start(
                connection,
                served.design,
                self._sources,
                language=body.language,
                consents=body.consents,
                words=words,
                shown=consent_as_shown(served.design, words, body.language),
                times=times,
                pilot=served.pilot,
                frozen_hash=served.hash,
                attempt=body.attempt,
                panel_ids=panel,
            )

        started = await self.write(work)
        return Token(token=started.token, withdrawal_code=started.withdrawal_code)

    async def refusal(self, body: Refusal) -> dict[str, str | None]:
        """Not taking part: only the count is kept."""
        design, pilot = self.served.design, self.served.pilot
        if not self._starts.one():
            raise Refused(429, "Many people are starting at the moment. Please try again in a minute.")
        return {"redirect": await self.write(lambda c: sessions.refuse(c, design, body.reason, pilot))}

    async def session(self, token: Bearer) -> dict[str, Any]:
        """Where the participant stands."""
        return await self.read(lambda c: sessions.session(c, self.served.design, token))

    async def device(self, body: Device, token: Bearer) -> dict[str, int]:
        """Keep what the browser says about the device."""
        told = body.model_dump(exclude={"visit"})
        return {"resumed": await self.write(lambda c: sessions.keep_device(c, token, told, body.visit))}

    async def questions(self, body: Questions, token: Bearer) -> dict[str, bool]:
        """Keep the answers to the researcher's questions."""
        design = self.served.design
        await self.write(lambda c: sessions.keep_questions(c, design, token, body.answers))
        return {"stored": True}

    async def next(self, token: Bearer) -> dict[str, Any]:
        """The trial that is to be answered now."""
        reply, shown = await self.read(lambda c: sessions.next_trial(c, self.served.design, token))
        self._remember(token, shown)
        return reply

    async def picture(self, key: str, token: Bearer) -> Response:
        """A picture, under a name that only this participant has."""
        name = self._shown.get((token, key))
        if name is None:
            name = await self.read(lambda c: sessions.picture_of(c, token, key))
        return Response(self.served.padded[name], media_type="image/png")

    async def answer(self, body: Answer, token: Bearer) -> dict[str, Any]:
        """Store an answer. The reply means that it is on the disk."""
        given = body.model_dump()
        return await self.write(lambda c: sessions.answer(c, self.served.design, token, given))

    async def debriefing(self, token: Bearer) -> dict[str, Any]:
        """Score and answers, after the last trial."""
        design = self.served.design
        return await self.read(lambda c: sessions.debriefing(c, design, self._sources, token))

    async def withdrawal(self, body: Withdrawal) -> dict[str, bool]:
        """Delete all data of the participant with this code."""
        deleted = await self.write(lambda c: sessions.withdraw(c, body.code))
        if deleted:
            await asyncio.to_thread(self.served.store.tidy)
        return {"deleted": deleted}


class _Dashboard(_Calls):
    """Everything that the researcher's page calls."""

    def add(self, app: FastAPI) -> None:
        api: dict[str, Any] = {"responses": _PROBLEMS}
        app.get("/dashboard", include_in_schema=False)(self.page)
        app.get("/api/dashboard", **api)(self.overview)
        app.post("/api/dashboard/state", **api)(self.state)
        app.get("/api/dashboard/results", **api)(self.results)

    def _check(self, token: str) -> None:
        if not hmac.compare_digest(sessions.hashed(token), self.served.token_hash):
            raise Refused(401, "This token is not known.")

    async def page(self, request: Request, lang: str | None = None) -> HTMLResponse:
        """The researcher's page; it shows nothing without the token."""
        served, design = self.served, self.served.design
        language = chosen_language(design.languages, lang, request.headers.get("accept-language", "")[:500])
        return HTMLResponse(pages.dashboard(language, design.title, served.folder))

    async def overview(self, request: Request, token: Bearer) -> dict[str, Any]:
        """State and counts; no results."""
        self._check(token)
        told = await self.read_apart(lambda c: dashboard.overview(c, self.served.design, self.served.pilot))
        link = self.served.public_url or f"{request.url.scheme}://{request.headers['host']}"
        return told | {"link": link.rstrip("/") + "/"}

    async def state(self, body: State, token: Bearer) -> dict[str, str]:
        """Open, pause or close the study."""
        self._check(token)
        await self.write(lambda c: sessions.set_state(c, body.state))
        return {"state": body.state}

    async def results(self, token: Bearer, reveal: bool = False) -> dict[str, Any]:
        """Results so far. Looking is written into the log, which the report prints."""
        self._check(token)
        if not reveal:
            raise Refused(403, "Results are hidden until you ask for them with reveal=true.")
        await self.write(lambda c: store.note(c, "looked at results"))
        return await asyncio.to_thread(self._results)

    def _results(self) -> dict[str, Any]:
        from .tables import of_store  # imports what takes long

        return dashboard.results(of_store(self.served.store, self.served.folder))


def from_environment() -> FastAPI:
    """The application as `serve` has described it in ``OMOKAGE_STUDY``, for further processes of uvicorn."""
    told = json.loads(os.environ["OMOKAGE_STUDY"])
    return create_app(told.pop("folder"), **{**told, "hosts": tuple(told.get("hosts", ()))})


def serve(
    folder: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    database: str | None = None,
    pilot: bool = False,
    public_url: str | None = None,
    hosts: tuple[str, ...] = (),
    workers: int = 1,
) -> None:
    """Serve a study until interrupted.

    Args:
        host, port: where to listen. workers: processes; more than one need PostgreSQL.
        The other arguments are those of `create_app`.

    Raises:
        UserError: see `open_study`; also a port that is taken, or several workers with SQLite.
    """
    import uvicorn

    if workers > 1 and not database_url(database or "x").startswith("postgresql"):
        raise UserError("--workers: several processes need PostgreSQL; give --database postgresql://...")
    if host not in ("0.0.0.0", "::", *LOCAL):
        hosts = (*hosts, f"[{host}]" if ":" in host else host)
    common: dict[str, Any] = {**COMMON, "host": host, "port": port, "timeout_graceful_shutdown": 10}
    options = {"database": database, "pilot": pilot, "public_url": public_url, "hosts": hosts}
    if workers == 1:
        app = create_app(folder, **options)  # type: ignore[arg-type]
        server = uvicorn.Server(uvicorn.Config(app, **common, limit_concurrency=2000))
        with bound(host, port) as listening:
            server.run(sockets=[listening])
        return
    open_study(folder, database=database, pilot=pilot, public_url=public_url).store.close()
    bound(host, port).close()  # an error of a process of its own would be a traceback
    os.environ["OMOKAGE_STUDY"] = json.dumps({"folder": str(folder), **options})
    uvicorn.run("omokage.study.server:from_environment", factory=True, workers=workers, **common)
