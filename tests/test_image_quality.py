"""Comparison of an all-in-focus image with its planes: made-up seams, blurs and noise."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from napari_dff import Acquisition, FocalStack, Recipe, depth_from_focus, save_reconstruction
from napari_dff.pipeline.driver import run
from napari_dff.pipeline.image_quality import image_quality
from napari_dff.pipeline.planning import Plan
from napari_dff.pipeline.sinks import ArraySink
from napari_dff.runtime.threads import ThreadLimits, set_thread_limits
from napari_dff.runtime.windows import window_grid

RECIPE = Recipe(registration="none", refinement="none")


@pytest.fixture
def texture(rng):
    return cv2.GaussianBlur(rng.normal(size=(96, 120)), (0, 0), 1.5).astype(np.float32)


def test_a_plane_has_no_seams_and_its_own_sharpness(texture):
    planes = np.stack([cv2.GaussianBlur(texture, (0, 0), 3), texture])
    assert image_quality(planes[1], planes) == (0, 0, 1)
    assert image_quality(np.full((9, 9), 7, np.uint8), np.full((3, 9, 9), 7, np.uint8)) == (0, 0, 1)


def test_an_edge_between_two_constant_planes_is_all_seam():
    planes = np.stack([np.full((64, 64), value) for value in (10.0, 90.0, 90.0)])
    image = np.where(np.arange(64) < 32, planes[0], planes[1])
    assert image_quality(image, planes) == (1, 0, 1)


def test_only_planes_with_data_count(texture):
    planes = np.stack([*[0 * texture] * 3, texture])
    mask = np.ones(planes.shape, bool)
    mask[3, :, 60:] = False

    def where(window):
        return mask[(..., *window.slices)]

    half = image_quality(texture, planes, where)
    assert 0.4 < half.seams < 0.6
    mask[:3, :, 60:] = False  # too few planes for a depth
    assert image_quality(texture, planes, where) == (0, 0, pytest.approx(1, abs=0.01))


def test_half_the_contrast_is_a_quarter_of_the_sharpness(texture):
    planes = np.stack([texture, cv2.GaussianBlur(texture, (0, 0), 8)])
    assert image_quality(texture / 2, planes).sharpness == pytest.approx(0.25)


def test_the_seams_of_a_jigsaw_are_their_share_of_the_gradient_energy(texture):
    planes = np.stack([texture, np.roll(texture, 40, 0), np.roll(texture, 40, 1)])
    jigsaw = np.take_along_axis(planes, np.indices((1, 96, 120)).sum(0) // 8 % 3, axis=0)[0]
    down, right = (np.stack([cv2.Sobel(each, cv2.CV_64F, *axes) for each in (jigsaw, *planes)])
                   for axes in ((0, 1), (1, 0)))  # fmt: skip
    least = ((down - down[0]) ** 2 + (right - right[0]) ** 2)[1:].min(axis=0)
    share = least.sum() / (down[0] ** 2 + right[0] ** 2).sum()
    assert image_quality(jigsaw, planes).seams == pytest.approx(share, rel=0.05)  # of 15 in 16 rows
    coloured = [np.repeat(each[..., None], 3, axis=-1) for each in (jigsaw, planes)]
    assert image_quality(*coloured).seams == pytest.approx(
        image_quality(jigsaw, planes).seams, rel=1e-3
    )


def test_noise_that_was_averaged_explains_its_part_of_the_seams(rng, texture):
    planes = rng.normal(0, 0.3, (9, 96, 120)).astype(np.float32)
    seams, noise, _ = image_quality(planes.mean(axis=0), planes)
    assert seams > 0.3
    assert noise > 0.99 * seams
    half = np.arange(120) < 60
    torn = planes + 100 * np.stack([texture, np.roll(texture, 40, 0), *[0 * texture] * 7])
    seams, noise, _ = image_quality(np.where(half, torn[0], torn[1]), torn)
    assert noise < 0.1 * seams


def test_values_too_large_to_be_squared_have_no_quality(texture):
    assert image_quality(1e30 * texture, 1e30 * np.stack([texture, texture])) is None


def test_the_quality_of_a_run_is_that_of_its_image_and_depends_on_no_threads(surface):
    result = depth_from_focus(surface.stack, RECIPE)
    assert result.quality == image_quality(result.all_in_focus, surface.stack.planes)
    try:
        set_thread_limits(ThreadLimits(threads=1))
        assert depth_from_focus(surface.stack, RECIPE).quality == result.quality
    finally:
        set_thread_limits(ThreadLimits())


def test_tiles_have_the_quality_of_the_whole(surface):
    planes, positions = surface.stack.planes, surface.stack.positions
    acquisition = Acquisition(planes, positions, axes=())
    qualities = []
    for side in (planes.shape[1], 40):
        sink = ArraySink(acquisition)
        run(acquisition, RECIPE, sink, plan=Plan(window_grid(planes.shape[1:], side), 0.0))
        qualities += sink.qualities
    np.testing.assert_allclose(*qualities, rtol=0.01)


def test_the_quality_is_saved_with_the_result(surface, tmp_path):
    part = FocalStack(surface.stack.planes[:, :48, :48], surface.stack.positions)
    result = depth_from_focus(part, RECIPE)
    for folder, each in (("with", result), ("without", dataclasses.replace(result, quality=None))):
        save_reconstruction(each, tmp_path / folder)
    with_, without = (
        json.loads((tmp_path / folder / "provenance.json").read_text())
        for folder in ("with", "without")
    )
    assert with_["quality"] == pytest.approx(result.quality._asdict())
    assert "quality" not in without
