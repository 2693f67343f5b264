"""Labels in a record of a board or a tool. Each writes them in its own way, and all must be recognised."""

import re
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

from ..text import one_line
from .labels import Labels, merge
from .ratings import RATING_KEYS, rating_of_record, squashed, stricter
from .spelling import plain_name
from .tags import plain_tag, split_tags, with_marks

_TAG_KEYS = ("tags", "tagstring", "tagstringgeneral", "tagsgeneral", "caption", "hashtags", "keywords")
_ARTIST_TAG_KEYS = ("tagstringartist", "tagsartist")
_ARTIST_KEYS = (
    "artist", "artists", "artistname", "artistnames", "author", "authors", "authorname", "creator",
    "creators", "creatorname", "creatorid", "illustrator", "illustrators", "painter", "drawnby", "blogname",
)  # fmt: skip
_POSTER_KEYS = ("user", "username", "account", "screenname", "blog")
"""Keys of the person who posted a picture. They count as the artist if the record names no artist."""
_BOARD_KEYS = {"md5", "checksum", "tagstring", "tagstringgeneral", "uploader", "uploaderid"}
"""Keys that only records of boards have. There, the person who posted is seldom the artist."""
_NAME_KEYS = (
    "name", "username", "account", "nick", "nickname", "screenname", "handle", "displayname", "fullname",
    "login", "artistname",
)  # fmt: skip
_WRAPPERS = ("post", "illust", "work", "deviation", "submission", "image", "metadata", "info", "data")
_DIGEST = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128}")


def from_record(record: Mapping[str, Any], posters: bool = True) -> Labels:
    """The labels in one record of a board or a tool (docs/building.md lists those that are known).

    posters: whether the person who posted a picture counts as its artist if the record names none.

    >>> from_record({"author": {"name": "mira"}, "tags": ["smile"], "x_restrict": 1}).rating
    'explicit'
    """
    known = {squashed(str(key)): value for key, value in record.items()}
    tags: list[str] = []
    artists: list[str] = []
    for key in _TAG_KEYS:
        value = known.get(key)
        if not (isinstance(value, str) and "</" in value):  # an HTML caption has no tags
            _read_tags(value, tags, artists)
    for key in _ARTIST_TAG_KEYS:
        value = known.get(key)
        artists += split_tags(value) if isinstance(value, str) else _named(value)
    labels = with_marks([tag for tag in tags if tag])
    if labels.artist:
        artists += labels.artist.split("|")
    board = bool(_BOARD_KEYS & known.keys())
    for key in _ARTIST_KEYS:
        if not (board and artists and key in ("author", "creator")):  # on boards, this is the uploader
            artists += _named(known.get(key))
    if posters and not artists and not board:
        artists = [name for key in _POSTER_KEYS for name in _named(known.get(key)) if not name.isdigit()]
    file = known.get("file")
    digests = [known.get(key) for key in ("md5", "sha1", "sha256", "sha512", "hash", "filehash")]
    if isinstance(file, Mapping):
        digests += [file.get(key) for key in ("md5", "sha256")]
    told = Labels(
        labels.tags,
        stricter(labels.rating, rating_of_record(known, record)),
        "|".join(unlike(artists)) or None,
        license=_text(record, "license", "licence", "rights"),
        url=_text(record, "source", "url", "pixiv_url", "file_url"),
        digests=tuple(d.lower() for d in digests if isinstance(d, str) and _DIGEST.fullmatch(d.lower())),
    )
    inner = [known[key] for key in _WRAPPERS if isinstance(known.get(key), Mapping)]
    return reduce(merge, (from_record(one, posters) for one in inner), told)


def _read_tags(value: object, tags: list[str], artists: list[str]) -> None:
    """Add the tags in ``value``, in any nesting that tools use."""
    if isinstance(value, str):
        tags += split_tags(value)
    elif isinstance(value, Mapping):  # tags by category
        for category, names in value.items():
            kind = squashed(str(category))
            some: list[str] = []
            _read_tags(names, some, artists)
            if kind in _ARTIST_KEYS:
                artists += some
            else:
                tags += [f"rating:{name}" for name in some] if kind in RATING_KEYS else some
    elif isinstance(value, list):
        for tag in value:
            if isinstance(tag, str):
                tags.append(plain_tag(tag))
            elif isinstance(tag, Mapping):
                kinds = (tag.get(key) for key in ("category", "type", "type_name", "namespace"))
                is_artist = any(str(kind).lower() in ("1", "artist", "creator") for kind in kinds)
                names = tag.get("name", tag.get("names", tag.get("tag")))
                names = names if isinstance(names, list) else [names]
                (artists if is_artist else tags).extend(
                    plain_tag(name) for name in names if isinstance(name, str)
                )


def _named(value: object) -> list[str]:
    """The names in a record's value for a person: a string, an object, or a list of them."""
    if isinstance(value, str):
        return [one_line(value, 200)] if value.strip() else []
    if isinstance(value, list):
        return [name for one in value for name in _named(one)]
    if isinstance(value, Mapping):
        known = {squashed(str(key)): one for key, one in value.items()}
        names = [one_line(known[key], 200) for key in _NAME_KEYS if isinstance(known.get(key), str)]
        return names + [name for key in ("user", "author", "artist") for name in _named(known.get(key))]
    return []


def unlike(names: Iterable[str]) -> list[str]:
    """``names`` without those that repeat an earlier name in another spelling."""
    seen: dict[str, str] = {}
    for name in names:
        if name:
            seen.setdefault(plain_name(name), name)
    return list(seen.values())


def _text(record: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        value = record.get(key)
        if isinstance(value, str) and value.strip():
            return one_line(value, 500)
    return None
