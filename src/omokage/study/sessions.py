"""What participants may do: start, resume, answer, withdraw. Plain functions on a connection.

Each one checks everything before it writes, and is given to `Store.submit` if it writes. A request that
cannot be granted raises `Refused` with the HTTP status and one sentence.
"""

import hashlib
import hmac
import json
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from . import store
from .assignment import EXPIRY_SECONDS, plan
from .design import RESPONSES, Design
from .store import answers, minute, note, panel, participants, questions, showings, study, texts, trials

FRAME_HZ = 60.0
"""Assumed refresh rate of a screen that was not measured."""

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Refused(Exception):
    """A request that is not granted: HTTP ``status`` and one plain sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def hashed(secret: str) -> str:
    """Hex SHA-256 of a token or code: only this is kept."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def code_of(token: str) -> str:
    """The withdrawal code that belongs to a participant's token; it says nothing about the token.

    >>> code_of("a token")
    'TX9Y-WJ93-GGY5'
    """
    number = int.from_bytes(hmac.digest(token.encode(), b"omokage withdrawal", "sha256")[:8], "big")
    letters = "".join(_LETTERS[number >> 5 * place & 31] for place in range(12))
    return "-".join(letters[start : start + 4] for start in (0, 4, 8))


def read_code(text: str) -> str:
    """A withdrawal code as typed by a person, in its one spelling.

    >>> read_code(" x1db3cks mp2m"), read_code("xIdb-3cks-mp2m")
    ('X1DB-3CKS-MP2M', 'X1DB-3CKS-MP2M')
    """
    table = str.maketrans("IiLlOo", "111100")
    letters = "".join(letter for letter in text.translate(table).upper() if letter in _LETTERS)[:13]
    return "-".join(letters[start : start + 4] for start in (0, 4, 8)) if len(letters) == 12 else ""


@dataclass(frozen=True)
class Started:
    """A participant who has just started: the token that the browser keeps, and the withdrawal code."""

    token: str
    withdrawal_code: str


