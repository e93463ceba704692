import numpy as np
import pytest
from scipy import ndimage

from napari_dff import synthetic
from napari_dff.depth import depth_map
from napari_dff.focus import AGGREGATIONS, OPERATORS, focus_measure
from napari_dff.focus.filters import ring_kernel, windowed_mean

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


def spread(values, window):
    return mean(values**2, window) - mean(values, window) ** 2


def shifted(plane, down, across):
    """The value `down` rows below and `across` columns to the right of each pixel."""
    padded = np.pad(plane, 4, mode="reflect")
    height, width = plane.shape
    return padded[4 + down : 4 + down + height, 4 + across : 4 + across + width]


def slow_diagonal_laplacian(plane, sigma, window):
    i = gauss(plane, sigma)
    diagonals = sum(np.abs(2 * i - shifted(i, -1, -d) - shifted(i, 1, d)) for d in (1, -1))
    return slow_modified_laplacian(plane, sigma, window) + mean(diagonals / np.sqrt(2), window)


def slow_laplacian_variance(plane, sigma, window):
    return spread(correlate(gauss(plane, sigma), LAPLACE), window)


def slow_tenengrad_variance(plane, sigma, window):
    i = gauss(plane, sigma)
    return spread(np.hypot(*(ndimage.sobel(i, axis, mode="mirror") for axis in (0, 1))), window)


def slow_gradient_energy(plane, sigma, window):
    i = gauss(plane, sigma)
    return mean((shifted(i, 1, 0) - i) ** 2 + (shifted(i, 0, 1) - i) ** 2, window)


def slow_gaussian_derivative(plane, sigma, window):
    i = gauss(plane, sigma)
    down, across = shifted(i, 1, 0) - shifted(i, -1, 0), shifted(i, 0, 1) - shifted(i, 0, -1)
    return mean((down**2 + across**2) / 4, window)


def slow_brenner(plane, sigma, window):
    i = gauss(plane, sigma)
    return mean((shifted(i, 2, 0) - i) ** 2 + (shifted(i, 0, 2) - i) ** 2, window)


DB2 = np.array([0.4829629131, 0.8365163037, 0.2241438680, -0.1294095226])


def details(plane, sigma):
    """db2 coefficients by their definition: sums of shifted planes."""
    i = gauss(plane, sigma)
    high = DB2[::-1] * [1, -1, 1, -1]
    pairs = ((DB2, high), (high, DB2), (high, high), (DB2, DB2))
    return [
        sum(a[v] * b[u] * shifted(i, v - 1, u - 1) for v in range(4) for u in range(4))
        for a, b in pairs
    ]


def slow_wavelet_sum(plane, sigma, window):
    return mean(sum(np.abs(d) for d in details(plane, sigma)[:3]), window)


def slow_wavelet_variance(plane, sigma, window):
    return sum(spread(d, window) for d in details(plane, sigma)[:3])


def slow_wavelet_ratio(plane, sigma, window):
    *fine, coarse = details(plane, sigma)
    return mean(sum(d**2 for d in fine), window) / spread(coarse, window)


def slow_normalised_variance(plane, sigma, window):
    return slow_variance(plane, sigma, window) / mean(gauss(plane, sigma), window)


def slow_third_moment(plane, sigma, window):
    i = gauss(plane, sigma)
    return mean(np.abs(i - mean(i, window)) ** 3, window)


def slow_vollath(plane, sigma, window):
    i = gauss(plane, sigma) - mean(gauss(plane, sigma), window)
    steps = ((1, 0), (0, 1))
    return mean(sum(i * (shifted(i, v, u) - shifted(i, 2 * v, 2 * u)) for v, u in steps), window)


def cosines(plane, sigma):
    i = gauss(plane, sigma)
    n = np.arange(4)

    def basis(k):
        return np.sqrt((1 if k == 0 else 2) / 4) * np.cos(np.pi * (2 * n + 1) * k / 8)

    return {
        (p, q): sum(
            basis(p)[v] * basis(q)[u] * shifted(i, v - 1, u - 1) for v in range(4) for u in range(4)
        )
        for p in range(4)
        for q in range(4)
    }


def slow_dct_energy(plane, sigma, window):
    return mean(sum(c**2 for k, c in cosines(plane, sigma).items() if k != (0, 0)), window)


def slow_dct_reduced(plane, sigma, window):
    c = cosines(plane, sigma)
    middle = sum(c[k] ** 2 for k in c if sum(k) in (2, 3))
    return mean(middle, window) / mean(c[0, 1] ** 2 + c[1, 0] ** 2, window)


def slow_helmli(plane, sigma, window):
    i = gauss(plane, sigma)
    ratio = i / mean(i, window)
    return mean(np.maximum(ratio, 1 / ratio) - 1, window)


