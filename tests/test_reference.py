"""Results of the bundled stacks don't drift, and their bits depend on nothing but the libraries."""

import contextlib
import dataclasses
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from napari_dff.io import SAMPLES
from tests.reference import renew

# Other versions of OpenCV, numpy and numba round otherwise. That moves no depth by more than
# thousandths of a plane, but where two peaks, or two motions, are as good as each other.
SAME = 0.995  # of the pixels
DEPTH, MEDIAN = 0.02, 0.001  # planes
MOTION = 0.02  # pixels, anywhere in a plane


def kept(name: str, kind: str) -> dict[str, np.ndarray]:
    with np.load(renew.HERE / f"{name}.{kind}.npz", allow_pickle=False) as file:
        return dict(file)


def check(found: dict[str, np.ndarray], name: str, kind: str) -> None:
    """AssertionError unless results are those that are kept."""
    old = kept(name, kind)
    assert old.keys() == found.keys()
    height, width = (renew.EVERY * size for size in old["depth"].shape)
    corners = np.array([(y, x, 1) for y in (0, height) for x in (0, width)], float).T
    for one, two in zip(old["transforms"], found["transforms"], strict=True):
        here, there = ((matrix @ corners)[:2] / (matrix @ corners)[2] for matrix in (one, two))
        assert np.abs(here - there).max() < MOTION
    known = np.isfinite(old["uncertainty"])
    assert np.mean(known == np.isfinite(found["uncertainty"])) >= SAME
    assert np.mean(old["index"] == found["index"]) >= SAME
    moved = np.abs(old["depth"] - found["depth"])
    assert np.median(moved) <= MEDIAN
    assert np.mean(moved <= DEPTH) >= SAME
    both = known & np.isfinite(found["uncertainty"])
    one, two = (part["uncertainty"][both].astype(float) for part in (old, found))
    assert np.mean(np.abs(one - two) <= 0.02 * one) >= SAME
    one, two = (part["all_in_focus"].astype(float) for part in (old, found))
    assert np.mean(np.abs(one - two) <= 0.005 * np.ptp(one)) >= SAME


def cases():
    for name in SAMPLES:
        for kind, recipe in renew.RECIPES.items():
            missing = "graph_cut" in recipe.refinement and not importlib.util.find_spec("gco")
            skip = pytest.mark.skipif(bool(missing), reason="gco-wrapper is not installed")
            yield pytest.param(name, kind, marks=skip, id=f"{name}-{kind}")


@pytest.mark.parametrize(("name", "kind"), list(cases()))
def test_results_are_those_that_are_kept(name, kind):
    check(renew.kept(renew.reconstructed(name, renew.RECIPES[kind])), name, kind)


@pytest.mark.parametrize(
    "change", [{}, {"window": 11}, {"sigma": 1.1}, {"smoothness": 1.5}, {"peak": "lorentzian"}]
)
def test_a_change_would_be_seen(change):
    recipe = dataclasses.replace(renew.RECIPES["default"], **change)
    moved = kept("machined_part", "default")["transforms"]
    found = renew.kept(renew.reconstructed("machined_part", recipe, moved))
    with pytest.raises(AssertionError) if change else contextlib.nullcontext():
        check(found, "machined_part", "default")


def test_bits_are_the_same_on_one_thread_and_on_all_and_from_run_to_run():
    """In fresh processes, whose sets and dictionaries are in another order."""
    command = [sys.executable, renew.__file__, "--bits", "machined_part"]
    processes = [
        subprocess.Popen(
            [*command, *threads], env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE
        )
        for seed, threads in (("1", ["1"]), ("2", []))
    ]
    one, two = (process.communicate(timeout=120)[0] for process in processes)
    assert one.startswith(b"default ")
    assert one == two
