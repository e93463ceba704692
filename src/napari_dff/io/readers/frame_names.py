"""Numbers in the names of frames: which of them vary, and what they count.

A name is texts and numbers in turn. Names with the same texts have the same columns of numbers.
Signs, decimals and units count: "z-5um", "z0.25mm". A hyphen in all names is a separator.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

DECIMAL = r"(?<![\d.,])\d+[.,]\d+(?![.,]?\d)"
UNIT = r"\s?(?:[nuµμm]m|cm|microns?)(?![A-Za-z])"
UNITS_UM = {"n": 1e-3, "u": 1.0, "µ": 1.0, "μ": 1.0, "mi": 1.0, "m": 1e3, "c": 1e4}  # by letter
NUMBER = re.compile(rf"[+-]?(?:\d+p\d+(?={UNIT})|{DECIMAL}|\d+)", re.IGNORECASE)
STARTS_WITH_UNIT = re.compile(UNIT, re.IGNORECASE)
LABEL = re.compile(r"([A-Za-z]+)[-_= ]*$")
WELL_ROW = re.compile(r"(?:^|.*[-_ ])([A-P])$")
TIMESTAMP = re.compile(
    r"(?<!\d)(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)[-_ T]+(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)(?!\d)"
)
HARMONY = re.compile(r"r\d+c\d+f\d+p\d+-ch\d+sk\d+fk\d+fl\d+", re.IGNORECASE)  # of PerkinElmer
HARMONY_AXES = dict(zip("rcfp", "PPPZ", strict=True)) | {"ch": "C", "sk": "T"}
AXIS_LABELS = {
    "Z": ("z", "slice", "plane", "focus", "zpos", "zposition", "zstep"),
    "C": ("c", "ch", "chan", "channel", "w", "wave", "wavelength"),
    "T": ("t", "tp", "time", "timepoint"),
    "P": (
        *("p", "pos", "position", "s", "series", "site", "f", "field", "fov", "xy", "m", "tile"),
        *("scene", "region", "well", "r", "row", "col", "column", "u", "v", "view", "x", "y"),
    ),
}
LABEL_AXES = {label: axis for axis, labels in AXIS_LABELS.items() for label in labels}


class Column(NamedTuple):
    """One number, or text, in all names of a folder."""

    label: str  # the letters before it, or its place in the name
    axis: str  # "Z", "C", "T", "P" by the label; "" if that is unknown
    values: tuple[float | str, ...]  # of each name
    texts: tuple[str, ...]  # as written
    is_position: bool = False  # has a unit, a sign or decimals: a focus position, not a counter
    micrometers: float | None = None  # of one step of `values`, if they have a unit of length

    @property
    def is_unique(self) -> bool:
        """Whether every name has another value."""
        return len(set(self.values)) == len(self.values)

    @property
    def is_constant(self) -> bool:
        """Whether all names have the same value."""
        return len(set(self.values)) == 1

    @property
    def span(self) -> str:
        """Label, first and last value, for messages: "ch 00…02"."""
        order = sorted(range(len(self.values)), key=lambda i: (str(type(self.values[i])), i))
        texts = list(dict.fromkeys(self.texts[i] for i in order))
        return f"{self.label} {texts[0]}…{texts[-1]}" if len(texts) > 1 else self.label


class _Name(NamedTuple):
    """The parts of one name."""

    texts: tuple[str, ...]  # around the numbers, one more than these
    numbers: tuple[str, ...]
    units: tuple[str, ...]  # of length, after each number; "" if there is none


def template(stem: str) -> str:
    """Return a name with # for each number, signs, decimals and units included."""
    return "#".join(_split(stem, NUMBER).texts).casefold()


def varying_columns(stems: Sequence[str]) -> list[Column] | None:
    """Return the columns that differ between names, or None if the names are of several kinds."""
    names = [_split(stem, NUMBER) for stem in stems]
    if _has_ambiguous_decimals(names):
        names = [_split(stem, re.compile(r"[+-]?\d+")) for stem in stems]
    kinds = {tuple(text.casefold() for text in name.texts) for name in names}
    if len({len(kind) for kind in kinds}) > 1:
        return None
    differing = [k for k, texts in enumerate(zip(*kinds, strict=True)) if len(set(texts)) > 1]
    if len(differing) > 1:
        return None
    is_harmony = all(HARMONY.search(stem) for stem in stems)
    columns = [_text_column(names, k) for k in differing]
    columns += [_number_column(names, k, is_harmony) for k in range(len(names[0].numbers))]
    return [column for column in columns if not column.is_constant]


