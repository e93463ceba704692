"""Planes without contrast are named and have no influence; a wrong order is reported."""

import cv2
import numpy as np
import pytest

from napari_dff import FocalStack, Recipe, depth_from_focus, read_stack, synthetic
from napari_dff.pipeline import focus_curve, reconstruct_region
from napari_dff.pipeline.plane_checks import find_blank_planes, is_order_wrong
from napari_dff.runtime.windows import Window

RECIPE = Recipe(registration="none")
BLANK = [4, 9, 14]


@pytest.fixture(scope="module")
def truth():
    return synthetic.rough_surface(size=128, planes=20, seed=3)


@pytest.fixture
def interrupted(truth):
    """The stack with three black planes."""
    planes = truth.stack.planes.copy()
    planes[BLANK] = 0
    return FocalStack(planes, truth.stack.positions)


def test_blank_planes_are_named_and_leave_depth_and_image_nearly_unchanged(truth, interrupted):
    whole = depth_from_focus(FocalStack(truth.stack.planes, truth.stack.positions), RECIPE)
    with pytest.warns(UserWarning, match=r"planes 4, 9, 14 have no contrast"):
        result = depth_from_focus(interrupted, RECIPE)
    errors = [np.abs(r.refined.depth - truth.depth).mean() for r in (whole, result)]
    spacing = abs(np.diff(truth.stack.positions)).mean()
    assert errors[1] < errors[0] + 0.1 * spacing
    assert np.isfinite(result.refined.uncertainty).mean() > 0.9
    assert not np.isin(result.refined.index, BLANK).any()
    assert result.all_in_focus.min() > 0


@pytest.mark.filterwarnings("ignore:planes 4, 9, 14")
def test_the_preview_of_a_region_leaves_out_blank_planes_too(interrupted):
    whole = depth_from_focus(interrupted, Recipe(registration="none", refinement="none"))
    window = Window(16, 64, 24, 72)
    region = reconstruct_region(interrupted, Recipe(registration="none", refinement="none"), window)
    np.testing.assert_array_equal(region.depth.depth, whole.estimate.depth[window.slices])
    np.testing.assert_array_equal(region.depth.index, whole.estimate.index[window.slices])
    curve = focus_curve(interrupted, RECIPE, 40, 40)
    assert len(curve.focus) == 17
    assert curve.plane == whole.estimate.index[40, 40]


def test_planes_out_of_focus_and_dim_planes_are_not_blank(truth):
    planes = truth.stack.planes.astype(np.float32)
    dim = planes.copy()
    dim[3] *= 0.2
    assert find_blank_planes(dim) == []
    sparse = np.zeros_like(planes)
    sparse[:, 40:50, 40:50] = planes[:, 40:50, 40:50]
    assert find_blank_planes(sparse) == []


def test_fewer_than_three_planes_with_contrast_are_an_error(truth):
    planes = truth.stack.planes[8:12].copy()
    planes[[1, 2]] = 0
    with pytest.raises(ValueError, match="at least 3 planes must have contrast; planes 1, 2 have"):
        find_blank_planes(planes)


@pytest.mark.parametrize("scene", [synthetic.rough_surface, synthetic.cell_sheet])
def test_shuffled_planes_and_a_sweep_there_and_back_are_in_wrong_order(scene, rng):
    planes = scene(size=128, planes=16, seed=1).stack.planes
    assert not is_order_wrong(planes, [])
    assert not is_order_wrong(planes[::-1], [])
    assert not is_order_wrong(np.repeat(planes, 2, axis=0), [])
    assert is_order_wrong(planes[rng.permutation(16)], [])
    assert is_order_wrong(np.concatenate([planes[::2], planes[::-2]]), [])
    assert is_order_wrong(np.concatenate([planes, planes[::-1]]), [])
    for step in (2, 3):  # coarse planes, which hardly resemble their neighbours
        assert not is_order_wrong(planes[::step], [])


def test_two_flat_surfaces_far_apart_are_in_right_order(rng):
    """All planes out of focus are alike, those between the surfaces and those outside."""
    brightness = np.kron(rng.random((2, 16, 16)), np.ones((8, 8)))
    textures = (brightness * rng.normal(0, 20, (2, 128, 128))).astype(np.float32)
    planes = np.zeros((16, 128, 128), np.float32)
    for texture, position in zip(textures, (4, 12), strict=True):
        for k in range(16):
            planes[k] += cv2.GaussianBlur(texture, (0, 0), 0.5 + abs(k - position))
    assert not is_order_wrong(planes, [])


def test_the_sweep_there_and_back_over_the_mineral_is_in_wrong_order(real):
    planes = read_stack(real("mineral")).planes
    assert is_order_wrong(planes, [])
    assert not is_order_wrong(planes[1:14], [])


def test_noise_and_few_planes_are_not_in_wrong_order(truth, rng):
    assert not is_order_wrong(rng.normal(100, 10, (20, 128, 128)).astype(np.float32), [])
    assert not is_order_wrong(truth.stack.planes[[8, 10, 9, 11]], [])


def test_a_wrong_order_is_reported(truth, rng):
    planes = truth.stack.planes[rng.permutation(20)]
    with pytest.warns(UserWarning, match="check their order"):
        depth_from_focus(FocalStack(planes), Recipe(registration="none", refinement="none"))
