"""How high a step is, and how much volume stands above a level."""

from __future__ import annotations

import numpy as np

from napari_dff import checks
from napari_dff.stack import validate_pixel_size
from napari_dff.surface.quantity import Quantity, symbols
from napari_dff.surface.region import PATCH, known_pixels, validate_mask
from napari_dff.validation import MAX_MAGNITUDE

LEVEL = checks.Range(-MAX_MAGNITUDE, MAX_MAGNITUDE, 0.1)


def step_height(
    heights: np.ndarray,  # (Y, X)
    first: np.ndarray,  # (Y, X)
    second: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    unit: str = "micrometer",
    *,
    uncertainty: np.ndarray | None = None,  # (Y, X)
) -> tuple[Quantity, ...]:
    """Height of one flat over another: two parallel planes, fitted together by least squares.

    Parameters
    ----------
    heights : (Y, X) float array
        In `unit`; NaN where never in focus. Need not be levelled.
    first, second : (Y, X) bool
        The two flats. Leave out the edge between them.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length as napari spells it. For "pixel" heights are planes, and the tilt, which has
        no meaning then, is left out.
    uncertainty : (Y, X) float array, optional
        One standard deviation of the heights, in `unit`; inf counts as unknown.

    Returns
    -------
    tuple of Quantity
        "step height", `second` over `first`; its standard deviation is what the scatter about the
        planes makes of it, or what `uncertainty` makes of it if that is more, with errors alike
        over 5 × 5 pixels. "scatter" about the planes, root mean square. "tilt" of the planes.

    Raises
    ------
    ValueError
        For a wrong argument, or where the known pixels don't determine two parallel planes.

    References
    ----------
    ISO 5436-1:2000, which does so along a profile (depth of a groove of type A1).
    """
    size = validate_pixel_size(pixel_size)
    flats = [
        known_pixels(heights, validate_mask(name, flat, np.shape(heights)), uncertainty)
        for name, flat in (("first", first), ("second", second))
    ]
    if (flats[0] & flats[1]).any():
        shared = np.count_nonzero(flats[0] & flats[1])
        raise ValueError(f"first and second must not overlap, got {shared} pixels in both")
    rows, columns = np.nonzero(flats[0] | flats[1])
    values = heights[rows, columns].astype(np.float64)
    middle = values.mean()

    places = np.column_stack([rows * size[0], columns * size[1]])
    places -= places.mean(axis=0)
    scale = np.abs(places).max()
    terms = np.column_stack([flats[1][rows, columns], np.ones(len(rows)), places / scale])
    normal = terms.T @ terms
    count = len(values)
    if np.linalg.matrix_rank(normal, tol=1e-12 * count, hermitian=True) < 4:
        raise ValueError(
            f"first and second must hold enough known pixels for two parallel planes, got {count} "
            "pixels that don't determine them"
        )
    inverse = np.linalg.inv(normal)
    fitted = inverse @ (terms.T @ (values - middle))
    step, _, *slopes = fitted
    squares = float(np.sum((values - middle - terms @ fitted) ** 2))

    free = max(count / PATCH - 4, 1)  # independent patches less the four numbers fitted
    variance = float(inverse[0, 0]) * squares / free
    if uncertainty is not None:
        influence = terms @ inverse[0]
        deviation = uncertainty[rows, columns].astype(np.float64)
        variance = max(variance, PATCH * float(np.sum((influence * deviation) ** 2)))

    high = symbols(unit).height
    quantities = [
        Quantity("step height", float(step), high, float(np.sqrt(variance)), "second over first"),
        Quantity("scatter", (squares / count) ** 0.5, high, None, "root mean square about planes"),
    ]
    if unit != "pixel":
        tilt = float(np.degrees(np.arctan(np.hypot(*slopes) / scale)))
        quantities.append(Quantity("tilt", tilt, "°", None, "of both planes"))
    return tuple(quantities)


def volume(
    heights: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    unit: str = "micrometer",
    *,
    level: float = 0.0,
    uncertainty: np.ndarray | None = None,  # (Y, X)
    where: np.ndarray | None = None,  # (Y, X)
) -> tuple[Quantity, ...]:
    """Volume between the surface and a level.

    Parameters
    ----------
    heights : (Y, X) float array
        In `unit`, levelled; NaN where never in focus.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length as napari spells it.
    level : float
        In `unit`.
    uncertainty : (Y, X) float array, optional
        One standard deviation of the heights, in `unit`; inf counts as unknown. Those of the
        volumes follow from it, with errors alike over 5 × 5 pixels.
    where : (Y, X) bool, optional
        The region; everything when None.

    Returns
    -------
    tuple of Quantity
        "volume above" and "volume below" the level, both at least 0, the "area above", and the
        "area unknown", which counts in none of them.

    Raises
    ------
    ValueError
        For a wrong argument, or where no height is known.
    """
    height, width = validate_pixel_size(pixel_size)
    level = LEVEL.check("level", level)
    known = known_pixels(heights, where, uncertainty)
    over = heights[known].astype(np.float64) - level
    pixel = height * width
    deviation = None if uncertainty is None else uncertainty[known].astype(np.float64)

    def uncertain(side: np.ndarray) -> float | None:
        if deviation is None:
            return None
        return float(pixel * np.sqrt(PATCH * np.sum(deviation[side] ** 2)))

    above, below = over > 0, over < 0
    unknown = (known.size if where is None else np.count_nonzero(where)) - over.size
    units = symbols(unit)
    up, down = float(over[above].sum() * pixel), float(-over[below].sum() * pixel)
    area = float(np.count_nonzero(above) * pixel)
    return (
        Quantity("volume above", up, units.volume, uncertain(above), "between level and peaks"),
        Quantity("volume below", down, units.volume, uncertain(below), "between level and pits"),
        Quantity("area above", area, units.area, None, "projected area higher than the level"),
        Quantity("area unknown", float(unknown * pixel), units.area, None, "counted in none"),
    )
