"""Wrong values from callers and files are refused with a ValueError that names the argument."""

import shutil

import numpy as np
import pytest
import tifffile

from napari_dff import (
    Acquisition,
    FocalStack,
    Recipe,
    align,
    all_in_focus,
    depth_from_focus,
    depth_map,
    focus_measure,
    io,
    project_slab,
    read_acquisitions,
    read_recipe,
    read_stack,
    read_transforms,
    refine,
    surface,
    synthetic,
)
from napari_dff.cli.program import main
from napari_dff.io.writers.figure import FigureContent, publication_figure, write_movie
from napari_dff.pipeline import quality
from napari_dff.pipeline.preview import focus_curve, reconstruct_region
from napari_dff.runtime.windows import Window

PLANES = synthetic.rough_surface(size=32, planes=5, seed=1).stack.planes
DATA, POSITIONS = PLANES[None, None], np.arange(5.0)
QUICK = Recipe(registration="none", refinement="none")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("values") / "stack.tif"
    tifffile.imwrite(path, PLANES)
    return path


@pytest.mark.parametrize(
    "options",
    [
        *({"position": value} for value in (1.5, -1, [0], "x", b"x")),
        *({"time": value} for value in (1.5, -1, 1, "x", [0])),
        *({"channel": value} for value in (1.5, -1, [0], "x", b"x")),
        *({"spacing": value} for value in ("x", [1, 2], np.nan, 1j, 0, {})),
        *({"axes": value} for value in (3, ["Z"], "QQ", b"ZYX")),
    ],
    ids=str,
)
def test_wrong_choices_of_a_stack_are_refused(options, file):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        read_stack(file, **options)


@pytest.mark.parametrize("path", [None, 3, [], [None], b"stack.tif", ["stack.tif", 3], 1j], ids=str)
def test_what_is_no_path_is_refused(path):
    for read in (read_stack, read_acquisitions):
        with pytest.raises(ValueError, match="path must be"):
            read(path)


WRONG_PARTS = {
    "data": [None, 3, [[1, 2]], "text"],
    "positions": [None, "a", {}, POSITIONS * 1j, POSITIONS[:4]],
    "pixel_size": [None, 3, ("a", 1), (np.nan, 1)],
    "unit": [None, 3, "apple"],
    "channels": [None, 3, "x", (3,), ("a", "b")],
    "axes": [None, (1, 2), 3],
    "focus_channel": ["a", 0.0, None, -1, 1],
    "files": [None, 3, ("a",)],
    "name": [None, 3],
    "exif": [None, 3],
    "icc_profile": [None, "x"],
    "time_increment": ["a", -1, np.nan],
}


@pytest.mark.parametrize(("name", "values"), WRONG_PARTS.items(), ids=WRONG_PARTS)
def test_wrong_parts_of_an_acquisition_are_refused(name, values):
    for value in values:
        parts = {"data": DATA, "positions": POSITIONS, name: value}
        with pytest.raises(ValueError, match=f"{name.replace('_', '.')} must"):
            Acquisition(**parts)


def stops_early(items, /, *, desc):
    yield from list(items)[:-1]


PROGRESS = {
    "early": (stops_early, "progress must yield all"),
    "empty": (lambda items, /, *, desc: (), "progress must yield all"),
    "repeated": (lambda items, /, *, desc: [*items, *items], "progress must yield all"),
    "none": (lambda items, /, *, desc: None, "progress must return the items"),
    "number": (3, "progress must be a function"),
}


