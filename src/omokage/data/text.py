"""Text from outside: a printable line of it for messages, and decoded files in UTF-8 or UTF-16."""

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # starts like the mark of UTF-16, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded(data: bytes, zeros: bool = False) -> str:
    """``data`` as text, without its byte order mark.

    zeros: whether zero bytes may be in it.

    Raises `ValueError` if it is neither UTF-8 nor UTF-16 (nor UTF-32 with a mark).

    >>> decoded("é".encode("utf-16")), decoded("mira".encode("utf-16-le")), decoded(b"\\xef\\xbb\\xbfa")
    ('é', 'mira', 'a')
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None:
        # In UTF-16 every Latin letter, blank or line end has a zero byte. Its position in the pair tells the
        # byte order.
        start = data[: 2**16]
        first, second, some = start[::2].count(0), start[1::2].count(0), len(start) // 20
        encoding = "utf-16-be" if first > some and not second else "utf-8"
        encoding = "utf-16-le" if second > some and not first else encoding
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError("not text in UTF-8 or UTF-16") from None
    if "\0" in text and not zeros:
        raise ValueError("not text: it has zero bytes")
    return text


def one_line(text: object, limit: int = 300) -> str:
    """``text`` as one printable line of at most ``limit`` characters.

    >>> one_line("a\\n  b\\x1b[31m")
    'a b\\\\x1b[31m'
    """
    line = " ".join(str(text).split()).encode("utf-8", "backslashreplace").decode()
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"
