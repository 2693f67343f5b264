"""Tags of a picture as text, and the ratings and artists that are written among them."""

import html
import re

from ..text import one_line
from .labels import MAX_TAGS, Labels
from .ratings import RATING_WORDS, is_rating, rating_of_value, squashed, stricter

_TAGGED_EXPLICIT = {
    "r18", "r18g", "nsfw", "explicit", "hentai", "porn", "pornography", "18禁", "成人向け", "xrestrict1",
    "xrestrict2", "isnsfw",
}  # fmt: skip
_TAGGED = {"general", "sensitive", "questionable", "explicit", "safe", "sfw", "suggestive"}
_RATING_MARK = re.compile(
    r"(?:meta:)?(?:(?:content[ _]|age[ _]|maturity[ _])?rating|safety)\s*(?:[:=]\s*|[ _-]+)(.+)",
    re.DOTALL,
)
_ARTIST_MARK = re.compile(
    r"(?:(?:artists?|creators?|authors?|illustrators?|painters?|(?:drawn[ _]|art[ _])?by)\s*:"
    r"|(?:(?:art(?:work)?|drawn|drawing|painted|illustrated|illustration)[ _])?by[ _]"
    r"(?!(?:the|an?|her|his|their|its|night|day)\b)|@(?=[^\W_]))\s*(?=\S)(.+)",
    re.DOTALL,
)
_MARK_INSIDE = re.compile(
    r"\s+(?=(?:artist|creator|author|rating|safety|by|character|copyright|series|meta):)"
)


def split_tags(text: str) -> list[str]:
    """Tags separated by commas or lines if there are any, else by spaces; underscores become spaces.

    >>> split_tags("long_hair blue_eyes"), split_tags("long hair, blue eyes")
    (['long hair', 'blue eyes'], ['long hair', 'blue eyes'])
    """
    text = re.sub(r"[\r\n，、]+", ",", text).strip().strip(",")
    parts = text.split(",") if "," in text else text.split()
    return list(dict.fromkeys(tag for tag in (plain_tag(part) for part in parts) if tag))[:MAX_TAGS]


def plain_tag(text: str) -> str:
    """A tag in lower case, with blanks for underscores; emoticons such as ``^_^`` keep them."""
    text = one_line(html.unescape(text), 100).strip()
    return text.replace("_", " ").lower() if len(text) > 3 else text.lower()


def with_marks(tags: list[str]) -> Labels:
    """Labels from tags. Tags for a rating or an artist become those fields."""
    plain, artists, rating = [], [], None
    for tag in (part for whole in tags for part in _MARK_INSIDE.split(whole)):
        word = squashed(tag)
        if (mark := _RATING_MARK.fullmatch(tag)) and (":" in tag or "=" in tag or is_rating(mark[1])):
            # "rating: e 1girl solo", if lines have no commas
            rating = stricter(rating, rating_of_value(mark[1] if is_rating(mark[1]) else mark[1].split()[0]))
        elif word in _TAGGED:
            rating = stricter(rating, RATING_WORDS[word])
        elif (mark := _ARTIST_MARK.fullmatch(tag)) is not None:
            artists.append(mark[1].strip())
        else:
            if word in _TAGGED_EXPLICIT or squashed(tag.rpartition(":")[2]) in _TAGGED_EXPLICIT:
                rating = "explicit"
            plain.append(tag)
    return Labels(tuple(dict.fromkeys(plain))[:MAX_TAGS], rating, "|".join(dict.fromkeys(artists)) or None)
