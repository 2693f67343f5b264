"""The pages of a study: the words that people see, and the files that a browser loads."""

import html
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..web import files
from ..web.files import StaticFile

HERE = Path(__file__).parent
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""The Content-Security-Policy under which both pages work: nothing inline, nothing from another host."""

PLACEHOLDERS = frozenset(
    (
        *("title", "trials", "practice", "minutes", "minimum_age", "withdrawal_days", "last_day"),
        *("researcher", "researcher_email", "supervisor", "supervisor_email", "about", "task", "panel"),
    )
)
"""The words in braces that any text may use; some texts have words of their own besides."""

OWN_KEYS = ("briefing.sections", "consent.statements")
"""The tables to which a study may add keys."""

PLACEHOLDER = re.compile(r"\{(\w+)\}")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
LARGEST_TEXTS = 1 << 20


@cache
def static_files() -> dict[str, StaticFile]:
    """Every file under ``/static/`` by name. Nothing else is ever sent from there."""
    return files.static_files(HERE / "static")


def static_file(name: str) -> StaticFile | None:
    """The file of that name, or None if there is none.

    >>> static_file("page.js").media_type
    'text/javascript; charset=utf-8'
    >>> static_file("../pages.py") is None
    True
    """
    return static_files().get(name)


def page(language: str, title: str, overrides: Path | None = None) -> str:
    """The participant's page in HTML. Its addresses are relative, so it works under any path.

    Args:
        language: the language that the page opens in, such as ``"en"``.
        title: the title of the study.
        overrides: the study folder, see :func:`texts`.

    >>> '<html lang="ja">' in page("ja", "Faces")
    True
    """
    return _document("page.html", language, title, overrides)


def dashboard(language: str, title: str, overrides: Path | None = None) -> str:
    """The researcher's page in HTML; arguments as those of :func:`page`."""
    return _document("dashboard.html", language, title, overrides)


def _document(name: str, language: str, title: str, overrides: Path | None) -> str:
    words = texts(language, overrides)
    values = {
        "language": language,
        "title": title,
        "noscript": words["common"]["noscript"],
        "skip": words["common"]["skip"],
    }
    return re.sub(
        r"\{\{(\w+)\}\}",
        lambda found: html.escape(values[found[1]]),
        (HERE / "static" / name).read_text(encoding="utf-8"),
    )


def languages(overrides: Path | None = None) -> dict[str, str]:
    """The languages that have texts, with the name that each has in itself.

    A study folder may bring a language that the package lacks: a whole file ``texts/CODE.toml``.

    >>> languages()
    {'en': 'English', 'ja': '日本語'}
    """
    codes = {path.stem for path in (HERE / "texts").glob("*.toml")}
    if overrides is not None:
        codes |= {path.stem for path in (overrides / "texts").glob("*.toml")}
    return {code: texts(code, overrides)["name"] for code in sorted(codes)}


def texts(language: str, overrides: Path | None = None) -> dict[str, Any]:
    """All words of the pages in one language.

    Args:
        language: a code such as ``"en"`` or ``"ja"``.
        overrides: the study folder. What its file ``texts/CODE.toml`` says replaces the package's texts, key
            by key. For a language that the package lacks, that file must have every key.

    Returns:
        Tables within tables; every leaf is a string. Line ends within a paragraph are gone, an empty line
        between paragraphs is left as two line ends.

    Raises:
        UserError: if there is no such language, or the study's file cannot be read, has a key that no page
            uses, lacks one, or uses a word in braces that has no meaning there.

    >>> texts("en")["prompts"]["pairs"]
    'Which face was drawn by an artist?'
    """
    if not LANGUAGE.fullmatch(language):
        raise UserError(f"{language!r} is no code of a language; write one such as en or ja")
    shipped = HERE / "texts" / f"{language}.toml"
    own = overrides / "texts" / f"{language}.toml" if overrides is not None else None
    if own is not None and own.is_file():
        words = _read(own)
        _check(words, _read(HERE / "texts" / "en.toml"), own, whole=not shipped.is_file())
        return _merge(_read(shipped), words) if shipped.is_file() else words
    if not shipped.is_file():
        known = ", ".join(sorted(path.stem for path in (HERE / "texts").glob("*.toml")))
        where = f" (or write {own})" if own is not None else ""
        raise UserError(f"there are no texts in the language {language!r}; choose one of {known}{where}")
    return _read(shipped)


