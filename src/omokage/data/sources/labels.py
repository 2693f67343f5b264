"""The labels of a picture: tags, rating, artist, licence, page; and how those of two sources are combined.

`sidecar` reads them from a file beside a picture, `table` from a table, `names` from names of files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..steps.colours import EYE_COLOURS, HAIR_COLOURS
from .ratings import stricter

SIDECARS = (".txt", ".caption", ".json")
TABLES = (".csv", ".json", ".jsonl")

_SPELLED = {
    "silver": "gray", "grey": "gray", "light blue": "blue", "light brown": "brown", "dark blue": "blue",
    "light purple": "purple", "dark green": "green", "cyan": "aqua", "violet": "purple",
}  # fmt: skip
_COLOURS = {"hair": HAIR_COLOURS, "eyes": (*EYE_COLOURS, "white")}
_YELLOW = {"hair": "blonde", "eyes": "yellow"}
MAX_TAGS = 1000


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a picture, from files beside it or a table; a field without a label is empty or None.

    rating: one of `RATINGS`, or None.
    artist: several names, or spellings of one, are joined by a vertical bar.
    other: further columns of a table.
    digests: hex digits of hashes of the original file on its board.
    also: names of artists from another file, in addition to ``artist``.
    """

    tags: tuple[str, ...] = ()
    rating: str | None = None
    artist: str | None = None
    license: str | None = None
    url: str | None = None
    other: tuple[tuple[str, str], ...] = ()
    digests: tuple[str, ...] = field(default=(), compare=False)
    also: tuple[str, ...] = field(default=(), compare=False)

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
    """Both combined. Where they disagree, ``first`` counts; of two ratings, the stricter one."""
    other_artist = (second.artist,) if second.artist and second.artist != first.artist else ()
    return Labels(
        tuple(dict.fromkeys((*first.tags, *second.tags)))[:MAX_TAGS],
        stricter(first.rating, second.rating),
        first.artist or second.artist,
        first.license or second.license,
        first.url or second.url,
        first.other or second.other,
        tuple(dict.fromkeys((*first.digests, *second.digests))),
        tuple(dict.fromkeys((*first.also, *second.also, *other_artist))),
    )


def merge_all(many: Sequence[Labels]) -> Labels:
    """`merge` of all of them, fast also for a hundred thousand; empty `Labels` for none."""
    artists = dict.fromkeys(one.artist for one in many if one.artist)
    artist = next(iter(artists), None)
    also = dict.fromkeys(name for one in many for name in one.also)
    return Labels(
        tuple(dict.fromkeys(tag for one in many for tag in one.tags))[:MAX_TAGS],
        stricter(*(one.rating for one in many)),
        artist,
        next((one.license for one in many if one.license), None),
        next((one.url for one in many if one.url), None),
        next((one.other for one in many if one.other), ()),
        tuple(dict.fromkeys(digest for one in many for digest in one.digests)),
        tuple(also | {name: None for name in artists if name != artist}),
    )
