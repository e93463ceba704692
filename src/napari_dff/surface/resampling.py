"""Uncertainty of parameters by resampling: their scatter when noise is added to the heights."""

from collections.abc import Callable, Iterator

import numpy as np

from napari_dff.surface.quantity import Quantity
from napari_dff.surface.region import CORRELATED_PIXELS

SAMPLE_COUNT = 20  # so that standard uncertainties are known to 1 / sqrt(2 · 19) = 16 %


def noise_samples(deviation: np.ndarray) -> Iterator[np.ndarray]:
    """Yield noise of a standard deviation, (Y, X) or (N,), correlated over 5 pixels of each axis.

    The same noise in each call, so that results are repeatable. It is 0 where `deviation` is not
    finite.
    """
    from scipy.ndimage import uniform_filter

    width = round(CORRELATED_PIXELS**0.5)
    scale = np.where(np.isfinite(deviation), deviation, 0) * width ** (deviation.ndim / 2)
    generator = np.random.default_rng(0)
    for _ in range(SAMPLE_COUNT):
        white = generator.standard_normal(deviation.shape, np.float32)
        yield scale * uniform_filter(white, width, mode="wrap")


def with_uncertainties(
    quantities: list[Quantity],
    heights: np.ndarray,
    noises: Iterator[np.ndarray],
    parameters: Callable[[np.ndarray], list[float]],
) -> list[Quantity]:
    """Return quantities with the scatter of `parameters` over `heights` with each of `noises`.

    Where noise shifts a quantity by more than its scatter, as it does with slopes and extremes, the
    meaning contains the shift: the heights contain about as much noise already.
    """
    samples = np.array([parameters(heights + noise) for noise in noises])
    results = []
    for quantity, values in zip(quantities, samples.T, strict=True):
        scatter, shift = float(values.std(ddof=1)), float(values.mean()) - quantity.value
        note = f"; noise changes it by about {shift:+.2g}" if abs(shift) > scatter else ""
        if np.isfinite(quantity.value):
            quantity = quantity._replace(uncertainty=scatter, meaning=quantity.meaning + note)
        results.append(quantity)
    return results
