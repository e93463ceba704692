"""Exposure: light that drifts or flickers is detected and equalized, and nothing else is."""

import json

import numpy as np
import pytest

from napari_dff import FocalStack, Recipe, align, depth_from_focus, save_reconstruction, synthetic
from napari_dff.pipeline.planning import Plan
from napari_dff.registration.exposure import find_drift, measure_light
from napari_dff.runtime.windows import window_grid

PLAIN = Recipe(registration="none", refinement="none")


def drift_of(planes) -> float:
    return find_drift(measure_light(planes, np.tile(np.eye(3), (len(planes), 1, 1))))


def with_gains(planes, gains):
    gains = np.reshape(gains, (-1, *[1] * (planes.ndim - 1)))
    limit = np.iinfo(planes.dtype).max
    return np.clip(np.rint(planes * gains), 0, limit).astype(planes.dtype)


@pytest.fixture(scope="module")
def steady():
    return synthetic.rough_surface(size=160, planes=10, seed=3).stack.planes


@pytest.mark.parametrize("kind", ["drift", "flicker", "one plane"])
def test_light_that_changes_is_detected_and_equalized(kind, steady, rng):
    gains = {
        "drift": np.linspace(1, 0.85, 10),
        "flicker": rng.uniform(0.9, 1, 10),
        "one plane": np.where(np.arange(10) == 7, 0.85, 1),
    }[kind]
    planes = with_gains(steady, gains)
    extent = gains.max() / gains.min() - 1
    assert abs(drift_of(planes) - extent) < 0.02
    with pytest.warns(UserWarning, match=r"light changes by \d+% over the planes"):
        equal = align(planes, registration="none").planes
    np.testing.assert_allclose(equal, steady * gains[5], rtol=0.01, atol=20)
    np.testing.assert_array_equal(
        equal, align(planes, registration="none", exposure="equal").planes
    )


def test_a_steady_stack_keeps_its_grey_levels(steady):
    result = depth_from_focus(FocalStack(steady), PLAIN)
    assert result.gains is None
    np.testing.assert_array_equal(result.stack.planes, steady)


def test_fluorescence_that_differs_between_planes_is_kept():
    """Each plane shows its own cells, as in a confocal microscope: light is really different."""
    truth = synthetic.cell_sheet(size=160, planes=10, seed=2)
    z = np.arange(10)[:, None, None]
    depth = (truth.depth - truth.depth.min()) / np.ptp(truth.depth) * 9
    planes = truth.stack.planes * (0.3 + np.exp(-((z - depth) ** 2) / 4))
    assert drift_of(planes.astype(np.uint16)) == 0


def test_planes_as_small_as_the_blur_show_no_drift(rng):
    for shape in ((20, 37), (40, 40), (16, 300)):
        planes = rng.integers(0, 255, (4, *shape)).astype(np.uint8)
        assert drift_of(with_gains(planes, [1, 0.8, 0.9, 1])) == 0


def test_saturated_and_dark_pixels_do_not_count(steady):
    planes = with_gains(steady, np.linspace(1.4, 1, 10))
    planes[:, :60] = 65535
    planes[:, -40:] = 3
    assert abs(drift_of(planes) - 0.4) < 0.04


def test_the_decision_is_the_same_in_tiles_and_is_recorded(steady, tmp_path, monkeypatch):
    stack = FocalStack(with_gains(steady, np.linspace(1, 0.85, 10)))
    with pytest.warns(UserWarning, match="exposure auto equalizes it"):
        result = depth_from_focus(stack, PLAIN)
    plan = Plan(window_grid((160, 160), 80), 0)
    monkeypatch.setattr("napari_dff.pipeline.driver.make_plan", lambda *_, **__: plan)
    with pytest.warns(UserWarning, match="exposure auto equalizes it"):
        tiles = depth_from_focus(stack, PLAIN)
    np.testing.assert_array_equal(result.gains, tiles.gains)
    difference = result.all_in_focus.astype(int) - tiles.all_in_focus
    assert np.abs(difference).max() <= 1  # of 65,535: rounding
    save_reconstruction(result, tmp_path)
    assert json.loads((tmp_path / "provenance.json").read_text())["exposure"] == "equal"
    written = json.loads((tmp_path / "transforms.json").read_text())["gains"]
    np.testing.assert_array_equal(written, result.gains)


@pytest.mark.parametrize("name", ["fly", "disc", "leaves", "epithelium"])
def test_real_stacks_under_steady_light_are_kept(name, real):
    from napari_dff import read_stack

    path = real(name)
    files = sorted(path.glob("*.tif"))
    planes = read_stack(files[0] if len(files) == 1 else path).planes
    assert drift_of(planes) == 0
    if name != "epithelium":
        assert drift_of(with_gains(np.asarray(planes), np.linspace(1, 0.8, len(planes)))) > 0.1
