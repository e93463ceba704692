"""A region equals that part of a full run; the focus curve of a pixel explains its depth."""

import dask.array as da
import numpy as np
import pytest

from napari_dff import Recipe, depth_from_focus, focus_measure, synthetic
from napari_dff.model.stack import FocalStack
from napari_dff.pipeline.preview import focus_curve, measure_region, reconstruct_region
from napari_dff.runtime.windows import Window

WINDOW = Window(88, 184, 96, 200)


@pytest.fixture(scope="module")
def wide():
    return synthetic.rough_surface(size=384, planes=12, seed=8)


@pytest.mark.parametrize("aggregation", ["adaptive", "balanced", "window", "guided"])
@pytest.mark.parametrize("settings", [{}, {"operator": "variance", "sigma": 2.0, "window": 15}])
def test_focus_of_a_region_equals_the_full_volume(wide, aggregation, settings):
    recipe = Recipe(aggregation=aggregation, **settings)
    whole = focus_measure(wide.stack.planes, aggregation=aggregation, **settings)
    error = np.abs(measure_region(wide.stack, recipe, WINDOW) - whole[(..., *WINDOW.slices)])
    assert np.percentile(error, 99.9) < 1e-4 * whole.max()
    assert error.max() < 1e-2 * whole.max()  # at the weight below which a larger window is skipped


@pytest.mark.parametrize("where", [WINDOW, Window(0, 64, 0, 96), Window(288, 384, 320, 384)])
def test_depth_and_image_of_a_region_equal_the_full_run(wide, where):
    recipe = Recipe(registration="none", refinement="none")
    whole, part = (
        depth_from_focus(wide.stack, recipe),
        reconstruct_region(wide.stack, recipe, where),
    )
    step = np.diff(wide.stack.positions).mean()
    error = np.abs(part.depth.depth - whole.estimate.depth[where.slices]) / step
    assert np.percentile(error, 99) < 1e-5
    assert error.max() < 1e-2
    np.testing.assert_array_equal(part.depth.index, whole.estimate.index[where.slices])
    grey_levels = part.all_in_focus.astype(int) - whole.all_in_focus[where.slices]
    assert np.abs(grey_levels).max() <= 1  # of 65,535: rounding
    assert (grey_levels == 0).mean() > 0.995


def test_pixels_without_data_in_half_of_the_planes_are_never_in_focus(wide):
    recipe = Recipe(registration="none", refinement="none")
    mask = np.ones(wide.stack.planes.shape[:3], bool)
    mask[len(mask) // 2 - 1 :, :100] = False

    def plane_mask(window):
        return mask[(..., *window.slices)]

    part = reconstruct_region(wide.stack, recipe, WINDOW, plane_mask=plane_mask)
    assert np.isinf(part.depth.uncertainty[:12]).all()
    assert np.isfinite(part.depth.uncertainty[20:]).any()
    valid = mask.all(axis=0)
    with pytest.warns(DeprecationWarning, match="use reconstruct_region"):
        part = reconstruct_region(wide.stack, recipe, WINDOW, valid=valid)
    assert np.isinf(part.depth.uncertainty[:12]).all()


def test_refined_depth_of_a_region_is_close_to_the_full_run(wide):
    recipe = Recipe(registration="none")
    whole, part = (
        depth_from_focus(wide.stack, recipe),
        reconstruct_region(wide.stack, recipe, WINDOW),
    )
    step = np.diff(wide.stack.positions).mean()
    error = np.abs(part.depth.depth - whole.refined.depth[WINDOW.slices]) / step
    assert np.median(error) < 0.01
    assert np.percentile(error, 99) < 0.05


class ReadRecorder:
    """Planes that record which of their pixels are read."""

    def __init__(self, planes):
        self._planes, self.shape, self.dtype = planes, planes.shape, planes.dtype
        self.was_read = np.zeros(planes.shape[1:], bool)

    def __getitem__(self, where):
        self.was_read[where[1:]] = True
        return self._planes[where]


def test_focus_curve_reads_only_the_planes_around_the_pixel(surface):
    planes = np.tile(surface.stack.planes, (1, 6, 6))
    recorder = ReadRecorder(planes)
    stack = FocalStack(recorder, surface.stack.positions)
    one = focus_curve(stack, Recipe(sigma=1, window=9), 300, 310)
    assert 0 < recorder.was_read.mean() < 0.6
    rows, columns = np.nonzero(recorder.was_read)
    assert abs((rows.min() + rows.max()) / 2 - 300) < 16
    assert abs((columns.min() + columns.max()) / 2 - 310) < 16
    lazy = FocalStack(da.from_array(planes, chunks=(1, 96, 96)), surface.stack.positions)
    np.testing.assert_array_equal(focus_curve(lazy, Recipe(), 300, 310).focus, one.focus)


@pytest.mark.parametrize("peak", ["curve", "lorentzian", "gaussian", "parabola", "argmax"])
def test_focus_curve_agrees_with_the_full_run(wide, peak):
    recipe = Recipe(registration="none", refinement="none", peak=peak)
    whole = depth_from_focus(wide.stack, recipe).estimate
    for row, column in [(0, 0), (100, 201), (383, 383)]:
        curve = focus_curve(wide.stack, recipe, row, column)
        assert curve.plane == whole.index[row, column]
        # The depth map is interpolated between blocks of 2 × 2 pixels.
        assert curve.depth == pytest.approx(whole.depth[row, column], abs=0.01)
        assert curve.uncertainty <= whole.uncertainty[row, column] + 1e-6
        assert curve.focus[curve.plane] == curve.focus.max()
        assert curve.detection_threshold > curve.floor > 0
        at, fit = curve.fit
        is_interior = 0 < curve.plane < 11
        if peak == "argmax" or not is_interior:
            assert np.isnan(fit).all()
        else:
            assert at[np.nanargmax(fit)] == pytest.approx(curve.depth, abs=0.1 * 2.0)
            if peak != "curve":  # the others go through the three planes around the sharpest
                planes = curve.positions[curve.plane - 1 : curve.plane + 2]
                fitted = np.interp(planes, at, fit)
                measured = curve.focus[curve.plane - 1 : curve.plane + 2]
                np.testing.assert_allclose(fitted, measured, rtol=0.05)


def test_second_surface_is_reported_as_another_peak():
    truth = synthetic.rough_surface(size=96, planes=30, seed=5)
    planes = truth.stack.planes.astype(np.float32)
    both = FocalStack(planes + 0.7 * planes[::-1])  # two surfaces, one behind the other
    row, column = np.unravel_index(truth.depth[8:-8, 8:-8].argmin(), (80, 80))
    curve = focus_curve(both, Recipe(aggregation="balanced"), row + 8, column + 8)
    one = np.interp(truth.depth[row + 8, column + 8], truth.stack.positions, np.arange(30))
    found = np.sort([curve.depth, *curve.others])
    np.testing.assert_allclose(found[[0, -1]], [one, 29 - one], atol=1)


def test_pixel_outside_the_planes_is_refused(surface):
    with pytest.raises(ValueError, match="row must be a whole number from 0 to 95, got 96"):
        focus_curve(surface.stack, Recipe(), 96, 3)
