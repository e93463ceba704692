"""Every kernel beside its formula in plain numpy."""

import itertools

import cv2
import numba
import numpy as np
import pytest
from scipy import ndimage

from napari_dff.curve.noise import NOISE_SIGMA_PX, Noise, compute_noise, sorting_network
from napari_dff.curve.peak import CURVE_PEAK, LORENTZIAN_ERROR, SHOULDER
from napari_dff.curve.search import HIGHEST_PEAK, find_peaks
from napari_dff.focus import balance, splines
from napari_dff.fusion import blends as fusion
from napari_dff.fusion.bands import NEIGHBOURS, limit_to_neighbours
from napari_dff.pipeline.image_quality import compare_plane
from napari_dff.refinement.energy import (
    COST_SCALE,
    MAX_DATA_COST,
    MODEL_ERROR_LN,
    data_term,
    labelling_energy,
)
from napari_dff.refinement.trws import minimize_energy
from napari_dff.runtime.jit import notify_when_compiling
from napari_dff.runtime.windows import Window


@pytest.fixture
def curves(rng) -> np.ndarray:
    """Noisy squared Lorentzians, (14, 20, 70)."""
    z = np.arange(14.0)[:, None, None]
    middle = rng.uniform(2, 11, (20, 70))
    clean = 0.03 + (1 + (z - middle) ** 2 / 5) ** -2
    return (clean * rng.gamma(60, 1 / 60, clean.shape)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 30, 45])
def test_sorting_network_sorts(count, rng):
    values = rng.uniform(size=(count, 50))
    truth = np.sort(values, axis=0)
    for i, j in sorting_network(count):
        values[[i, j]] = np.minimum(values[i], values[j]), np.maximum(values[i], values[j])
    np.testing.assert_array_equal(values, truth)


def test_noise_equals_statistics_of_sorted_logarithms(curves):
    found = compute_noise(curves)
    logarithm = np.log(curves)
    ordered = np.sort(logarithm, axis=0)
    np.testing.assert_allclose(found.floor, np.exp(ordered[:7].mean(axis=0)), rtol=1e-4)
    variance = np.median(np.diff(logarithm, 2, axis=0) ** 2, axis=0) / 6 / 0.4549
    blur = {"sigma": NOISE_SIGMA_PX, "mode": "mirror", "truncate": 3}
    around = ndimage.gaussian_filter(variance, **blur)
    np.testing.assert_allclose(found.fluctuation, np.sqrt(around), rtol=1e-3)


def test_peak_is_the_vertex_of_a_weighted_least_squares_fit(curves):
    count, height, width = curves.shape
    noise = compute_noise(curves)
    z = np.cumsum(np.linspace(0.8, 1.3, count))  # uneven
    index, depth, doubt = find_peaks(curves, z, CURVE_PEAK, HIGHEST_PEAK, *noise, 0.0)
    np.testing.assert_array_equal(index, curves.argmax(axis=0))
    for y, x in itertools.product(range(0, height, 5), range(0, width, 9)):
        curve, k = curves[:, y, x].astype(float), index[y, x]
        if k in (0, count - 1):
            assert depth[y, x] == pytest.approx(z[k])
            continue
        first, last = k - 1, k + 1
        while first > 0 and SHOULDER * curve[k] < curve[first - 1] <= curve[first]:
            first -= 1
        while last < count - 1 and SHOULDER * curve[k] < curve[last + 1] <= curve[last]:
            last += 1
        peak = slice(first, last + 1)
        value, u = curve[peak] / curve[k], z[peak] - z[k]
        above = np.maximum(curve[peak] / noise.floor[y, x], 1)
        relative = noise.fluctuation[y, x] ** 2 * (2 * above - 1) / above**2
        weight = 4 * value / (relative + LORENTZIAN_ERROR**2)
        design = np.stack([np.ones_like(u), u, u**2], axis=1)
        solver = np.linalg.inv((design.T * weight) @ design) @ (design.T * weight)
        _, tilt, bend = solver @ value**-0.5
        at = np.clip(z[k] - tilt / (2 * bend), z[k - 1], z[k + 1])
        by_value = np.array([0, -1 / (2 * bend), tilt / (2 * bend**2)]) @ solver
        deviation = np.sqrt((by_value**2 * relative / (4 * value)).sum())
        assert depth[y, x] == pytest.approx(at, abs=2e-4)
        assert doubt[y, x] == pytest.approx(min(deviation, (z[k + 1] - z[k - 1]) / 2), rel=1e-2)


