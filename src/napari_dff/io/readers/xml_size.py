"""XML whose parsing would take far more memory and time than its file is long."""

import re

MAX_ATTRIBUTES = 5_000_000  # each takes some 80 bytes
MAX_NAMES = 10_000  # of attributes that differ: each takes some 450 bytes more
COUNTED = 500_000  # attributes, from which on their names are counted
ATTRIBUTE = re.compile(r"\s([^\s=<>]+)=")


def describe_excess(text: str, max_elements: int) -> str:
    """Return what XML has too many of, "500000 elements, more than 400000"; "" if of nothing."""
    elements, attributes = text.count("<") - text.count("</"), text.count("=")
    if elements > max_elements:
        return f"{elements} elements, more than {max_elements}"
    if attributes > MAX_ATTRIBUTES:
        return f"{attributes} attributes, more than {MAX_ATTRIBUTES}"
    names = set[str]()
    for match in ATTRIBUTE.finditer(text) if attributes > COUNTED else ():
        names.add(match[1])
        if len(names) > MAX_NAMES:
            return f"more than {MAX_NAMES} names of attributes"
    return ""
