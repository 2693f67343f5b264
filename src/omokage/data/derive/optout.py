"""Opt-out lists: artists and pictures that must not be in a face set. All commands read them in one way.

A line of the list is an artist, a hash of a picture, or a page; `read_opt_out` describes the spellings.
"""

import base64
import binascii
import codecs
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa

from ...errors import UserError
from ..sources.spelling import QUOTES, plain_name
from ..steps.read import Unreadable, read_file
from ..store.columns import as_text
from ..text import decoded, one_line

if TYPE_CHECKING:
    from ..sources.labels import Labels

OPTED_OUT = "opted out"
"""The reason in `rejected.csv`."""

LISTED = 100
"""Number of entries without a picture that a record names; the rest is counted."""

SHOWN = 10
"""Number of them that are named on the terminal."""

ARTIST_COLUMNS = ("artist", "artists", "author", "authors", "creator", "creators", "illustrator")
"""Columns of an index that name artists."""

_MAX_LIST_BYTES = 64 * 2**20
_BY_LENGTH = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
_HEX = re.compile(r"(?<![0-9a-z])(?:0x)?([0-9a-f]{128}|[0-9a-f]{96}|[0-9a-f]{64}|[0-9a-f]{56}|[0-9a-f]{40}"
                  r"|[0-9a-f]{32})(?![0-9a-z])")  # fmt: skip