def start(
    connection: Connection,
    design: Design,
    pictures: Mapping[str, str],
    *,
    language: str,
    consents: list[str],
    words: Mapping[str, Any],
    shown: list[dict[str, str]],
    times: Counter[str],
    pilot: bool,
    frozen_hash: str,
    attempt: str | None = None,
    panel_ids: Mapping[str, str] | None = None,
) -> Started:
    """A new participant with a plan of trials.

    Args:
        pictures: the source of each picture, by identifier.
        language: of the page; words: its texts, which are kept once for each wording.
        shown: the statements as this person saw them, with ``id`` and ``text``; kept with the participant.
        consents: identifiers of the statements agreed to; all of the design's are needed.
        times: how often each picture was shown so far, see `times_shown`; the new trials are added.
        frozen_hash: of the design and pictures. The first participant who is no pilot freezes it.
        attempt: a random text of the browser. The same text again gives the same participant, so that a
            request whose answer was lost can be sent again.
        panel_ids: identifiers of the recruiting service, if the design has one.

    Raises:
        Refused: the study is not open or complete, a statement is missing, or the panel's identifier has
            already started.
    """
    # This row is locked until the commit, so that the study freezes once and never has one person too many.
    connection.execute(study.update().where(study.c.id == 1).values(version=study.c.version))
    row = connection.execute(sa.select(study)).one()
    # A token from the browser's own random text lets a lost reply be asked for again.
    token = hashed(f"token {attempt}") if attempt else secrets.token_urlsafe(32)
    known = sa.select(participants.c.id).where(participants.c.token_hash == hashed(token))
    if attempt and connection.execute(known).first():
        return Started(token, code_of(token))
    if row.state != "open":
        raise Refused(403, "This study is not open at the moment.")
    if missing := [one.id for one in design.consent if one.id not in consents]:
        raise Refused(422, f"These statements must be agreed to: {', '.join(missing)}.")
    if not pilot:
        if row.frozen_hash is None:
            connection.execute(study.update().values(frozen_hash=frozen_hash, frozen_at=minute()))
            note(connection, "frozen", frozen_hash)
        elif row.frozen_hash != frozen_hash:
            raise Refused(503, "The design was changed after the study had begun; the study cannot go on.")
        if design.stopping.participants is not None and _places_left(connection, design) <= 0:
            raise Refused(403, "This study already has all its participants.")
    identifier, seed, now = secrets.token_hex(8), secrets.randbits(63), int(time.time())
    wording = json.dumps(words, sort_keys=True, ensure_ascii=False)
    texts_hash = hashed(f"{language}\0{wording}")
    if not connection.execute(sa.select(texts.c.hash).where(texts.c.hash == texts_hash)).first():
        connection.execute(
            texts.insert().values(hash=texts_hash, language=language, words=wording, first_used=minute())
        )
    connection.execute(
        participants.insert().values(
            id=identifier,
            pilot=int(pilot),
            status="started",
            token_hash=hashed(token),
            code_hash=hashed(code_of(token)),
            seed=str(seed),
            language=language,
            consent=json.dumps(shown, ensure_ascii=False),
            texts_hash=texts_hash,
            started_at=minute(),
            last_day=last_day(design).isoformat(),
            last_seen=now,
        )
    )
    if design.panel is not None and panel_ids:
        pid = panel_ids.get("PROLIFIC_PID") or None
        again = sa.select(panel.c.participant).where(panel.c.prolific_pid == pid)
        if pid and connection.execute(again).first():
            raise Refused(409, "This identifier of the recruiting service has already started the study.")
        connection.execute(
            panel.insert().values(
                participant=identifier,
                prolific_pid=pid,
                study_id=panel_ids.get("STUDY_ID"),
                session_id=panel_ids.get("SESSION_ID"),
            )
        )
    planned = plan(design, pictures, times, seed)
    for trial in planned:
        if trial.phase == "main":
            times.update(trial.pictures)
    names = [secrets.token_hex(8) for _ in planned]
    connection.execute(
        trials.insert(),
        [
            {
                "id": name,
                "participant": identifier,
                "position": position,
                "phase": trial.phase,
                "expected": trial.expected,
                "part": trial.part,
                "exposure_ms": trial.exposure_ms,
            }
            for position, (name, trial) in enumerate(zip(names, planned, strict=True))
        ],
    )
    connection.execute(
        showings.insert(),
        [
            {
                "key": secrets.token_hex(16),
                "trial": name,
                "participant": identifier,
                "place": place,
                "picture": picture,
            }
            for name, trial in zip(names, planned, strict=True)
            for place, picture in enumerate(trial.pictures)
        ],
    )
    return Started(token, code_of(token))


def last_day(design: Design) -> date:
    """The last day on which somebody who starts today can withdraw by code."""
    return datetime.now(UTC).date() + timedelta(days=design.withdrawal_days)


def times_shown(connection: Connection, now: int, pilot: bool) -> Counter[str]:
    """How often each picture was shown in main trials: answered, or open and of an active participant."""
    active = sa.and_(
        participants.c.status == "started", participants.c.last_seen > now - EXPIRY_SECONDS
    )
    query = (
        sa.select(showings.c.picture, sa.func.count())
        .join(trials, trials.c.id == showings.c.trial)
        .join(participants, participants.c.id == showings.c.participant)
        .where(trials.c.phase == "main", participants.c.pilot == int(pilot))
        .where(sa.or_(trials.c.answered == 1, active))
        .group_by(showings.c.picture)
    )
    return Counter({picture: count for picture, count in connection.execute(query)})


def may_start(connection: Connection, design: Design, pilot: bool) -> bool:
    """Whether somebody could start now."""
    if state(connection) != "open":
        return False
    return pilot or design.stopping.participants is None or _places_left(connection, design) > 0


