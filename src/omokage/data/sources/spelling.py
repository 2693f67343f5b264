"""Normal forms of file names and artist names, so that different spellings of one name are equal."""

import html
import re
import unicodedata
from functools import lru_cache

QUOTES = "\"'`“”„‘’«»「」『』"


def canonical(name: str) -> str:
    """``name`` with ``/`` between its parts, without empty parts and ``.``, and with composed accents (NFC).

    >>> canonical(".\\\\sub\\\\x.png"), canonical("//a/./b.png") , canonical("か\u3099.png")
    ('sub/x.png', 'a/b.png', 'が.png')
    """
    if name.isascii() and "\\" not in name and "./" not in name and "//" not in name and name[:1] != "/":
        return name
    text = unicodedata.normalize("NFC", name).replace("\\", "/")
    return "/".join(part for part in text.split("/") if part not in ("", "."))


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """`canonical`, without regard to case.

    >>> folded("A.PNG") == folded("./a.png")
    True
    """
    text = canonical(name)
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def stemmed(name: str) -> str:
    """``name`` without its ending; folders stay, and so does a name that is nothing but an ending.

    >>> stemmed("a.b/c.tar.gz"), stemmed("a/.png")
    ('a.b/c.tar', 'a/.png')
    """
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)


@lru_cache(maxsize=2**18)
def plain_name(name: str) -> str:
    """``name`` in one form for all spellings of an artist: case, underscores, width, coding of accents.

    >>> {plain_name(n) for n in ("Mira_(Pix)", "@mira(pix)", r"mira \\\\(pix\\\\)", "ＭＩＲＡ　（ｐｉｘ）")}
    {'mira (pix)'}
    """
    text = unicodedata.normalize("NFKC", html.unescape(name)).casefold()
    text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    text = re.sub(r"\\+(?=[^\w\s])", "", text)  # prompt tools escape parentheses
    text = re.sub(r"[\s_]+", " ", text)
    text = re.sub(r" ?([(\[]) ?", r" \1", text)
    text = re.sub(r" ([)\]])", r"\1", text)
    return text.strip(f" {QUOTES}").lstrip("@").strip()
