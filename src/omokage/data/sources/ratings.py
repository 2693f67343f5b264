"""How fit for whom a picture is: ratings, in the words, letters, flags and numbers of each site and tool.

A rating that is not understood counts as the stricter one.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

RATINGS = ("general", "sensitive", "questionable", "explicit")

# Words in the form of `squashed` (lower case, letters and digits only). They come from Danbooru and Gelbooru
# (general, sensitive, questionable, explicit), e621, Sankaku and moebooru (safe, questionable, explicit),
# Szurubooru (safe, sketchy, unsafe), Derpibooru (safe, suggestive, ...), pixiv (R-18, R-18G), FurAffinity,
# Weasyl and Inkbunny (general, mature, adult), Newgrounds (everyone, teen, mature, adult). "mature" is nudity
# or worse on all of these.
RATING_WORDS = {
    **dict.fromkeys(
        ("g", "general", "safe", "sfw", "all", "allages", "allage", "everyone", "pg", "全年齢", "全年齢対象"),
        "general",
    ),
    **dict.fromkeys(("s", "sensitive", "suggestive", "pg13", "r15", "teen"), "sensitive"),
    **dict.fromkeys(("q", "questionable", "sketchy", "borderline", "ecchi", "r16", "r17"), "questionable"),
    **dict.fromkeys(("e", "explicit", "unsafe", "nsfw", "adult", "mature", "r18", "r18g"), "explicit"),
}
_NO_RATING = {"none", "null", "nan", "na"}
RATING_KEYS = {
    "rating", "ratings", "ratingname", "contentrating", "agerating", "maturityrating", "safety",
    "agerestriction", "agelimit", "maturitylevel",
}  # fmt: skip
_FLAG = re.compile(
    r"(?:is|has|contains?|possibly|rating|content|hideas)*"
    r"(mature|adult|nsfw|r18g?|explicit|over18|sensitive|questionable|sexual|hentai|porn(?:ography)?)"
    r"(?:content|only|works?|rating|media|flags?)*"
)
_FALSE = ("", "false", "no", "n", "f", "none", "null", "nan", "off")

# Sites where `s` means safe, the mildest of three ratings: by gallery-dl's name of the site and by the host
# of its files. On Danbooru and Gelbooru it meant that until spring 2022. Since then it means "sensitive".
# Without further evidence, `s` is read as "sensitive".
_S_IS_SAFE_SITES = {
    "e621", "e926", "e6ai", "sankaku", "sankakucomplex", "idolcomplex", "yandere", "konachan", "lolibooru",
    "sakugabooru", "3dbooru",
}  # fmt: skip
_S_IS_SAFE_HOSTS = (
    "e621.net", "e926.net", "sankakucomplex.com", "idolcomplex.com", "yande.re", "konachan.com",
    "konachan.net", "lolibooru.moe", "sakugabooru.com", "behoimi.org",
)  # fmt: skip


def squashed(text: str) -> str:
    """``text`` in lower case, with letters and digits only.

    >>> squashed("x_restrict"), squashed("xRestrict"), squashed("R-18G")
    ('xrestrict', 'xrestrict', 'r18g')
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def stricter(*ratings: str | None) -> str | None:
    return max((rating for rating in ratings if rating), key=RATINGS.index, default=None)


def is_rating(word: str) -> bool:
    return squashed(word) in RATING_WORDS


def rating_of_value(value: object) -> str | None:
    """One of `RATINGS` from the value of a rating key; None if the value is empty."""
    if isinstance(value, str):
        word = squashed(value.strip().lower().removeprefix("rating:"))
        if not value.strip(" -") or word in _NO_RATING:
            return None
        # An unknown word does not mean that the picture is harmless.
        return RATING_WORDS.get(word, "explicit")
    if isinstance(value, list):
        return stricter(*map(rating_of_value, value))
    if isinstance(value, Mapping):
        likely = {key: part for key, part in value.items() if isinstance(part, int | float)}
        if likely and len(likely) == len(value):  # a tagger's confidence for each
            return rating_of_value(str(max(likely, key=lambda key: float(likely[key]))))
        words = [value[key] for key in ("name", "rating", "value", "slug", "label") if key in value]
        return stricter(*map(rating_of_value, words)) if words else "explicit" if value else None
    # The meaning of numbers differs between sites, so none is known to be harmless. 0 means no rating.
    return "explicit" if value else None