def slow_steerable(plane, sigma, window):
    i = gauss(plane, sigma)
    down = (shifted(i, 1, 0) - shifted(i, -1, 0)) / 2
    across = (shifted(i, 0, 1) - shifted(i, 0, -1)) / 2
    angles = np.pi * np.arange(8) / 8
    best = np.max([np.abs(np.cos(a) * across + np.sin(a) * down) for a in angles], axis=0)
    return mean(best**2, window)


def slow_contrast(plane, sigma, window):
    i = gauss(plane, sigma)
    around = [(v, u) for v in (-1, 0, 1) for u in (-1, 0, 1) if (v, u) != (0, 0)]
    return mean(np.mean([np.abs(i - shifted(i, v, u)) for v, u in around], axis=0), window)


def slow_curvature(plane, sigma, window):
    i = gauss(plane, sigma)
    y, x = np.mgrid[-1:2, -1:2]
    design = np.stack([np.ones(9), y.ravel(), x.ravel(), y.ravel() ** 2, x.ravel() ** 2], axis=1)
    near = np.stack([shifted(i, v, u) for v in (-1, 0, 1) for u in (-1, 0, 1)], axis=-1)
    fitted = near @ np.linalg.pinv(design).T
    return mean(np.abs(fitted[..., 1:]).sum(axis=-1), window)


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_is_its_formula(name, rng):
    plane = rng.uniform(0, 100, (48, 56))
    fast = OPERATORS[name](plane.astype(np.float32), 1.2, 7)
    slow = globals()[f"slow_{name}"](plane, 1.2, 7)
    inner = (slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(fast[inner], slow[inner], rtol=0.01, atol=2e-3 * np.ptp(slow))


@pytest.mark.parametrize("name", OPERATORS)
def test_sharp_beats_blurred(name, surface):
    sharp = surface.sharp.astype(np.float32)
    planes = np.stack([sharp, ndimage.gaussian_filter(sharp, 1), ndimage.gaussian_filter(sharp, 2)])
    volume = focus_measure(planes, operator=name, aggregation="window", window=15)
    assert volume.dtype == np.float32
    assert volume.min() >= 0
    assert (volume[0] > volume[2]).mean() > 0.95


RATIOS = ("normalised_variance", "helmli")  # measures of contrast relative to the light


@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in RATIOS])
def test_offset_is_ignored(name, surface):
    sharp = surface.sharp.astype(np.float32)
    volume = focus_measure(np.stack([sharp, sharp + 1000, sharp]), operator=name)
    np.testing.assert_allclose(volume[1], volume[0], rtol=3e-2, atol=3e-3 * volume[0].max())


def test_balanced_windows_halve_the_error_on_a_slope(rng):
    z = np.arange(12.0)
    slope = np.tile(np.linspace(1.5, 9.5, 96), (96, 1))
    dots = np.zeros((96, 96))
    dots[tuple(rng.integers(0, 96, (2, 400)))] = 2
    sharp = 0.2 + synthetic.blur(dots, 0.8)
    planes = synthetic.render_opaque(sharp, slope, z, defocus=0.8).astype(np.float32)
    inner = (slice(10, -10), slice(10, -10))
    error = {
        how: np.abs(depth_map(focus_measure(planes, aggregation=how)).depth - slope)[inner].mean()
        for how in ("window", "balanced")
    }
    assert error["balanced"] < 0.6 * error["window"]


def test_adaptive_windows_see_through_noise():
    z = np.arange(12.0)
    depth = np.full((96, 96), 5.3)
    sharp = synthetic.noise_texture((96, 96), slope=1.5, seed=8)
    clean = synthetic.render_opaque(sharp, depth, z, defocus=1.0)
    planes = synthetic.photograph(clean, photons=100, seed=3)
    found = {
        how: depth_map(focus_measure(planes, aggregation=how)) for how in ("window", "adaptive")
    }
    error = {how: np.abs(each.depth - depth) for how, each in found.items()}
    known = np.isfinite(found["adaptive"].uncertainty)
    assert known.mean() > 0.6
    assert error["adaptive"].mean() < 0.5 * error["window"].mean()
    assert error["adaptive"][known].mean() < 0.2


def test_a_bare_patch_is_never_in_focus_and_the_rest_is():
    truth = synthetic.bare_patch(size=160, planes=12, seed=3)
    known = np.isfinite(depth_map(focus_measure(truth.stack.planes)).uncertainty)
    bare = ~truth.textured
    assert known[truth.textured].mean() > 0.99
    rim = ndimage.binary_erosion(bare, iterations=6)
    assert known[rim].mean() < 0.02


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_every_aggregation_finds_the_depth(how, surface):
    found = depth_map(focus_measure(surface.stack.planes, aggregation=how))
    assert np.abs(found.depth - surface.depth / 2).mean() < 0.2


def test_window_is_a_gaussian_with_the_variance_of_the_box():
    point = np.zeros((61, 61), np.float32)
    point[30, 30] = 1
    spread = windowed_mean(point, 9).sum(axis=0)
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
