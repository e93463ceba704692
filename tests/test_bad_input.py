"""Invalid input is refused with one sentence; unusual but valid input gives the right result."""

import json
import os
import re
import struct
import subprocess
import sys
import warnings
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

import napari_dff
from napari_dff import (
    DepthMap,
    FocalStack,
    Recipe,
    align,
    all_in_focus,
    depth_from_focus,
    focus_measure,
    focus_peaks,
    project_slab,
    refine,
    resample,
    save_reconstruction,
    surface,
    synthetic,
)
from napari_dff.cli.program import main
from napari_dff.depth import depth_map
from napari_dff.io import write_recipe, write_table
from napari_dff.io.writers.figure import (
    FigureContent,
    movie_frames,
    publication_figure,
    write_figure,
    write_movie,
)
from napari_dff.io.writers.meshes import save_mesh
from napari_dff.io.writers.preview import draw_preview
from napari_dff.pipeline import quality
from napari_dff.refinement import PreviousResult

PLANES = synthetic.rough_surface(size=48, planes=7, seed=1).stack.planes
FLOATS = PLANES.astype(np.float32)
SHAPE = PLANES.shape[1:]
IDENTITIES = np.tile(np.eye(3), (7, 1, 1))
TILTED = np.add.outer(np.arange(20.0), np.arange(30.0))
ALL_PIXELS = np.ones(TILTED.shape, bool)
SPOT = np.isin(np.arange(48), (23, 24, 25, 26))
LEFT_HALF = np.broadcast_to(np.arange(48) < 24, PLANES.shape)
UNALIGNED = Recipe(registration="none")
warnings_are_errors = pytest.mark.filterwarnings(
    "error",
    "default::DeprecationWarning",  # of libraries loaded
    "ignore:unclosed file:ResourceWarning",  # of files that other tests have read
    "ignore:Exception ignored in. <_io:pytest.PytestUnraisableExceptionWarning",
)


def planes_with(value, dtype=np.float32):
    """Return planes with one pixel that is `value`."""
    planes = PLANES.astype(dtype)
    planes[3, 20, 20] = value
    return planes


@pytest.fixture(scope="module")
def results():
    """Focus volume, estimate and reconstruction of the planes."""
    focus = focus_measure(PLANES)
    result = depth_from_focus(FocalStack(PLANES), UNALIGNED)
    return SimpleNamespace(focus=focus, estimate=depth_map(focus), result=result)


# Invalid arguments -------------------------------------------------------------------------------

INVALID_PLANES = {
    "nothing": (None, "planes must be numbers, got None"),
    "text": ("planes", "planes must be numbers, got 'planes'"),
    "one number": (3, "planes must have axes (Z, Y, X), or (Z, Y, X, 3) for colour, got shape ()"),
    "one plane without an axis": (PLANES[0], "got shape (48, 48)"),
    "one plane": (PLANES[:1], "planes must be at least 3 along Z, got 1"),
    "two planes": (PLANES[:2], "planes must be at least 3 along Z, got 2"),
    "no plane": (PLANES[:0], "planes must be at least 3 along Z, got 0"),
    "no rows": (PLANES[:, :0], "planes must be at least 8 × 8 pixels, got 0 × 48"),
    "few columns": (PLANES[..., :7], "planes must be at least 8 × 8 pixels, got 48 × 7"),
    "two channels": (np.zeros((5, 9, 9, 2)), "got shape (5, 9, 9, 2)"),
    "six axes": (PLANES[None, None, None], "got shape (1, 1, 1, 7, 48, 48)"),
    "lists of two sizes": ([PLANES[0], PLANES[1][:9]] * 2, "planes must be numbers in rows of one"),
    "truth values": (PLANES > 9, "planes must be integers or floats (uint8, uint16, float32), got"),
    "complex numbers": (PLANES * 1j, "got complex128"),
    "objects": (PLANES.astype(object), "got object"),
    "digits as text": (PLANES.astype(str), "got <U5"),
    "dates": (PLANES.astype("M8[s]"), "got datetime64[s]"),
    "longdouble": (PLANES.astype(np.longdouble), "got float128"),
    "masked values": (np.ma.masked_less(PLANES, PLANES.min() + 1), "got 1 masked values"),
    "NaN": (planes_with(np.nan), "planes must be finite, got 1 NaN or infinite values in plane 3"),
    "infinity": (
        planes_with(-np.inf),
        "planes must be finite, got 1 NaN or infinite values in plane 3",
    ),
    "1e30": (planes_with(1e30), "planes must be from -1e+12 to 1e+12, got 1e+30 in plane 3"),
    "-1e300": (
        planes_with(-1e300, float),
        "planes must be from -1e+12 to 1e+12, got -1e+300 in plane",
    ),
    "uint64 beyond 1e12": (planes_with(2**63, np.uint64), "got 9.22337e+18 in plane 3"),
    "all black": (0 * PLANES, "planes have no contrast anywhere"),
    "all saturated": (np.full_like(PLANES, 65535), "planes have no contrast anywhere"),
    "constant": (np.full_like(FLOATS, 0.3), "planes have no contrast anywhere"),
}
FUNCTIONS_OF_PLANES = {
    "align": align,
    "focus_measure": focus_measure,
    "depth_from_focus": lambda planes: depth_from_focus(FocalStack(planes)),
    "all_in_focus": lambda planes: all_in_focus(planes, np.zeros(SHAPE)),  # of any contrast
}


