"""Lists of words, and names of files, in messages."""

import re
from collections.abc import Iterable, Sequence

MAX_SHOWN = 200  # characters of a value in a message
# Control characters, bytes of names that are not UTF-8, and marks that turn the direction of text.
UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def join_words(words: Iterable[str], conjunction: str = "and") -> str:
    """Return words as in "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def abbreviate(names: Sequence[str], count: int = 6) -> str:
    """Return names separated by commas, at most `count`."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def shorten(value: object) -> str:
    """Return the representation of a value in one line, for messages, at most `MAX_SHOWN` long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer with too many digits, or any error of a type of the caller
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def printable(text: object) -> str:
    r"""Return text whose control characters are escaped, as \x1b, so that it is one line."""
    return UNPRINTABLE.sub(_escape, str(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    is_byte = 0xDC80 <= code <= 0xDCFF  # as Python decodes a byte that is not UTF-8
    return f"\\x{code - 0xDC00:02x}" if is_byte else repr(match[0])[1:-1]
