import numpy as np
import pytest

from napari_dff import FocalStack, Recipe, depth_from_focus, synthetic
from napari_dff.depth.estimation import depth_map
from napari_dff.depth.peaks import focus_peaks
from napari_dff.focus import focus_measure


def tile_curve(curve: np.ndarray) -> np.ndarray:
    """Return a volume of 8 × 8 pixels with the same focus curve."""
    return np.tile(np.asarray(curve, np.float32)[:, None, None], (1, 8, 8))


def test_gaussian_peak_is_located_exactly():
    z = np.arange(12.0)
    estimate = depth_map(tile_curve(np.exp(-((z - 5.3) ** 2) / 4)), peak="gaussian")
    np.testing.assert_allclose(estimate.depth, 5.3, atol=1e-5)
    assert (estimate.index == 5).all()


@pytest.mark.parametrize("peak", ["lorentzian", "curve"])
def test_lorentzian_peak_is_located_exactly(peak):
    z = np.arange(12.0)
    estimate = depth_map(tile_curve((1 + (z - 6.4) ** 2 / 3) ** -2), peak=peak)
    np.testing.assert_allclose(estimate.depth, 6.4, atol=1e-4)


def test_fit_of_the_whole_peak_is_more_precise_than_three_planes(rng):
    z = np.arange(16.0)
    center = rng.uniform(6, 9, (64, 64))
    clean = 0.05 + (1 + (z[:, None, None] - center) ** 2 / 6) ** -2
    noisy = (clean * rng.gamma(40, 1 / 40, clean.shape)).astype(np.float32)
    error = {
        peak: np.abs(depth_map(noisy, peak=peak).depth - center).mean()
        for peak in ("lorentzian", "curve")
    }
    assert error["curve"] < 0.75 * error["lorentzian"]


def test_parabola_peak_is_located_exactly():
    z = np.arange(9.0)
    estimate = depth_map(tile_curve(100 - (z - 3.8) ** 2), peak="parabola")
    np.testing.assert_allclose(estimate.depth, 3.8, atol=1e-5)


def test_peak_between_unequally_spaced_planes_is_located_exactly():
    z = np.array([0.0, 1.0, 2.5, 3.0, 5.0, 6.0, 9.0])
    estimate = depth_map(tile_curve(np.exp(-((z - 2.8) ** 2) / 5)), z, peak="gaussian")
    np.testing.assert_allclose(estimate.depth, 2.8, atol=1e-5)


def test_argmax_and_peaks_in_the_end_planes_are_not_interpolated():
    z = np.arange(8.0)
    for center, expected in ((-0.4, 0), (7.3, 7)):
        curve = tile_curve(np.exp(-((z - center) ** 2) / 4))
        np.testing.assert_array_equal(depth_map(curve).depth, expected)
    curve = tile_curve(np.exp(-((z - 3.4) ** 2) / 4))
    np.testing.assert_array_equal(depth_map(curve, 2 * z, peak="argmax").depth, 6)


def test_reversing_the_stack_mirrors_the_depth(surface):
    focus = focus_measure(surface.stack.planes)
    one, other = depth_map(focus), depth_map(focus[::-1])
    np.testing.assert_allclose(one.depth, len(focus) - 1 - other.depth, atol=1e-4)
    falling = depth_map(focus, -np.arange(float(len(focus))))
    np.testing.assert_allclose(falling.depth, -one.depth, atol=1e-4)


def test_gain_and_offset_do_not_change_the_index(surface):
    planes = surface.stack.planes[:, :48, :48].astype(np.float32)
    plain = depth_map(focus_measure(planes))
    changed = depth_map(focus_measure(0.25 * planes + 512))
    np.testing.assert_array_equal(changed.index, plain.index)


def test_depth_of_a_rendered_surface_is_within_an_eighth_of_a_plane(surface):
    estimate = depth_map(focus_measure(surface.stack.planes), surface.stack.positions)
    error = np.abs(estimate.depth - surface.depth) / 2.0  # planes are 2 µm apart
    assert error.mean() < 0.12
    assert np.isfinite(estimate.uncertainty).mean() > 0.99


