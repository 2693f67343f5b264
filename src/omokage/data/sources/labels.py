"""Labels of a picture, from files beside it or from a table: tags, rating, artist, licence.

Every tool writes them in its own way. A rating or an artist must be recognised in each of these ways. A
rating that is not understood counts as the stricter one.
"""

import csv
import html
import io
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...errors import UserError
from ..steps.colours import EYE_COLOURS, HAIR_COLOURS
from ..text import decoded, one_line
from .matching import Met, Rows
from .spelling import folded, plain_name

RATINGS = ("general", "sensitive", "questionable", "explicit")
SIDECARS = (".txt", ".caption", ".json")
TABLES = (".csv", ".json", ".jsonl")
_PICTURE_NAMES = ("file", "filename", "md5")
_NAMES = (*_PICTURE_NAMES, "id")
_FIRST_IS_A_PICTURE = re.compile(
    r'\s*\{\s*"[^"\\]+\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif)"\s*:', re.IGNORECASE
)

# Words in the form of `_squashed` (lower case, letters and digits only). They come from Danbooru and Gelbooru
# (general, sensitive, questionable, explicit), e621, Sankaku and moebooru (safe, questionable, explicit),
# Szurubooru (safe, sketchy, unsafe), Derpibooru (safe, suggestive, ...), pixiv (R-18, R-18G), FurAffinity,
# Weasyl and Inkbunny (general, mature, adult), Newgrounds (everyone, teen, mature, adult). "mature" is nudity
# or worse on all of these.
_RATING = {
    **dict.fromkeys(
        ("g", "general", "safe", "sfw", "all", "allages", "allage", "everyone", "pg", "全年齢", "全年齢対象"),
        "general",
    ),
    **dict.fromkeys(("s", "sensitive", "suggestive", "pg13", "r15", "teen"), "sensitive"),
    **dict.fromkeys(("q", "questionable", "sketchy", "borderline", "ecchi", "r16", "r17"), "questionable"),
    **dict.fromkeys(("e", "explicit", "unsafe", "nsfw", "adult", "mature", "r18", "r18g"), "explicit"),
}
_NO_RATING = {"none", "null", "nan", "na"}
_RATING_KEYS = {
    "rating", "ratings", "ratingname", "contentrating", "agerating", "maturityrating", "safety",
    "agerestriction", "agelimit", "maturitylevel",
}  # fmt: skip
_FLAG = re.compile(
    r"(?:is|has|contains?|possibly|rating|content|hideas)*"
    r"(mature|adult|nsfw|r18g?|explicit|over18|sensitive|questionable|sexual|hentai|porn(?:ography)?)"
    r"(?:content|only|works?|rating|media|flags?)*"
)
_FALSE = ("", "false", "no", "n", "f", "none", "null", "nan", "off")
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

_SPELLED = {
    "silver": "gray", "grey": "gray", "light blue": "blue", "light brown": "brown", "dark blue": "blue",
    "light purple": "purple", "dark green": "green", "cyan": "aqua", "violet": "purple",
}  # fmt: skip
_COLOURS = {"hair": HAIR_COLOURS, "eyes": (*EYE_COLOURS, "white")}
_YELLOW = {"hair": "blonde", "eyes": "yellow"}
MAX_TAGS = 1000
_KNOWN = ("file", "tags", "rating", "artist", "license", "url")  # columns with a meaning of their own


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
        _stricter(first.rating, second.rating),
        first.artist or second.artist,
        first.license or second.license,
        first.url or second.url,
        first.other or second.other,
        tuple(dict.fromkeys((*first.digests, *second.digests))),
        tuple(dict.fromkeys((*first.also, *second.also, *other_artist))),
    )


def _merged(many: Sequence[Labels]) -> Labels:
    """`merge` of all of them, fast also for a hundred thousand; empty `Labels` for none."""
    artists = dict.fromkeys(one.artist for one in many if one.artist)
    artist = next(iter(artists), None)
    also = dict.fromkeys(name for one in many for name in one.also)
    return Labels(
        tuple(dict.fromkeys(tag for one in many for tag in one.tags))[:MAX_TAGS],
        _stricter(*(one.rating for one in many)),
        artist,
        next((one.license for one in many if one.license), None),
        next((one.url for one in many if one.url), None),
        next((one.other for one in many if one.other), ()),
        tuple(dict.fromkeys(digest for one in many for digest in one.digests)),
        tuple(also | {name: None for name in artists if name != artist}),
    )


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
        whole = _merged(records)
        artists = [name for one in records if one.artist for name in one.artist.split("|")]
        artist = "|".join(_unlike(artists)) or None
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
        return _with_marks(split_tags(text))
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not name.lower().endswith(".json") and not re.match(r"\s*\{\s*\"", text):
            # not JSON: tags that begin with a bracket
            return _with_marks(split_tags(text))
        raise ValueError(f"labels that are no JSON: {one_line(error, 80)}") from None
    try:
        if isinstance(record, list):
            if record and all(isinstance(one, dict) for one in record):
                return _merged([from_record(one) for one in record])
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
        records = list(_records(decoded(data)))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"labels that are no JSON: {one_line(error, 80)}") from None
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("labels that are no JSON objects")
    named = folded(picture).rpartition("/")[2]
    own = []
    for record in records:
        called = {folded(str(record[key])).rpartition("/")[2] for key in _PICTURE_NAMES if record.get(key)}
        if called & {named, named.rpartition(".")[0]}:
            own.append(record)
    try:
        # Several records of one picture are combined.
        labels = [from_record(record) for record in own or records]
    except RecursionError:
        raise ValueError("labels that are nested too deeply") from None
    if own or len(labels) == 1:
        return _merged(labels)
    raise Ambiguous(labels)


