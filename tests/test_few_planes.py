"""Stacks of few planes: better than the sharpest plane, and textured pixels are in focus."""

import numpy as np
import pytest

from napari_dff import FocalStack, Recipe, depth_from_focus, synthetic

SIZE = 80


@pytest.mark.parametrize(("count", "defocus"), [(3, 2.0), (4, 1.5), (5, 0.8), (7, 0.8)])
def test_depth_from_few_planes_is_better_than_the_sharpest_plane(count, defocus):
    positions = np.arange(float(count))
    depth = positions[-1] * (0.12 + 0.76 * synthetic.relief((SIZE, SIZE), smoothness=13, seed=0))
    texture = synthetic.noise_texture((SIZE, SIZE), seed=1)
    rendered = synthetic.render_opaque(texture, depth, positions, defocus=defocus)
    planes = synthetic.photograph(rendered, photons=2000, dtype=np.uint8, seed=0)
    result = depth_from_focus(FocalStack(planes), Recipe(registration="none"))
    in_focus = np.isfinite(result.refined.uncertainty)
    sharpest_error = np.abs(np.round(depth) - depth).mean()  # of a perfect argmax
    assert in_focus.mean() > 0.9
    assert np.abs(result.refined.depth - depth).mean() < sharpest_error / 2


@pytest.mark.parametrize("count", [4, 5])
def test_refinement_does_not_smooth_a_curved_surface_of_few_planes(count):
    positions = np.arange(float(count))
    shape = (192, 192)
    depth = positions[-1] * (0.12 + 0.76 * synthetic.relief(shape, smoothness=40, seed=3))
    texture = synthetic.noise_texture(shape, seed=4)
    rendered = synthetic.render_opaque(texture, depth, positions, defocus=0.8)
    planes = synthetic.photograph(rendered, photons=2000, dtype=np.uint8, seed=1)
    result = depth_from_focus(FocalStack(planes), Recipe(registration="none"))
    before, after = (np.abs(m.depth - depth) for m in (result.estimate, result.refined))
    assert after.mean() < before.mean()
    assert (after <= result.refined.uncertainty).mean() > 0.5


@pytest.mark.parametrize("count", [3, 5, 7])
def test_noise_in_few_planes_is_never_in_focus(count):
    planes = np.random.default_rng(0).normal(1000, 10, (count, SIZE, SIZE)).astype(np.float32)
    result = depth_from_focus(FocalStack(planes), Recipe(registration="none", refinement="none"))
    assert np.isfinite(result.estimate.uncertainty).mean() < 0.1
