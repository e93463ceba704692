"""What must not come through the default all-in-focus image: dust, hot pixels, noisy planes."""

import numpy as np
import pytest

from napari_dff import FocalStack, Recipe, all_in_focus, depth_from_focus

RECIPE = Recipe(registration="none")
SPOT = 40, 44  # row and column


@pytest.fixture(scope="module")
def clean(surface):
    return depth_from_focus(surface.stack, RECIPE)


@pytest.fixture(scope="module")
def sharp_plane(surface):
    """The plane that is sharp at each pixel."""
    return np.rint(surface.depth / 2.0).astype(int)


def fuse(surface, planes):
    return depth_from_focus(FocalStack(planes, surface.stack.positions), RECIPE).all_in_focus


def shade(surface, strength):
    """Return the shadow of dust, a soft disc of 5 pixels radius."""
    rows, columns = np.indices(surface.depth.shape)
    distance = np.hypot(rows - SPOT[0], columns - SPOT[1])
    return 1 - strength / (1 + np.exp(distance - 5)), distance


@pytest.mark.parametrize("offset", [0, 1, 2, 4])
@pytest.mark.parametrize("value", [0, 65535])
def test_a_hot_or_dead_pixel_of_one_plane_does_not_survive(surface, sharp_plane, offset, value):
    planes = 20_000 + surface.stack.planes // 4  # texture fills a quarter of the range
    near = tuple(slice(i - 1, i + 2) for i in SPOT)
    low, high = planes[(..., *near)].min(), planes[(..., *near)].max()
    known = surface.depth, surface.stack.positions
    clean = all_in_focus(planes, *known).astype(float)
    planes[(sharp_plane[SPOT] + offset, *SPOT)] = value
    assert low <= fuse(surface, planes)[SPOT] <= high
    difference = np.abs(all_in_focus(planes, *known) - clean)
    difference[SPOT] = 0
    assert difference.max() < 0.02 * 65535


def test_a_hot_pixel_of_one_colour_leaves_no_coloured_pixel():
    planes = np.full((5, 40, 40, 3), 100, np.uint8)
    planes += np.random.default_rng(0).integers(0, 9, planes.shape, np.uint8)
    planes[2, 20, 20, 0] = 255
    image = all_in_focus(planes, np.full((40, 40), 2.0))
    assert image.max() < 110


def test_the_shadow_of_dust_in_every_plane_is_that_of_the_planes(surface, clean):
    shadow, _ = shade(surface, 0.4)
    planes = (surface.stack.planes * shadow).astype(np.uint16)
    error = fuse(surface, planes) - clean.all_in_focus * shadow
    assert np.abs(error).max() < 0.02 * 65535
    assert np.abs(error).mean() < 0.001 * 65535


@pytest.mark.parametrize(("offset", "share"), [(0, 1.0), (3, 0.05), (5, 0.01)])
def test_the_shadow_of_dust_in_one_plane_is_no_darker_than_in_the_sharp_plane(
    surface, clean, sharp_plane, offset, share
):
    shadow, distance = shade(surface, 0.2)
    planes, k = surface.stack.planes.copy(), sharp_plane[SPOT] + offset
    planes[k] = planes[k] * shadow
    inside = distance < 4
    darkening = (clean.all_in_focus - fuse(surface, planes).astype(float))[inside].mean()
    assert darkening < share * (surface.stack.planes[k] - planes[k].astype(float))[inside].mean()


def test_a_noisy_plane_comes_through_only_where_it_is_sharp(surface, clean, sharp_plane):
    noise = 3000.0
    noisy = surface.stack.planes + np.zeros((12, 1, 1))
    noisy[4] += np.random.default_rng(0).normal(0, noise, noisy.shape[1:])
    image = fuse(surface, np.clip(noisy, 0, 65535).astype(np.uint16))
    change = image.astype(float) - clean.all_in_focus
    assert change[sharp_plane == 4].std() < noise
    assert change[np.abs(sharp_plane - 4) > 1].std() < 0.05 * noise


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_floats_keep_their_scale_and_sign(surface, scale):
    planes = surface.stack.planes.astype(np.float32) / 65535 - np.float32(0.5)
    arguments = surface.depth, surface.stack.positions
    expected = all_in_focus(planes, *arguments)
    assert expected.min() < 0 < expected.max()
    scaled = all_in_focus(np.float32(scale) * planes, *arguments)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled / scale, expected, atol=1e-4)


def test_one_hue_keeps_its_hue(surface):
    hue = np.array([1.0, 0.5, 0.25], np.float32)
    planes = surface.stack.planes.astype(np.float32)[..., None] * hue
    image = all_in_focus(planes, surface.depth, surface.stack.positions)
    np.testing.assert_allclose(image, image[..., :1] * hue, rtol=1e-3)
