"""Planes that have no data at a pixel: neither depth, nor noise, nor image depend on them."""

import numpy as np
import pytest

from napari_dff import all_in_focus, depth_map, refine
from napari_dff.curve.noise import compute_noise
from napari_dff.curve.plane_mask import (
    fill_gaps,
    has_enough_planes,
    is_peak_complete,
    without_gaps,
)
from napari_dff.registration import LazyAlignedStack
from napari_dff.runtime.windows import Window, full_window

SHAPE = (64, 72)


@pytest.fixture
def focus(rng):
    """Curves of 15 planes with noise, and a peak at plane 4 above it."""
    k = np.arange(15.0)[:, None, None]
    peak = 100 / (1 + ((k - 4.3) / 1.2) ** 2) ** 2
    return (peak + rng.gamma(12, 1 / 12, (15, *SHAPE))).astype(np.float32)


def mask_without(planes: slice, count: int = 15) -> np.ndarray:
    """Return a plane mask in which these planes have no data in the left half."""
    mask = np.ones((count, *SHAPE), bool)
    mask[planes, :, :36] = False
    return mask


def test_depth_does_not_depend_on_planes_without_data(focus):
    mask = mask_without(slice(9, None))
    one = depth_map(focus, plane_mask=mask)
    focus[~mask] = 1e6
    two = depth_map(focus, plane_mask=mask)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)
    assert np.isfinite(one.uncertainty[:, :30]).all()
    assert np.abs(one.depth[:, :30] - 4.3).max() < 0.1


def test_a_peak_that_planes_without_data_cut_off_is_not_in_focus(focus):
    found = depth_map(focus, plane_mask=mask_without(slice(0, 5)))
    assert np.isinf(found.uncertainty[:, :36]).all()
    assert np.isfinite(found.uncertainty[:, 41:]).all()


def test_a_depth_needs_half_of_the_planes_and_three():
    counts = {15: (7, 8), 4: (2, 3)}
    for count, (few, enough) in counts.items():
        mask = np.zeros((count, 1, 2), bool)
        mask[:few, 0, 0] = mask[:enough, 0, 1] = True
        np.testing.assert_array_equal(has_enough_planes(mask), [[False, True]])


def test_noise_is_that_of_the_planes_with_data(focus):
    noise = np.roll(focus, 7, axis=0)[:8]  # the planes far from the peak
    curves = np.concatenate([noise, np.full((7, *SHAPE), 1e-3, np.float32)])
    found = compute_noise(without_gaps(curves, np.arange(15)[:, None, None] < np.full(SHAPE, 8)))
    expected = compute_noise(noise)
    assert abs(np.median(found.floor / expected.floor) - 1) < 0.05
    assert abs(np.median(found.fluctuation / expected.fluctuation) - 1) < 0.15


def test_a_curve_without_gaps_is_repeated_back_and_forth():
    curve = np.array([5, 1, 2, 3, 9], np.float32).reshape(5, 1, 1)
    mask = (curve < 5).reshape(5, 1, 1)
    assert without_gaps(curve, mask).ravel().tolist() == [1, 2, 3, 2, 1]
    assert without_gaps(curve, np.zeros_like(mask)).ravel().tolist() == curve.ravel().tolist()


def test_a_peak_is_complete_if_it_falls_half_way_to_the_floor_before_a_gap():
    curve = np.array([1, 1, 4, 9, 6, 3, 1], np.float32).reshape(7, 1, 1)
    floor, index = np.ones((1, 1), np.float32), np.full((1, 1), 3, np.uint16)
    for first_gap, complete in {4: False, 5: False, 6: True}.items():
        mask = np.arange(7).reshape(7, 1, 1) < first_gap
        assert is_peak_complete(curve, mask, index, floor).item() is complete


@pytest.mark.parametrize("fusion", ["multiscale", "noise_aware", "linear", "nearest"])
def test_images_show_planes_with_data_only(fusion, rng):
    planes = np.broadcast_to(rng.normal(100, 9, SHAPE), (6, *SHAPE)).astype(np.float32).copy()
    mask = mask_without(slice(0, 2), 6)
    expected = planes[0].copy()
    planes[:2, :, :36] = 130.0
    image = all_in_focus(planes, np.full(SHAPE, 0.5), fusion=fusion, plane_mask=mask)
    assert np.abs(image - expected)[:, :12].max() < 1e-3  # bands reach farther than a pixel


def test_gaps_are_filled_from_the_nearest_plane_before_or_after():
    planes = np.array([7, 1, 8, 2, 9], np.uint8).reshape(5, 1, 1, 1)
    mask = np.array([0, 1, 0, 1, 0], bool).reshape(5, 1, 1)
    assert fill_gaps(planes, mask).ravel().tolist() == [1, 1, 1, 2, 2]


def test_the_plane_mask_of_aligned_planes_is_that_of_their_transforms():
    planes = np.zeros((3, *SHAPE), np.uint8)
    transforms = np.tile(np.eye(3), (3, 1, 1))
    transforms[2, 0, 2] = 10  # plane 2 has no data in the first rows
    aligned = LazyAlignedStack(planes, transforms)
    mask = aligned.plane_mask(full_window(SHAPE))
    assert mask[:2].all()
    np.testing.assert_array_equal(mask[2, :, 5], np.arange(64) >= 9)  # one pixel is repeated
    assert aligned.plane_mask(Window(16, 64, 0, 72)) is None


def test_a_plane_mask_of_another_shape_is_refused(focus):
    estimate, mask = depth_map(focus), np.ones((3, *SHAPE), bool)
    planes = np.broadcast_to(np.arange(72.0), focus.shape)
    for call in (
        lambda: depth_map(focus, plane_mask=mask),
        lambda: refine(estimate, focus, plane_mask=mask),
        lambda: all_in_focus(planes, estimate.depth, plane_mask=mask),
    ):
        with pytest.raises(ValueError, match="plane_mask must be"):
            call()