def _split(stem: str, pattern: re.Pattern[str]) -> _Name:
    stem = TIMESTAMP.sub(r"\1\2\3\4\5\6", stem.replace("−", "-"))
    first, *texts = pattern.split(stem)
    units = [match[0] if (match := STARTS_WITH_UNIT.match(text)) else "" for text in texts]
    texts = [text.removeprefix(unit) for text, unit in zip(texts, units, strict=True)]
    return _Name((first, *texts), tuple(pattern.findall(stem)), tuple(map(str.strip, units)))


def _has_ambiguous_decimals(names: Sequence[_Name]) -> bool:
    """Return whether numbers like 1.10 are two counters: the same value is written in two ways."""
    for k in range(min(len(name.numbers) for name in names)):
        texts = {name.numbers[k] for name in names if len(name.numbers) > k}
        with_point = [text for text in texts if re.search(r"[.,]", text)]
        has_unit = any(name.units[k] for name in names if len(name.units) > k)
        if not with_point or has_unit:
            continue
        is_repeated = len({_value(text) for text in texts}) < len(texts)
        integer_parts = {re.split(r"[.,]", text)[0] for text in texts}
        if is_repeated or (
            len(with_point) == len(texts) and len(integer_parts) == 1 and integer_parts != {"0"}
        ):
            return True
    return False


def _text_column(names: Sequence[_Name], k: int) -> Column:
    """Return the text before number `k`; rows of wells are positions."""
    texts = tuple(name.texts[k] for name in names)
    rows = [WELL_ROW.match(text) for text in texts]
    is_well = all(rows) and all(len(name.numbers) > k for name in names)
    if is_well:
        texts = tuple(row[1] for row in rows if row)
        return Column("row", "P", texts, texts)
    parts = [re.split(r"[-_ ]+", text) for text in texts]
    common = set.intersection(*map(set, parts))
    words = tuple("_".join(word for word in part if word not in common) for part in parts)
    return Column("the words", "", tuple(word.casefold() for word in words), words)


def _number_column(names: Sequence[_Name], k: int, is_harmony: bool) -> Column:
    """Return number `k` of all names."""
    prefix, units = names[0].texts[k], [name.units[k] for name in names]
    letters = LABEL.search(prefix)
    label = letters[1] if letters else ""
    has_unit = any(units)
    axis = LABEL_AXES.get(label.casefold(), "")
    if is_harmony:
        axis = HARMONY_AXES.get(label.casefold(), "")
    elif WELL_ROW.match(prefix) and label not in ("C", "F", "L") and _digit_counts(names, k) == {2}:
        axis, label = "P", "column" if len({name.texts[k] for name in names}) > 1 else label
    if has_unit and axis in ("", "P"):
        axis = "Z"
    texts = tuple(name.numbers[k] for name in names)
    if not _has_signs(texts, has_unit and axis == "Z"):
        texts = tuple(text.lstrip("+-") for text in texts)
    values = tuple(map(_value, texts))
    common = next(filter(None, units), "")
    micrometers = _micrometers(common) if common else None
    if len(set(units)) > 1:  # 500um and 1.5mm; without a unit, that of the first
        scales = (_micrometers(unit or common) for unit in units)
        values = tuple(value * scale for value, scale in zip(values, scales, strict=True))
        micrometers = 1.0
    is_position = has_unit or min(values) < 0 or any(value % 1 for value in values)
    label = label or f"number {k + 1}"
    return Column(label, axis, values, texts, is_position, micrometers)


def _digit_counts(names: Sequence[_Name], k: int) -> set[int]:
    return {len(name.numbers[k].lstrip("+-")) for name in names}


def _has_signs(texts: Sequence[str], is_length: bool) -> bool:
    """Return whether hyphens are signs: not all numbers have one, or all are lengths but none 0."""
    negative = sum(text.startswith("-") for text in texts)
    return negative > 0 and (negative < len(texts) or (is_length and 0 not in map(_value, texts)))


def _value(text: str) -> float:
    """Return a number; integers of any length stay exact."""
    return float(re.sub("[,p]", ".", text)) if re.search("[.,p]", text) else int(text)


def _micrometers(unit: str) -> float:
    letters = unit.casefold()
    return UNITS_UM["mi" if letters.startswith("mi") else letters[0]]
