"""Real focal stacks without true depth, whose order in depth is known."""

from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from napari_dff import Recipe, align, depth_from_focus, read_stack
from napari_dff.model.stack import FocalStack


def in_memory(stack):
    return replace(stack, planes=np.asarray(stack.planes))


def test_keyboard_rises_from_top_to_bottom(real):
    stack = in_memory(read_stack(real("keyboard")))
    assert stack.planes.shape == (32, 360, 640, 3)
    stack = FocalStack(stack.planes[::2], stack.positions[::2])
    result = depth_from_focus(stack, Recipe())
    known = np.isfinite(result.refined.uncertainty)
    rows = np.flatnonzero(known.mean(axis=1) > 0.1)
    medians = [np.median(result.refined.index[y][known[y]]) for y in rows]
    assert spearmanr(rows, medians).statistic > 0.95
    before = np.abs(np.diff(stack.planes[..., 1].astype(float), axis=0))[:, result.valid].mean()
    aligned = result.stack.planes[..., 1].astype(float)
    assert np.abs(np.diff(aligned, axis=0))[:, result.valid].mean() < before


def test_alignment_brings_the_planes_of_the_fly_closer(real):
    planes = np.asarray(read_stack(real("fly")).planes[::3])
    result = align(planes)
    before = np.abs(np.diff(planes.astype(float), axis=0))[:, result.valid].mean()
    after = np.abs(np.diff(result.planes.astype(float), axis=0))[:, result.valid].mean()
    assert after < before


def test_empty_background_of_the_blood_smear_is_never_in_focus(real):
    stack = in_memory(read_stack(real("blood_smear")))
    part = FocalStack(stack.planes[:, :600, :600])
    result = depth_from_focus(part, Recipe(registration="none", refinement="none"))
    bright = np.percentile(part.planes[5].mean(axis=2), 60)
    empty = part.planes.mean(axis=3).min(axis=0) > bright  # no cell in any plane
    assert np.isfinite(result.refined.uncertainty[empty]).mean() < 0.1
