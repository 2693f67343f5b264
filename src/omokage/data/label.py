"""What is known of a picture from files beside it or a table: tags, rating, artist, licence."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from .colours import EYE_COLOURS, HAIR_COLOURS
from .read import one_line

RATINGS = ("general", "sensitive", "questionable", "explicit")
SIDECARS = (".txt", ".json")
TABLES = (".csv", ".json", ".jsonl")
_NAMES = ("file", "filename", "md5", "id")
_FIRST_IS_A_PICTURE = re.compile(
    r'\s*\{\s*"[^"\\]+\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif)"\s*:', re.IGNORECASE
)

_RATING = {
    "g": "general", "general": "general", "safe": "general",
    "s": "sensitive", "sensitive": "sensitive",
    "q": "questionable", "questionable": "questionable",
    "e": "explicit", "explicit": "explicit",
}  # fmt: skip
_SPELLED = {
    "silver": "gray", "grey": "gray", "light blue": "blue", "light brown": "brown", "dark blue": "blue",
    "light purple": "purple", "dark green": "green", "cyan": "aqua", "violet": "purple",
}  # fmt: skip
_COLOURS = {"hair": HAIR_COLOURS, "eyes": (*EYE_COLOURS, "white")}
_YELLOW = {"hair": "blonde", "eyes": "yellow"}
MAX_TAGS = 1000


@dataclass(frozen=True, slots=True)
class Labels:
    """What the files beside a picture, or a table, say of it; empty or None where they say nothing.

    rating: one of `RATINGS`, or None.
    other: further columns of a table.
    digests: hex digits of hashes of the picture as its board has it.
    """

    tags: tuple[str, ...] = ()
    rating: str | None = None
    artist: str | None = None
    license: str | None = None
    url: str | None = None
    other: tuple[tuple[str, str], ...] = ()
    digests: tuple[str, ...] = ()

    def colour(self, of: str) -> str | None:
        """The colour in tags like ``blue hair``; several joined by a vertical bar; None if there is none.

        of: hair or eyes.
        """
        found = []
        for tag in self.tags:
            name, _, what = tag.rpartition(" ")
            name = _YELLOW[of] if name in ("yellow", "blonde", "blond", "amber") else _SPELLED.get(name, name)
            if what == of and name in _COLOURS[of] and name not in found:
                found.append(name)
        return "|".join(found) or None


def merge(first: Labels, second: Labels) -> Labels:
    """Both together; where they disagree, ``first`` holds, but the stricter rating."""
    ratings = [r for r in (first.rating, second.rating) if r]
    return Labels(
        tuple(dict.fromkeys((*first.tags, *second.tags)))[:MAX_TAGS],
        max(ratings, key=RATINGS.index) if ratings else None,
        first.artist or second.artist,
        first.license or second.license,
        first.url or second.url,
        first.other or second.other,
        tuple(dict.fromkeys((*first.digests, *second.digests))),
    )


def read_sidecar(name: str, data: bytes) -> Labels:
    """The labels in a file beside a picture: tags in ``.txt``, a record of a booru in ``.json``.

    A table of many pictures (`is_table`) says nothing of the one that it lies beside.

    Raises `ValueError` with the reason if it is none of these.

    >>> read_sidecar("a.txt", b"1girl, blue_hair, rating:safe").rating
    'general'
    """
    if is_table(name, data):
        return Labels()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("labels that are not UTF-8 text") from None
    if not name.lower().endswith(".json"):
        return _with_marks(split_tags(text))
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"labels that are no JSON: {one_line(error, 80)}") from None
    if isinstance(record, list):
        if len(record) == 1 and isinstance(record[0], dict):
            record = record[0]
        elif all(isinstance(tag, str) for tag in record):
            record = {"tags": record}
    if not isinstance(record, dict):
        raise ValueError("labels that are no JSON object")
    return from_record(record)


def is_table(name: str, data: bytes) -> bool:
    """Whether a file has labels of many pictures by their names, as `LabelTable` reads them.

    Also a JSON object whose first name is that of a picture, like the `boxes.json` of drawn illustrations.
    Only the beginning is looked at.

    >>> is_table("factors.csv", b"file,hair\\n0.png,blue\\n"), is_table("0.json", b'{"tags": "smile"}')
    (True, False)
    """
    if not name.lower().endswith(TABLES):
        return False
    text = data[: 2**16].decode("utf-8-sig", "ignore").lstrip()
    if name.lower().endswith(".csv"):
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
        except csv.Error:
            return False
        return "file" in header and len(header) > 1
    if _FIRST_IS_A_PICTURE.match(text):
        return True
    listed = text.startswith("[")
    try:
        record, end = json.JSONDecoder().raw_decode(text[1:].lstrip() if listed else text)
    except (ValueError, RecursionError):
        return False
    several = (text[1:].lstrip() if listed else text)[end:].lstrip(" ,\r\n")[:1] == "{"
    return isinstance(record, dict) and several and any(record.get(key) for key in _NAMES)


def from_record(record: Mapping[str, Any]) -> Labels:
    """The labels in one record of a booru (Danbooru, Gelbooru, gallery-dl, Danbooru20xx metadata)."""
    tags: list[str] = []
    artists: list[str] = []
    for key in ("tags", "tag_string", "tag_string_general", "tags_general", "caption"):
        value = record.get(key)
        if isinstance(value, str):
            tags += split_tags(value)
        elif isinstance(value, dict):  # by category
            for category, names in value.items():
                some = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
                (artists if category == "artist" else tags).extend(_tag(name) for name in some)
        elif isinstance(value, list):
            for tag in value:
                if isinstance(tag, str):
                    tags.append(_tag(tag))
                elif isinstance(tag, dict) and isinstance(tag.get("name"), str):
                    is_artist = str(tag.get("category")) in ("1", "artist")
                    (artists if is_artist else tags).append(_tag(tag["name"]))
    for key in ("tag_string_artist", "tags_artist", "artist", "artists", "author"):
        value = record.get(key)
        if isinstance(value, str):
            artists += split_tags(value) if key.startswith("tag") else [one_line(value, 200)]
        elif isinstance(value, list):
            artists += [one_line(name, 200) for name in value if isinstance(name, str)]
    labels = _with_marks([tag for tag in tags if tag])
    said = _rating(record.get("rating"))
    return merge(
        Labels(
            rating=said,
            artist="|".join(dict.fromkeys(a for a in artists if a)) or None,
            license=_text(record, "license", "licence", "rights"),
            url=_text(record, "source", "url", "pixiv_url", "file_url"),
        ),
        labels,
    )


def split_tags(text: str) -> list[str]:
    """Tags separated by commas or lines if there are any, else by spaces; underscores become spaces.

    >>> split_tags("long_hair blue_eyes"), split_tags("long hair, blue eyes")
    (['long hair', 'blue eyes'], ['long hair', 'blue eyes'])
    """
    text = text.replace("\n", ",").strip().strip(",")
    parts = text.split(",") if "," in text else text.split()
    return list(dict.fromkeys(tag for tag in (_tag(part) for part in parts) if tag))[:MAX_TAGS]


def _tag(text: str) -> str:
    text = one_line(text, 100).strip()
    return text.replace("_", " ").lower() if len(text) > 3 else text.lower()


def _with_marks(tags: list[str]) -> Labels:
    """Tags, with ``rating:`` and ``artist:`` among them taken out."""
    plain, rating, artists = [], None, []
    for tag in tags:
        kind, colon, rest = tag.partition(":")
        if colon and kind == "rating" and _rating(rest):
            rating = _rating(rest)
        elif colon and kind in ("artist", "by") and rest.strip():
            artists.append(rest.strip())
        else:
            plain.append(tag)
    return Labels(tuple(dict.fromkeys(plain))[:MAX_TAGS], rating, "|".join(artists) or None)


def _rating(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    # An unknown word is no licence to keep the picture.
    return _RATING.get(value.strip().lower(), "explicit")


def _text(record: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        value = record.get(key)
        if isinstance(value, str) and value.strip():
            return one_line(value, 500)
    return None


class LabelTable:
    """Labels by file name: a CSV with a column `file`, or JSON lines with `file`, `filename`, `md5` or `id`.

    columns: the names of further columns, which go to the index as they are.
    """

    def __init__(self, path: str | Path, taken: Iterable[str] = ()) -> None:
        import hashlib

        path = Path(path).expanduser()
        try:
            data = path.read_bytes()
            text = data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"labels {one_line(path)} cannot be read: {one_line(error)}") from None
        self.described = {"name": one_line(path.name), "sha256": hashlib.sha256(data).hexdigest()}
        self.columns: list[str] = []
        self._rows: dict[str, Labels] = {}
        if text.lstrip()[:1] in ("{", "["):
            self._read_json(text, path)
        else:
            self._read_csv(text, path)
        if clash := set(self.columns) & set(taken):
            raise UserError(f"labels {one_line(path)}: the column {min(clash)!r} needs another name")

    def __len__(self) -> int:
        return len(self._rows)

    def _read_csv(self, text: str, path: Path) -> None:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise UserError(f"labels {one_line(path)} cannot be read: {one_line(error)}") from None
        header = rows[0] if rows else []
        if "file" not in header or len(set(header)) != len(header):
            raise UserError(f"labels {one_line(path)}: the first line must name columns, one of them `file`")
        known = {"file", "tags", "rating", "artist", "license", "url"}
        self.columns = [one_line(name) for name in header if name not in known]
        for number, row in enumerate(rows[1:], 2):
            if not row:
                continue
            if len(row) != len(header):
                counts = f"{len(row)} columns, not {len(header)}"
                raise UserError(f"labels {one_line(path)}: line {number} has {counts}")
            record = dict(zip(header, row, strict=True))
            other = tuple((one_line(k), v) for k, v in record.items() if k not in known and v)
            labels = from_record({k: v.replace("|", ",") if k == "tags" else v for k, v in record.items()})
            self._rows[record["file"]] = replace(labels, other=other)

    def _read_json(self, text: str, path: Path) -> None:
        try:
            whole = text.lstrip().startswith("[")
            lines = (
                json.loads(text)
                if whole
                else (json.loads(line) for line in text.splitlines() if line.strip())
            )
            for record in lines:
                if not isinstance(record, dict):
                    raise ValueError("a record that is no object")
                labels = from_record(record)
                names = [record.get(key) for key in ("file", "filename", "md5", "id")]
                if not any(names):
                    raise ValueError("a record without file, filename, md5 or id")
                for name in names:
                    if name:
                        self._rows.setdefault(str(name), labels)
        except (ValueError, RecursionError) as error:
            raise UserError(f"labels {one_line(path)}: {one_line(error, 120)}") from None

    def get(self, file: str) -> Labels | None:
        """The row of a file: by its whole name in its source, its last part, or that without its ending."""
        last = file.rsplit("/", 1)[-1]
        for name in (file, last, last.rsplit(".", 1)[0]):
            if name in self._rows:
                return self._rows[name]
        return None
