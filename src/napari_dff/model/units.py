"""Units of length: spellings in files, names in napari, and symbols for display."""

from napari_dff.runtime.words import shorten

UNITS = {  # symbol: name in napari, and power of ten of the metre
    "pm": ("picometer", -12),
    "Å": ("angstrom", -10),
    "nm": ("nanometer", -9),
    "µm": ("micrometer", -6),
    "mm": ("millimeter", -3),
    "cm": ("centimeter", -2),
    "m": ("meter", 0),
}
EXPONENTS = dict(UNITS.values())
# The Greek letter instead of the sign, and both as ImageJ escapes them.
MICROMETER = ("μm", r"\u00b5m", r"\u00B5m", r"\u03bcm", r"\u03BCm", "um", "micron", "microns")
OTHER_UNITS_MM = {  # of OME and ImageJ, which napari-dff converts to millimeter
    "dm": 100.0,
    "km": 1e6,
    "in": 25.4,
    "inch": 25.4,
    "inches": 25.4,
    '"': 25.4,
    "ft": 304.8,
    "yd": 914.4,
    "thou": 0.0254,
    "mil": 0.0254,
    "li": 25.4 / 12,
    "pt": 25.4 / 72,
    "fm": 1e-12,
}
SECONDS = {  # of units of time in OME, ImageJ and OME-Zarr
    "ns": 1e-9,
    "nanosecond": 1e-9,
    "µs": 1e-6,
    "microsecond": 1e-6,
    "ms": 1e-3,
    "msec": 1e-3,
    "millisecond": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
NAMES = {symbol: name for symbol, (name, _) in UNITS.items()}
NAMES |= dict.fromkeys(MICROMETER, "micrometer")


def normalize_unit(text: object) -> str | None:
    """Return the napari name of a unit of length ("µm" → "micrometer"), or None if unknown."""
    word = str(text).strip()
    return word if word in EXPONENTS else NAMES.get(word)


def metric_unit(text: object) -> tuple[str, float] | None:
    """Return a napari unit and the factor to it ("in" → millimeter, 25.4), or None if unknown."""
    name = normalize_unit(text) or normalize_unit(str(text).strip().casefold().removesuffix("s"))
    name = name or normalize_unit(str(text).strip().casefold().replace("metre", "meter"))
    if name is not None:
        return name, 1.0
    millimeters = OTHER_UNITS_MM.get(str(text).strip())
    return None if millimeters is None else ("millimeter", millimeters)


def validate_unit(unit: object) -> str:
    """Return the napari name of `unit`, or "pixel"; raise ValueError for an unknown unit."""
    if isinstance(unit, str) and (name := "pixel" if unit == "pixel" else normalize_unit(unit)):
        return name
    raise ValueError(f"unit must be pixel, {', '.join(EXPONENTS)}, got {shorten(unit)}")


def conversion_factor(source: str, target: str) -> float:
    """Return the factor from one napari unit to another: ("micrometer", "nanometer") → 1000."""
    power = EXPONENTS[source] - EXPONENTS[target]
    return 10.0**power if power >= 0 else 1 / 10.0**-power


def unit_symbol(unit: str) -> str:
    """Return the symbol of a napari unit ("micrometer" → "µm"), or the unit itself if unknown."""
    return next((short for short, (name, _) in UNITS.items() if name == unit), unit)


def depth_unit_symbol(unit: str) -> str:
    """Return the symbol of the unit of depth; "planes" for an uncalibrated stack."""
    return "planes" if unit == "pixel" else unit_symbol(unit)
