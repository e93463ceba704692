import numpy as np
import pytest
from scipy import ndimage

from napari_dff import synthetic
from napari_dff.depth.estimation import depth_map
from napari_dff.focus import AGGREGATIONS, OPERATORS, focus_measure
from napari_dff.focus.filters import ring_kernel, windowed_mean
from napari_dff.imaging.images import luminance

LAPLACE = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], float)


def gaussian_mean(values: np.ndarray, window: int) -> np.ndarray:
    sigma = np.sqrt((window**2 - 1) / 12)
    return ndimage.gaussian_filter(values, sigma, mode="mirror", truncate=6)


def gaussian_blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(plane, sigma, mode="mirror", truncate=6)


def correlate(plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return ndimage.correlate(plane, kernel, mode="mirror")


def reference_log(plane, sigma, window):
    return gaussian_mean(correlate(gaussian_blur(plane, sigma), LAPLACE) ** 2, window)


def reference_laplacian(plane, sigma, window):
    return gaussian_mean(correlate(plane, LAPLACE) ** 2, window)


def reference_modified_laplacian(plane, sigma, window):
    second = np.array([[-1.0, 2.0, -1.0]])
    blurred = gaussian_blur(plane, sigma)
    return gaussian_mean(
        np.abs(correlate(blurred, second)) + np.abs(correlate(blurred, second.T)), window
    )


def reference_tenengrad(plane, sigma, window):
    blurred = gaussian_blur(plane, sigma)
    energy = sum(ndimage.sobel(blurred, axis, mode="mirror") ** 2 for axis in (0, 1))
    return gaussian_mean(energy, window)


def reference_variance(plane, sigma, window):
    blurred = gaussian_blur(plane, sigma)
    return gaussian_mean(blurred**2, window) - gaussian_mean(blurred, window) ** 2


def reference_ring_difference(plane, sigma, window):
    return gaussian_mean(correlate(plane, ring_kernel(sigma)) ** 2, window)


def windowed_variance(values, window):
    return gaussian_mean(values**2, window) - gaussian_mean(values, window) ** 2


def shift(plane, down, across):
    """Return the value `down` rows below and `across` columns to the right of each pixel."""
    padded = np.pad(plane, 4, mode="reflect")
    height, width = plane.shape
    return padded[4 + down : 4 + down + height, 4 + across : 4 + across + width]


def reference_diagonal_laplacian(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    diagonals = sum(np.abs(2 * i - shift(i, -1, -d) - shift(i, 1, d)) for d in (1, -1))
    return reference_modified_laplacian(plane, sigma, window) + gaussian_mean(
        diagonals / np.sqrt(2), window
    )


def reference_laplacian_variance(plane, sigma, window):
    return windowed_variance(correlate(gaussian_blur(plane, sigma), LAPLACE), window)


def reference_tenengrad_variance(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    return windowed_variance(
        np.hypot(*(ndimage.sobel(i, axis, mode="mirror") for axis in (0, 1))), window
    )


def reference_gradient_energy(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    return gaussian_mean((shift(i, 1, 0) - i) ** 2 + (shift(i, 0, 1) - i) ** 2, window)


def reference_gaussian_derivative(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    down, across = shift(i, 1, 0) - shift(i, -1, 0), shift(i, 0, 1) - shift(i, 0, -1)
    return gaussian_mean((down**2 + across**2) / 4, window)


def reference_brenner(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    return gaussian_mean((shift(i, 2, 0) - i) ** 2 + (shift(i, 0, 2) - i) ** 2, window)


DB2 = np.array([0.4829629131, 0.8365163037, 0.2241438680, -0.1294095226])


def wavelet_bands(plane, sigma):
    """Return db2 coefficients by their definition: sums of shifted planes."""
    i = gaussian_blur(plane, sigma)
    high = DB2[::-1] * [1, -1, 1, -1]
    pairs = ((DB2, high), (high, DB2), (high, high), (DB2, DB2))
    return [
        sum(a[v] * b[u] * shift(i, v - 1, u - 1) for v in range(4) for u in range(4))
        for a, b in pairs
    ]


def reference_wavelet_sum(plane, sigma, window):
    return gaussian_mean(sum(np.abs(d) for d in wavelet_bands(plane, sigma)[:3]), window)


def reference_wavelet_variance(plane, sigma, window):
    return sum(windowed_variance(d, window) for d in wavelet_bands(plane, sigma)[:3])


def reference_wavelet_ratio(plane, sigma, window):
    *fine, coarse = wavelet_bands(plane, sigma)
    return gaussian_mean(sum(d**2 for d in fine), window) / windowed_variance(coarse, window)


def reference_normalised_variance(plane, sigma, window):
    return reference_variance(plane, sigma, window) / gaussian_mean(
        gaussian_blur(plane, sigma), window
    )


def reference_third_moment(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    return gaussian_mean(np.abs(i - gaussian_mean(i, window)) ** 3, window)


def reference_vollath(plane, sigma, window):
    i = gaussian_blur(plane, sigma) - gaussian_mean(gaussian_blur(plane, sigma), window)
    steps = ((1, 0), (0, 1))
    return gaussian_mean(
        sum(i * (shift(i, v, u) - shift(i, 2 * v, 2 * u)) for v, u in steps), window
    )


def cosine_bands(plane, sigma):
    i = gaussian_blur(plane, sigma)
    n = np.arange(4)

    def basis(k):
        return np.sqrt((1 if k == 0 else 2) / 4) * np.cos(np.pi * (2 * n + 1) * k / 8)

    return {
        (p, q): sum(
            basis(p)[v] * basis(q)[u] * shift(i, v - 1, u - 1) for v in range(4) for u in range(4)
        )
        for p in range(4)
        for q in range(4)
    }


def reference_dct_energy(plane, sigma, window):
    return gaussian_mean(
        sum(c**2 for k, c in cosine_bands(plane, sigma).items() if k != (0, 0)), window
    )


def reference_dct_reduced(plane, sigma, window):
    c = cosine_bands(plane, sigma)
    middle = sum(c[k] ** 2 for k in c if sum(k) in (2, 3))
    return gaussian_mean(middle, window) / gaussian_mean(c[0, 1] ** 2 + c[1, 0] ** 2, window)


def reference_helmli(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    ratio = i / gaussian_mean(i, window)
    return gaussian_mean(np.maximum(ratio, 1 / ratio) - 1, window)


def reference_steerable(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    down = (shift(i, 1, 0) - shift(i, -1, 0)) / 2
    across = (shift(i, 0, 1) - shift(i, 0, -1)) / 2
    angles = np.pi * np.arange(8) / 8
    best = np.max([np.abs(np.cos(a) * across + np.sin(a) * down) for a in angles], axis=0)
    return gaussian_mean(best**2, window)


def reference_contrast(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    around = [(v, u) for v in (-1, 0, 1) for u in (-1, 0, 1) if (v, u) != (0, 0)]
    return gaussian_mean(np.mean([np.abs(i - shift(i, v, u)) for v, u in around], axis=0), window)


def reference_curvature(plane, sigma, window):
    i = gaussian_blur(plane, sigma)
    y, x = np.mgrid[-1:2, -1:2]
    design = np.stack([np.ones(9), y.ravel(), x.ravel(), y.ravel() ** 2, x.ravel() ** 2], axis=1)
    near = np.stack([shift(i, v, u) for v in (-1, 0, 1) for u in (-1, 0, 1)], axis=-1)
    fitted = near @ np.linalg.pinv(design).T
    return gaussian_mean(np.abs(fitted[..., 1:]).sum(axis=-1), window)


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_equals_its_formula_in_scipy(name, rng):
    plane = rng.uniform(0, 100, (48, 56))
    measured = OPERATORS[name](plane.astype(np.float32), 1.2, 7)
    expected = globals()[f"reference_{name}"](plane, 1.2, 7)
    inner = (slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(
        measured[inner], expected[inner], rtol=0.01, atol=2e-3 * np.ptp(expected)
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_sharp_texture_measures_more_than_blurred(name, surface):
    sharp = surface.sharp.astype(np.float32)
    planes = np.stack([sharp, ndimage.gaussian_filter(sharp, 1), ndimage.gaussian_filter(sharp, 2)])
    volume = focus_measure(planes, operator=name, aggregation="window", window=15)
    assert volume.dtype == np.float32
    assert volume.min() >= 0
    assert (volume[0] > volume[2]).mean() > 0.95


RELATIVE_OPERATORS = ("normalised_variance", "helmli")  # measures of contrast relative to the light


@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in RELATIVE_OPERATORS])
def test_brightness_offset_does_not_change_the_measure(name, surface):
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
        aggregation: np.abs(
            depth_map(focus_measure(planes, aggregation=aggregation)).depth - slope
        )[inner].mean()
        for aggregation in ("window", "balanced")
    }
    assert error["balanced"] < 0.6 * error["window"]


def test_adaptive_windows_halve_the_error_under_noise():
    z = np.arange(12.0)
    depth = np.full((96, 96), 5.3)
    sharp = synthetic.noise_texture((96, 96), slope=1.5, seed=8)
    clean = synthetic.render_opaque(sharp, depth, z, defocus=1.0)
    planes = synthetic.photograph(clean, photons=100, seed=3)
    estimate = {
        aggregation: depth_map(focus_measure(planes, aggregation=aggregation))
        for aggregation in ("window", "adaptive")
    }
    error = {aggregation: np.abs(each.depth - depth) for aggregation, each in estimate.items()}
    in_focus = np.isfinite(estimate["adaptive"].uncertainty)
    assert in_focus.mean() > 0.6
    assert error["adaptive"].mean() < 0.5 * error["window"].mean()
    assert error["adaptive"][in_focus].mean() < 0.2


def test_only_the_patch_without_texture_is_never_in_focus():
    truth = synthetic.bare_patch(size=160, planes=12, seed=3)
    in_focus = np.isfinite(depth_map(focus_measure(truth.stack.planes)).uncertainty)
    bare = ~truth.textured
    assert in_focus[truth.textured].mean() > 0.99
    rim = ndimage.binary_erosion(bare, iterations=6)
    assert in_focus[rim].mean() < 0.02


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_every_aggregation_finds_the_depth(aggregation, surface):
    estimate = depth_map(focus_measure(surface.stack.planes, aggregation=aggregation))
    assert np.abs(estimate.depth - surface.depth / 2).mean() < 0.2


def test_a_silhouette_does_not_outweigh_the_texture_beside_it(rng):
    silhouette = np.where(np.arange(64) < 32, 300.0, 0.0) * np.ones((64, 1))
    texture = 20 * rng.normal(size=(64, 64)) * (np.arange(64) >= 32)
    sigmas = np.abs(np.arange(12.0) - np.array([[3.0], [8.0]]))  # in focus in planes 3 and 8
    parts = [
        np.stack([ndimage.gaussian_filter(image, 0.5 + s) for s in row])
        for image, row in zip((silhouette, texture), sigmas, strict=True)
    ]
    planes = (parts[0] + parts[1] + rng.normal(0, 0.1, (12, 64, 64))).astype(np.float32)
    wrong = {}
    for aggregation in ("window", "balanced", "adaptive"):
        index = focus_measure(planes, aggregation=aggregation).argmax(axis=0)
        wrong[aggregation] = (np.abs(index[8:-8, 34:44] - 8) > 1).mean()
    assert wrong["balanced"] < 0.6 * wrong["window"]
    assert wrong["adaptive"] < 0.6 * wrong["window"]


def test_averaging_window_has_the_variance_of_a_box():
    point = np.zeros((61, 61), np.float32)
    point[30, 30] = 1
    spread = windowed_mean(point, 9).sum(axis=0)
    assert (spread * (np.arange(61) - 30) ** 2).sum() == pytest.approx((81 - 1) / 12, rel=0.02)


@pytest.mark.parametrize("kind", ["masked", "mapped", "read-only", "in Fortran's order"])
def test_luminance_is_a_plain_array_for_kernels(kind, tmp_path):
    plane = np.arange(60, dtype=np.float32).reshape(6, 10)
    if kind == "masked":
        given = np.ma.masked_array(plane, mask=False)
    elif kind == "mapped":
        given = np.memmap(tmp_path / "plane", np.float32, "w+", shape=plane.shape)
        given[:] = plane
    else:
        given = np.asfortranarray(plane) if "order" in kind else np.broadcast_to(plane, plane.shape)
    grey = luminance(given)
    assert type(grey) is np.ndarray
    assert grey.flags.c_contiguous
    assert grey.flags.writeable
    np.testing.assert_array_equal(grey, plane)


def test_colour_is_measured_on_luminance(surface):
    grey = surface.stack.planes[:3]
    np.testing.assert_allclose(
        focus_measure(np.repeat(grey[..., None], 3, axis=3)),
        focus_measure(grey),
        rtol=1e-3,
    )


def test_stack_without_contrast_is_refused():
    with pytest.raises(ValueError, match="no contrast anywhere"):
        focus_measure(np.full((5, 16, 16), 700, np.uint16))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"operator": "lap"}, "operator must be one of log, .*got 'lap'"),
        ({"sigma": -1}, "sigma must be auto or a number from 0 to 32, got -1"),
        ({"window": 8}, "window must be auto or an odd number from 1 to 255, got 8"),
    ],
)
def test_invalid_settings_are_named_in_the_error(settings, words, surface):
    with pytest.raises(ValueError, match=words):
        focus_measure(surface.stack.planes, **settings)


def test_black_around_a_round_field_of_view_is_never_in_focus():
    size = 128
    y, x = np.mgrid[:size, :size] - size / 2
    radius = np.hypot(x, y)
    depth = 2 + 15 * synthetic.relief((size, size), smoothness=30, seed=0)
    texture = synthetic.noise_texture((size, size), seed=1)
    planes = synthetic.render_opaque(texture, depth, np.arange(20.0), defocus=0.8)
    shot = synthetic.photograph(planes * (radius < 50), photons=2000, dtype=np.uint8)
    in_focus = np.isfinite(depth_map(focus_measure(shot)).uncertainty)
    assert in_focus[radius < 42].all()
    assert in_focus[radius > 58].mean() < 0.005


@pytest.mark.parametrize("aggregation", ["adaptive", "balanced"])
def test_a_measure_beside_zero_is_finite_however_large(aggregation, rng):
    planes = rng.integers(0, 2**32, (5, 15, 25), np.uint32)
    settings = {"operator": "vollath", "sigma": 0.0, "window": 5, "aggregation": aggregation}
    assert np.isfinite(focus_measure(planes, **settings)).all()
