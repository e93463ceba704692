"""What must hold whatever the stack and the recipe are."""

import dataclasses
import functools
import importlib.util
import json
import tempfile
import warnings
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter, minimum_filter

from napari_dff import FocalStack, Recipe, depth_from_focus, focus_measure, refine, synthetic
from napari_dff.cli import program as cli
from napari_dff.cli.options import ProcessingOptions
from napari_dff.depth import depth_map
from napari_dff.fusion.blends import DEPTH_STEPS_PER_PLANE
from napari_dff.io import read_recipe, write_recipe
from napari_dff.model import recipe as choices
from napari_dff.pipeline.preview import measure_region, reconstruct_region
from napari_dff.pipeline.tile import focus_settings
from napari_dff.runtime import windows
from napari_dff.runtime.threads import ThreadLimits, set_thread_limits
from napari_dff.runtime.windows import Window

pytestmark = pytest.mark.endurance

# Normalized by the brightness, so that an offset changes them.
NORMALIZED = ("normalised_variance", "helmli")
# Forward differences, so that mirrored planes give another measure.
ONE_SIDED = (
    "gradient_energy",
    "brenner",
    "vollath",
    "wavelet_sum",
    "wavelet_variance",
    "wavelet_ratio",
    "dct_energy",
    "dct_reduced",
)
TURNS = {
    "upside down": lambda a: a[..., ::-1, :],
    "left to right": lambda a: a[..., ::-1],
    "transposed": lambda a: np.swapaxes(a, -1, -2),
}
DTYPES = ("u1", "i1", "u2", ">u2", "i2", "u4", "i4", "u8", "f2", "f4", ">f4", "f8")
SEEDS = st.integers(0, 1 << 32)


def choice(kind):
    """Strategy for the values of one setting, from its annotation."""
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    number, allowed = get_args(kind)
    if number is float:
        return st.floats(allowed.low, allowed.high)
    count = (allowed.high - allowed.low) // allowed.step
    return st.integers(0, count).map(lambda n: allowed.low + n * allowed.step)


# Other values leave only rounding errors: a blur as wide as the planes, the variance of one pixel.
MEASURING = {"sigma": st.floats(0, 3), "window": st.sampled_from([5, 7, 9, 13, 21])}
SETTINGS = {k: choice(v) for k, v in get_type_hints(Recipe, include_extras=True).items()}


def recipes(**fixed):
    """Strategy for recipes; `fixed` are values or strategies of some settings."""
    settings = {k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in fixed.items()}
    return st.builds(Recipe, **{**SETTINGS, **settings})


@functools.cache
def scene(seed, planes, size=40):
    return synthetic.rough_surface(size=size, planes=planes, seed=seed).stack.planes


@st.composite
def stacks(draw, dtypes=DTYPES, kinds=("rendered", "random", "nearly empty")):
    """Rendered, random and nearly empty stacks, grey and in colour, of 3 to 8 small planes."""
    rng = np.random.default_rng(draw(SEEDS))
    count, height, width = (draw(st.integers(*ends)) for ends in ((3, 8), (16, 40), (16, 40)))
    shape = count, height, width
    kind = draw(st.sampled_from(kinds))
    if kind == "rendered":
        planes = scene(draw(st.integers(0, 3)), count)[:, :height, :width] / 65535
    elif kind == "random":
        planes = rng.uniform(0, 1, shape)
    else:
        planes = np.broadcast_to(rng.uniform(0, 0.8, (count, 1, 1)), shape).copy()
        planes[:, 4:9, 4:9] += rng.uniform(0, 0.2, (count, 5, 5))
    if draw(st.booleans()):
        planes = planes[..., None] * rng.uniform(0.5, 1, 3)
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    if dtype.kind == "i":
        planes -= 0.5
    if dtype.kind != "f":
        planes *= min(np.iinfo(dtype).max, 1 << 24)
    positions = np.cumsum(rng.uniform(0.5, 2, count)) * draw(st.sampled_from([1, -1]))
    return FocalStack(planes.astype(dtype), positions)


def runnable(recipe):
    return "graph_cut" not in recipe.refinement or importlib.util.find_spec("gco") is not None


