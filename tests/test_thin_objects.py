import numpy as np
import pytest
import tifffile

from napari_dff import FocalStack, Recipe, depth_from_focus, read_stack, synthetic
from napari_dff.pipeline import driver, thin_objects
from napari_dff.pipeline.planning import Plan
from napari_dff.pipeline.preview import reconstruct_region
from napari_dff.runtime.windows import Window, window_grid

SIZE, Z = 96, np.arange(16.0)
GROUND, HAIR = 3.0, 12.0  # positions


def hair_stack(width, angle, brightness, *, ground_behind=True, size=SIZE):
    """Return a hair in front of textured ground, and where it is."""
    y, x = np.mgrid[:size, :size] - size / 2
    hair = np.abs(x * np.cos(angle) + y * np.sin(angle) + 0.25) < width / 2
    texture = synthetic.noise_texture((size, size), seed=1)
    if ground_behind:
        ground = np.full((size, size), GROUND)
        clean = synthetic.render_opaque(texture, ground, Z, defocus=0.8)
        clean = synthetic.render_in_front(clean, hair, brightness, HAIR, Z, defocus=0.8)
    else:  # the hair is sharp in the plane of the ground, too
        sharp, depth = np.where(hair, brightness, texture), np.where(hair, HAIR, GROUND)
        clean = synthetic.render_opaque(sharp, depth, Z, defocus=0.8)
    return FocalStack(synthetic.photograph(clean, photons=2000, dtype=np.uint8), Z), hair


def wrong_depth(stack, hair, refinement="message_passing+least_squares"):
    recipe = Recipe(registration="none", refinement=refinement)
    refined = depth_from_focus(stack, recipe).refined
    error = np.abs(refined.depth - np.where(hair, HAIR, GROUND))
    return error > 1, error <= 2 * refined.uncertainty


@pytest.mark.parametrize(
    ("width", "angle", "brightness", "ground_behind"),
    [
        (2, 0.6, 0.05, True),
        (3, 0.0, 0.05, True),
        (5, 1.3, 0.95, True),
        (3, np.pi / 4, 0.05, False),
        (3, 0.6, 0.95, False),
    ],
)
def test_a_hair_in_front_of_texture_keeps_its_depth(width, angle, brightness, ground_behind):
    stack, hair = hair_stack(width, angle, brightness, ground_behind=ground_behind)
    wrong, within_two_sigma = wrong_depth(stack, hair)
    assert wrong[hair].mean() < 0.01
    assert within_two_sigma[hair].mean() > 0.98
    assert wrong[~hair].mean() < 0.02  # before: up to 0.08, beside the hair


@pytest.mark.parametrize("refinement", ["none", "weighted_median"])
def test_a_hair_keeps_its_depth_in_every_refinement(refinement):
    stack, hair = hair_stack(3, np.pi / 4, 0.05, ground_behind=False)
    assert wrong_depth(stack, hair, refinement)[0][hair].mean() < 0.04


def test_thin_objects_are_the_same_in_windows_and_tiles_of_any_size(monkeypatch):
    stack, hair = hair_stack(3, 0.6, 0.05, ground_behind=False, size=160)
    recipe = Recipe(registration="none", refinement="none")
    whole = depth_from_focus(stack, recipe).refined
    assert (np.abs(whole.depth - HAIR) < 1)[hair].mean() > 0.9
    with monkeypatch.context() as patch:
        patch.setattr(thin_objects, "plan_windows", lambda shape, *_: window_grid(shape, 24))
        in_windows = depth_from_focus(stack, recipe).refined
    tiles = Plan(window_grid(stack.planes.shape[1:3], 40), 0.0)
    monkeypatch.setattr(driver, "make_plan", lambda *_, **__: tiles)
    in_tiles = depth_from_focus(stack, recipe).refined
    for other in (in_windows, in_tiles):
        np.testing.assert_array_equal(whole.index, other.index)
        np.testing.assert_allclose(whole.depth, other.depth, atol=1e-3)
    np.testing.assert_array_equal(whole.uncertainty, in_windows.uncertainty)


def test_the_preview_shows_a_hair_as_the_run_does():
    stack, hair = hair_stack(3, np.pi / 4, 0.05, ground_behind=False)
    recipe = Recipe(registration="none", refinement="none")
    region = reconstruct_region(stack, recipe, Window(16, 80, 16, 80), fuse=False)
    part = region.window.slices
    assert (np.abs(region.depth.depth - HAIR) < 1)[hair[part]].mean() > 0.9
    whole = depth_from_focus(stack, recipe).refined
    np.testing.assert_allclose(region.depth.depth, whole.depth[part], atol=1e-3)


def test_a_hair_in_a_file_keeps_its_depth(tmp_path):
    stack, hair = hair_stack(3, np.pi / 4, 0.05, ground_behind=False)
    tifffile.imwrite(tmp_path / "hair.tif", stack.planes)
    wrong, _ = wrong_depth(read_stack(tmp_path / "hair.tif"), hair)
    assert wrong[hair].mean() < 0.01
