"""Advice in sentences from the quality of a run."""

import cv2
import numpy as np
import pytest

from napari_dff.model.depth_map import DepthMap
from napari_dff.pipeline.quality import (
    Coverage,
    advice,
    coverage,
    decompose_transforms,
    image_quality,
    summarize_alignment,
)
from napari_dff.registration import Outcome, PlaneReport


def test_coverage_counts_pixels():
    index = np.array([[0, 0, 1, 4], [2, 3, 4, 0]], np.uint16)
    uncertainty = np.ones((2, 4), np.float32)
    uncertainty[1, 3] = np.inf
    measured = DepthMap(index, index.astype(np.float32), uncertainty)
    assert coverage(measured, 5) == Coverage(1 / 8, 2 / 8, 2 / 8)


@pytest.mark.parametrize(
    ("shares", "words", "count"),
    [
        (Coverage(0.01, 0.01, 0.0), "1.0% of the pixels are never in focus", 1),
        (Coverage(0.0, 0.2, 0.0), "take planes before its first one", 2),
        (Coverage(0.0, 0.0, 0.2), "take planes after its last one", 2),
        (Coverage(0.6, 0.0, 0.0), "larger window and sigma", 2),
    ],
)
def test_advice_names_the_problem_and_its_remedy(shares, words, count):
    sentences = advice(shares)
    assert words in " ".join(sentences)
    assert len(sentences) == count


def test_a_similarity_is_decomposed_into_its_parameters():
    angle, scale = np.radians(1.5), 1.02
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([49.5, 79.5])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = middle - turn @ middle + (3.0, -2.0)
    motion = decompose_transforms(np.stack([np.eye(3), matrix]), (100, 160))
    np.testing.assert_allclose(motion.shift, [[0, 0], [3, -2]], atol=1e-9)
    np.testing.assert_allclose(motion.magnification, [1, 1.02])
    np.testing.assert_allclose(motion.rotation, [0, 1.5], atol=1e-9)
    report = (PlaneReport(0, 0), PlaneReport(1, 0, outcome=Outcome.NOT_MATCHED))
    sentences = " ".join(summarize_alignment(report, motion))
    assert "3.61 pixels and 2.00 %" in sentences
    assert "Planes 1 could not be matched" in sentences


@pytest.fixture
def texture(rng):
    return cv2.GaussianBlur(rng.normal(size=(96, 120)), (0, 0), 1.5).astype(np.float32)


def test_a_plane_has_no_seams_and_its_own_sharpness(texture):
    planes = np.stack([cv2.GaussianBlur(texture, (0, 0), 3), texture])
    assert image_quality(planes[1], planes) == (0, 1)
    assert image_quality(np.full((9, 9), 7, np.uint8), np.full((3, 9, 9), 7, np.uint8)) == (0, 1)


def test_an_edge_between_two_constant_planes_is_all_seam():
    planes = np.stack([np.full((64, 64), 10.0), np.full((64, 64), 90.0)])
    image = np.where(np.arange(64) < 32, planes[0], planes[1])
    assert image_quality(image, planes).seams == 1
    valid = np.broadcast_to(np.abs(np.arange(64) - 31.5) > 3, (64, 64))
    assert image_quality(image, planes, valid).seams == 0


def test_half_the_contrast_is_a_quarter_of_the_sharpness(texture):
    planes = np.stack([texture, cv2.GaussianBlur(texture, (0, 0), 8)])
    assert image_quality(texture / 2, planes).sharpness == pytest.approx(0.25)


def test_a_jigsaw_of_planes_has_seams_and_colour_counts_as_luminance(texture):
    planes = np.stack([texture, np.roll(texture, 40, 0), np.roll(texture, 40, 1)])
    jigsaw = np.take_along_axis(planes, np.indices((1, 96, 120)).sum(0) // 8 % 3, axis=0)[0]
    seams, _ = image_quality(jigsaw, planes)
    assert 0.1 < seams < 1
    coloured = [np.repeat(each[..., None], 3, axis=-1) for each in (jigsaw, planes)]
    assert image_quality(*coloured).seams == pytest.approx(seams, rel=1e-3)