def rating_of_record(known: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """The strictest rating in a record. known: its values by squashed keys (`squashed`)."""
    said = [_rating_by_site(value, known, record) for key, value in known.items() if key in RATING_KEYS]
    if (restrict := known.get("xrestrict")) is not None:  # pixiv: 0, 1 R-18, 2 R-18G
        said.append("explicit" if _is_true(restrict) else "general")
    # pixiv: 2 for all ages, 4 and 6
    said.append({"4": "sensitive", "6": "questionable"}.get(str(known.get("sanitylevel")).strip()))
    sure: dict[str, float] = {}
    for key, value in known.items():
        flag = _FLAG.fullmatch(key)
        mild = key in ("general", "safe", "sfw", "ratinggeneral", "ratingsafe")
        if flag is None and not mild:
            continue
        word = "general" if flag is None else RATING_WORDS.get(flag[1], "explicit")
        number = _number(value)
        if number is not None and 0 < number < 1:
            sure[word] = max(number, sure.get(word, 0.0))
        elif _is_true(value) and (flag is not None or key.startswith("rating")):
            # A post marked only as sensitive may be of any kind.
            said.append("explicit" if word == "sensitive" and not key.startswith("rating") else word)
    if sure:  # a tagger's confidence for each rating
        likely = max(sure, key=lambda word: sure[word])
        said.append(likely if "general" in sure or sure[likely] >= 0.5 else None)
    if {"porn", "sexual", "nudity"} & _words(known.get("labels")):  # Bluesky
        said.append("explicit")
    return stricter(*said)


def _rating_by_site(value: object, known: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """`rating_of_value`, with the meaning that letters have on the site of the record."""
    letter = value.strip().lower() if isinstance(value, str) else ""
    site = squashed(str(known.get("category") or known.get("site") or ""))
    if site == "newgrounds":  # everyone, teen, mature, adult
        return {"e": "general", "t": "sensitive"}.get(letter, rating_of_value(value))
    if letter != "s":
        return rating_of_value(value)
    file = known.get("file")
    urls = [known.get(key) for key in ("fileurl", "sampleurl", "previewurl", "jpegurl")]
    hosts = [_host(url) for url in (*urls, file.get("url") if isinstance(file, Mapping) else None)]
    safe = (
        site in _S_IS_SAFE_SITES
        or any(host == one or host.endswith(f".{one}") for host in hosts for one in _S_IS_SAFE_HOSTS)
        or _is_danbooru20xx(record)
    )
    return "general" if safe else "sensitive"


def _is_danbooru20xx(record: Mapping[str, Any]) -> bool:
    """Whether a record is from Danbooru2017 to 2021, data sets older than the rating "sensitive"."""
    tags = record.get("tags")
    return (
        isinstance(tags, list)
        and bool(tags)
        and all(isinstance(tag, Mapping) and {"id", "name", "category"} <= tag.keys() for tag in tags)
        and all(isinstance(tag["category"], str) and tag["category"].isdigit() for tag in tags)
    )


def _host(url: object) -> str:
    try:
        return (urlsplit(url).hostname or "").lower() if isinstance(url, str) else ""
    except ValueError:
        return ""


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


def _is_true(value: object) -> bool:
    if isinstance(value, str):
        return _number(value) != 0 and value.strip().lower() not in _FALSE
    return bool(value)


def _words(value: object, depth: int = 4) -> set[str]:
    """All words in nested lists and objects."""
    if isinstance(value, str):
        return {value.strip().lower()}
    inner = value if isinstance(value, list) else value.values() if isinstance(value, Mapping) else ()
    return {word for one in inner for word in _words(one, depth - 1)} if depth else set()