@pytest.mark.parametrize(("progress", "words"), PROGRESS.values(), ids=PROGRESS)
@pytest.mark.filterwarnings("ignore")
def test_a_progress_that_leaves_out_items_is_refused(progress, words):
    estimate = depth_from_focus(FocalStack(PLANES), QUICK).refined
    for call in (
        lambda: align(PLANES, progress=progress),
        lambda: focus_measure(PLANES, progress=progress),
        lambda: refine(estimate, PLANES, progress=progress),
        lambda: depth_from_focus(FocalStack(PLANES), progress=progress),
        lambda: depth_from_focus(FocalStack(PLANES), QUICK, progress=progress),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.fixture(scope="module")
def result(file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("values") / "result"
    settings = ["--registration", "none", "--refinement", "none", "--quiet"]
    assert main(["run", str(file), "--out", str(folder), *settings]) == 0
    return folder


DAMAGED_MAPS = [
    *(
        ("index", value, dtype)
        for value, dtype in ((65535, "uint16"), (5, "uint16"), (-5, "int16"))
    ),
    *(("index", value, dtype) for value, dtype in ((1.5, "float32"), (1, "complex64"))),
    *(("depth", value, "float32") for value in (1e9, np.nan)),
    *(("depth", 1, dtype) for dtype in ("complex64", "uint16")),
    *(("uncertainty", value, "float32") for value in (-1, np.nan)),
    ("uncertainty", 1, "complex64"),
]


@pytest.mark.parametrize(("name", "value", "dtype"), DAMAGED_MAPS)
def test_maps_that_no_run_has_written_are_refused(
    name, value, dtype, file, result, tmp_path, capsys
):
    shutil.copytree(result, tmp_path / "result")
    values = tifffile.imread(tmp_path / "result" / f"{name}.ome.tif").astype(dtype)
    values[20, 10] = value
    tifffile.imwrite(tmp_path / "result" / f"{name}.ome.tif", values)
    out = ["--out", str(tmp_path / "out"), "--quiet"]
    assert main(["run", str(file), "--depth-from", str(tmp_path / "result"), *out]) == 2
    assert f"maps of depth_from are damaged: {name} must be" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_maps_of_a_run_are_used(file, result, tmp_path):
    out = ["--out", str(tmp_path / "out"), "--quiet"]
    assert main(["run", str(file), "--depth-from", str(result), *out]) == 0
    for name in ("depth", "index", "uncertainty"):
        expected, got = (tifffile.imread(f / f"{name}.ome.tif") for f in (result, tmp_path / "out"))
        np.testing.assert_array_equal(got, expected)


HEIGHTS = np.add.outer(np.arange(20.0), np.arange(30.0) ** 1.1)
STACK, PLACE = FocalStack(PLANES), Window(0, 8, 0, 8)
RAGGED = [[1], [1, 2]]
PROFILE = surface.profile(HEIGHTS, [(2, 2), (15, 25)], (1.0, 1.0))
ACQUISITION = Acquisition(DATA, POSITIONS)


def figure(**parts):
    content = {"picture": PLANES[0], "depth": HEIGHTS, "pixel_size": (1.0, 1.0), "unit": "pixel"}
    return publication_figure(FigureContent(**content | parts))


WRONG_CALLS = {  # name of the argument in the message, call and wrong values
    "time": (ACQUISITION.stack, [1, -1, 1.5, True, "x", None, RAGGED]),
    "channel": (lambda value: ACQUISITION.stack(0, value), [1, -1, None, [0]]),
    "planes": (FocalStack, [memoryview(b"abc"), object, iter([])]),
    "unit": (lambda value: FocalStack(PLANES, unit=value), [PLANES, np.zeros(5, "V4"), POSITIONS]),
    "pixel_size": (lambda value: FocalStack(PLANES, pixel_size=value), [PLANES, STACK, 10**5000]),
    "window": (lambda value: focus_measure(PLANES, window=value), [np.timedelta64(1, "s"), STACK]),
    "plane_mask": (lambda value: depth_map(1.0 * PLANES, plane_mask=value), [RAGGED, 1, "x"]),
    "fusion": (lambda value: all_in_focus(PLANES, 0.0 * PLANES[0], fusion=value), [[], {}, PLANES]),
    "uncertainty": (lambda value: all_in_focus(PLANES, 0.0 * PLANES[0], uncertainty=value), [[]]),
    "slab": (lambda value: project_slab(PLANES, 0.0 * PLANES[0], slab=value), [True, 3, "ab", {}]),
    "offsets": (
        lambda value: project_slab(PLANES, 0.0 * PLANES[0], offsets=value),
        [None, 1, b"x"],
    ),
    "path": (lambda value: read_recipe(value), [None, 3, b"x", "\0", "", "\ud800", []]),
    "path ": (lambda value: read_transforms(value), [None, 3, 1, True, "\0", ""]),
    "path  ": (lambda value: io.read_heights(value), [None, 3, b"x", "\0"]),
    "path   ": (lambda value: io.write_stack(value, STACK), [None, 3, "\0", "\ud800"]),
    "path    ": (lambda value: io.write_table(value, {"a": [1]}), [None, "\0"]),
    "folder": (lambda value: io.copy_sample("bare_patch", value), [None, 3, "\0"]),
    "columns": (lambda value: io.write_table("a.csv", value), [None, [], {"a": 3}]),
    "recipe": (lambda value: io.write_recipe("a.json", value), [None, {}, STACK]),
    "name": (lambda value: io.save_preset(value, QUICK), [None, 3, b"x"]),
    "names": (io.folder_names, [None, [[1], 2], "ab", [3, 4]]),
    "stack": (lambda value: io.write_stack("a.ome.tif", value), [None, PLANES]),
    "image": (lambda value: io.write_image("a.ome.tif", value, STACK), [None, 3, PLANES]),
    "acquisition": (lambda value: io.DepthFiles("folder", value), [None, STACK]),
    "heights": (lambda value: surface.repeats(value, (1, 1)), [None, 3, "ab", {}]),
    "heights ": (lambda value: surface.step_height(value, 0, 0, (1, 1)), [None, RAGGED]),
    "uncertainties": (
        lambda value: surface.repeats([HEIGHTS, HEIGHTS + 1], (1, 1), uncertainties=value),
        [None, 3, [None, None]],
    ),
    "where": (lambda value: surface.mesh(HEIGHTS, (1, 1), where=value), [RAGGED, "x", 1]),
    "profile.height": (
        lambda value: surface.profile_parameters(PROFILE._replace(height=value)),
        [None, True, [1], 1j * PROFILE.height, "x"],
    ),
    "profile.uncertainty": (
        lambda value: surface.profile_parameters(PROFILE._replace(uncertainty=value)),
        [True, [1], "x"],
    ),
    "depth_map": (lambda value: quality.coverage(value, 5), [None, PLANES]),
    "shares": (quality.advice, [None, "x"]),
    "transforms": (lambda value: quality.decompose_transforms(value, (8, 8)), [None, 3, "x", [1]]),
    "shape": (lambda value: quality.decompose_transforms(np.eye(3)[None], value), [None, 3, "ab"]),
    "motion": (lambda value: quality.summarize_alignment((), value), [None, 3]),
    "stack ": (lambda value: reconstruct_region(value, QUICK, PLACE), [None, PLANES]),
    "recipe ": (lambda value: reconstruct_region(STACK, value, PLACE), [None, {}]),
    "window ": (
        lambda value: reconstruct_region(STACK, QUICK, value),
        [None, (0, 8, 0, 8), Window(0, 99, 0, 8), Window(-8, 8, 0, 8), Window(8, 8, 0, 8)],
    ),
    "row": (lambda value: focus_curve(STACK, QUICK, value, 3), [None, 1.5, 32, -1, "x", True]),
    "column": (lambda value: focus_curve(STACK, QUICK, 3, value), [None, 1.5, 32, -1]),
    "picture": (lambda value: figure(picture=value), [None, 3, np.array(3), np.zeros((0, 3))]),
    "depth": (lambda value: figure(depth=value), [None, 3, np.array(3.0), PLANES]),
    "line": (lambda value: figure(line=value), [True, "x", RAGGED]),
    "colormap": (lambda value: publication_figure(CONTENT, colormap=value), [[], None, "none"]),
    "width": (lambda value: publication_figure(CONTENT, width=value), [None, 0, -1, 1j, "x"]),
    "frames": (lambda value: write_movie("a.gif", value), [None, 3, "x", [], [1], [PLANES[0]]]),
    "size": (synthetic.rough_surface, [None, 0, 1.5, -1, True, "x"]),
    "seed": (lambda value: synthetic.cell_sheet(seed=value), [None, -1, 1.5]),
}
CONTENT = FigureContent(PLANES[0], HEIGHTS, (1.0, 1.0), "pixel")


@pytest.mark.parametrize(("name", "call", "values"), [(k, *v) for k, v in WRONG_CALLS.items()])
def test_wrong_values_are_refused_in_one_line_with_the_name_of_the_argument(
    name, call, values, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name.strip()} must ") as error:
            call(value)
        message = str(error.value)
        assert "\n" not in message
        assert len(message) < 1000
    assert list(tmp_path.iterdir()) == []