def run(stack, recipe):
    """Run the pipeline; warnings are errors, but for light and alike planes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "light changes")
        warnings.filterwarnings("ignore", "planes? .* nearly the same pixels")
        try:
            return depth_from_focus(stack, recipe)
        except ValueError as error:  # alignment of noise may leave no common area with contrast
            assume("crop must be none" not in str(error))
            assume(recipe.crop == "none" or "no contrast" not in str(error))
            raise


@given(stacks(), recipes())
def test_every_recipe_runs_on_every_stack(stack, recipe):
    assume(runnable(recipe))
    result = run(stack, recipe)
    low, high = (np.float32(end) for end in (stack.positions.min(), stack.positions.max()))
    for found in (result.estimate, result.refined):
        assert found.index.max() < len(stack.positions)
        assert np.isfinite(found.depth).all()
        tiny = 1e-6 * (high - low)
        assert low - tiny <= found.depth.min() <= found.depth.max() <= high + tiny
        assert (found.uncertainty >= 0).all()  # and not NaN
        assert np.isinf(found.uncertainty[~result.valid]).all()
    planes, picture = np.asarray(result.stack.planes), result.all_in_focus
    assert picture.dtype == planes.dtype
    assert picture.shape == planes.shape[1:]
    assert np.isfinite(picture).all()
    kinds = {"f4", planes.dtype.str} if planes.dtype.kind == "f" else {"f4"}
    rounding = 4 * max(np.finfo(kind).eps for kind in kinds) * float(np.abs(planes).max())
    low, high = planes.min(axis=0), planes.max(axis=0)
    if recipe.fusion == "multiscale":  # within the range at the pixel and its 8 neighbours
        size = (3, 3, 1)[: low.ndim]
        low, high = (plane.astype(float) for plane in (low, high))  # scipy has no float16
        low, high = minimum_filter(low, size), maximum_filter(high, size)
    assert (picture >= low - rounding).all()
    assert (picture <= high + rounding).all()


@given(stacks(), recipes())
def test_results_do_not_depend_on_the_number_of_threads(stack, recipe):
    assume(runnable(recipe))
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "MAX_WINDOW_PX", 16)  # so that even these have several windows
        patch.setattr(windows, "MIN_WINDOW_PX", 16)
        try:
            for threads in (1, 2):
                set_thread_limits(ThreadLimits(threads=threads))
                result = run(stack, recipe)
                found.append((result.transforms, *result.refined, result.all_in_focus))
        finally:
            set_thread_limits(ThreadLimits())
    for one, two in zip(*found, strict=True):
        assert one.tobytes() == two.tobytes()


def agree(one, two, curves, others):
    """Whether planes chosen from two volumes agree, but where two planes are as sharp."""
    here, there = (np.asarray(part, np.int64)[None] for part in (one, two))
    for volume in (curves, others):
        values = [np.take_along_axis(volume, index, axis=0) for index in (here, there)]
        np.testing.assert_allclose(*values, rtol=2e-3, atol=1e-6 * volume.max())


@given(
    stacks(("u1", "u2", "f4"), ("rendered", "random")),
    recipes(**MEASURING),
    st.floats(0.01, 100),
    st.floats(-1, 1),
    st.integers(2, 5),
    st.integers(0, 4000),
)
def test_gain_and_offset_do_not_change_the_plane_index(stack, recipe, gain, offset, times, more):
    planes = stack.planes
    if planes.dtype.kind == "f":
        changed = np.float32(gain) * planes
        offset = np.float32(gain * offset)
    else:
        changed, offset = times * planes.astype(np.uint32), more
    if recipe.operator not in NORMALIZED:
        changed = changed + offset
    volumes = [focus_measure(p, **focus_settings(recipe)) for p in (planes, changed)]
    one, two = (depth_map(v, peak=recipe.peak, prefer=recipe.prefer).index for v in volumes)
    if recipe.prefer == "sharpest" and recipe.aggregation != "adaptive":
        agree(one, two, *volumes)
    else:  # thresholds decide which peaks count, and which scale is the first that detects a peak
        assert np.mean(one != two) < 0.05


@given(stacks(("u1", "u2", "f4"), ("rendered", "random")), recipes(**MEASURING))
def test_reversing_the_planes_reverses_the_measure(stack, recipe):
    assume(recipe.operator != "vollath")  # held at 0, where the first of many planes is the best
    one = focus_measure(stack.planes, **focus_settings(recipe))
    two = focus_measure(stack.planes[::-1], **focus_settings(recipe))[::-1]
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6 * one.max() + 1e-20)


SWAPPED = {"sharpest": "sharpest", "first": "last", "last": "first"}


@given(st.integers(3, 12), SEEDS, SETTINGS["peak"], SETTINGS["prefer"])
def test_reversing_the_volume_mirrors_the_depth(count, seed, peak, prefer):
    """In numbers of planes, and where positions fall instead of rising."""
    rng = np.random.default_rng(seed)
    focus = rng.gamma(rng.uniform(1, 30), 1, (count, 12, 13)).astype(np.float32)
    at = np.cumsum(rng.uniform(0.5, 2, count))
    one = depth_map(focus, at, peak=peak, prefer=prefer)
    mirrored = depth_map(focus[::-1], -at[::-1], peak=peak, prefer=SWAPPED[prefer])
    agree(one.index, count - 1 - mirrored.index.astype(int), focus, focus)
    same = mirrored.index == count - 1 - one.index  # else two planes are as sharp
    np.testing.assert_allclose(mirrored.depth[same], -one.depth[same], atol=1e-4)
    np.testing.assert_allclose(mirrored.uncertainty, one.uncertainty, rtol=1e-3, atol=1e-2)
    falling = depth_map(focus, -at, peak=peak, prefer=prefer)
    np.testing.assert_array_equal(falling.index, one.index)
    np.testing.assert_allclose(falling.depth, -one.depth, atol=1e-4)


def half_bare(seed, bare):
    """A rendered stack, its sides multiples of 8 pixels: windows take blocks of up to that many."""
    planes = scene(seed % 4, 6, 64)[:, :, :56].copy()
    if bare:
        part = planes[:, 20:40, 10:30]
        part[:] = np.random.default_rng(seed).normal(20000, 60, part.shape)
    return planes


@given(SEEDS, recipes(**MEASURING), st.sampled_from(sorted(TURNS)), st.booleans())
def test_mirrored_planes_give_the_mirrored_depth(seed, recipe, turn, bare):
    turned = TURNS[turn]
    assume(turn == "transposed" or recipe.operator not in ONE_SIDED)
    planes = half_bare(seed, bare)
    one = focus_measure(planes, **focus_settings(recipe))
    two = focus_measure(np.ascontiguousarray(turned(planes)), **focus_settings(recipe))
    assert np.mean(np.isclose(turned(two), one, rtol=2e-2, atol=1e-5 * one.max())) > 0.995

    # From here on the same volume, turned: a rounding error may choose another of equal planes.
    two = np.ascontiguousarray(turned(one))
    estimate, others = (depth_map(v, peak=recipe.peak, prefer=recipe.prefer) for v in (one, two))
    np.testing.assert_array_equal(turned(others.index), estimate.index)
    np.testing.assert_allclose(turned(others.depth), estimate.depth, atol=1e-5)
    np.testing.assert_allclose(turned(others.uncertainty), estimate.uncertainty, rtol=1e-3)


@given(
    SEEDS, SETTINGS["refinement"], st.floats(0, 4), st.sampled_from(sorted(TURNS)), st.booleans()
)
def test_mirrored_depth_is_refined_to_the_mirrored_result(seed, refinement, smoothness, turn, bare):
    """But sweeps have an order, which matters where nothing is known: there by a plane or two."""
    assume(runnable(Recipe(refinement=refinement)))
    planes, turned = half_bare(seed, bare), TURNS[turn]
    focus, sharp = focus_measure(planes), planes.max(axis=0)
    settings = {"refinement": refinement, "smoothness": smoothness}
    one = refine(depth_map(focus), focus, guide=sharp, **settings)
    focus = np.ascontiguousarray(turned(focus))
    two = refine(depth_map(focus), focus, guide=turned(sharp), **settings)
    moved, known = np.abs(turned(two.depth) - one.depth), np.isfinite(one.uncertainty)
    np.testing.assert_array_equal(np.isfinite(turned(two.uncertainty)), known)
    assert np.mean(moved[known] > 0.15) <= 0.01
    assert np.median(moved) < 0.02
    assert np.mean(moved) < 0.5


@functools.cache
def strip():
    """A strip longer than a pixel's focus curve reaches, with a saturated patch."""
    planes = synthetic.rough_surface(size=320, planes=6, seed=1).stack.planes[:, :64].copy()
    planes[:, 10:40, 60:120] = 65535
    return FocalStack(planes)


