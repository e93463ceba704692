import numpy as np
from scipy import ndimage

from napari_dff.imaging.warp import (
    SPLINE_MARGIN_PX,
    source_window,
    valid_mask,
    warp,
    warp_window,
)
from napari_dff.registration import downsampling
from napari_dff.runtime.windows import Window, full_window


def test_a_shift_by_whole_pixels_is_exact(rng):
    picture = rng.uniform(0, 9, (20, 30)).astype(np.float32)
    shift = np.array([[1, 0, 3], [0, 1, -4], [0, 0, 1.0]])
    moved = warp(picture, shift)
    np.testing.assert_allclose(moved[3:, :-4], picture[:-3, 4:], atol=1e-4)


def test_agrees_with_scipy_on_a_projective_motion(rng):
    picture = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 1.5)
    matrix = np.array([[1.02, 0.03, 0.4], [-0.03, 1.01, -1.3], [1e-4, -2e-4, 1]])
    y, x = np.mgrid[:40, :50]
    back = np.linalg.inv(matrix) @ np.stack([y.ravel(), x.ravel(), np.ones(y.size)])
    truth = ndimage.map_coordinates(picture, back[:2] / back[2], order=3, mode="mirror")
    within = valid_mask(matrix, picture.shape)
    assert 0.8 < within.mean() < 1
    error = np.abs(warp(picture, matrix) - truth.reshape(40, 50))[within]
    assert error.max() < 1e-5


def test_the_identity_keeps_every_channel(rng):
    picture = rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)
    np.testing.assert_allclose(warp(picture, np.eye(3)), picture, atol=1e-3)


def test_the_valid_mask_is_false_where_the_image_has_no_data():
    shift = np.array([[1, 0, 0], [0, 1, 2.5], [0, 0, 1.0]])
    covered = valid_mask(shift, (4, 10))
    np.testing.assert_array_equal(covered[0], [False] * 3 + [True] * 7)


def test_the_source_window_is_the_mapped_window_with_the_margin_of_the_splines(rng):
    picture = rng.uniform(0, 9, (200, 300)).astype(np.float32)
    back = np.array([[1, 0, 7.5], [0, 1, -12], [0, 0, 1]])
    window, size = Window(80, 90, 100, 120), (200, 300)
    part = source_window(back, window, full_window(size))
    margin = SPLINE_MARGIN_PX
    assert part == (87 - margin, 97 + margin, 88 - margin, 108 + margin)
    moved = warp_window(picture[part.slices], part, size, back, window)
    np.testing.assert_array_equal(moved, warp(picture, np.linalg.inv(back))[window.slices])


def test_a_window_across_the_horizon_needs_the_whole_image():
    back = np.array([[1, 0, 0], [0, 1, 0], [0, 0.01, -1]])
    size = (400, 300)
    assert source_window(back, Window(0, 50, 0, 200), full_window(size)) == full_window(size)
    beyond = source_window(back, Window(0, 50, 150, 200), full_window(size))
    assert beyond == (0, 98 + SPLINE_MARGIN_PX + 1, 201 - SPLINE_MARGIN_PX, 300)


def test_the_downsampling_factor_limits_the_longer_side_and_keeps_the_shorter():
    shapes = [(90, 100), (101, 50), (300, 299), (16, 900)]
    assert [downsampling.compute_factor(shape, 100) for shape in shapes] == [1, 2, 3, 2]