def test_uncertainty_is_one_standard_deviation():
    truth = synthetic.rough_surface(size=128, planes=16, seed=11)
    estimate = depth_map(focus_measure(truth.stack.planes), truth.stack.positions)
    error = np.abs(estimate.depth - truth.depth)[8:-8, 8:-8]
    uncertainty = estimate.uncertainty[8:-8, 8:-8]
    assert 0.58 < (error < uncertainty).mean() < 0.82
    assert (error < 2 * uncertainty).mean() > 0.88


def test_noise_alone_is_never_in_focus(rng):
    planes = rng.normal(1000, 10, (20, 128, 128)).astype(np.float32)
    estimate = depth_map(focus_measure(planes))
    assert np.isfinite(estimate.uncertainty).mean() < 0.01


def test_prefer_selects_the_front_or_the_back_of_two_surfaces():
    z = np.arange(20.0)
    rng = np.random.default_rng(1)
    curve = 0.6 * np.exp(-((z - 4.2) ** 2) / 3) + np.exp(-((z - 14.1) ** 2) / 3) + 0.02
    volume = tile_curve(curve) * rng.uniform(0.98, 1.02, (20, 8, 8)).astype(np.float32)
    for prefer, truth in (("sharpest", 14.1), ("first", 4.2), ("last", 14.1)):
        np.testing.assert_allclose(depth_map(volume, prefer=prefer).depth, truth, atol=0.1)


def test_uncertainty_covers_another_peak_of_similar_height():
    z = np.arange(20.0)
    rng = np.random.default_rng(1)
    for share, low, high in ((0.9, 5.5, 8.0), (0.55, 1.0, 4.5), (0.2, 0.0, 0.2)):
        curve = np.exp(-((z - 4) ** 2) / 3) + share * np.exp(-((z - 15) ** 2) / 3) + 0.02
        volume = tile_curve(curve) * rng.uniform(0.98, 1.02, (20, 8, 8)).astype(np.float32)
        estimate = depth_map(volume)
        np.testing.assert_allclose(estimate.depth, 4, atol=0.2)
        assert low < np.median(estimate.uncertainty) < high


def test_a_hair_in_front_of_texture_is_within_two_standard_deviations():
    size = 96
    y, x = np.mgrid[:size, :size]
    hair = np.abs(x - y) < 2
    depth = np.where(hair, 15.0, 4.0)
    sharp = np.where(hair, 0.05, synthetic.noise_texture((size, size), seed=1))
    planes = synthetic.render_opaque(sharp, depth, np.arange(20.0), defocus=0.8)
    stack = FocalStack(synthetic.photograph(planes, photons=2000, dtype=np.uint8))
    refined = depth_from_focus(stack, Recipe(registration="none")).refined
    within = np.abs(refined.depth - depth) <= 2 * refined.uncertainty
    assert within[hair].mean() > 0.85
    assert within[~hair].mean() > 0.9


def test_two_peaks_are_found_with_their_strengths():
    z = np.arange(20.0)
    curve = 0.01 + 0.5 * (1 + (z - 4.3) ** 2 / 2) ** -2 + (1 + (z - 14.2) ** 2 / 2) ** -2
    volume = tile_curve(curve) * np.random.default_rng(1).uniform(0.98, 1.02, (20, 8, 8))
    estimate = focus_peaks(volume, 2 * z, count=3)
    np.testing.assert_allclose(estimate.depth[0], 28.4, atol=0.2)
    np.testing.assert_allclose(estimate.depth[1], 8.6, atol=0.2)
    assert np.isnan(estimate.depth[2]).all()
    np.testing.assert_allclose(estimate.strength[0] / estimate.strength[1], 2, rtol=0.1)
    with pytest.raises(ValueError, match="count must be a whole number from 1 to 16, got 0"):
        focus_peaks(volume, count=0)


@pytest.mark.parametrize(
    ("focus", "settings", "words"),
    [
        (np.ones((5, 8)), {}, r"axes \(Z, Y, X\)"),
        (np.zeros((5, 8, 8)), {}, "nothing is sharp"),
        (-np.ones((5, 8, 8)), {}, "finite and at least 0"),
        (np.full((5, 8, 8), np.nan), {}, "finite"),
        (np.ones((5, 8, 8)), {"peak": "top"}, "peak must be one of"),
        (np.ones((5, 8, 8)), {"prefer": "best"}, "prefer must be one of sharpest"),
    ],
)
def test_invalid_input_is_named_in_the_error(focus, settings, words):
    with pytest.raises(ValueError, match=words):
        depth_map(focus, **settings)
