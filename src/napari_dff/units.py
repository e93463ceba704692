"""Units of length: as files write them, as napari spells them, and as a person reads them."""

UNITS = {
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


def spelled_out(text: object) -> str | None:
    """Unit of length as napari spells it: "µm" → "micrometer"; None where it is none we know."""
    word = str(text).strip()
    return word if word in EXPONENTS else UNITS.get(word)


def checked_unit(unit: object) -> str:
    """`unit` as napari spells it, or "pixel"; ValueError where it is none we know."""
    spelled = "pixel" if unit == "pixel" else spelled_out(unit)
    if spelled is None:
        raise ValueError(f"unit must be pixel, {', '.join(EXPONENTS)}, got {unit!r}")
    return spelled


def factor(of: str, to: str) -> float:
    """What a length in `of` is multiplied with to be one in `to`: "micrometer", "nanometer": 1000.

    Both as napari spells them.
    """
    power = EXPONENTS[of] - EXPONENTS[to]
    return 10.0**power if power >= 0 else 1 / 10.0**-power


def symbol(unit: str) -> str:
    """Short form of a unit as napari spells it: "micrometer" → "µm"; the unit itself if unknown."""
    return next((short for short, long in UNITS.items() if long == unit), unit)


def depth_symbol(unit: str) -> str:
    """Short form of the unit that depth is counted in: planes where nothing is calibrated."""
    return "planes" if unit == "pixel" else symbol(unit)