def _places_left(connection: Connection, design: Design) -> int:
    now = int(time.time())
    taken = sa.select(sa.func.count()).where(
        participants.c.pilot == 0,
        sa.or_(
            participants.c.status == "completed",
            sa.and_(participants.c.status == "started", participants.c.last_seen > now - EXPIRY_SECONDS),
        ),
    )
    return (design.stopping.participants or 0) - (connection.execute(taken).scalar() or 0)


def refuse(connection: Connection, design: Design, reason: str, pilot: bool) -> str | None:
    """Count somebody who did not consent or is too young; returns the address to go back to, or None."""
    status = "refused" if reason == "no_consent" else "screened_out"
    connection.execute(
        participants.insert().values(
            id=secrets.token_hex(8), pilot=int(pilot), status=status, started_at=minute()
        )
    )
    return redirect(design, status)


def redirect(design: Design, status: str) -> str | None:
    """The recruiting service's address with its code for ``status``, or None."""
    if design.panel is None or not (code := getattr(design.panel, status)):
        return None
    return design.panel.url.replace("{code}", code)


def who(connection: Connection, token: str, *, lock: bool = False) -> Any:
    """The row of the participant with this token; Refused (401) if there is none. ``lock``: to write it."""
    query = sa.select(participants).where(participants.c.token_hash == hashed(token))
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise Refused(401, "This token is not known.")
    return row


def taking_part(connection: Connection, token: str, *, lock: bool = False) -> Any:
    """As `who`, but Refused (403) for somebody who has withdrawn."""
    row = who(connection, token, lock=lock)
    if row.status == "withdrawn":
        raise Refused(403, "You have withdrawn, and your data is deleted.")
    return row


def state(connection: Connection) -> str:
    """The study's state: open, paused or closed."""
    return str(connection.execute(sa.select(study.c.state)).scalar())


def session(connection: Connection, design: Design, token: str) -> dict[str, Any]:
    """Where a participant stands."""
    row = who(connection, token)
    count = sa.select(sa.func.count(), sa.func.sum(trials.c.answered)).where(trials.c.participant == row.id)
    of, answered = connection.execute(count).one()
    if row.status == "withdrawn":
        stage = "withdrawn"
    elif row.status == "completed":
        stage = "debriefing"
    elif state(connection) == "closed":
        stage = "closed"
    elif design.questions and not row.asked:
        stage = "questions"
    else:
        stage = "trials"
    return {"stage": stage, "answered": int(answered or 0), "of": of, "resumed": row.resumes}


def keep_device(connection: Connection, token: str, device: Mapping[str, Any], visit: str | None) -> int:
    """Keep what the browser says about the device; a new ``visit`` counts as one resumption."""
    row = taking_part(connection, token, lock=True)
    values: dict[str, Any] = {name: value for name, value in device.items() if value is not None}
    if visit is not None and visit != row.visit:
        values |= {"visit": visit, "resumes": row.resumes + (row.visit is not None)}
    values["last_seen"] = int(time.time())
    connection.execute(participants.update().where(participants.c.id == row.id).values(**values))
    return int(values.get("resumes", row.resumes))


def keep_questions(connection: Connection, design: Design, token: str, given: Mapping[str, Any]) -> None:
    """Keep the answers to the researcher's questions; the last ones given before the first trial count."""
    row = taking_part(connection, token, lock=True)
    known = {question.id: question for question in design.questions}
    if unknown := set(given) - set(known):
        raise Refused(422, f"These questions do not exist: {', '.join(sorted(unknown))}.")
    kept = {}
    for name, question in known.items():
        value = given.get(name)
        if value is None or value == "":
            if question.required:
                raise Refused(422, f"This question must be answered: {name}.")
            continue
        if question.kind == "choice" and value not in {choice.id for choice in question.choices}:
            raise Refused(422, f"{name}: this is not one of the choices.")
        if question.kind == "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Refused(422, f"{name}: a number is needed.")
            low, high = question.minimum, question.maximum
            if (low is not None and value < low) or (high is not None and value > high):
                raise Refused(422, f"{name}: this number is not within the allowed range.")
        if question.kind == "text" and not isinstance(value, str):
            raise Refused(422, f"{name}: a text is needed.")
        kept[name] = value if isinstance(value, str) else f"{value:g}"
    if row.asked:
        begun = sa.select(answers.c.trial).where(answers.c.participant == row.id).limit(1)
        if connection.execute(begun).first():
            raise Refused(409, "The trials have begun; these answers can no longer be changed.")
        connection.execute(questions.delete().where(questions.c.participant == row.id))
    for name, value in kept.items():
        connection.execute(questions.insert().values(participant=row.id, question=name, value=value))
    connection.execute(
        participants.update()
        .where(participants.c.id == row.id)
        .values(asked=1, last_seen=int(time.time()))
    )