def fill(text: str, values: Mapping[str, object]) -> str:
    """The text with words in braces replaced; a paragraph with one that has no value is left out.

    The page fills texts by the same rule, so what the server keeps is what was shown.

    >>> fill("Ask {researcher}.\\n\\nOr ask {supervisor}.", {"researcher": "Ada", "supervisor": ""})
    'Ask Ada.'
    """
    filled = []
    for paragraph in text.split("\n\n"):
        words = PLACEHOLDER.findall(paragraph)
        if all(values.get(word) not in (None, "") for word in words):
            filled.append(PLACEHOLDER.sub(lambda found: str(values[found[1]]), paragraph))
    return "\n\n".join(filled)


def consent_shown(
    words: Mapping[str, Any], ids: Iterable[str], values: Mapping[str, object]
) -> list[dict[str, str]]:
    """The statements of consent as a participant sees them, to be kept beside the consent.

    Args:
        words: what :func:`texts` returned.
        ids: the statements' names, in the order shown.
        values: what the words in braces mean, such as ``{"last_day": "14 May 2026"}``.

    Raises:
        UserError: if a statement has no text.
    """
    shown = []
    for name in ids:
        text = words["consent"]["statements"].get(name, "")
        if not text:
            raise UserError(
                f"the statement of consent {name!r} has no text; write it under [consent.statements] in the "
                "study folder's texts, or take it out of the design"
            )
        shown.append({"id": name, "text": fill(text, values)})
    return shown


def _read(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return _parsed(path, stat.st_mtime_ns, stat.st_size)


@cache
def _parsed(path: Path, changed: int, size: int) -> dict[str, Any]:
    """The tables of a file of texts; ``changed`` and ``size`` tell one state of the file from the next."""
    if size > LARGEST_TEXTS:
        raise UserError(f"{path} is larger than {LARGEST_TEXTS >> 20} MiB, too large for a file of texts")
    try:
        words = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as TOML: {error}") from error
    tidied: dict[str, Any] = _tidied(words)
    return tidied


def _tidied(value: Any) -> Any:
    """Paragraphs on one line each, so that files may break lines where they like."""
    if isinstance(value, dict):
        return {key: _tidied(inner) for key, inner in value.items()}
    if not isinstance(value, str):
        return value
    paragraphs = [
        # Japanese has no space between words, so none may come from the end of a line.
        re.sub(r"(?<=[^\x00-\u2e7f])\s*\n\s*", "", paragraph.strip())
        for paragraph in re.split(r"\n\s*\n", value)
    ]
    return "\n\n".join(re.sub(r"\s*\n\s*", " ", paragraph) for paragraph in paragraphs)


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        merged[key] = _merge(base.get(key, {}), value) if isinstance(value, dict) else value
    return merged


def _check(own: Mapping[str, Any], base: Mapping[str, Any], path: Path, *, whole: bool) -> None:
    """Refuse a study's texts by the first thing that is wrong with them."""
    ours, theirs = dict(_leaves(base)), dict(_leaves(own))
    for key, text in theirs.items():
        if not isinstance(text, str):
            raise UserError(f"{path}: {key} must be a text in quotes")
        if key not in ours and not _own_key(key):
            raise UserError(f"{path}: no page uses {key}; see the names in {HERE / 'texts' / 'en.toml'}")
        allowed = PLACEHOLDERS | set(PLACEHOLDER.findall(str(ours.get(key, ""))))
        for word in PLACEHOLDER.findall(text):
            if word not in allowed:
                raise UserError(
                    f"{path}: {{{word}}} in {key} has no meaning; usable there: {', '.join(sorted(allowed))}"
                )
    missing = [key for key in ours if key not in theirs and not _own_key(key)]
    if whole and missing:
        raise UserError(f"{path} lacks {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}")


def _own_key(key: str) -> bool:
    return any(key.startswith(f"{table}.") for table in OWN_KEYS)


def _leaves(words: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in words.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
