import numpy as np
import pytest

from napari_dff import synthetic
from napari_dff.fusion import FUSIONS, all_in_focus


def test_a_flat_depth_gives_that_plane(surface):
    planes = surface.stack.planes
    for fusion in ("nearest", "linear"):
        picture = all_in_focus(planes, np.full(planes.shape[1:], 4.0), fusion=fusion)
        assert picture.dtype == planes.dtype
        np.testing.assert_array_equal(picture, planes[4])


def test_planes_that_are_alike_give_themselves(rng):
    picture = rng.integers(0, 255, (40, 44, 3)).astype(np.uint8)
    planes = np.stack([picture] * 6)
    depth = rng.uniform(0, 5, (40, 44))
    for fusion in FUSIONS:
        found = all_in_focus(planes, depth, fusion=fusion)
        assert np.abs(found.astype(int) - picture).max() <= 1


def test_noise_aware_averages_noise_and_keeps_detail(rng):
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


def test_linear_mixes_the_two_nearest_planes(rng):
    planes = rng.integers(0, 255, (4, 8, 8, 3)).astype(np.uint8)
    z = np.array([10.0, 12.0, 14.0, 16.0])
    picture = all_in_focus(planes, np.full((8, 8), 12.5), z, fusion="linear")
    truth = np.rint(0.75 * planes[1].astype(float) + 0.25 * planes[2])
    np.testing.assert_array_equal(picture, truth.astype(np.uint8))
    picture = all_in_focus(planes, np.full((8, 8), 12.5), z, fusion="nearest")
    np.testing.assert_array_equal(picture, planes[1])


def test_depth_beyond_the_stack_takes_its_ends(surface):
    planes = surface.stack.planes
    picture = all_in_focus(planes, np.full(planes.shape[1:], 99.0), fusion="linear")
    np.testing.assert_array_equal(picture, planes[-1])


def test_bad_input_is_named(surface):
    planes = surface.stack.planes
    with pytest.raises(ValueError, match="depth must have the shape of a plane"):
        all_in_focus(planes, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="depth must be finite"):
        all_in_focus(planes, np.full(planes.shape[1:], np.nan))
    with pytest.raises(ValueError, match="fusion must be one of noise_aware, linear"):
        all_in_focus(planes, np.zeros(planes.shape[1:]), fusion="mean")
