"""Lists of words in messages."""

from collections.abc import Iterable, Sequence


def join_words(words: Iterable[str], conjunction: str = "and") -> str:
    """Return words as in "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def abbreviate(names: Sequence[str], count: int = 6) -> str:
    """Return names separated by commas, at most `count`."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
