"""Units of length: as files write them, as napari spells them, and as a person reads them."""

UNITS = {
    "µm": "micrometer",
    "μm": "micrometer",  # the Greek letter, not the sign
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "\\u00b5m": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
}


def symbol(unit: str) -> str:
    """Short form of a unit as napari spells it: "micrometer" → "µm"; the unit itself if unknown."""
    return next((short for short, long in UNITS.items() if long == unit), unit)


def depth_symbol(unit: str) -> str:
    """Short form of the unit that depth is counted in: planes where nothing is calibrated."""
    return "planes" if unit == "pixel" else symbol(unit)
