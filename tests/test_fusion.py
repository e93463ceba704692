import numpy as np
import pytest

from napari_dff import synthetic
from napari_dff.fusion.fuse import FUSIONS, all_in_focus


def test_depth_of_one_plane_gives_that_plane(surface):
    planes = surface.stack.planes
    for fusion in ("nearest", "linear"):
        image = all_in_focus(planes, np.full(planes.shape[1:], 4.0), fusion=fusion)
        assert image.dtype == planes.dtype
        np.testing.assert_array_equal(image, planes[4])


def test_identical_planes_fuse_to_themselves(rng):
    image = rng.integers(0, 255, (40, 44, 3)).astype(np.uint8)
    planes = np.stack([image] * 6)
    depth = rng.uniform(0, 5, (40, 44))
    for fusion in FUSIONS:
        fused = all_in_focus(planes, depth, fusion=fusion)
        assert np.abs(fused.astype(int) - image).max() <= 1


def test_noise_aware_blend_reduces_noise_and_keeps_detail(rng):
    flat = rng.normal(1000, 20, (9, 96, 96)).astype(np.float32)
    depth = np.full((96, 96), 4.0)
    linear, aware = (all_in_focus(flat, depth, fusion=f) for f in ("linear", "noise_aware"))
    assert aware.std() < 0.75 * linear.std()
    truth = synthetic.rough_surface(size=128, planes=12, seed=2)
    linear, aware = (
        all_in_focus(truth.stack.planes, truth.depth, truth.stack.positions, fusion=f).astype(float)
        for f in ("linear", "noise_aware")
    )
    assert ((aware - truth.sharp) ** 2).mean() < 1.1 * ((linear - truth.sharp) ** 2).mean()


def test_linear_blend_weights_the_two_nearest_planes_by_distance(rng):
    planes = rng.integers(0, 255, (4, 8, 8, 3)).astype(np.uint8)
    z = np.array([10.0, 12.0, 14.0, 16.0])
    image = all_in_focus(planes, np.full((8, 8), 12.5), z, fusion="linear")
    truth = np.rint(0.75 * planes[1].astype(float) + 0.25 * planes[2])
    np.testing.assert_array_equal(image, truth.astype(np.uint8))
    image = all_in_focus(planes, np.full((8, 8), 12.5), z, fusion="nearest")
    np.testing.assert_array_equal(image, planes[1])


def test_depth_beyond_the_stack_is_limited_to_its_ends(surface):
    planes = surface.stack.planes
    image = all_in_focus(planes, np.full(planes.shape[1:], 99.0), fusion="linear")
    np.testing.assert_array_equal(image, planes[-1])


def test_invalid_input_is_named_in_the_error(surface):
    planes = surface.stack.planes
    with pytest.raises(ValueError, match="depth must have the shape of a plane"):
        all_in_focus(planes, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="depth must be finite"):
        all_in_focus(planes, np.full(planes.shape[1:], np.nan))
    with pytest.raises(ValueError, match="fusion must be one of multiscale, noise_aware"):
        all_in_focus(planes, np.zeros(planes.shape[1:]), fusion="mean")
