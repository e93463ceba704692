"""Step heights and volumes."""

import numpy as np

from napari_dff.model import checks
from napari_dff.model.checks import MAX_MAGNITUDE, as_mask
from napari_dff.model.stack import validate_pixel_size
from napari_dff.surface.quantity import Quantity, symbols
from napari_dff.surface.region import CORRELATED_PIXELS, check_values, known_pixels

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
    """Measure the height of a step by fitting two parallel planes (least squares).

    Parameters
    ----------
    heights : (Y, X) float array
        In `unit`; NaN where never in focus. Levelling is not needed.
    first, second : (Y, X) bool
        The two flat areas, without the edge between them.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, a napari name. For "pixel", heights are in planes, and the undefined tilt
        is left out.
    uncertainty : (Y, X) float array, optional
        Standard uncertainty of the heights, in `unit`; pixels with inf are unknown.

    Returns
    -------
    tuple of Quantity
        "step height", `second` minus `first`. Its standard uncertainty is the larger of two: that
        propagated from the scatter about the planes, and that propagated from `uncertainty`, both
        for errors correlated over 5 × 5 pixels. "scatter" about the planes, root mean square.
        "tilt" of the planes.

    Raises
    ------
    ValueError
        For an invalid argument, or if the known pixels do not determine two parallel planes.

    References
    ----------
    ISO 5436-1:2000, which fits lines to a profile (depth of a groove of type A1).
    """
    size = validate_pixel_size(pixel_size)
    check_values("heights", heights)
    first, second = (
        known_pixels(heights, as_mask(name, mask, np.shape(heights)), uncertainty)
        for name, mask in (("first", first), ("second", second))
    )
    if shared := np.count_nonzero(first & second):
        raise ValueError(f"first and second must not overlap, got {shared} pixels in both")
    rows, columns = np.nonzero(first | second)
    values = heights[rows, columns].astype(np.float64)
    middle, count = values.mean(), len(values)
    coordinates = np.column_stack([rows * size[0], columns * size[1]])
    coordinates -= coordinates.mean(axis=0)
    scale = np.abs(coordinates).max()
    terms = np.column_stack([second[rows, columns], np.ones(len(rows)), coordinates / scale])
    normal = terms.T @ terms
    if np.linalg.matrix_rank(normal, tol=1e-12 * count, hermitian=True) < 4:
        raise ValueError(
            f"first and second must hold enough known pixels for two parallel planes, got {count} "
            "pixels that don't determine them"
        )
    inverse = np.linalg.inv(normal)
    fitted = inverse @ (terms.T @ (values - middle))
    step, _, *slopes = fitted
    squares = float(np.sum((values - middle - terms @ fitted) ** 2))
    degrees_of_freedom = max(count / CORRELATED_PIXELS - 4, 1)  # less four parameters
    variance = float(inverse[0, 0]) * squares / degrees_of_freedom
    if uncertainty is not None:
        influence = terms @ inverse[0]
        deviation = uncertainty[rows, columns].astype(np.float64)
        variance = max(variance, CORRELATED_PIXELS * float(np.sum((influence * deviation) ** 2)))
    symbol, scatter = symbols(unit)["height"], (squares / count) ** 0.5
    quantities = [
        Quantity("step height", float(step), symbol, float(np.sqrt(variance)), "second over first"),
        Quantity("scatter", scatter, symbol, None, "root mean square about planes"),
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
    """Measure the volume between the surface and a level.

    Parameters
    ----------
    heights : (Y, X) float array
        In `unit`, levelled; NaN where never in focus.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, a napari name.
    level : float
        In `unit`.
    uncertainty : (Y, X) float array, optional
        Standard uncertainty of the heights, in `unit`; pixels with inf are unknown. It is
        propagated to the volumes, for errors correlated over 5 × 5 pixels.
    where : (Y, X) bool, optional
        The region; all pixels when None.

    Returns
    -------
    tuple of Quantity
        "volume above" and "volume below" the level, both at least 0, the "area above", and the
        "area unknown", which is part of none of them.

    Raises
    ------
    ValueError
        For an invalid argument, or if no height is known.
    """
    height, width = validate_pixel_size(pixel_size)
    level = LEVEL.check("level", level)
    mask = known_pixels(heights, where, uncertainty)
    over, pixel, units = heights[mask].astype(np.float64) - level, height * width, symbols(unit)
    above, below = over > 0, over < 0
    deviations: list[float | None] = [None, None]
    if uncertainty is not None:
        squares = [uncertainty[mask].astype(np.float64)[side] ** 2 for side in (above, below)]
        deviations = [float(pixel * np.sqrt(CORRELATED_PIXELS * np.sum(s))) for s in squares]
    up, down = float(over[above].sum() * pixel), float(-over[below].sum() * pixel)
    area = float(np.count_nonzero(above) * pixel)
    unknown = float(((mask.size if where is None else np.count_nonzero(where)) - over.size) * pixel)
    return (
        Quantity("volume above", up, units["volume"], deviations[0], "between level and peaks"),
        Quantity("volume below", down, units["volume"], deviations[1], "between level and pits"),
        Quantity("area above", area, units["area"], None, "projected area higher than the level"),
        Quantity("area unknown", unknown, units["area"], None, "part of no other quantity"),
    )