def test_centroid_offsets_are_gradients_of_the_logarithm(curves):
    smooth = ndimage.gaussian_filter(curves, (0, 2, 2)).astype(np.float32)
    offsets = balance._centroids(smooth, np.float32(4))
    best = smooth.argmax(axis=0)[None]
    down, across = (
        4 * np.take_along_axis(np.gradient(np.log(smooth), axis=axis), best, axis=0)[0]
        for axis in (1, 2)
    )
    scale = np.minimum(1, balance.MAX_SHIFT_SIGMAS * 2 / np.hypot(down, across))
    inner = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(offsets[..., 0][inner], (scale * down)[inner], atol=1e-4)
    np.testing.assert_allclose(offsets[..., 1][inner], (scale * across)[inner], atol=1e-4)


def test_curves_are_sampled_by_bilinear_interpolation(curves, rng):
    at = rng.uniform(-2, 75, (*curves.shape[1:], 2)).astype(np.float32)
    found = balance._sample(curves, at)
    truth = np.stack(
        [ndimage.map_coordinates(p, at.transpose(2, 0, 1), order=1, mode="nearest") for p in curves]
    )
    np.testing.assert_allclose(found, truth, atol=1e-5)


@pytest.mark.parametrize("step", [2, 4, 8])
def test_upsampling_equals_a_sum_of_cubic_b_splines(step, rng):
    shrunk = rng.uniform(size=(3, 12, 9)).astype(np.float32)
    around = Window(16, 16 + 12 * step - 1, 24, 24 + 9 * step)  # its last row is half a one
    wanted = Window(16 + step, around.bottom, 24 + 2 * step, around.right - step)
    found = splines.upsample(shrunk, step, wanted, around)

    def basis(start: int, stop: int, size: int) -> np.ndarray:
        """Cubic B-splines, one a shrunk pixel, the border's repeated: (pixels, size)."""
        away = np.abs(
            (np.arange(start, stop)[:, None] + 0.5) / step - 0.5 - np.arange(-3, size + 3)
        )
        near, far = 2 / 3 - away**2 + away**3 / 2, np.maximum(2 - away, 0) ** 3 / 6
        every = np.where(away < 1, near, far)
        every[:, 3] += every[:, :3].sum(axis=1)
        every[:, size + 2] += every[:, size + 3 :].sum(axis=1)
        return every[:, 3 : size + 3]

    rows, columns = wanted.slices_in(around)
    down, across = basis(rows.start, rows.stop, 12), basis(columns.start, columns.stop, 9)
    np.testing.assert_allclose(found, np.einsum("yi,kij,xj->kyx", down, shrunk, across), atol=1e-5)


def test_splines_at_the_centres_of_blocks(rng):
    """At the centre of a sample, a cubic B-spline has the weights 1/6, 2/3, 1/6."""
    samples = rng.uniform(size=(2, 12, 9)).astype(np.float32)
    plane = Window(0, 24, 0, 18)
    found = splines.upsample(samples, 2, plane, plane, grid=2)
    padded = np.pad(samples, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 4 * padded[:, 1:-1] + padded[:, 2:]) / 6
    truth = (rows[..., :-2] + 4 * rows[..., 1:-1] + rows[..., 2:]) / 6
    np.testing.assert_allclose(found, truth, atol=1e-5)


def test_blends_are_weighted_sums_of_planes(rng):
    planes = rng.integers(0, 4000, (12, 9, 11, 3)).astype(np.uint16)
    at = rng.uniform(0, 11, (9, 11)).astype(np.float32)
    found, _ = fusion._blend(planes, at, fusion.blend_weights())
    away = np.abs(np.arange(12)[:, None, None] - at)
    for mix, width in zip(found, fusion.BLEND_SIGMAS_PLANES, strict=True):
        weight = np.maximum(1 - away, 0) if width == 0 else np.exp(-((away / width) ** 2) / 2)
        truth = np.einsum("zyx,zyxc->yxc", weight / weight.sum(axis=0), planes)
        np.testing.assert_allclose(mix, truth, atol=0.005 * 4000)  # depth to 1/256 plane


