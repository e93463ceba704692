"""Depth at every pixel from that of blocks of 2 x 2 pixels."""

import numpy as np
import pytest

from napari_dff.curve.blocks import upsample_curves, upsample_peaks
from napari_dff.depth.estimation import estimate_depth
from napari_dff.focus import lazy_focus_volume
from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import FocusScale
from napari_dff.runtime.progress import no_progress

SHAPE = (23, 30)  # the last row of blocks is half outside


def peaks_of(depth: np.ndarray) -> DepthMap:
    """Return the mean depth of blocks of 2 × 2 pixels, as peaks in focus."""
    full = np.pad(depth, ((0, depth.shape[0] % 2), (0, 0)), mode="reflect", reflect_type="odd")
    blocks = full.reshape(full.shape[0] // 2, 2, full.shape[1] // 2, 2).mean(axis=(1, 3))
    index = np.rint(blocks).astype(np.uint16)
    return DepthMap(index, blocks.astype(np.float32), np.full(blocks.shape, 0.1, np.float32))


@pytest.mark.parametrize("slope", [0.1, 0.7, 3.0])
def test_a_slope_of_any_steepness_is_followed(slope):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    depth = 5 + slope * x + slope / 2 * y
    found = upsample_peaks(peaks_of(depth), 2, SHAPE, spacing=1.0)
    inside = (slice(2, -3), slice(2, -2))  # the outermost blocks have none on the other side
    np.testing.assert_allclose(found.depth[inside], depth[inside], atol=1e-4)
    np.testing.assert_allclose(found.uncertainty, 0.1, rtol=1e-5)


def test_a_step_of_the_surface_stays_one_and_blocks_out_of_focus_do_not_count():
    depth = np.where(np.arange(SHAPE[1]) < 14, 3.0, 9.0) * np.ones((SHAPE[0], 1))
    peaks = peaks_of(depth)
    peaks.depth[2, 3], peaks.uncertainty[2, 3] = 3.5, np.inf
    found = upsample_peaks(peaks, 2, SHAPE, spacing=1.0)
    unknown = np.zeros(SHAPE, bool)
    unknown[4:6, 6:8] = True
    np.testing.assert_allclose(found.depth[~unknown], depth[~unknown], rtol=1e-6)
    np.testing.assert_array_equal(np.isinf(found.uncertainty), unknown)
    np.testing.assert_array_equal(found.index[~unknown], depth[~unknown])


def test_a_curve_between_a_strong_and_a_weak_one_has_the_mean_of_their_shapes():
    strong, weak = np.array([0.0, 1, 0, 0]), np.array([0.0, 0, 0, 1])
    curves = np.stack([1000 * strong, weak], axis=1)[:, None].astype(np.float32)
    found = upsample_curves(curves, 2)
    assert found.shape == (4, 2, 4)
    np.testing.assert_array_equal(found.argmax(axis=0)[0], [1, 1, 3, 3])
    assert (found.max(axis=0) >= 1).all()


def test_depth_of_blocks_is_that_of_pixels_within_its_uncertainty(surface):
    planes, count = surface.stack.planes, len(surface.stack.positions)
    results = []
    for at_pixels in (True, False):
        volume = lazy_focus_volume(planes, "log", 1.0, 9, "adaptive", at_pixels=at_pixels)
        assert volume.step == (1 if at_pixels else 2)
        settings = np.arange(float(count)), "curve", "sharpest", no_progress, FocusScale(1.0, 9)
        results.append(estimate_depth(volume, *settings))
    pixels, blocks = results
    known = np.isfinite(pixels.uncertainty) & np.isfinite(blocks.uncertainty)
    assert known.mean() > 0.95 * np.isfinite(pixels.uncertainty).mean()
    difference = np.abs(pixels.depth - blocks.depth)[known] / pixels.uncertainty[known]
    assert np.median(difference) < 0.2
    ratio = blocks.uncertainty[known] / pixels.uncertainty[known]
    assert abs(np.median(ratio) - 1) < 0.05
