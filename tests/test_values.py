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
    depth_from_focus,
    focus_measure,
    read_acquisitions,
    read_stack,
    refine,
    synthetic,
)
from napari_dff.cli.program import main

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