_TOKEN: sa.BindParameter[str] = sa.bindparam("token_hash")
# Statements that run for every trial are built once.
_STANDING = sa.select(
    participants.c.id,
    participants.c.status,
    participants.c.asked,
    sa.select(study.c.state).scalar_subquery().label("state"),
).where(participants.c.token_hash == _TOKEN)
_CURRENT = (
    sa.select(trials.c.id)
    .where(trials.c.participant == sa.bindparam("participant"), trials.c.answered == 0)
    .order_by(trials.c.position)
    .limit(1)
    .scalar_subquery()
)
_SHOWN = (
    sa.select(trials, showings.c.key, showings.c.picture)
    .join(showings, showings.c.trial == trials.c.id)
    .where(trials.c.id == _CURRENT)
    .order_by(showings.c.place)
)


def next_trial(
    connection: Connection, design: Design, token: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The trial that is to be answered now, or None when all are answered; and its pictures by key."""
    row = connection.execute(_STANDING, {"token_hash": hashed(token)}).first()
    if row is None:
        raise Refused(401, "This token is not known.")
    if row.status == "withdrawn":
        raise Refused(403, "You have withdrawn, and your data is deleted.")
    if row.status == "completed":
        return {"trial": None, "after": None}, {}
    if row.state == "closed":
        raise Refused(403, "This study is closed.")
    if design.questions and not row.asked:
        raise Refused(409, "The questions come before the trials.")
    rows = connection.execute(_SHOWN, {"participant": row.id}).all()
    trial = rows[0]
    reply = {
        "trial": {
            "id": trial.id,
            "index": trial.position,
            "of": design.answers,
            "phase": trial.phase,
            "kind": design.kind,
            "prompt": _prompt(design, trial),
            "pictures": [
                {"place": place, "url": f"api/pictures/{its.key}"}
                for place, its in zip(_places(rows), rows, strict=True)
            ],
            "options": [_response(design, one) for one in RESPONSES[design.kind]],
            "part": trial.part,
            "exposure_ms": trial.exposure_ms,
            "mask": design.kind == "timed" and design.mask,
        },
        "after": "break" if _break_before(design, trial.position) else None,
    }
    return reply, {its.key: its.picture for its in rows}


def _places(pictures: Sized) -> tuple[str, ...]:
    return ("left", "right") if len(pictures) == 2 else ("single",)


def _prompt(design: Design, trial: Any) -> str:
    """The key of the page's text that asks for the answer."""
    if trial.phase == "check":
        return f"check_{trial.expected}"
    return f"rating_{trial.part}" if design.kind == "rating" else design.kind


def _break_before(design: Design, position: int) -> bool:
    parts = len(design.parts) if design.kind == "rating" else 1
    done = position - design.practice * parts
    return design.break_every > 0 and done > 0 and done % design.break_every == 0


def _response(design: Design, text: str) -> str | int:
    return int(text) if design.kind == "rating" else text


_PICTURE = (
    sa.select(showings.c.picture)
    .join(participants, participants.c.id == showings.c.participant)
    .where(showings.c.key == sa.bindparam("key"), participants.c.token_hash == _TOKEN)
)


def picture_of(connection: Connection, token: str, key: str) -> str:
    """The identifier of the picture that this participant may fetch as ``key``; Refused (404) otherwise."""
    picture = connection.execute(_PICTURE, {"key": key, "token_hash": hashed(token)}).scalar()
    if picture is None:
        who(connection, token)
        raise Refused(404, "There is no such picture.")
    return str(picture)


_open = trials.alias()
_ASKED = (
    sa.select(
        trials,
        participants.c.id.label("person"),
        participants.c.status,
        participants.c.refresh_hz,
        participants.c.asked,
        answers.c.response,
        answers.c.correct,
        sa.select(study.c.state).scalar_subquery().label("state"),
        sa.select(sa.func.min(_open.c.position))
        .where(_open.c.participant == participants.c.id, _open.c.answered == 0)
        .scalar_subquery()
        .label("current"),
        sa.select(sa.func.count())
        .where(_open.c.participant == participants.c.id, _open.c.answered == 0)
        .scalar_subquery()
        .label("left"),
    )
    .select_from(participants)
    .outerjoin(
        trials,
        sa.and_(trials.c.participant == participants.c.id, trials.c.id == sa.bindparam("trial")),
    )
    .outerjoin(answers, answers.c.trial == trials.c.id)
    .where(participants.c.token_hash == _TOKEN)
)
_MARK = trials.update().where(trials.c.id == sa.bindparam("trial_id")).values(answered=1)
_ALIVE = (
    participants.update()
    .where(participants.c.id == sa.bindparam("person"))
    .values(last_seen=sa.bindparam("now"))
)
_DONE = _ALIVE.values(status="completed", finished_at=sa.bindparam("minute"))
_INSERT = answers.insert()


def answer(
    connection: Connection, design: Design, token: str, given: Mapping[str, Any], *, again: bool = False
) -> dict[str, Any]:
    """Store an answer, once.

    The same answer again gives the same reply. ``again``: this is the second try after another process was
    quicker. Another response to an answered trial, or a trial that is not
    the current one, is Refused (409).
    """
    asked = {"trial": given["trial"], "token_hash": hashed(token)}
    found = connection.execute(_ASKED, asked).first()
    if found is None:
        raise Refused(401, "This token is not known.")
    if found.status == "withdrawn":
        raise Refused(403, "You have withdrawn, and your data is deleted.")
    if found.id is None:
        raise Refused(404, "There is no such trial.")
    response = given["response"]
    allowed = [_response(design, one) for one in RESPONSES[design.kind]]
    if isinstance(response, bool) or response not in allowed:
        raise Refused(422, "response: this is not one of the options.")
    response = str(response)
    if found.response is not None:
        if found.response != response:
            raise Refused(409, "This trial has already been answered.")
        return _stored(design, found.phase, found.correct)
    if found.state == "closed":
        raise Refused(403, "This study is closed.")
    if design.questions and not found.asked:
        raise Refused(409, "The questions come before the trials.")
    if found.current != found.position:
        raise Refused(409, "This is not the current trial.")
    measured, flagged = given.get("exposure_measured_ms"), None
    if found.exposure_ms is not None:
        frame = 1000 / (found.refresh_hz or FRAME_HZ)
        off = given.get("frames_off")
        flagged = int(
            measured is None
            or abs(measured - found.exposure_ms) > frame
            or (off is not None and abs(off) > 1)
        )
    correct = None if found.expected is None else int(found.expected == response)
    values = {
        "trial": found.id,
        "participant": found.person,
        "response": response,
        "correct": correct,
        "rt": given["rt"],
        "time_elapsed": given["time_elapsed"],
        "exposure_measured_ms": measured if found.exposure_ms is not None else None,
        "exposure_flagged": flagged,
        "resumed": int(bool(given.get("resumed"))),
        "answered_at": minute(),
    }
    if connection.dialect.name == "sqlite":  # one writes at a time
        connection.execute(_INSERT, values)
    else:
        try:
            with connection.begin_nested():
                connection.execute(_INSERT, values)
        except IntegrityError:  # another process has just stored one, or deleted everything
            if again:
                raise
            return answer(connection, design, token, given, again=True)
    connection.execute(_MARK, {"trial_id": found.id})
    now = {"person": found.person, "now": int(time.time())}
    if found.left == 1:
        connection.execute(_DONE, now | {"minute": minute()})
    else:
        connection.execute(_ALIVE, now)
    return _stored(design, found.phase, correct)


def _stored(design: Design, phase: str, correct: int | None) -> dict[str, Any]:
    told = phase == "practice" and design.feedback and correct is not None
    return {"stored": True, "feedback": {"correct": bool(correct)} if told else None}


def debriefing(
    connection: Connection, design: Design, sources: Mapping[str, str], token: str
) -> dict[str, Any]:
    """Score, answers and the recruiting service's code; only after the last answer."""
    row = taking_part(connection, token)
    if row.status != "completed":
        raise Refused(409, "The debriefing comes after the last trial.")
    rows = connection.execute(
        sa.select(trials, answers.c.response, answers.c.correct)
        .join(answers, answers.c.trial == trials.c.id)
        .where(trials.c.participant == row.id)
        .order_by(trials.c.position)
    ).all()
    seen: dict[str, list[Any]] = {}
    for one in connection.execute(
        sa.select(showings).where(showings.c.participant == row.id).order_by(showings.c.place)
    ):
        seen.setdefault(one.trial, []).append(one)
    main = [one for one in rows if one.phase == "main"]
    scored = [one for one in main if one.correct is not None]
    listed = [
        {
            "index": one.position,
            "kind": design.kind,
            "pictures": [
                {"place": place, "key": its.key, "source": sources.get(its.picture, "")}
                for place, its in zip(_places(seen[one.id]), seen[one.id], strict=True)
            ],
            "truth": one.expected,
            "response": _response(design, one.response),
            "correct": None if one.correct is None else bool(one.correct),
            "part": one.part,
        }
        for one in main
    ]
    score = {"correct": sum(one.correct for one in scored), "of": len(scored)}
    back = redirect(design, "completed")
    return {
        "score": score if scored and design.show_score else None,
        "answers": listed,
        "completion": {"code": design.panel.completed, "redirect": back} if design.panel and back else None,
        "withdrawal_code": code_of(token),
        "last_day": row.last_day,
    }


def withdraw(connection: Connection, code: str) -> bool:
    """Delete all data of the participant with this withdrawal code. False if there is no such code.

    The row of the participant stays, with nothing in it but the hashes of token and code, so that the count
    of withdrawals is known and the page can say that the data is gone.

    Raises:
        Refused: the last day for withdrawal is over.
    """
    spelled = read_code(code)
    row = connection.execute(
        sa.select(participants).where(participants.c.code_hash == hashed(spelled)).with_for_update()
    ).first()
    if not spelled or row is None:
        return False
    if row.status == "withdrawn":
        return True
    if row.last_day < datetime.now(UTC).date().isoformat():
        raise Refused(403, f"The last day for withdrawal was {row.last_day}.")
    forget(connection, row.id)
    return True


_KEPT = {"id", "pilot", "status", "token_hash", "code_hash", "asked", "resumes"}


def forget(connection: Connection, participant: str) -> None:
    """Delete a participant's answers, trials and everything known about them; the empty row stays."""
    for table in (answers, showings, trials, questions, panel):
        connection.execute(table.delete().where(table.c.participant == participant))
    empty: dict[str, Any] = {c.name: None for c in participants.c if c.name not in _KEPT}
    connection.execute(
        participants.update()
        .where(participants.c.id == participant)
        .values(**empty, status="withdrawn", asked=0, resumes=0)
    )


def set_state(connection: Connection, wanted: str) -> None:
    """Open, pause or close the study."""
    if wanted not in store.STATES:
        raise Refused(422, f"state: one of {', '.join(store.STATES)}.")
    if state(connection) != wanted:
        connection.execute(study.update().values(state=wanted))
        note(connection, wanted)