# Of aligned planes of equal light.
@given(recipes(**MEASURING, registration="none", exposure="keep", refinement="none"), st.randoms())
def test_a_region_equals_the_same_part_of_the_whole_result(recipe, random):
    stack = strip()
    (top, bottom), (left, right) = (sorted(random.sample(range(n + 1), 2)) for n in (64, 320))
    crop = Window(top, bottom, left, right)
    whole, part = depth_from_focus(stack, recipe), reconstruct_region(stack, recipe, crop)
    volume = focus_measure(stack.planes, **focus_settings(recipe))[(..., *crop.slices)]
    curves = measure_region(stack, recipe, crop)
    if recipe.aggregation == "window" and recipe.operator == "contrast":
        np.testing.assert_array_max_ulp(curves, volume, 1)  # OpenCV's sums depend on the width
    elif recipe.aggregation == "window":
        np.testing.assert_array_equal(curves, volume)
    else:  # balanced windows are moved to places that are counted from the corner, in float32
        np.testing.assert_allclose(curves, volume, rtol=1e-2, atol=1e-3 * volume.max())
    index, depth, uncertainty = (each[crop.slices] for each in whole.estimate)
    known = np.isfinite(uncertainty) & np.isfinite(part.depth.uncertainty)
    assert np.mean((part.depth.index != index) & known) <= 1e-3
    assert np.mean((np.abs(part.depth.depth - depth) > 1e-3) & known) <= 1e-3
    assert np.mean(np.isinf(uncertainty) != np.isinf(part.depth.uncertainty)) <= 1e-3
    if recipe.fusion == "multiscale":
        np.testing.assert_allclose(part.all_in_focus, whole.all_in_focus[crop.slices], atol=1)
    else:
        less = part.all_in_focus.astype(int) - whole.all_in_focus[crop.slices]
        one_in = np.ptp(stack.planes.astype(int), axis=0)[crop.slices] / DEPTH_STEPS_PER_PLANE
        assert np.mean(np.abs(less) > 1 + 2 * one_in) <= 1e-3