def marks_in(data: bytes) -> Labels:
    """Rating and artists found by searching labels that cannot be parsed, because cut short or damaged.

    >>> marks_in(b'{"tags": ["smile"], "rating": "e", "sou').rating
    'explicit'
    """
    text = data[: 2**22].replace(b"\0", b"").decode("utf-8", "replace").removeprefix("\ufeff")
    if text.lstrip()[:1] not in ("{", "["):
        seen = _with_marks(split_tags(text))
        return Labels(rating=seen.rating, also=(seen.artist,) if seen.artist else ())
    found = re.findall(r"(?:rating|safety)[\"']?\s*[:=]\s*[\[{]?\s*[\"']?([a-z0-9+-]+)", text.lower())
    flagged = re.search(
        r"x_?restrict[\"']?\s*[:=]\s*[\"']?[1-9]|\br-?18g?\b"
        r"|[\"'][a-z_]*(?:mature|nsfw|adult|explicit|sensitive)[a-z_]*[\"']\s*:\s*(?:true|1)",
        text.lower(),
    )
    keys = "tag_string_artist|artist|author|creator|name|nick"
    names = re.findall(rf"[\"'](?:{keys})[\"']\s*:\s*[\"']([^\"']{{1,200}})[\"']", text)
    rating = _stricter(*map(_rating, found), "explicit" if flagged else None)
    return Labels(rating=rating, also=tuple(dict.fromkeys(names[:MAX_TAGS])))


def is_table(name: str, data: bytes) -> bool:
    """Whether a file has labels of many pictures by name, as `LabelTable` reads them.

    A JSON object whose first key is the name of a picture counts too, like the `boxes.json` of drawn
    illustrations. Only the beginning of the file is checked.

    >>> is_table("factors.csv", b"file,hair\\n0.png,blue\\n"), is_table("0.json", b'{"tags": "smile"}')
    (True, False)
    """
    if not name.lower().endswith(TABLES):
        return False
    try:
        text = decoded(data[: 2**16], zeros=True).lstrip()
    except ValueError:  # the cut may also divide a letter
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


def from_record(record: Mapping[str, Any], posters: bool = True) -> Labels:
    """The labels in one record of a board or a tool (docs/building.md lists those that are known).

    posters: whether the person who posted a picture counts as its artist if the record names none.

    >>> from_record({"author": {"name": "mira"}, "tags": ["smile"], "x_restrict": 1}).rating
    'explicit'
    """
    known = {_squashed(str(key)): value for key, value in record.items()}
    tags: list[str] = []
    artists: list[str] = []
    for key in _TAG_KEYS:
        value = known.get(key)
        if not (isinstance(value, str) and "</" in value):  # an HTML caption has no tags
            _read_tags(value, tags, artists)
    for key in _ARTIST_TAG_KEYS:
        value = known.get(key)
        artists += split_tags(value) if isinstance(value, str) else _named(value)
    labels = _with_marks([tag for tag in tags if tag])
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
        _stricter(labels.rating, _rating_of(known, record)),
        "|".join(_unlike(artists)) or None,
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
            kind = _squashed(str(category))
            some: list[str] = []
            _read_tags(names, some, artists)
            if kind in _ARTIST_KEYS:
                artists += some
            else:
                tags += [f"rating:{name}" for name in some] if kind in _RATING_KEYS else some
    elif isinstance(value, list):
        for tag in value:
            if isinstance(tag, str):
                tags.append(_tag(tag))
            elif isinstance(tag, Mapping):
                kinds = (tag.get(key) for key in ("category", "type", "type_name", "namespace"))
                is_artist = any(str(kind).lower() in ("1", "artist", "creator") for kind in kinds)
                names = tag.get("name", tag.get("names", tag.get("tag")))
                names = names if isinstance(names, list) else [names]
                (artists if is_artist else tags).extend(_tag(name) for name in names if isinstance(name, str))


