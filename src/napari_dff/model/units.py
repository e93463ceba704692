"""Units of length: spellings in files, names in napari, and symbols for display."""

UNIT_NAMES = {
    "µm": "micrometer",
    "μm": "micrometer",  # the Greek letter, not the sign
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "\\u00b5m": "micrometer",  # ImageJ escapes the sign, or the letter, in either case
    "\\u00B5m": "micrometer",
    "\\u03bcm": "micrometer",
    "\\u03BCm": "micrometer",
    "pm": "picometer",
    "Å": "angstrom",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
}
EXPONENTS = {
    "picometer": -12,
    "angstrom": -10,
    "nanometer": -9,
    "micrometer": -6,
    "millimeter": -3,
    "centimeter": -2,
    "meter": 0,
}


def normalize_unit(text: object) -> str | None:
    """Return the napari name of a unit of length ("µm" → "micrometer"), or None if unknown."""
    word = str(text).strip()
    return word if word in EXPONENTS else UNIT_NAMES.get(word)


def validate_unit(unit: object) -> str:
    """Return the napari name of `unit`, or "pixel"; raise ValueError for an unknown unit."""
    name = "pixel" if unit == "pixel" else normalize_unit(unit)
    if name is None:
        raise ValueError(f"unit must be pixel, {', '.join(EXPONENTS)}, got {unit!r}")
    return name


def conversion_factor(source: str, target: str) -> float:
    """Return the factor from one napari unit to another: ("micrometer", "nanometer") → 1000."""
    power = EXPONENTS[source] - EXPONENTS[target]
    return 10.0**power if power >= 0 else 1 / 10.0**-power


def unit_symbol(unit: str) -> str:
    """Return the symbol of a napari unit ("micrometer" → "µm"), or the unit itself if unknown."""
    return next((short for short, name in UNIT_NAMES.items() if name == unit), unit)


def depth_unit_symbol(unit: str) -> str:
    """Return the symbol of the unit of depth; "planes" for an uncalibrated stack."""
    return "planes" if unit == "pixel" else unit_symbol(unit)