def assert_refused(call, message):
    """Check that `call` raises a ValueError with one line that has this text, and does not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("planes", "use"),
    [
        (planes, use)
        for planes, (_, message) in INVALID_PLANES.items()
        for use in FUNCTIONS_OF_PLANES
        if not (use == "all_in_focus" and "contrast" in message)
    ],
)
def test_invalid_planes_are_refused_with_a_reason(planes, use):
    invalid, message = INVALID_PLANES[planes]
    assert_refused(lambda: FUNCTIONS_OF_PLANES[use](invalid), message)


def stack(**settings):
    return lambda f: FocalStack(PLANES, **settings)


def run_with(**settings):
    return lambda f: depth_from_focus(FocalStack(PLANES), UNALIGNED, **settings)


def recipe(**settings):
    return lambda f: Recipe.from_dict(settings)


def refine_with(**settings):
    return lambda f: refine(f.estimate, f.focus, **settings)


def refine_estimate_with(**parts):
    return lambda f: refine(f.estimate._replace(**parts), f.focus)


def level_with(**settings):
    return lambda f: surface.level(TILTED, levelling="three_points", **settings)


def profile_along(line, **settings):
    return lambda f: surface.profile(TILTED, line, (1, 1), **settings)


def nan(*shape):
    return np.full(shape, np.nan)


INVALID_ARGUMENTS = {
    "repeats of one map": (
        lambda r: surface.repeats([TILTED], (1, 1)),
        "heights must be at least 2 maps of one field, got 1",
    ),
    "repeats of two shapes": (
        lambda r: surface.repeats([TILTED, TILTED[:-1]], (1, 1)),
        "heights must be of one shape, got",
    ),
    "a refractive index of 0": (
        lambda r: napari_dff.two_surfaces(FLOATS, refractive_index=0),
        "refractive_index must be",
    ),
    "maps of two shapes": (
        lambda r: napari_dff.focus_offset(r.estimate, DepthMap(*(m[1:] for m in r.estimate))),
        "reference and other must have the same shape (Y, X), got",
    ),
    "a spacing of nan": (
        lambda r: napari_dff.focus_offset(r.estimate, r.estimate, spacing=float("nan")),
        "spacing must be",
    ),
    "positions of another number": (
        stack(positions=[1, 2]),
        "positions must hold one number a plane, (7,), got shape (2,)",
    ),
    "positions that are one number": (stack(positions=3), "(7,), got shape ()"),
    "positions in a table": (stack(positions=np.zeros((7, 2))), "(7,), got shape (7, 2)"),
    "positions that are equal": (stack(positions=[4] * 7), "got 4 and then 4"),
    "positions up and down": (
        stack(positions=[0, 1, 3, 2, 4, 5, 6]),
        "positions must rise (or fall) from plane to plane, in float32, got 3 and then 2",
    ),
    "positions with NaN": (stack(positions=[0, 1, np.nan, 3, 4, 5, 6]), "positions must be finite"),
    "positions that are unknown": (stack(positions=[None] * 7), "positions must be numbers"),
    "positions in letters": (stack(positions=list("abcdefg")), "positions must be numbers"),
    "positions that are complex": (stack(positions=np.arange(7) * 1j), "got complex128"),
    "positions of 1e300": (stack(positions=np.arange(7) * 1e300), "positions must be from -1e+12"),
    "positions that float32 can't tell apart": (
        stack(positions=1e9 + np.arange(7)),
        "got 1e+09 and then 1e+09",
    ),
    "positions 1e-300 apart": (stack(positions=np.arange(7) * 1e-300), "got 0 and then 1e-300"),
    "no pixel size": (stack(pixel_size=None), "pixel_size must be numbers, got None"),
    "a pixel size of 0": (
        stack(pixel_size=(0, 1)),
        "pixel_size must be two positive lengths, 1e-12 to 1e+12, got (0, 1)",
    ),
    "a negative pixel size": (stack(pixel_size=(-1, 1)), "got (-1, 1)"),
    "a pixel size of NaN": (stack(pixel_size=(np.nan, 1)), "got (nan, 1)"),
    "an infinite pixel size": (stack(pixel_size=(np.inf, 1)), "got (inf, 1)"),
    "a pixel size of one number": (stack(pixel_size=0.5), "two positive lengths, 1e-12"),
    "a pixel size of three numbers": (stack(pixel_size=(1, 1, 1)), "got (1, 1, 1)"),
    "a pixel size in words": (stack(pixel_size="1 µm"), "pixel_size must be numbers, got '1 µm'"),
    "an unknown unit": (
        stack(unit="mikrometer"),
        "unit must be pixel, picometer, angstrom, nanometer, micrometer, millimeter, centimeter, "
        "meter, got 'mikrometer'",
    ),
    "no unit": (stack(unit=None), "got None"),
    "a unit that is a number": (stack(unit=3), "got 3"),
    "planes for a stack": (
        lambda f: depth_from_focus(PLANES),
        "stack must be a FocalStack, got ndarray",
    ),
    "settings for a recipe": (
        lambda f: depth_from_focus(FocalStack(PLANES), {"sigma": 1}),
        "recipe must be a Recipe, got dict",
    ),
    "transforms of fewer planes": (
        run_with(transforms=IDENTITIES[:6]),
        "transforms must be one 3 × 3 matrix for each of the 7 planes, got shape (6, 3, 3)",
    ),
    "one transform": (run_with(transforms=np.eye(3)), "got shape (3, 3)"),
    "transforms with NaN": (
        run_with(transforms=nan(7, 3, 3)),
        "got [[nan, nan, nan], [nan, nan, nan]",
    ),
    "transforms that are singular": (
        lambda f: resample(PLANES, IDENTITIES * [1, 0, 1]),
        "transforms must have inverses, got [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]",
    ),
    "transforms in words": (run_with(transforms="none"), "transforms must be numbers, got 'none'"),
    "transforms in uneven rows": (
        run_with(transforms=[[1], [2, 3]]),
        "transforms must be numbers in",
    ),
    "planes with contrast of 1e-30": (
        lambda f: depth_from_focus(FocalStack(FLOATS * np.float32(1e-35))),
        "planes have no contrast anywhere, none above 1e-12: there is nothing to focus on",
    ),
    "0 megabytes": (run_with(megabytes=0), "megabytes must be at least"),
    "-1 megabytes": (run_with(megabytes=-1), "megabytes must be a number from 0 to 1e+09, got -1"),
    "NaN megabytes": (run_with(megabytes=np.nan), "got nan"),
    "megabytes in words": (run_with(megabytes="2GB"), "got '2GB'"),
    "a reference beyond the planes": (
        lambda f: align(PLANES, reference=7),
        "reference must be a whole number from 0 to 6, got 7",
    ),
    "half a reference": (lambda f: align(PLANES, reference=1.5), "got 1.5"),
    "True for a reference": (lambda f: align(PLANES, reference=True), "got True"),
    "an unknown registration": (
        lambda f: align(PLANES, registration="surf"),
        "registration must be one of joint, sift, ecc, none, got 'surf'",
    ),
    "an unknown exposure": (lambda f: align(PLANES, exposure="x"), "exposure must be one of auto"),
    "a setting that isn't there": (recipe(colour=1), "recipe has no setting 'colour'"),
    "a misspelt setting": (recipe(sigmma=1), "no setting 'sigmma'; did you mean 'sigma'?"),
    "a setting without a name": (lambda f: Recipe.from_dict({3: 1}), "recipe has no setting 3"),
    "a recipe in words": (
        lambda f: Recipe.from_dict("log"),
        "recipe must map names to values, got 'log'",
    ),
    "a recipe in pairs": (lambda f: Recipe.from_dict([("sigma", 1)]), "got [('sigma', 1)]"),
    "a negative sigma": (
        recipe(sigma=-0.1),
        "sigma must be auto or a number from 0 to 32, got -0.1",
    ),
    "a sigma of NaN": (recipe(sigma=np.nan), "from 0 to 32, got nan"),
    "a sigma of a googol": (recipe(sigma=10**100), "from 0 to 32, got 1000"),
    "a sigma of 400 digits": (recipe(sigma=10**400), "from 0 to 32, got 1000"),
    "a sigma in words": (recipe(sigma="1"), "from 0 to 32, got '1'"),
    "no sigma": (recipe(sigma=None), "from 0 to 32, got None"),
    "True for sigma": (recipe(sigma=True), "from 0 to 32, got True"),
    "two sigmas": (recipe(sigma=np.ones(2)), "from 0 to 32, got array([1., 1.])"),
    "a decimal sigma": (recipe(sigma=Decimal(1)), "from 0 to 32, got Decimal('1')"),
    "an even window": (
        recipe(window=4),
        "window must be auto or an odd number from 1 to 255, got 4",
    ),
    "a window with a fraction": (recipe(window=9.5), "from 1 to 255, got 9.5"),
    "a window of 257": (recipe(window=257), "from 1 to 255, got 257"),
    "an operator in capitals": (recipe(operator="LOG"), "operator must be one of log, laplacian"),
    "an operator in bytes": (recipe(operator=b"log"), "got b'log'"),
    "operators in an array": (recipe(operator=np.array(["log", "brenner"])), "got array(["),
    "no operator": (recipe(operator=None), "got None"),
    "an infinite smoothness": (recipe(smoothness=np.inf), "from 0 to 100, got inf"),
    "refinements in another order": (
        recipe(refinement="least_squares+message_passing"),
        "refinement must be one of",
    ),
    "a window for focus in words": (lambda f: focus_measure(PLANES, window="9"), "got '9'"),
    "an aggregation of focus": (lambda f: focus_measure(PLANES, aggregation=1), "got 1"),
    "focus of one plane": (
        lambda f: depth_map(f.focus[0]),
        "focus must have axes (Z, Y, X) with at least 3 planes, got shape (48, 48)",
    ),
    "focus of no pixel": (lambda f: depth_map(f.focus[:, :0]), "got shape (7, 0, 48)"),
    "focus with NaN": (
        lambda f: depth_map(np.where(f.focus > 9e6, np.nan, f.focus)),
        "focus must be finite and at least 0, got values from nan to nan",
    ),
    "negative focus": (lambda f: depth_map(-f.focus), "focus must be finite and at least 0"),
    "focus of 1e300": (
        lambda f: depth_map(f.focus.astype(float) * 1e300),
        "got values from inf to inf",
    ),
    "focus of 0": (lambda f: focus_peaks(0 * f.focus), "focus must be above 0 somewhere, got 0"),
    "complex focus": (lambda f: depth_map(f.focus * 1j), "focus must be numbers, got complex64"),
    "no focus": (lambda f: depth_map(None), "focus must be numbers, got None"),
    "positions of other focus": (lambda f: depth_map(f.focus, [1, 2]), "(7,), got shape (2,)"),
    "an unknown peak": (lambda f: depth_map(f.focus, peak="x"), "peak must be one of argmax"),
    "an unknown preference": (lambda f: depth_map(f.focus, prefer=None), "prefer must be one of"),
    "no peaks": (lambda f: focus_peaks(f.focus, count=0), "count must be a whole number from 1"),
    "an estimate that is an array": (
        lambda f: refine(f.estimate.depth, f.focus),
        "estimate must be a DepthMap, got ndarray",
    ),
    "an estimate of other planes": (
        lambda f: refine(DepthMap(*(part[1:] for part in f.estimate)), f.focus),
        "estimate must have the shape (Y, X) of the focus volume, (48, 48), got (47, 48)",
    ),
    "an estimate of more planes": (
        refine_estimate_with(index=np.full(SHAPE, 7)),
        "estimate.index must be from 0 to 6, got 7",
    ),
    "an estimate with NaN": (
        refine_estimate_with(depth=nan(*SHAPE)),
        "estimate.depth must be finite, got 23",
    ),
    "a negative uncertainty": (
        refine_estimate_with(uncertainty=np.full(SHAPE, -1.0)),
        "estimate.uncertainty must be at least 0, got -1.0",
    ),
    "an uncertainty of NaN": (refine_estimate_with(uncertainty=nan(*SHAPE)), "at least 0, got nan"),
    "an unknown refinement": (
        refine_with(refinement="x"),
        "refinement must be none, or message_pass",
    ),
    "a negative smoothness": (
        refine_with(smoothness=-1),
        "smoothness must be a number from 0 to 100",
    ),
    "a guide of another size": (
        refine_with(guide=PLANES[0, 1:]),
        "guide must have the shape of a plane, (48, 48), got (47, 48)",
    ),
    "a guide of two channels": (refine_with(guide=np.zeros((48, 48, 2))), "got (48, 48, 2)"),
    "planes for a guide": (refine_with(guide=PLANES), "got (7, 48, 48)"),
    "a guide with NaN": (
        refine_with(guide=planes_with(np.nan)[3]),
        "guide must be finite, got 1 NaN",
    ),
    "a complex guide": (refine_with(guide=PLANES[0] * 1j), "guide must be numbers, got complex128"),
    "a guide of 1e300": (
        refine_with(guide=PLANES[0] * 1e295),
        "guide must be from -1e+12 to 1e+12",
    ),
    "hints of another size": (
        refine_with(hints=np.zeros((3, 3), int)),
        "hints must have the shape",
    ),
    "hints with fractions": (
        refine_with(hints=np.zeros(SHAPE)),
        "hints must be plane indices, int",
    ),
    "hints beyond the planes": (
        refine_with(hints=np.full(SHAPE, 7)),
        "hints must be plane indices fr",
    ),
    "hints in words": (refine_with(hints="here"), "hints must be numbers, got 'here'"),
    "an earlier result that is none": (
        refine_with(previous=()),
        "previous must be a PreviousResult, got tuple",
    ),
    "an earlier result of other planes": (
        lambda f: refine(
            f.estimate, f.focus, previous=PreviousResult(f.estimate._replace(depth=0), None)
        ),
        "previous.result must have the shape (Y, X) of the focus volume, (48, 48), got ()",
    ),
    "depth of another size": (
        lambda f: all_in_focus(PLANES, np.zeros((3, 3))),
        "depth must have the shape of a plane, (48, 48), got (3, 3)",
    ),
    "a depth map for depth": (lambda f: all_in_focus(PLANES, f.estimate), "got (3, 48, 48)"),
    "depth with NaN": (lambda f: all_in_focus(PLANES, nan(*SHAPE)), "depth must be finite, got 23"),
    "depth of 1e300": (lambda f: all_in_focus(PLANES, np.full(SHAPE, 1e300)), "got 1e+300"),
    "depth of another shape for a slab": (
        lambda f: project_slab(PLANES, np.zeros((3, 3))),
        "depth must have the shape of a plane",
    ),
    "a slab upside down": (
        lambda f: project_slab(PLANES, np.zeros(SHAPE), slab=(1, -1)),
        "slab must be two offsets, the lower one first",
    ),
    "offsets in words": (
        lambda f: project_slab(PLANES, np.zeros(SHAPE), offsets=("a",)),
        "offsets must",
    ),
    "complex depth": (lambda f: all_in_focus(PLANES, np.zeros(SHAPE, complex)), "got complex128"),
    "an unknown fusion": (
        lambda f: all_in_focus(PLANES, np.zeros(SHAPE), fusion="mean"),
        "fusion must be one of multiscale, noise_aware, nearest, got 'mean'",
    ),
    "two points": (level_with(points=[(1, 2), (3, 4)]), "points must be three (row, column) pairs"),
    "points in words": (level_with(points="here"), "points must be numbers, got 'here'"),
    "a point far away": (level_with(points=[(1, 1), (9, 2), (3, 1e300)]), "points must lie inside"),
    "a degree of 9": (
        lambda f: surface.level(TILTED, levelling="polynomial", degree=9),
        "degree must be a whole number from 1 to 5, got 9",
    ),
    "a region of numbers": (
        lambda f: surface.roughness(TILTED, (1, 1), where=TILTED),
        "where must be a bool mask of shape (20, 30), got float64 of shape (20, 30)",
    ),
    "an empty region": (lambda f: surface.level(TILTED, where=~ALL_PIXELS), "inside the region"),
    "uncertainty of another size": (
        lambda f: surface.volume(TILTED, (1, 1), uncertainty=TILTED[1:]),
        "uncertainty must have the shape of heights, (20, 30), got (19, 30)",
    ),
    "a level in words": (lambda f: surface.volume(TILTED, (1, 1), level="0"), "got '0'"),
    "a filter below two pixels": (
        lambda f: surface.scale_limited_surface(TILTED, (1, 1), s_filter=1.0),
        "s_filter must be from 2",
    ),
    "a filter in words": (
        lambda f: surface.roughness(TILTED, (1, 1), l_filter="80"),
        "l_filter must be a number from 0 to 1e+12, got '80'",
    ),
    "another filter": (
        lambda f: surface.scale_limited_surface(TILTED, (1, 1), filter_type="median"),
        "filter_type must be one of gaussian, spline, got 'median'",
    ),
    "a profile that is none": (
        lambda f: surface.scale_limited_profile(TILTED, l_filter=8.0),
        "profile must be a Profile, got ndarray",
    ),
    "parameters of no profile": (
        lambda f: surface.profile_parameters(None),
        "profile must be a Profile, got NoneType",
    ),
    "a reference without axes": (
        lambda f: surface.compare(TILTED, TILTED[0], (1, 1)),
        "reference must have axes (Y, X)",
    ),
    "heights without texture": (
        lambda f: surface.compare(TILTED, TILTED, (1, 1)),
        "lateral=False",
    ),
    "a unit of roughness": (lambda f: surface.roughness(TILTED, (1, 1), "?"), "unit must be pixel"),
    "flats that overlap": (
        lambda f: surface.step_height(TILTED, ALL_PIXELS, ALL_PIXELS, (1, 1)),
        "first and second must not overlap, got 600 pixels in both",
    ),
    "a line of one point": (profile_along([(1, 1)]), "line must have two vertices that differ"),
    "a line in words": (profile_along("here"), "line must be numbers, got 'here'"),
    "a line to the moon": (
        profile_along([(1, 1), (4e11, 1)]),
        "line must be (row, column) pairs up to 300",
    ),
    "a line of no width": (
        profile_along([(1, 1), (9, 9)], width=0),
        "width must be a whole number from 1",
    ),
    "a mesh of no faces": (
        lambda f: surface.mesh(TILTED, (1, 1), faces=0),
        "faces must be a whole",
    ),
    "a picture with alpha": (
        lambda f: surface.texture(np.zeros((4, 4, 4))),
        "picture must have axes (Y, X) or (Y, X, 3), got shape (4, 4, 4)",
    ),
    "a mesh that is none": (lambda f: save_mesh("a.ply", None), "mesh must be a Mesh, got None"),
    "a mesh as a picture": (
        lambda f: save_mesh("a.png", surface.mesh(TILTED, (1, 1))),
        "path must end in .ply, .obj, .stl, got 'a.png'",
    ),
    "a figure as a mesh": (lambda f: write_figure("a.ply", None), "path must end in .png, .svg"),
    "a movie as a picture": (lambda f: write_movie("a.png", []), "path must end in .gif, .tif"),
    "a movie of nothing": (lambda f: write_movie("a.gif", []), "frames must be one at least"),
    "columns of two lengths": (
        lambda f: write_table("a.csv", {"a": [1], "b": [1, 2]}),
        "columns must be of one length, got {'a': 1, 'b': 2}",
    ),
    "a file format that isn't": (
        lambda f: save_reconstruction(f.result, "out", file_format="png"),
        "file_format must be one of ome-tiff, ome-zarr, ome-zarr-0.4, got 'png'",
    ),
}
INVALID_HEIGHTS = {
    "in a list": (TILTED.tolist(), "heights must be an array, NaN where unknown, got list"),
    "None": (None, "heights must be an array, NaN where unknown, got NoneType"),
    "masked": (np.ma.masked_less(TILTED, 3), "NaN where unknown, got MaskedArray"),
    "of three axes": (TILTED[None], "heights must have axes (Y, X), got shape (1, 20, 30)"),
    "nowhere": (nan(20, 30), "heights must be known somewhere"),
    "of no pixel": (TILTED[:0], "heights must be known somewhere"),
    "complex": (TILTED * 1j, "heights must be numbers, got complex128"),
    "of objects": (TILTED.astype(object), "heights must be numbers, got object"),
    "of 1e300": (TILTED * 1e300, "heights must be from -1e+12 to 1e+12, got 4.8e+301"),
}
FUNCTIONS_OF_HEIGHTS = {
    "level": surface.level,
    "mesh": lambda heights: surface.mesh(heights, (1, 1)),
    "profile": lambda heights: surface.profile(heights, [(1, 1), (9, 9)], (1, 1)),
    "roughness": lambda heights: surface.roughness(heights, (1, 1)),
    "scale_limited_surface": lambda heights: surface.scale_limited_surface(heights, (1, 1)),
    "compare": lambda heights: surface.compare(heights, TILTED, (1, 1), lateral=False),
    "volume": lambda heights: surface.volume(heights, (1, 1)),
    "repeats": lambda heights: surface.repeats([heights, TILTED], (1, 1)),
}


@pytest.mark.parametrize("case", INVALID_ARGUMENTS)
def test_invalid_arguments_are_refused_with_a_reason(case, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, message = INVALID_ARGUMENTS[case]
    assert_refused(lambda: call(results), message)
    assert not os.listdir()


@pytest.mark.parametrize("use", FUNCTIONS_OF_HEIGHTS)
@pytest.mark.parametrize("heights", INVALID_HEIGHTS)
def test_invalid_heights_are_refused_with_a_reason(heights, use):
    invalid, message = INVALID_HEIGHTS[heights]
    assert_refused(lambda: FUNCTIONS_OF_HEIGHTS[use](invalid), message)


def test_every_public_function_is_called_with_invalid_arguments():
    """Functions that read files are tested in test_io_reading.py."""
    source = Path(__file__).read_text(encoding="utf-8")
    functions = [n for n in napari_dff.__all__ if n[0].islower() and not n.startswith("read_")]
    functions += [n for n in surface.__all__ if n[0].islower() and n != "further_parameters"]
    assert not [name for name in functions if f"{name}(" not in source]


# Unusual but valid arguments ----------------------------------------------------------------------

INT8_PLANES = (PLANES // 512).astype(np.int8)
PLANES_OF_OTHER_TYPES = {  # planes, and planes with the same depth
    "int8": (INT8_PLANES, INT8_PLANES),
    "negative int8": (INT8_PLANES - np.int8(100), INT8_PLANES),
    "int16": ((PLANES // 2).astype(np.int16), PLANES // 2),
    "uint32": (PLANES.astype(np.uint32) << 8, FLOATS),
    "int64": (PLANES.astype(np.int64), FLOATS),
    "uint64": (PLANES.astype(np.uint64), FLOATS),
    "float16": (INT8_PLANES.astype(np.float16), INT8_PLANES),
    "float64": (FLOATS.astype(np.float64), FLOATS),
    "big-endian": (PLANES.astype(">u2"), FLOATS),
    "big-endian floats": (FLOATS.astype(">f4"), FLOATS),
    "read-only": (np.broadcast_to(FLOATS, FLOATS.shape), FLOATS),
    "in Fortran's order": (np.asfortranarray(FLOATS), FLOATS),
    "backwards in memory": (np.ascontiguousarray(FLOATS[..., ::-1])[..., ::-1], FLOATS),
    "a list": (PLANES.tolist(), FLOATS),
    "a list of planes": (list(PLANES), FLOATS),
    "masked nowhere": (np.ma.masked_array(FLOATS, mask=False), FLOATS),
    "negative": (FLOATS - 70000, FLOATS),
    "up to 1e12": (FLOATS * np.float32(1e7), FLOATS),
    "up to 1e-3": (FLOATS * np.float32(2e-8), FLOATS),
}


@warnings_are_errors
@pytest.mark.parametrize("planes", PLANES_OF_OTHER_TYPES)
def test_planes_of_any_type_and_memory_order_give_the_same_depth(planes):
    unusual, usual = PLANES_OF_OTHER_TYPES[planes]
    result = depth_from_focus(FocalStack(unusual), UNALIGNED)
    expected = depth_from_focus(FocalStack(np.asarray(usual, np.float32)), UNALIGNED)
    both = np.isfinite(result.estimate.uncertainty) & np.isfinite(expected.estimate.uncertainty)
    assert both.mean() > 0.9
    np.testing.assert_allclose(
        result.estimate.depth[both], expected.estimate.depth[both], atol=0.01
    )
    difference = np.abs(result.refined.depth - expected.refined.depth)
    assert (
        np.percentile(difference[both], 99) < 0.1
    )  # the picture that guides is rounded to its dtype
    assert result.all_in_focus.dtype == np.asarray(unusual).dtype.newbyteorder("=")


UNUSUAL_PLANES = {
    "half black": np.where(LEFT_HALF, 0, PLANES),
    "half saturated": np.where(LEFT_HALF, 65535, PLANES),
    "a black plane": PLANES * (np.arange(7) != 3)[:, None, None].astype(np.uint16),
    "a saturated plane": np.maximum(PLANES, 65535 * (np.arange(7) == 3)[:, None, None]),
    "nothing but noise": np.random.default_rng(0).integers(0, 65535, PLANES.shape, np.uint16),
    "one plane with anything": np.eye(48) * (np.arange(7) == 2)[:, None, None],
    "one spot with anything": np.ones((7, 1, 1)) * np.outer(SPOT, SPOT),
    "one plane seven times": np.stack([PLANES[3]] * 7),
    "of 8 × 8 pixels": PLANES[:, :8, :8],
    "of 9 × 48 pixels": PLANES[:, :9],
    "signed noise of 1e11": np.random.default_rng(0).choice([-1e11, 1e11], PLANES.shape),
}
RECIPES = {
    "as it is": Recipe(),
    "sift": Recipe(registration="sift", fusion="nearest"),
    "ecc": Recipe(registration="ecc", fusion="noise_aware"),
    "wide": Recipe(registration="none", sigma=32, window=255),
    "plain": Recipe(registration="none", aggregation="window", refinement="none", peak="argmax"),
}


@warnings_are_errors
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("planes", UNUSUAL_PLANES)
def test_unusual_planes_give_finite_depth_and_warn_only_of_blank_planes(planes, recipe, tmp_path):
    blank = planes in ("a black plane", "a saturated plane")
    with pytest.warns(UserWarning, match="plane 3 has no contrast") if blank else nullcontext():
        result = depth_from_focus(FocalStack(UNUSUAL_PLANES[planes]), RECIPES[recipe])
    positions = result.stack.positions
    for part in (result.estimate, result.refined):
        assert positions[0] <= part.depth.min() <= part.depth.max() <= positions[-1]
        assert part.index.max() < 7
        assert (part.uncertainty > 0).all()
    assert np.isfinite(result.all_in_focus).all()
    if recipe == "plain":
        save_reconstruction(result, tmp_path / "out", file_format="ome-zarr")
        assert len(list(movie_frames(result.stack, result.all_in_focus))) == 7


@pytest.mark.parametrize("half", ["half black", "half saturated"])
def test_advice_reports_that_half_is_never_in_focus(half):
    result = depth_from_focus(FocalStack(UNUSUAL_PLANES[half]), UNALIGNED)
    never = np.isinf(result.estimate.uncertainty)
    assert never[:, :16].mean() > 0.8 > 0.1 > never[:, 32:].mean()
    sentences = quality.advice(quality.coverage(result.estimate, 7))
    assert "Much is never in focus" in sentences[-1]


@warnings_are_errors
def test_the_plane_index_does_not_depend_on_the_scale_of_positions(results):
    uneven = np.array([0, 1, 4, 9, 16, 25, 36.0])
    expected = results.estimate.index
    for positions in (range(7), 7 - np.arange(7), np.arange(7) * 1e-9, 1e10 * uneven, uneven + 1e4):
        result = depth_map(results.focus, positions)
        np.testing.assert_array_equal(result.index, expected)
        assert np.isfinite(result.depth).all()


def test_unit_symbols_are_converted_to_unit_names():
    for text, unit in (
        ("µm", "micrometer"),
        ("um", "micrometer"),
        ("Å", "angstrom"),
        ("m", "meter"),
    ):
        assert FocalStack(PLANES, unit=text).unit == unit


def test_a_recipe_of_numpy_scalars_can_be_saved(tmp_path):
    recipe = Recipe(
        sigma=np.float32(1.5), window=np.int64(9), smoothness=np.uint8(1), operator=np.str_("log")
    )
    assert recipe == Recipe(sigma=1.5, window=9)
    write_recipe(tmp_path / "recipe.json", recipe)
    assert json.loads((tmp_path / "recipe.json").read_text())["sigma"] == 1.5
    assert align(PLANES, registration="none", reference=np.int64(2)).transforms.shape == (7, 3, 3)


@warnings_are_errors
def test_estimates_guides_and_hints_of_any_dtype_give_the_same_result(results):
    expected = refine(results.estimate, results.focus, guide=PLANES[3], hints=np.full(SHAPE, -1))
    float64_estimate = DepthMap(*(part.astype(">f8") for part in results.estimate))
    float64_estimate = float64_estimate._replace(
        index=results.estimate.index.astype(np.int64).tolist()
    )
    result = refine(float64_estimate, results.focus.astype(float), guide=PLANES[3].tolist())
    for one, other in zip(expected, result, strict=True):
        np.testing.assert_array_equal(one, other)
    unfocused = results.estimate._replace(uncertainty=np.full(SHAPE, np.inf, np.float32))
    assert np.isinf(refine(unfocused, results.focus, guide=np.ones(SHAPE)).uncertainty).all()


@warnings_are_errors
def test_figures_of_a_result_that_is_never_in_focus_are_written(results, tmp_path):
    result = results.result
    unfocused = result.refined._replace(uncertainty=np.full(SHAPE, np.inf))
    black = np.zeros(SHAPE, np.uint8)
    assert draw_preview(black, unfocused, np.arange(7.0), "pixel").ndim == 3
    write_figure(
        tmp_path / "b.png",
        publication_figure(FigureContent(black, nan(*SHAPE), (1e-6, 1e-6), "meter")),
    )
    assert (tmp_path / "b.png").is_file()


# The command line ---------------------------------------------------------------------------------

QUICK = ["--registration", "none", "--refinement", "none", "--quiet"]
RUN = ["run", "a.tif", "--out", "out", *QUICK]
BATCH = ["batch", "a.tif", "--out", "out", *QUICK]
INVALID_COMMANDS = {
    "no such file": (["run", "no.tif", "--out", "out"], "there is no file or folder 'no.tif'"),
    "no such file for info": (["info", "no.tif"], "there is no file or folder 'no.tif'"),
    "a file that is no stack": (["info", "words.txt"], "words.txt"),
    "an empty file": (["info", "empty.tif"], "empty.tif"),
    "half a file": (["run", "half.tif", "--out", "out", *QUICK], "half.tif"),
    "an empty folder": (["run", "empty", "--out", "out"], "folder empty holds no image files"),
    "two planes": (["run", "two.tif", "--out", "out", *QUICK], "at least 3 along Z, got 2"),
    "truth values": (["run", "truth.tif", "--out", "out", *QUICK], "got bool"),
    "black planes": (["run", "black.tif", "--out", "out", *QUICK], "no contrast anywhere"),
    "planes with NaN": (
        ["run", "nan.tif", "--out", "out", *QUICK],
        "1 NaN or infinite values in p",
    ),
    "a file for the folder": (
        ["run", "a.tif", "--out", "words.txt", *QUICK],
        "words.txt is a file",
    ),
    "a file on the way": (
        ["run", "a.tif", "--out", "words.txt/out", *QUICK],
        "words.txt is a file",
    ),
    "memory in words": (
        [*RUN, "--memory", "much"],
        "memory must be a size as 2GB or 500MB, got 'm",
    ),
    "no memory": ([*RUN, "--memory", "0"], "memory must be a size as 2GB or 500MB, got '0'"),
    "negative memory": ([*RUN, "--memory", "-1GB"], "got '-1GB'"),
    "NaN of memory": ([*RUN, "--memory", "nan"], "got 'nan'"),
    "too much memory": ([*RUN, "--memory", "1e400GB"], "got '1e400GB'"),
    "little memory": ([*RUN, "--memory", "1MB"], "megabytes must be at least"),
    "no threads": (
        [*RUN, "--threads", "0"],
        "threads must be a whole number from 1 to 1024, got 0",
    ),
    "axes that aren't": ([*RUN, "--axes", "ABC"], "axes must be letters of P (position), T, C, Z"),
    "axes of another number": ([*RUN, "--axes", "TZYX"], "axes must name each axis of a.tif"),
    "a spacing of 0": ([*RUN, "--spacing", "0"], "spacing must be one or three positive lengths"),
    "a negative spacing": ([*RUN, "--spacing", "-1"], "got (-1.0,)"),
    "a spacing of NaN": ([*RUN, "--spacing", "nan"], "got (nan,)"),
    "two spacings": ([*RUN, "--spacing", "1", "2"], "got (1.0, 2.0)"),
    "a channel that isn't": (
        [*RUN, "--focus-channel", "DAPI"],
        "focus channel must be one of 0, got",
    ),
    "no transforms": ([*RUN, "--transforms", "no.json"], "no.json"),
    "transforms that are none": (
        [*RUN, "--transforms", "recipe.json"],
        "recipe.json does not contain trans",
    ),
    "transforms of other planes": (
        [*RUN, "--transforms", "moves.json"],
        "transforms must be of 7 planes, at one time or at 1, got 3 planes",
    ),
    "transforms that are singular": ([*RUN, "--transforms", "singular.json"], "singular.json must"),
    "no depth": ([*RUN, "--depth-from", "no"], "no holds no result of a run"),
    "depth of another size": (
        ["run", "large.tif", "--out", "out", *QUICK, "--depth-from", "done"],
        "depth_from must be of planes of 64 × 64 pixels, got 48 × 48",
    ),
    "no recipe": ([*RUN, "--recipe", "no.json"], "no.json"),
    "a stack for a recipe": ([*RUN, "--recipe", "a.tif"], "a.tif is not a recipe"),
    "a recipe that goes too deep": ([*RUN, "--recipe", "deep.json"], "deep.json is not a recipe"),
    "a recipe with a misspelt setting": (
        [*RUN, "--recipe", "misspelt.json"],
        "recipe has no setting 'sigmma'; did you mean 'sigma'?",
    ),
    "a recipe out of range": (
        [*RUN, "--recipe", "wide.json"],
        "window must be auto or an odd number from 1",
    ),
    "a recipe of a newer version": ([*RUN, "--recipe", "newer.json"], "no setting 'telepathy'"),
    "nothing that matches": (["batch", "*.nd2", "--out", "out"], "nothing matches *.nd2"),
    "a pattern that is none": (["batch", "[", "--out", "out"], "nothing matches ["),
    "no stacks": (["batch", "--out", "out"], "no stacks are given: name files"),
    "no workers": (
        [*BATCH, "--workers", "0"],
        "workers must be a whole number from 1 to 1024, got",
    ),
    "threads of no worker": (
        [*BATCH, "--threads", "0"],
        "threads must be a whole number from 1 to",
    ),
    "memory of no worker": ([*BATCH, "--memory", "x"], "memory must be a size as 2GB or 500MB"),
    "a batch with no recipe": ([*BATCH, "--recipe", "no.json"], "no.json"),
    "a sample in a file": (["sample", "bare_patch", "--out", "words.txt"], "words.txt"),
}
INVALID_COMMANDS |= {
    "no command": (
        [],
        "a command is missing: run, batch, watch, project, repeats, ",
    ),
    "an unknown command": (
        ["walk"],
        "info, sample or warm-up, got 'walk'",
    ),
    "nothing to run": (["run"], "run needs --out PATH"),
    "nowhere to": (["run", "a.tif"], "run needs --out PATH"),
    "an unknown flag": ([*RUN, "--colour", "red"], "run has no option --colour red"),
    "a window that is none": ([*RUN, "--window", "wide"], "window must be an integer, got 'wide'"),
    "threads that are none": ([*RUN, "--threads", "all"], "threads must be an integer, got 'all'"),
    "a window out of range": (
        [*RUN, "--window", "4"],
        "window must be auto or an odd number from 1 to 255",
    ),
    "an unknown operator": ([*RUN, "--operator", "foo"], "operator must be log, laplacian, "),
    "an unknown format": (
        [*RUN, "--file-format", "png"],
        "file-format must be ome-tiff, ome-zarr or ome-zarr-0.4, got 'png'",
    ),
    "a flag without a value": ([*RUN, "--recipe"], "--recipe needs a value after it"),
    "an unknown sample": (["sample", "moon", "--out", "out"], "bare_patch, got 'moon'"),
    "nowhere for a sample": (["sample", "bare_patch"], "sample needs --out PATH"),
    "no stack for info": (["info"], "no stack is given"),
    "no depth to project along": (["project", "a.tif", "--out", "p.ome.tif"], "--depth-from PATH"),
    "depth of another size to project along": (
        ["project", "large.tif", "--depth-from", "done", "--out", "p.ome.tif"],
        "depth_from must be of planes of 64 × 64 pixels, got 48 × 48",
    ),
    "a projection as PNG": (
        ["project", "a.tif", "--depth-from", "done", "--out", "p.png"],
        "out must end in .ome.tif or .ome.zarr, got 'p.png'",
    ),
    "a projection over another file": (
        ["project", "a.tif", "--depth-from", "done", "--out", "a.tif"],
        "out must end in .ome.tif",
    ),
    "a slab that ends before it begins": (
        ["project", "a.tif", "--depth-from", "done", "--out", "p.ome.tif", "--slab", "1", "-1"],
        "slab must be two offsets, the lower one first, got (1.0, -1.0)",
    ),
}


def write(path, planes, **metadata):
    about = {"axes": "ZYX", **metadata}
    tifffile.imwrite(path, planes, ome=True, metadata=about, photometric="minisblack")


@pytest.fixture(scope="module")
def input_folder(tmp_path_factory):
    """A folder with files of all kinds; "done" is the result of a run."""
    folder = tmp_path_factory.mktemp("äöü and 漢字")
    lengths = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2}
    write(folder / "a.tif", PLANES, **lengths)
    write(folder / "large.tif", synthetic.rough_surface(size=64, planes=7).stack.planes, **lengths)
    write(folder / "two.tif", PLANES[:2])
    write(folder / "black.tif", 0 * PLANES)
    write(folder / "nan.tif", planes_with(np.nan))
    tifffile.imwrite(folder / "truth.tif", PLANES > 9, photometric="minisblack")
    (folder / "half.tif").write_bytes((folder / "a.tif").read_bytes()[:9000])
    (folder / "empty.tif").touch()
    (folder / "empty").mkdir()
    (folder / "words.txt").write_text("words")
    write_recipe(folder / "recipe.json", UNALIGNED)
    texts = {
        "deep": "[" * 100_000,
        "misspelt": '{"sigmma": 1.0}',
        "wide": '{"window": 1001}',
        "newer": '{"napari_dff": "99.0", "telepathy": true}',
        "moves": json.dumps({"transforms": IDENTITIES[:3].tolist()}),
        "singular": json.dumps({"transforms": (0 * IDENTITIES).tolist()}),
    }
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text)
    assert main(["run", str(folder / "a.tif"), "--out", str(folder / "done"), *QUICK]) == 0
    return folder


def modification_times(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}


@pytest.mark.parametrize("case", INVALID_COMMANDS)
def test_an_invalid_command_prints_one_sentence_and_writes_nothing(
    case, input_folder, monkeypatch, capsys
):
    arguments, sentence = INVALID_COMMANDS[case]
    monkeypatch.chdir(input_folder)
    files_before = modification_times(".")
    assert main(arguments) == 2
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if "%|" not in line]  # no bars
    assert len(lines) == 1, output.err
    assert lines[0].startswith("napari-dff: ")
    assert sentence in lines[0]
    assert output.out == ""
    assert modification_times(".") == files_before


def test_a_scheduler_that_does_not_answer_is_reported(input_folder, monkeypatch, capsys):
    pytest.importorskip("distributed", reason="extra distributed is not installed")
    monkeypatch.setattr("napari_dff.batch.executors.SCHEDULER_TIMEOUT_S", 1)
    monkeypatch.chdir(input_folder)
    files_before = modification_times(".")
    for address in ("tcp://127.0.0.1:1", "here"):
        assert main([*BATCH, "--scheduler", address]) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith("napari-dff: ")
        assert address in message
    assert modification_times(".") == files_before


@pytest.mark.parametrize("error", [struct.error("8 bytes"), MemoryError("3 EiB"), TypeError("TLS")])
def test_a_program_that_is_no_scheduler_is_reported(error, input_folder, monkeypatch, capsys):
    pytest.importorskip("distributed", reason="extra distributed is not installed")

    async def connect(address):
        raise error

    monkeypatch.setattr("distributed.comm.connect", connect)
    monkeypatch.chdir(input_folder)
    assert main([*BATCH, "--scheduler", "tcp://127.0.0.1:80"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert f"scheduler tcp://127.0.0.1:80 is no Dask scheduler: {error}" in message


def test_failed_stacks_of_a_batch_are_reported_by_name(
    input_folder, tmp_path, monkeypatch, capsys, in_this_process
):
    monkeypatch.chdir(input_folder)
    patterns = ["black.tif", "half.tif", "empty", "recipe.json"]
    arguments = ["batch", *patterns, "--out", str(tmp_path / "out"), *QUICK, "--workers", "1"]
    assert main(arguments) == 1
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 4
    for name in patterns:
        assert any(f"{input_folder / name}: " in line for line in lines)
    assert "4 failed" in output.out
    assert sorted(os.listdir(tmp_path / "out")) == ["summary.csv", "summary.json"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            MemoryError("Unable to allocate 9 TiB"),
            "memory is full (Unable to allocate 9 TiB): give --memory 1GB, say, to work in tiles",
        ),
        (
            RuntimeError("can't start new thread"),
            "can't start new thread: raise the limit of memory (ulimit -v) or of processes "
            "(ulimit -u, cgroup pids), or give --threads 1",
        ),
    ],
)
def test_a_limit_of_the_system_is_reported_in_one_sentence(
    error, message, input_folder, monkeypatch, capsys
):
    def fail(*_, **__):
        raise error

    monkeypatch.chdir(input_folder)
    monkeypatch.setattr(napari_dff.batch.job.Job, "run", fail)
    assert main(RUN) == 2
    assert f"napari-dff: {message}\n" in capsys.readouterr().err


def test_an_unexpected_error_shows_its_traceback(input_folder, monkeypatch):
    def raise_key_error(*_, **__):
        raise KeyError("a bug")

    monkeypatch.chdir(input_folder)
    monkeypatch.setattr(napari_dff.batch.job.Job, "run", raise_key_error)
    with pytest.raises(KeyError):
        main(RUN)


def test_a_warning_and_an_error_are_printed_on_one_line_each(input_folder, monkeypatch, capsys):
    def warn_and_raise(*_, **__):
        warnings.warn("this is doubtful", stacklevel=1)
        raise ValueError("and that is wrong,\nfor two reasons")

    monkeypatch.chdir(input_folder)
    monkeypatch.setattr(napari_dff.batch.job.Job, "run", warn_and_raise)
    assert main(RUN) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "napari-dff: this is doubtful",
        "napari-dff: and that is wrong, for two reasons",
    ]


def test_help_shows_no_default_where_there_is_none(capsys):
    for command in ("run", "batch"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        for wrong in ("None", "''", "(default: )", "[["):
            assert wrong not in text
        assert "--memory SIZE" in text
        assert "--recipe PATH" in text


def test_characters_that_the_terminal_cannot_encode_are_escaped(input_folder):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    arguments = [sys.executable, "-m", "napari_dff", "info", str(input_folder / "a.tif")]
    process = subprocess.run(arguments, env=environment, capture_output=True, check=False)
    assert (process.returncode, process.stderr) == (0, b"")
    assert b"planes      7 of 48 \\xd7 48 pixels, uint16" in process.stdout