def _named(value: object) -> list[str]:
    """The names in a record's value for a person: a string, an object, or a list of them."""
    if isinstance(value, str):
        return [one_line(value, 200)] if value.strip() else []
    if isinstance(value, list):
        return [name for one in value for name in _named(one)]
    if isinstance(value, Mapping):
        known = {_squashed(str(key)): one for key, one in value.items()}
        names = [one_line(known[key], 200) for key in _NAME_KEYS if isinstance(known.get(key), str)]
        return names + [name for key in ("user", "author", "artist") for name in _named(known.get(key))]
    return []


def _unlike(names: Iterable[str]) -> list[str]:
    """``names`` without those that repeat an earlier name in another spelling."""
    seen: dict[str, str] = {}
    for name in names:
        if name:
            seen.setdefault(plain_name(name), name)
    return list(seen.values())


def split_tags(text: str) -> list[str]:
    """Tags separated by commas or lines if there are any, else by spaces; underscores become spaces.

    >>> split_tags("long_hair blue_eyes"), split_tags("long hair, blue eyes")
    (['long hair', 'blue eyes'], ['long hair', 'blue eyes'])
    """
    text = re.sub(r"[\r\n，、]+", ",", text).strip().strip(",")
    parts = text.split(",") if "," in text else text.split()
    return list(dict.fromkeys(tag for tag in (_tag(part) for part in parts) if tag))[:MAX_TAGS]


def _tag(text: str) -> str:
    text = one_line(html.unescape(text), 100).strip()
    return text.replace("_", " ").lower() if len(text) > 3 else text.lower()


def _with_marks(tags: list[str]) -> Labels:
    """Labels from tags. Tags for a rating or an artist become those fields."""
    plain, artists, rating = [], [], None
    for tag in (part for whole in tags for part in _MARK_INSIDE.split(whole)):
        squashed = _squashed(tag)
        if (mark := _RATING_MARK.fullmatch(tag)) and (":" in tag or "=" in tag or _known(mark[1])):
            # "rating: e 1girl solo", if lines have no commas
            rating = _stricter(rating, _rating(mark[1] if _known(mark[1]) else mark[1].split()[0]))
        elif squashed in _TAGGED:
            rating = _stricter(rating, _RATING[squashed])
        elif (mark := _ARTIST_MARK.fullmatch(tag)) is not None:
            artists.append(mark[1].strip())
        else:
            if squashed in _TAGGED_EXPLICIT or _squashed(tag.rpartition(":")[2]) in _TAGGED_EXPLICIT:
                rating = "explicit"
            plain.append(tag)
    return Labels(tuple(dict.fromkeys(plain))[:MAX_TAGS], rating, "|".join(dict.fromkeys(artists)) or None)


