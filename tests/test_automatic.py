"""Automatic choice of sigma and window."""

import json

import cv2
import numpy as np
import pytest

from napari_dff import FocalStack, Recipe, depth_from_focus, depth_map, focus_measure
from napari_dff.focus import choose_scale
from napari_dff.io import save_reconstruction
from napari_dff.model.recipe import FocusScale
from napari_dff.pipeline.preview import reconstruct_region
from napari_dff.runtime.windows import Window

COUNT = 24


def oversampled(rng: np.random.Generator, noise: float = 0.0) -> np.ndarray:
    """Return a tilted plane of texture whose blur grows slowly: peaks are several planes wide."""
    texture = rng.random((128, 128)).astype(np.float32) * 200
    depth = np.linspace(6, 17, 128)[None, :]
    blurred = [cv2.GaussianBlur(texture, (0, 0), 0.3 + 0.05 * d) for d in range(COUNT)]
    planes = np.empty((COUNT, 128, 128), np.float32)
    for k in range(COUNT):
        defocus = np.abs(k - depth)
        low = np.floor(defocus).astype(int)
        share = (defocus - low).astype(np.float32)
        columns = np.arange(128)
        near, far = (
            np.stack(blurred)[np.minimum(low[0] + i, COUNT - 1), :, columns].T for i in (0, 1)
        )
        planes[k] = (1 - share) * near + share * far
    return planes + noise * rng.standard_normal(planes.shape).astype(np.float32)


def test_wide_peaks_are_measured_with_fine_texture(rng):
    assert choose_scale(oversampled(rng), "log").sigma == 0.5


def test_noise_takes_a_larger_window(rng):
    planes = oversampled(rng)
    noisy = planes + 20 * rng.standard_normal(planes.shape).astype(np.float32)
    assert choose_scale(noisy, "log").window > choose_scale(planes, "log").window


def test_narrow_peaks_keep_the_larger_sigma(surface):
    assert choose_scale(surface.stack.planes, "log") == FocusScale(1.0, 9)


def test_nothing_to_choose_from_gives_the_largest(rng):
    noise = rng.standard_normal((12, 64, 64)).astype(np.float32)
    assert choose_scale(noise, "log") == FocusScale(1.0, 9)


@pytest.mark.parametrize(("sigma", "window"), [(0.8, "auto"), ("auto", 15), (2.0, 3)])
def test_numbers_are_kept(rng, sigma, window):
    scale = choose_scale(oversampled(rng), "log", sigma, window)
    assert sigma in ("auto", scale.sigma)
    assert window in ("auto", scale.window)


def test_whole_tiles_steps_and_preview_use_the_same_values(rng, tmp_path):
    stack = FocalStack(oversampled(rng))
    recipe = Recipe(registration="none", refinement="none")
    whole = depth_from_focus(stack, recipe)
    explicit = Recipe(registration="none", refinement="none", **whole.scale._asdict())
    assert whole.scale.sigma == 0.5
    region = reconstruct_region(stack, recipe, Window(32, 64, 32, 64))
    same = depth_from_focus(stack, explicit).refined
    steps = depth_map(focus_measure(stack.planes), **whole.scale._asdict())
    for one, two, three in zip(whole.refined, same, steps, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, three, rtol=1e-5)
    np.testing.assert_array_equal(region.depth.index, whole.refined.index[32:64, 32:64])
    save_reconstruction(whole, tmp_path / "result")
    provenance = json.loads((tmp_path / "result" / "provenance.json").read_text())
    assert provenance["focus_scale"] == whole.scale._asdict()
    assert provenance["recipe"]["sigma"] == "auto"


def test_blank_planes_do_not_change_the_choice(rng):
    planes = oversampled(rng)
    blank = np.insert(planes, 8, 0, axis=0)
    with pytest.warns(UserWarning, match="plane 8 has no contrast"):
        result = depth_from_focus(FocalStack(blank), Recipe(registration="none"))
    assert result.scale == choose_scale(planes, "log")


def test_depth_map_needs_numbers(rng):
    with pytest.raises(ValueError, match="sigma must be a number from 0 to 32, got 'auto'"):
        depth_map(rng.random((5, 8, 8)), sigma="auto")


@pytest.mark.parametrize(("name", "limit"), [("dino", 0.54), ("cotton", 0.65), ("surface_a", 0.07)])
def test_error_on_stacks_of_others(real, name, limit):
    folder = real("truth") / name
    frames = sorted(each for each in folder.iterdir() if each.suffix in (".png", ".jpg"))
    stack = np.stack([cv2.imread(str(each), cv2.IMREAD_GRAYSCALE) for each in frames])
    truth = np.load(folder / "truth.npz")["depth"]
    result = depth_from_focus(FocalStack(stack), Recipe(registration="none"))
    assert np.nanmean(np.abs(result.refined.depth - truth)) < limit