@pytest.mark.parametrize("window", [9, 21])  # kept at every 4th and 8th pixel, where it is widest
@pytest.mark.parametrize("operator", ["log", "variance", "wavelet_ratio"])
def test_focus_curves_of_a_region_equal_the_whole_near_a_saturated_patch(operator, window):
    stack, recipe = strip(), Recipe(operator=operator, window=window)
    volume = focus_measure(stack.planes, **focus_settings(recipe))
    for left in (32, 40, 136, 144):  # whatever the grid is, two begin in the middle of its cells
        crop = Window(0, 16, left, left + 16)
        curves, there = measure_region(stack, recipe, crop), volume[(..., *crop.slices)]
        np.testing.assert_allclose(curves, there, rtol=1e-3, atol=1e-6 * volume.max())


@pytest.mark.parametrize("operator", ["variance", "normalised_variance", "wavelet_variance"])
def test_a_saturated_patch_has_no_variance(operator):
    """Not even that of rounding errors, which would be a peak."""
    volume = focus_measure(strip().planes, operator=operator, aggregation="window", window=5)
    assert volume[:, 22:28, 72:108].max() == 0
    assert volume[:, :, 160:].min() > 0


@given(SEEDS, st.integers(5, 12), SETTINGS["peak"], st.floats(1e-6, 1e-2), st.data())
def test_a_duplicated_plane_changes_depth_by_at_most_half_a_plane(seed, count, peak, near, data):
    focus = focus_measure(scene(seed % 4, count, 48), aggregation="window")
    k, at = data.draw(st.integers(0, count - 1)), np.arange(float(count))
    beside = k + near if k < count - 1 else k - near
    place = k + 1 if k < count - 1 else k
    one = depth_map(focus, peak=peak)
    two = depth_map(np.insert(focus, k, focus[k], axis=0), np.insert(at, place, beside), peak=peak)
    moved = np.abs(two.depth - one.depth)
    if peak == "curve":  # the fit to the whole peak may lie beyond the middle between two planes
        assert moved.max() <= 1 + 2 * near
        assert np.mean(moved > 0.5 + 2 * near) < 0.03
    else:
        assert moved.max() <= 0.5 + 2 * near


@pytest.mark.parametrize("refinement", [*get_args(choices.Refinement), "none"])
def test_no_refinement_and_zero_smoothness_keep_the_estimate(refinement, surface):
    focus = focus_measure(surface.stack.planes)
    estimate = depth_map(focus)
    smoothness = 1.0 if refinement == "none" else 0.0
    found = refine(estimate, focus, refinement=refinement, smoothness=smoothness)
    for one, other in zip(found, estimate, strict=True):
        np.testing.assert_array_equal(one, other)


@given(recipes())
def test_a_recipe_is_restored_from_json_and_from_its_flags(recipe):
    assert Recipe.from_dict(json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe
    with tempfile.TemporaryDirectory() as folder:
        write_recipe(Path(folder) / "recipe.json", recipe)
        assert read_recipe(Path(folder) / "recipe.json") == recipe
    parsed = []

    def job(self, settings):
        parsed.append(settings)
        raise ValueError("seen enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProcessingOptions, "job", job)
        assert cli.main(["run", "stack.tif", "--out", "out", *recipe.flags()]) == 2
    assert parsed == [recipe]