def _squashed(text: str) -> str:
    """``text`` in lower case, with letters and digits only.

    >>> _squashed("x_restrict"), _squashed("xRestrict"), _squashed("R-18G")
    ('xrestrict', 'xrestrict', 'r18g')
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def _stricter(*ratings: str | None) -> str | None:
    return max((rating for rating in ratings if rating), key=RATINGS.index, default=None)


def _known(word: str) -> bool:
    return _squashed(word) in _RATING


def _rating(value: object) -> str | None:
    """One of `RATINGS` from the value of a rating key; None if the value is empty."""
    if isinstance(value, str):
        word = _squashed(value.strip().lower().removeprefix("rating:"))
        if not value.strip(" -") or word in _NO_RATING:
            return None
        # An unknown word does not mean that the picture is harmless.
        return _RATING.get(word, "explicit")
    if isinstance(value, list):
        return _stricter(*map(_rating, value))
    if isinstance(value, Mapping):
        likely = {key: part for key, part in value.items() if isinstance(part, int | float)}
        if likely and len(likely) == len(value):  # a tagger's confidence for each
            return _rating(str(max(likely, key=lambda key: float(likely[key]))))
        words = [value[key] for key in ("name", "rating", "value", "slug", "label") if key in value]
        return _stricter(*map(_rating, words)) if words else "explicit" if value else None
    # The meaning of numbers differs between sites, so none is known to be harmless. 0 means no rating.
    return "explicit" if value else None


def _rating_of(known: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """The strictest rating in a record. known: its values by squashed keys (`_squashed`)."""
    said = [_rating_by_site(value, known, record) for key, value in known.items() if key in _RATING_KEYS]
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
        word = "general" if flag is None else _RATING.get(flag[1], "explicit")
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
    return _stricter(*said)


def _rating_by_site(value: object, known: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """`_rating`, with the meaning that letters have on the site of the record."""
    letter = value.strip().lower() if isinstance(value, str) else ""
    site = _squashed(str(known.get("category") or known.get("site") or ""))
    if site == "newgrounds":  # everyone, teen, mature, adult
        return {"e": "general", "t": "sensitive"}.get(letter, _rating(value))
    if letter != "s":
        return _rating(value)
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


def _text(record: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        value = record.get(key)
        if isinstance(value, str) and value.strip():
            return one_line(value, 500)
    return None


class LabelTable:
    """Labels by file name: a CSV with a column `file`, or JSON lines with `file`, `filename`, `md5` or `id`.

    verbatim: every column of a CSV is a further column, whatever its name; JSON is refused.

    columns: the names of further columns, which go to the index unchanged.
    met: which rows matched a file, once `meet` was called.
    """

    def __init__(self, path: str | Path, taken: Iterable[str] = (), verbatim: bool = False) -> None:
        import hashlib

        path = Path(path).expanduser()
        try:
            data = path.read_bytes()
            text = decoded(data)
        except (OSError, ValueError) as error:
            raise UserError(f"labels {one_line(path)} cannot be read: {one_line(error)}") from None
        self.described = {"name": one_line(path.name), "sha256": hashlib.sha256(data).hexdigest()}
        self.columns: list[str] = []
        self.met: Met | None = None
        self._labels: list[Labels] = []
        self._names: list[list[str]] = []
        if text.lstrip()[:1] in ("{", "[") and not verbatim:
            self._read_json(text, path)
        else:
            self._read_csv(text, path, {"file"} if verbatim else _KNOWN)
        if clash := set(self.columns) & set(taken):
            raise UserError(f"labels {one_line(path)}: the column {min(clash)!r} needs another name")
        self._rows = Rows(self._names, lambda a, b: self._labels[a] == self._labels[b], one_line(path))

    def __len__(self) -> int:
        return len(self._labels)

    def _read_csv(self, text: str, path: Path, known: Collection[str]) -> None:
        header, rows = read_table(text, path)
        self.columns = [one_line(name) for name in header if name not in known]
        for row in rows:
            record = dict(zip(header, row, strict=True))
            other = tuple((one_line(k), v) for k, v in record.items() if k not in known and v)
            told = {k: v.replace("|", ",") if k == "tags" else v for k, v in record.items()}
            told = told if "tags" in known else {}
            self._labels.append(replace(from_record(told, posters=False), other=other))
            self._names.append([record["file"]] if record["file"] else [])

    def _read_json(self, text: str, path: Path) -> None:
        try:
            for record in _records(text):
                if not isinstance(record, dict):
                    raise ValueError("a record that is not an object")
                called = (record.get(key) for key in _NAMES)
                names = [str(name) for name in called if isinstance(name, str | int) and name]
                if not names:
                    raise ValueError("a record without file, filename, md5 or id")
                self._labels.append(from_record(record))
                self._names.append(names)
        except (ValueError, RecursionError) as error:
            raise UserError(f"labels {one_line(path)}: {one_line(error, 120)}") from None

    def meet(self, files: Iterable[tuple[int, str, str]]) -> Met:
        """Find the rows of all files, see `matching.Rows.meet`."""
        self.met = self._rows.meet(files)
        return self.met

    def get(self, file: str, source: str = "") -> Labels | None:
        """The labels in the row of a file; None if it has no row. See `matching.Rows`."""
        if self.met is not None:
            row = self.met.places.get((source, one_line(file, 1000)))
        else:
            row = self._rows.best(source, file)
        return None if row is None else self._labels[row]


def read_table(text: str, path: Path) -> tuple[list[str], list[list[str]]]:
    """The header of a CSV that names files in a column `file`, and its rows, all as long as the header.

    Raises `UserError` if the text is not such a CSV.
    """
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"labels {one_line(path)} cannot be read: {one_line(error)}") from None
    header = rows[0] if rows else []
    if "file" not in header or len(set(header)) != len(header):
        raise UserError(f"labels {one_line(path)}: the first line must name columns, one of them `file`")
    for number, row in enumerate(rows[1:], 2):
        if row and len(row) != len(header):
            counts = f"{len(row)} columns, not {len(header)}"
            raise UserError(f"labels {one_line(path)}: line {number} has {counts}")
    return header, [row for row in rows[1:] if row]


def _records(text: str) -> Iterator[Any]:
    """The records of a JSON list, of JSON lines, or of a JSON object keyed by picture names."""
    if text.lstrip().startswith("["):
        yield from json.loads(text)
        return
    if _FIRST_IS_A_PICTURE.match(text):
        with suppress(ValueError):  # otherwise it is JSON lines
            by_name = json.loads(text)
            if all(isinstance(record, dict) for record in by_name.values()):
                yield from ({**record, "file": name} for name, record in by_name.items())
                return
    yield from (json.loads(line) for line in text.splitlines() if line.strip())
