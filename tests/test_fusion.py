import numpy as np
import pytest

from napari_dff import synthetic
from napari_dff.fusion.fuse import FUSIONS, all_in_focus


def test_depth_of_one_plane_gives_that_plane(surface):
    planes = surface.stack.planes
    image = all_in_focus(planes, np.full(planes.shape[1:], 4.0), fusion="nearest")
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
    assert all_in_focus(flat, depth, fusion="noise_aware").std() < 0.75 * flat[4].std()
    truth = synthetic.rough_surface(size=128, planes=12, seed=2)
    index = np.clip(truth.depth / np.diff(truth.stack.positions)[0], 0, 10.999)
    below = index.astype(int)
    low, high = (np.take_along_axis(truth.stack.planes, k[None], 0)[0] for k in (below, below + 1))
    linear = low + (index - below) * (high.astype(float) - low)
    arguments = truth.stack.planes, truth.depth, truth.stack.positions
    aware = all_in_focus(*arguments, fusion="noise_aware").astype(float)
    assert ((aware - truth.sharp) ** 2).mean() < 1.1 * ((linear - truth.sharp) ** 2).mean()


def test_noiseless_planes_are_weighted_by_their_distance(rng):
    planes = rng.integers(0, 255, (4, 8, 8, 3)).astype(np.uint8)
    z = np.array([10.0, 12.0, 14.0, 16.0])
    constant = np.broadcast_to(planes[:, :1, :1], planes.shape).copy()
    image = all_in_focus(constant, np.full((8, 8), 12.5), z, fusion="noise_aware")
    truth = 0.75 * constant[1].astype(float) + 0.25 * constant[2]
    assert np.abs(image - truth).max() <= 0.5
    image = all_in_focus(planes, np.full((8, 8), 12.5), z, fusion="nearest")
    np.testing.assert_array_equal(image, planes[1])


def test_depth_beyond_the_stack_is_limited_to_its_ends(surface):
    planes = surface.stack.planes
    image = all_in_focus(planes, np.full(planes.shape[1:], 99.0), fusion="nearest")
    np.testing.assert_array_equal(image, planes[-1])


def test_invalid_input_is_named_in_the_error(surface):
    planes = surface.stack.planes
    with pytest.raises(ValueError, match="depth must have the shape of a plane"):
        all_in_focus(planes, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="depth must be finite"):
        all_in_focus(planes, np.full(planes.shape[1:], np.nan))
    with pytest.raises(ValueError, match="fusion must be one of multiscale, noise_aware"):
        all_in_focus(planes, np.zeros(planes.shape[1:]), fusion="mean")
