import numpy as np
import pytest
from scipy import ndimage

from napari_dff.focus import OPERATORS, average, focus_measure, ring_kernel

LAPLACE = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], float)


def mean(values: np.ndarray, window: int) -> np.ndarray:
    sigma = np.sqrt((window**2 - 1) / 12)
    return ndimage.gaussian_filter(values, sigma, mode="mirror", truncate=6)


def gauss(plane: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(plane, sigma, mode="mirror", truncate=6)


def correlate(plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return ndimage.correlate(plane, kernel, mode="mirror")


def slow_log(plane, sigma, window):
    return mean(correlate(gauss(plane, sigma), LAPLACE) ** 2, window)


def slow_laplacian(plane, sigma, window):
    return mean(correlate(plane, LAPLACE) ** 2, window)


def slow_modified_laplacian(plane, sigma, window):
    second = np.array([[-1.0, 2.0, -1.0]])
    blurred = gauss(plane, sigma)
    return mean(np.abs(correlate(blurred, second)) + np.abs(correlate(blurred, second.T)), window)


def slow_tenengrad(plane, sigma, window):
    blurred = gauss(plane, sigma)
    energy = sum(ndimage.sobel(blurred, axis, mode="mirror") ** 2 for axis in (0, 1))
    return mean(energy, window)


def slow_variance(plane, sigma, window):
    blurred = gauss(plane, sigma)
    return mean(blurred**2, window) - mean(blurred, window) ** 2


def slow_ring_difference(plane, sigma, window):
    return mean(correlate(plane, ring_kernel(sigma)) ** 2, window)


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_is_its_formula(name, rng):
    plane = rng.uniform(0, 100, (48, 56))
    fast = OPERATORS[name](plane.astype(np.float32), 1.2, 7)
    slow = globals()[f"slow_{name}"](plane, 1.2, 7)
    inner = (slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(fast[inner], slow[inner], rtol=0.01)


@pytest.mark.parametrize("name", OPERATORS)
def test_offset_is_ignored_and_sharp_beats_blurred(name, surface):
    sharp = surface.sharp.astype(np.float32)
    blurred = ndimage.gaussian_filter(sharp, 2)
    planes = np.stack([sharp, sharp + 1000, blurred])
    volume = focus_measure(planes, operator=name)
    assert volume.dtype == np.float32
    assert volume.min() >= 0
    np.testing.assert_allclose(volume[1], volume[0], rtol=2e-2, atol=1e-3 * volume[0].max())
    assert (volume[0] > volume[2]).mean() > 0.99


def test_window_is_a_gaussian_with_the_variance_of_the_box():
    point = np.zeros((61, 61), np.float32)
    point[30, 30] = 1
    spread = average(point, 9).sum(axis=0)
    assert (spread * (np.arange(61) - 30) ** 2).sum() == pytest.approx((81 - 1) / 12, rel=0.02)


def test_colour_is_measured_on_luminance(surface):
    grey = surface.stack.planes[:3]
    np.testing.assert_allclose(
        focus_measure(np.repeat(grey[..., None], 3, axis=3)), focus_measure(grey), rtol=1e-3
    )


def test_a_constant_stack_has_nothing_to_focus_on():
    with pytest.raises(ValueError, match="no contrast anywhere"):
        focus_measure(np.full((5, 16, 16), 700, np.uint16))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"operator": "lap"}, "operator must be one of log, .*got 'lap'"),
        ({"sigma": -1}, "sigma must be a number from 0 to 32, got -1"),
        ({"window": 8}, "window must be an odd number from 1 to 255, got 8"),
    ],
)
def test_bad_settings_are_named(settings, words, surface):
    with pytest.raises(ValueError, match=words):
        focus_measure(surface.stack.planes, **settings)