def test_the_data_term_is_a_drop_in_standard_deviations(curves):
    noise = Noise(*(np.full(curves.shape[1:], v, np.float32) for v in (0.02, 0.1)))
    index = curves.argmax(axis=0).astype(np.uint16)
    uncertainty = np.where(np.arange(70) < 60, 1.0, np.inf).astype(np.float32) * np.ones((20, 1))
    best = np.maximum(curves.max(axis=0), 0)

    def variance(value):
        above = np.maximum(value / 0.02, 1)
        return 0.1**2 * (2 * above - 1) / above**2

    spread = variance(best) + variance(curves) + MODEL_ERROR_LN**2
    truth = COST_SCALE * np.minimum(np.log(best / curves) ** 2 / 2 / spread, MAX_DATA_COST)
    truth[:, :, 60:] = 0
    cost = data_term(curves, index, np.isfinite(uncertainty), *noise)
    np.testing.assert_allclose(cost, truth.transpose(1, 2, 0), atol=1)


def test_inactive_pixels_keep_their_label_and_active_ones_come_near_their_best(rng):
    unary = rng.integers(0, 60, (4, 4, 5)).astype(np.int32)
    right, down = rng.integers(0, 30, (2, 4, 4)).astype(np.int32)
    start = rng.integers(0, 5, (4, 4)).astype(np.int32)
    active = np.zeros((4, 4), bool)
    active[1:3, 1:3] = True
    found = minimize_energy(unary, right, down, 8, active, start)
    np.testing.assert_array_equal(found.labels[~active], start[~active])
    costs = []
    for each in itertools.product(range(5), repeat=4):
        labels = start.copy()
        labels[1:3, 1:3] = np.reshape(each, (2, 2))
        costs.append(labelling_energy(unary, right, down, labels))
    assert labelling_energy(unary, right, down, found.labels) <= 1.02 * min(costs)


def test_no_row_or_column_of_a_solution_has_better_labels(rng):
    unary = rng.integers(0, 200, (3, 4, 4)).astype(np.int32)
    right, down = rng.integers(0, 90, (2, 3, 4)).astype(np.int32)
    found = minimize_energy(unary, right, down)
    for where, length in [((i, slice(None)), 4) for i in range(3)] + [
        ((slice(None), j), 3) for j in range(4)
    ]:
        for each in itertools.product(range(4), repeat=length):
            labels = found.labels.copy()
            labels[where] = each
            assert labelling_energy(unary, right, down, labels) >= found.energy


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_each_compilation_is_notified_and_no_compilation_is_not():
    calls = []
    double = numba.njit(lambda x: 2 * x)
    with notify_when_compiling(lambda: calls.append("first")):
        double(2)
        double(2.0)
    assert calls == ["first", "first"]
    with notify_when_compiling(lambda: calls.append("second")):
        double(3)
    assert calls == ["first", "first"]


@pytest.mark.parametrize("shape", [(20, 33), (2, 5), (3, 2)])
def test_values_are_limited_to_the_range_of_their_eight_neighbours(shape, rng):
    plane = rng.random(shape).astype(np.float32)
    low, high = cv2.erode(plane, NEIGHBOURS), cv2.dilate(plane, NEIGHBOURS)
    np.testing.assert_array_equal(limit_to_neighbours(plane), np.clip(plane, low, high))


@pytest.mark.parametrize("rows", [slice(1, 8), slice(0, 9)])
def test_an_image_is_compared_with_a_plane_by_their_gradients(rows, rng):
    image, plane = rng.random((2, 9, 14)).astype(np.float32)
    where = rng.random(image.shape) > 0.2
    least = np.full(image[rows].shape, np.inf, np.float32)
    energy = np.empty(image.shape[1], np.float32)
    compare_plane(image, plane, where, rows.start, least, energy)
    gradients = (cv2.Sobel(image - plane, cv2.CV_32F, *axes) / 8 for axes in ((1, 0), (0, 1)))
    expected = np.where(where, sum(each**2 for each in gradients), np.inf)
    np.testing.assert_allclose(least, expected[rows], rtol=1e-4, atol=1e-7)
    laplacian = cv2.Laplacian(plane, cv2.CV_32F)[rows]
    np.testing.assert_allclose(energy, (laplacian**2).mean(axis=0), rtol=1e-5)