_HEX_IN_A_NAME = re.compile(_HEX.pattern.replace("0-9a-z", "0-9a-f"))
_BASE64 = re.compile(r"(?<![\w+/-])((?:[\w+/-]{4})*(?:[\w+/-]{3}=|[\w+/-]{2}==))(?![\w+/=-])", re.ASCII)
_TAGGED = re.compile(r"\\?([a-z0-9][a-z0-9/_-]*)\s*\((.*)\)\s*=\s*(\S+)", re.IGNORECASE)
_ALGORITHM = re.compile(
    r"(md5|sha-?[0-9]{1,3}(?:[-/_][0-9]{3})?|blake-?[0-9][a-z0-9-]*|crc-?32|ripemd-?160)"
    r"(\s*[:=]\s*|\s+|-(?=\S{20}))(\S+).*",
    re.IGNORECASE | re.DOTALL,
)
_PREFIX = re.compile(
    r"(?:(?:artists?|by|creators?|authors?|users?|names?|illustrators?|painters?|circles?|drawn by)\s*[:=]"
    r"|(?:drawn\s+)?by\s)\s*(?=\S)",
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:[-*•+]|\d{1,4}[.)])\s+(?=\S)")
_MINUS = re.compile(r"-(?=\w)")  # boards write excluded tags so
_PICTURE = re.compile(r"[^\s].*\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif|jxl|psd)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OptOutEntry:
    """A line of the list.

    text: as written, without its comment. names: possible names of an artist (`plain_name`).
    digests: (algorithm of hashlib, hex digits). page: an address without its scheme.
    trouble: why the line is not understood, or "".
    """

    line: int
    text: str
    names: frozenset[str] = frozenset()
    digests: frozenset[tuple[str, str]] = frozenset()
    page: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class OptOut:
    """The entries of an opt-out list, see `read_opt_out`.

    described: name and hash of the list, and its number of entries.
    """

    entries: tuple[OptOutEntry, ...]
    described: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tables: tuple[dict[str, tuple[int, ...]], ...] = {}, {}, {}
        for number, entry in enumerate(self.entries):
            digests = (digest for _, digest in entry.digests)
            for table, keys in zip(tables, (entry.names, digests, {entry.page} - {""}), strict=True):
                for key in keys:
                    table[key] = (*table.get(key, ()), number)
        object.__setattr__(self, "_names", tables[0])
        object.__setattr__(self, "_digests", tables[1])
        object.__setattr__(self, "_pages", tables[2])
        kinds = {kind for entry in self.entries for kind, _ in entry.digests}
        object.__setattr__(self, "algorithms", tuple(sorted(kinds)))

    algorithms: tuple[str, ...] = field(default=(), init=False)
    _names: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)
    _digests: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)
    _pages: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)

    @property
    def names_artists(self) -> bool:
        """Whether an entry may be an artist or a page. Only labels tell whether it matches a picture."""
        return bool(self._names or self._pages)

    def of_picture(self, data: bytes | None, labels: "Labels", file: str = "") -> tuple[int, ...]:
        """Numbers of the entries that match a picture: by its bytes, its labels, and its name.

        data: None if there are no bytes. If no artist is known, a tag or a folder of the same name counts.
        """
        # In a table whose columns are kept as they are, these names mean what they mean in an index.
        other = {name.lower(): str(value) for name, value in labels.other}
        artists = "|".join(filter(None, (labels.artist, *labels.also, *map(other.get, ARTIST_COLUMNS))))
        tags = (*labels.tags, *other.get("tags", "").split("|"))
        found = self._named(artists, tags, labels.url or other.get("url", ""), file)
        hashes = (value.strip().lower() for name, value in other.items() if _holds_hashes(name))
        found |= self._hit(self._digests, (*labels.digests, *hashes))
        if data is not None:
            found |= self._hit(self._digests, self._hashed(data, self.algorithms))
        return tuple(sorted(found))

    def of_rows(
        self, index: pa.Table, read: Callable[[int], bytes] | None = None
    ) -> tuple[np.ndarray, Counter[int]]:
        """Which rows of a face set's index are opted out, and how many rows each entry matches.

        Columns of hashes (`sha256`, `..._sha256`, `..._md5` and so on), `ARTIST_COLUMNS`, `tags`, `url` and
        file names are searched. read: returns the bytes of the picture in a row, for hashes without a column.

        Returns bool (N,), and a count by number of the entry.
        """
        total = len(index)
        hits: dict[int, set[int]] = {}

        def add(row: int, numbers: Iterable[int]) -> None:
            if numbers:
                hits.setdefault(row, set()).update(numbers)

        known = set()
        for name in index.column_names:
            if _holds_hashes(name):
                known |= {name.lower()}
                for row, value in enumerate(_texts(index[name])):
                    add(row, self._digests.get(value.strip().lower(), ()))
        artists = [_texts(index[name]) for name in index.column_names if name.lower() in ARTIST_COLUMNS]
        tags, urls, files = (
            _texts(index[name]) if name in index.column_names else [""] * total
            for name in ("tags", "url", "file")
        )
        missing = tuple(kind for kind in self.algorithms if kind not in known)
        for row in range(total):
            by = "|".join(filter(None, (column[row] for column in artists)))
            add(row, self._named(by, tags[row].split("|"), urls[row], files[row]))
            if missing and read is not None:
                add(row, self._hit(self._digests, self._hashed(read(row), missing)))
        met = Counter(number for numbers in hits.values() for number in numbers)
        theirs = np.zeros(total, bool)
        theirs[list(hits)] = True
        return theirs, met

    def summary(self, met: Mapping[int, int]) -> dict[str, Any]:
        """The list's entry in a record: how many entries there are, how many matched, and which did not.

        At most a fixed number of entries is named. met: number of pictures per entry, by the entry's number.
        """
        unmet = [entry for number, entry in enumerate(self.entries) if not met.get(number)]
        return {
            **self.described,
            "met": len(self.entries) - len(unmet),
            "met_nobody": [
                {"line": entry.line, "entry": entry.text, **({"why": entry.trouble} if entry.trouble else {})}
                for entry in unmet[:LISTED]
            ],
        }

    def _named(self, artist: str | None, tags: Iterable[str], url: str, file: str) -> set[int]:
        found = self._hit(self._names, _artist_names(artist)) if artist else set()
        if self._names and not artist:
            folders = [part for part in re.split(r"[\\/]", file)[:-1] if part not in (".", "..")]
            found |= self._hit(self._names, map(plain_name, (*tags, *folders)))
        if self._digests:
            found |= self._hit(self._digests, _HEX_IN_A_NAME.findall(f"{file}\n{url}".lower()))
        if self._pages and url:
            found |= self._hit(self._pages, _pages_above(url))
        return found

    @staticmethod
    def _hit(table: Mapping[str, tuple[int, ...]], keys: Iterable[str]) -> set[int]:
        return {number for key in keys for number in table.get(key, ())}

    @staticmethod
    def _hashed(data: bytes, algorithms: Iterable[str]) -> list[str]:
        return [hashlib.new(kind, data, usedforsecurity=False).hexdigest() for kind in algorithms]


def _holds_hashes(column: str) -> bool:
    return column.lower().rpartition("_")[2] in _BY_LENGTH.values()


