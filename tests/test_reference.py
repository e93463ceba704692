"""Results of the bundled stacks do not change, and depend only on the versions of libraries."""

import contextlib
import dataclasses
import functools
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from napari_dff.io import SAMPLE_NAMES
from tests.reference import renew

# Other versions of OpenCV, NumPy and Numba have other rounding errors. They change depth by
# thousandths of a plane, except where two peaks, or two motions, are equally good.
MIN_EQUAL_SHARE = 0.995  # of the pixels
MAX_DEPTH_ERROR, MAX_MEDIAN_ERROR = 0.02, 0.001  # planes
MAX_MOTION_ERROR_PX = 0.02  # anywhere in a plane


def reference(name: str, kind: str) -> dict[str, np.ndarray]:
    with np.load(renew.HERE / f"{name}.{kind}.npz", allow_pickle=False) as file:
        return dict(file)


def check(result: dict[str, np.ndarray], name: str, kind: str) -> None:
    """Raise AssertionError unless the results equal the reference."""
    expected = reference(name, kind)
    assert expected.keys() == result.keys()
    height, width = (renew.STEP_PX * size for size in expected["depth"].shape)
    corners = np.array([(y, x, 1) for y in (0, height) for x in (0, width)], float).T
    for one, two in zip(expected["transforms"], result["transforms"], strict=True):
        first, second = ((matrix @ corners)[:2] / (matrix @ corners)[2] for matrix in (one, two))
        assert np.abs(first - second).max() < MAX_MOTION_ERROR_PX
    in_focus = np.isfinite(expected["uncertainty"])
    assert np.mean(in_focus == np.isfinite(result["uncertainty"])) >= MIN_EQUAL_SHARE
    assert np.mean(expected["index"] == result["index"]) >= MIN_EQUAL_SHARE
    difference = np.abs(expected["depth"] - result["depth"])
    assert np.median(difference) <= MAX_MEDIAN_ERROR
    assert np.mean(difference <= MAX_DEPTH_ERROR) >= MIN_EQUAL_SHARE
    both = in_focus & np.isfinite(result["uncertainty"])
    one, two = (part["uncertainty"][both].astype(float) for part in (expected, result))
    assert np.mean(np.abs(one - two) <= 0.02 * one) >= MIN_EQUAL_SHARE
    one, two = (part["all_in_focus"].astype(float) for part in (expected, result))
    assert np.mean(np.abs(one - two) <= 0.005 * np.ptp(one)) >= MIN_EQUAL_SHARE


def cases():
    for name in SAMPLE_NAMES:
        for kind, recipe in renew.RECIPES.items():
            missing = "graph_cut" in recipe.refinement and not importlib.util.find_spec("gco")
            skip = pytest.mark.skipif(bool(missing), reason="gco-wrapper is not installed")
            yield pytest.param(name, kind, marks=skip, id=f"{name}-{kind}")


reconstruct = functools.cache(renew.reconstruct)


@pytest.mark.parametrize(("name", "kind"), list(cases()))
def test_results_equal_the_reference(name, kind):
    check(renew.sample_results(reconstruct(name, renew.RECIPES[kind])), name, kind)


@pytest.mark.parametrize(
    "change", [{}, {"window": 11}, {"sigma": 1.1}, {"smoothness": 1.5}, {"peak": "lorentzian"}]
)
def test_another_setting_fails_the_comparison(change):
    recipe = dataclasses.replace(renew.RECIPES["default"], **change)
    transforms = reference("machined_part", "default")["transforms"]
    result = renew.sample_results(renew.reconstruct("machined_part", recipe, transforms))
    with pytest.raises(AssertionError) if change else contextlib.nullcontext():
        check(result, "machined_part", "default")


def test_results_are_the_same_bits_on_one_thread_and_on_all_threads():
    """In a new process with one thread and another order of sets, and in this one with all."""
    command = [sys.executable, renew.__file__, "--bits", "machined_part", "1"]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    printed = subprocess.run(command, env=environment, capture_output=True, timeout=120).stdout
    lines = [line.split() for line in printed.decode().splitlines()]
    assert lines[0][0] == "default"
    for kind, bits in lines:
        assert renew.bits(reconstruct("machined_part", renew.RECIPES[kind])) == bits
