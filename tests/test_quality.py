"""Advice in sentences from the quality of a run."""

import numpy as np
import pytest

from napari_dff.model.depth_map import DepthMap
from napari_dff.model.result import ImageQuality
from napari_dff.pipeline.quality import (
    Coverage,
    advice,
    coverage,
    decompose_transforms,
    summarize_alignment,
    summarize_image,
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
        (Coverage(0.0, 0.2, 0.0), "Take planes before the first one", 2),
        (Coverage(0.0, 0.0, 0.2), "Take planes after the last one", 2),
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
    assert "3.61 pixels at their centre, and their magnification varies by 2.00%" in sentences
    assert "Plane 1 could not be matched, so" in sentences


@pytest.mark.parametrize(
    ("qualities", "words"),
    [
        ([ImageQuality(0.031, 0.001, 0.9)], ["3.0% of the edges", "image are not", "a single"]),
        (
            [ImageQuality(0.031, 0.03, 0.9)],
            ["0.1% of the edges", "any plane. Its sharpness is 0.90"],
        ),
        (
            [None, ImageQuality(0.2, 0, 1), ImageQuality(0.1, 0, 1)],
            ["20.0%", "image 2 of 3, the worst, are not"],
        ),
        ([None], []),
    ],
)
def test_seams_that_noise_does_not_explain_get_a_remedy(qualities, words):
    sentences = " ".join(summarize_image(qualities, "multiscale"))
    assert "multiscale" not in sentences
    assert all(part in sentences for part in words)
    assert bool(sentences) == bool(words)
    assert ("compare it with the planes" in sentences) == ("0%" in sentences)


def test_the_remedy_of_seams_names_only_another_fusion():
    assert "use fusion multiscale" in summarize_image([ImageQuality(0.2, 0, 1)], "nearest")[0]


def test_planes_of_a_simpler_motion_are_named():
    report = tuple(PlaneReport(k, 1, outcome=Outcome.SIMPLER_MODEL) for k in (0, 2))
    motion = decompose_transforms(np.stack([np.eye(3)] * 2), (9, 9))
    first, second = summarize_alignment(report, motion)
    assert first == "Planes moved by up to 0.00 pixels at their centre."
    assert second.startswith("Planes 0, 2 matched only with a simp")
