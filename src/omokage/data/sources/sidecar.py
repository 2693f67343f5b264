"""Labels in a file beside a picture; `beside` finds out which files those are."""

import json
import re
from collections.abc import Sequence

from ..text import decoded, one_line
from .labels import MAX_TAGS, Labels, merge_all
from .ratings import rating_of_value, stricter
from .record import from_record, unlike
from .spelling import folded
from .table import PICTURE_NAMES, is_table, records
from .tags import split_tags, with_marks


class Ambiguous(ValueError):
    """A file beside a picture has several records, and none names the picture.

    Attributes:
        labels: the strictest rating, all artists and all hashes of the records; no tags.
    """

    def __init__(self, records: Sequence[Labels]) -> None:
        super().__init__(
            f"{len(records):,} records, none of which names the picture: the strictest rating counts, and "
            "every artist"
        )
        whole = merge_all(records)
        artists = [name for one in records if one.artist for name in one.artist.split("|")]
        artist = "|".join(unlike(artists)) or None
        self.labels = Labels(rating=whole.rating, artist=artist, digests=whole.digests, also=whole.also)


def read_sidecar(name: str, data: bytes, picture: str | None = None) -> Labels:
    """The labels in a file beside a picture: tags in ``.txt`` and ``.caption``, a record in ``.json``.

    picture: the name of the picture beside it. In a file of several records (`is_table`), the record counts
        that names the picture by ``file``, ``filename`` or ``md5``. None: such a file gives no labels.

    Raises `ValueError` with the reason if the file cannot be read, and `Ambiguous` if no record names the
    picture.

    >>> read_sidecar("a.txt", b"1girl, blue_hair, rating:safe").rating
    'general'
    """
    if is_table(name, data):
        return Labels() if picture is None else _own_record(data, picture)
    try:
        text = decoded(data)
    except ValueError:
        raise ValueError("labels that are not text in UTF-8 or UTF-16") from None
    if not name.lower().endswith(".json") and text.lstrip()[:1] not in ("{", "["):
        return with_marks(split_tags(text))
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not name.lower().endswith(".json") and not re.match(r"\s*\{\s*\"", text):
            # not JSON: tags that begin with a bracket
            return with_marks(split_tags(text))
        raise ValueError(f"labels that are no JSON: {one_line(error, 80)}") from None
    try:
        if isinstance(record, list):
            if record and all(isinstance(one, dict) for one in record):
                return merge_all([from_record(one) for one in record])
            if all(isinstance(tag, str) for tag in record):
                record = {"tags": record}
        if not isinstance(record, dict):
            raise ValueError("labels that are no JSON object")
        return from_record(record)
    except RecursionError:
        raise ValueError("labels that are nested too deeply") from None


def _own_record(data: bytes, picture: str) -> Labels:
    """The labels of ``picture`` in a file of several records beside it, see `read_sidecar`."""
    try:
        found = list(records(decoded(data)))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"labels that are no JSON: {one_line(error, 80)}") from None
    if not all(isinstance(record, dict) for record in found):
        raise ValueError("labels that are no JSON objects")
    named = folded(picture).rpartition("/")[2]
    own = []
    for record in found:
        called = {folded(str(record[key])).rpartition("/")[2] for key in PICTURE_NAMES if record.get(key)}
        if called & {named, named.rpartition(".")[0]}:
            own.append(record)
    try:
        # Several records of one picture are combined.
        labels = [from_record(record) for record in own or found]
    except RecursionError:
        raise ValueError("labels that are nested too deeply") from None
    if own or len(labels) == 1:
        return merge_all(labels)
    raise Ambiguous(labels)


def marks_in(data: bytes) -> Labels:
    """Rating and artists found by searching labels that cannot be parsed, because cut short or damaged.

    >>> marks_in(b'{"tags": ["smile"], "rating": "e", "sou').rating
    'explicit'
    """
    text = data[: 2**22].replace(b"\0", b"").decode("utf-8", "replace").removeprefix("\ufeff")
    if text.lstrip()[:1] not in ("{", "["):
        seen = with_marks(split_tags(text))
        return Labels(rating=seen.rating, also=(seen.artist,) if seen.artist else ())
    found = re.findall(r"(?:rating|safety)[\"']?\s*[:=]\s*[\[{]?\s*[\"']?([a-z0-9+-]+)", text.lower())
    flagged = re.search(
        r"x_?restrict[\"']?\s*[:=]\s*[\"']?[1-9]|\br-?18g?\b"
        r"|[\"'][a-z_]*(?:mature|nsfw|adult|explicit|sensitive)[a-z_]*[\"']\s*:\s*(?:true|1)",
        text.lower(),
    )
    keys = "tag_string_artist|artist|author|creator|name|nick"
    names = re.findall(rf"[\"'](?:{keys})[\"']\s*:\s*[\"']([^\"']{{1,200}})[\"']", text)
    rating = stricter(*map(rating_of_value, found), "explicit" if flagged else None)
    return Labels(rating=rating, also=tuple(dict.fromkeys(names[:MAX_TAGS])))