def read_opt_out(path: str | Path) -> OptOut:
    """Read a list of artists and pictures that must not be used. A line is one of

    - an artist: ``mira``, ``Mira_(pix)``, ``artist: mira``, ``@mira``, ``by mira``, quoted or not;
    - a hash of a picture as tools print it: hex digits alone, with a file's name, as ``md5:...`` or
      ``MD5 (a.png) = ...``; MD5, SHA-1, SHA-2, SHA-3 and BLAKE2; also base64 of them;
    - a page: pictures whose `url` is this page or one below it are left out.

    Text after a blank and ``#`` is a comment. A line with two possible meanings (``mira; asked by mail``)
    counts with both. Raises `UserError` if the list cannot be read or has no entry.
    """
    path = Path(path).expanduser()
    try:
        data = read_file(path, _MAX_LIST_BYTES)
        if data in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise ValueError("not text, but a byte order mark and nothing else")
        text = decoded(data)
    except (Unreadable, ValueError) as error:
        raise UserError(f"the opt-out list {one_line(path)} cannot be used: {error}") from None
    entries: dict[str, OptOutEntry] = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        entry = _entry(number, line)
        if entry is not None:
            entries.setdefault(entry.text, entry)
    if not entries:
        raise UserError(
            f"the opt-out list {one_line(path)} names neither an artist nor a hash: write one "
            "on each line, or leave --opt-out out"
        )
    described = {
        "name": one_line(path.name),
        "entries": len(entries),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return OptOut(tuple(entries.values()), described)


def told(summary: Mapping[str, Any] | None) -> list[str]:
    """Lines for the terminal: how many entries matched a picture, and the first that did not.

    >>> told({"entries": 2, "met": 1, "met_nobody": [{"line": 3, "entry": "kei"}]})
    ['opt-out: 1 of 2 entries met a picture; these met none:', '     line 3: kei']
    """
    if summary is None:
        return []
    entries, met = summary["entries"], summary["met"]
    head = f"opt-out: {met:,} of {entries:,} entries met a picture"
    if met == entries:
        return [head]
    lines = [f"{head}; these met none:"]
    for one in summary["met_nobody"][:SHOWN]:
        why = f" ({one['why']})" if one.get("why") else ""
        lines.append(f"     line {one['line']}: {one_line(one['entry'], 60)}{why}")
    rest = entries - met - min(len(summary["met_nobody"]), SHOWN)
    return [*lines, f"     and {rest:,} more"] if rest else lines


def _entry(number: int, line: str) -> OptOutEntry | None:
    line = line.strip().lstrip("\ufeff").strip()
    if not line or line.startswith(("#", ";", "//", "%%%%", "<!--")):
        return None
    if (tagged := _TAGGED.fullmatch(line)) and (kind := _algorithm(tagged[1])) is not None:
        return _of_digest(number, line, kind, tagged[3])
    quoted = re.match(r'"((?:[^"]|"")*)"|\'([^\']*)\'(?=\s|,|;|$)', line)
    if quoted:
        text = (quoted[1] or quoted[2] or "").replace('""', '"').strip()
        further = re.split(r"(?:^|\s)#", line[quoted.end() :])[0]
    else:
        text, further = re.split(r"(?:^|\s)#", line)[0].strip(), ""
    if not re.search(r"[^\s\[\]{}()=*\-_.,;|+~\"']", text):  # brackets, separator lines
        return None
    shown = one_line(text, 200)
    prefix = _PREFIX.match(text)
    if prefix is None or ":" not in prefix[0]:
        spaced = re.fullmatch(r"(?:[0-9a-f]{2}[ :-]){15,}[0-9a-f]{2}", text.lower())
        if spaced:
            text = re.sub(r"[^0-9a-f]", "", text.lower())
        if named := _ALGORITHM.fullmatch(text):
            kind = _algorithm(named[1])
            if kind is None:
                return OptOutEntry(number, shown, trouble=f"{named[1]} is no hash that can be compared")
            if named[2].strip() or not re.fullmatch(r"[A-Za-z]{1,19}", named[3]):  # "md5 fan" is an artist
                return _of_digest(number, shown, kind, named[3])
        digests = {(_BY_LENGTH[len(digits)], digits) for digits in _HEX.findall(text.lower())}
        digests |= {(_BY_LENGTH[len(d)], d) for d in map(_from_base64, _BASE64.findall(text)) if d}
        if digests:
            return OptOutEntry(number, shown, digests=frozenset(digests))
        if "://" in text:
            page = _page(text.split()[0].strip(QUOTES + "<>,;"))
            return OptOutEntry(number, shown, page=page, trouble="" if page else "an address without a host")
        if re.fullmatch(r"[0-9a-fA-F]{24,}", text):
            return OptOutEntry(number, shown, trouble=f"{len(text)} hex digits are no hash: cut short?")
        if _PICTURE.fullmatch(text):
            return OptOutEntry(number, shown, trouble="a file's name: give its hash, or the artist")
    names = _readings(text)
    if further.strip():  # a further column, or the rest of a name that begins with a nickname in quotes
        names |= _readings(f"{text}{further}")
    return OptOutEntry(number, shown, names=frozenset(names))


def _of_digest(number: int, shown: str, kind: str, digest: str) -> OptOutEntry:
    digits = digest.lower().removeprefix("0x")
    if not re.fullmatch("[0-9a-f]+", digits):
        digits = _from_base64(digest) or ""
    if len(digits) != 2 * hashlib.new(kind, usedforsecurity=False).digest_size:
        length = 2 * hashlib.new(kind, usedforsecurity=False).digest_size
        return OptOutEntry(number, one_line(shown, 200), trouble=f"{kind} has {length} hex digits, not these")
    return OptOutEntry(number, one_line(shown, 200), digests=frozenset({(kind, digits)}))


def _algorithm(name: str) -> str | None:
    """The hashlib name of an algorithm that tools call ``name``; None if it is not known.

    >>> [_algorithm(name) for name in ("MD5", "SHA2-256", "sha-512", "SHA3-256", "BLAKE2b", "CRC32")]
    ['md5', 'sha256', 'sha512', 'sha3_256', 'blake2b', None]
    """
    text = re.sub(r"[/_-]", "", name.lower())
    if match := re.fullmatch(r"sha3(224|256|384|512)", text):
        return f"sha3_{match[1]}"
    if match := re.fullmatch(r"(?:sha2?(224|256|384|512))", text):
        return f"sha{match[1]}"
    if match := re.fullmatch(r"(blake2[bs])(512|256)?", text):
        return match[1]
    return text if text in ("md5", "sha1") else None


def _from_base64(text: str) -> str | None:
    try:
        digits = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True).hex()
    except (binascii.Error, ValueError):
        return None
    return digits if len(digits) in _BY_LENGTH else None


