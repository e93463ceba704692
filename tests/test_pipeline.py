import dataclasses

import numpy as np
import pytest

from napari_dff import FocalStack, Recipe, all_in_focus, depth_from_focus
from napari_dff.pipeline import focus_curve
from napari_dff.registration import LazyAlignedStack
from napari_dff.runtime.progress import Cancelled
from napari_dff.runtime.windows import full_window

PLAIN = Recipe(registration="none", refinement="weighted_median")


def test_depth_and_image_are_near_the_truth(surface):
    result = depth_from_focus(surface.stack)
    error = np.abs(result.refined.depth - surface.depth)[result.valid] / 2
    assert error.mean() < 0.12
    noise = (result.all_in_focus.astype(float) - surface.sharp)[result.valid] / 65535
    assert 10 * np.log10(1 / np.mean(noise**2)) > 32
    assert result.all_in_focus.dtype == np.uint16
    assert result.recipe == Recipe()


def test_the_rim_gets_its_depth_from_the_planes_that_have_data(drifting):
    result = depth_from_focus(drifting.stack, dataclasses.replace(PLAIN, registration="ecc"))
    aligned = LazyAlignedStack(drifting.stack.planes, result.transforms)
    rim = ~aligned.valid(full_window(result.valid.shape))
    in_focus = rim & np.isfinite(result.refined.uncertainty)
    assert rim.any()
    assert result.valid[rim].all()
    assert in_focus.sum() > 0.2 * rim.sum()
    assert np.abs(result.refined.depth - drifting.depth)[in_focus].mean() < 0.3
    estimate = result.estimate
    for wanted in (in_focus, rim & ~in_focus):  # the focus curve of a pixel has the same result
        pixel = tuple(np.argwhere(wanted)[len(np.argwhere(wanted)) // 2].tolist())
        mask = {"plane_mask": aligned.plane_mask}
        curve = focus_curve(result.stack, result.recipe, *pixel, **mask)
        assert np.isfinite(curve.uncertainty) == np.isfinite(estimate.uncertainty[pixel])
        # The depth map is interpolated between blocks of 2 × 2 pixels.
        assert abs(curve.depth - estimate.depth[pixel]) < 0.005


@pytest.mark.parametrize(("part", "plane"), [(slice(4, None), 0), (slice(8), 7)])
def test_a_surface_outside_the_stack_is_at_its_end_with_a_large_uncertainty(surface, part, plane):
    positions = surface.stack.positions[part]
    result = depth_from_focus(
        FocalStack(surface.stack.planes[part], positions), Recipe(registration="none")
    )
    error, uncertainty = np.abs(result.refined.depth - surface.depth), result.refined.uncertainty
    outside = np.clip(surface.depth, positions[0] - 1, positions[-1] + 1) != surface.depth
    outside &= np.isfinite(uncertainty)
    assert outside.mean() > 0.1
    assert (result.refined.index[outside] == plane).mean() > 0.99
    assert (error <= uncertainty)[outside].mean() > 0.68
    assert (error <= 2 * uncertainty)[outside].mean() > 0.95


def test_without_refinement_the_result_is_the_estimate(surface):
    result = depth_from_focus(surface.stack, Recipe(registration="none", refinement="none"))
    assert result.refined is result.estimate
    _, depth, uncertainty = result.estimate
    image = all_in_focus(
        surface.stack.planes, depth, surface.stack.positions, uncertainty=uncertainty
    )
    np.testing.assert_array_equal(result.all_in_focus, image)


def test_the_settings_of_the_original_method_give_depths_at_plane_positions(surface):
    original = Recipe(
        registration="none",
        operator="log",
        aggregation="window",
        peak="argmax",
        fusion="nearest",
        refinement="none",
    )
    result = depth_from_focus(surface.stack, original)
    np.testing.assert_array_equal(result.refined.depth, 2.0 * result.refined.index)


def test_raising_from_progress_cancels(surface):
    def impatient(items, /, *, desc):
        for item in items:
            if desc == "Fusing":
                raise Cancelled
            yield item

    with pytest.raises(Cancelled):
        depth_from_focus(surface.stack, PLAIN, progress=impatient)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sigma": -1}, "sigma must be auto or a number from 0 to 32, got -1"),
        ({"window": 4}, "window must be auto or an odd number from 1 to 255, got 4"),
        ({"operator": "x"}, "operator must be one of log.*got 'x'"),
        ({"smoothness": float("nan")}, "smoothness must be a number"),
        ({"windw": 9}, "recipe has no setting 'windw'; did you mean 'window'"),
        ({"colour": 9}, r"recipe has no setting 'colour' \(registration, motion"),
    ],
)
def test_a_recipe_with_invalid_settings_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Recipe.from_dict(settings)


def test_a_recipe_survives_conversion_to_a_dict_and_back():
    recipe = Recipe(sigma=2.5, window=11, fusion="nearest")
    assert Recipe.from_dict(dataclasses.asdict(recipe)) == recipe


def test_nan_raises_with_the_number_of_its_plane(surface):
    planes = surface.stack.planes.astype(np.float32)
    planes[7, 3, 3] = np.nan
    with pytest.raises(ValueError, match="in plane 7"):
        depth_from_focus(FocalStack(planes), PLAIN)


def test_brightness_is_equalised_with_known_transforms_too(surface):
    flicker = np.where(np.arange(12) % 2, 1.0, 0.5)[:, None, None]
    stack = FocalStack((surface.stack.planes * flicker).astype(np.uint16))
    recipe = Recipe(exposure="equal", refinement="none")
    still = np.tile(np.eye(3), (12, 1, 1))
    planes = depth_from_focus(stack, recipe, transforms=still).stack.planes
    light = planes.mean(axis=(1, 2))
    assert light.max() / light.min() < 1.1