def _readings(text: str) -> set[str]:
    """All artist names that a line may mean."""
    whole = {text, re.split(r"\s+(?:;|//|--|—|–)\s*|\t+|;\s+|#\s", text)[0]}
    parts = {part for one in whole for part in (one, *re.split(r"[,、|]", one))}
    parts |= {unquote(part) for part in parts if "%" in part}
    names = set()
    for part in parts:
        part = part.strip()
        for _ in range(3):  # "- artist: @mira"
            names.add(plain_name(part))
            for mark in (_BULLET, _PREFIX, _MINUS):
                if match := mark.match(part):
                    part = part[match.end() :].strip(f" {QUOTES}")
        names |= {plain_name(part), plain_name(part.strip("[]{} "))}  # a list in JSON or YAML
    return names - {""}


def _artist_names(artist: str) -> set[str]:
    """The names in an artist column. Several are joined by a bar; some tools use other separators."""
    names = set()
    for one in artist.split("|"):
        names.add(plain_name(one))
        names |= {plain_name(part) for part in re.split(r"[,;、&＆/+×]|\sand\s|\sx\s", one)}
        if match := _PREFIX.match(one.strip()):
            names.add(plain_name(one.strip()[match.end() :]))
    return names - {""}


def _page(address: str) -> str:
    """``address`` in one form: without the scheme, most queries, and other differences without meaning.

    >>> _page("https://www.Example.org/Mira/?x=1"), _page("https://x.com/mira")
    ('example.org/mira', 'twitter.com/mira')
    """
    try:
        parts = urlsplit(address.strip())
        host = (parts.hostname or "").lower()
    except ValueError:
        return ""
    for start in ("www.", "mobile.", "m."):
        host = host.removeprefix(start)
    host = "twitter.com" if host == "x.com" else host
    query = f"?{parts.query}" if parts.query and re.search(r"(?:^|&)\w*id=", parts.query) else ""
    return f"{host}{unquote(parts.path).rstrip('/')}{query}".lower() if host else ""


def _pages_above(url: str) -> list[str]:
    page = _page(url)
    bare = page.partition("?")[0]
    parts = bare.split("/")
    return [page, *("/".join(parts[: n + 1]) for n in range(len(parts)))] if page else []


def _texts(column: pa.ChunkedArray) -> list[str]:
    return as_text(column).to_pylist()
