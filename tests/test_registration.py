import numpy as np
import pytest
from scipy import ndimage

from napari_dff import synthetic
from napari_dff.registration import align
from napari_dff.registration.motion import MOTIONS, apply, fit, penalised_misfit, simplest


def error(found, truth, shape):
    y, x = np.meshgrid(np.linspace(0, shape[0], 9), np.linspace(0, shape[1], 9))
    grid = np.column_stack([y.ravel(), x.ravel()])
    return np.array(
        [np.hypot(*(apply(a, grid) - apply(b, grid)).T) for a, b in zip(found, truth, strict=True)]
    )


EXAMPLES = {
    "translation": np.array([[1, 0, 3.2], [0, 1, -1.4], [0, 0, 1]]),
    "similarity": np.array([[1.01, -0.02, 3.2], [0.02, 1.01, -1.4], [0, 0, 1]]),
    "affine": np.array([[1.01, -0.02, 3.2], [0.05, 0.98, -1.4], [0, 0, 1]]),
    "homography": np.array([[1.01, -0.02, 3.2], [0.05, 0.98, -1.4], [1e-4, -3e-4, 1]]),
}


@pytest.mark.parametrize("motion", MOTIONS)
def test_each_motion_is_recovered_exactly_despite_bad_matches(motion, rng):
    source = rng.uniform(0, 200, (80, 2))
    target = apply(EXAMPLES[motion], source)
    target[:8] += rng.uniform(-3, 3, (8, 2))
    found = fit(motion, source, target, np.ones(80))
    assert error([found], [EXAMPLES[motion]], (200, 200)).max() < 1e-2


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_simplest_motion_that_explains_the_matches_wins(motion, rng):
    source = rng.uniform(0, 200, (150, 2))
    target = apply(EXAMPLES[motion], source) + rng.normal(0, 0.2, (150, 2))
    scores = {m: penalised_misfit(m, source, target, np.ones(150)) for m in MOTIONS}
    assert min(scores, key=scores.get) == motion
    assert simplest(EXAMPLES[motion], (200, 200), 0.05) == motion


@pytest.mark.parametrize(("registration", "limit"), [("sift", 0.3), ("ecc", 0.25)])
def test_drift_and_breathing_are_undone(registration, limit, drifting):
    result = align(drifting.stack.planes, registration=registration)
    still = error(np.tile(np.eye(3), (9, 1, 1)), drifting.transforms, (192, 192))
    found = error(result.transforms, drifting.transforms, (192, 192))
    assert still.mean() > 1
    assert found.mean() < limit
    assert {r.model for r in result.report} == {"reference", "similarity"}
    assert 0.8 < result.valid.mean() < 1
    assert result.planes.dtype == np.uint8


def test_a_stack_that_does_not_move_is_left_alone(surface):
    result = align(surface.stack.planes)
    assert error(result.transforms, np.tile(np.eye(3), (12, 1, 1)), (96, 96)).max() < 0.35


def test_a_dark_16_bit_stack_does_not_turn_black(drifting):
    grey = drifting.stack.planes.mean(axis=3)
    dark = np.rint(100 + grey / 2).astype(np.uint16)
    found = error(align(dark).transforms, drifting.transforms, (192, 192))
    assert found.mean() < 0.35


def test_a_plane_without_texture_moves_with_its_neighbours(drifting):
    planes = drifting.stack.planes.copy()
    planes[2] = 90
    result = align(planes)
    assert "nothing to match" in result.report[2].fallback
    between = (result.transforms[1] + result.transforms[3]) / 2
    np.testing.assert_allclose(result.transforms[2], between)
    assert error(result.transforms, drifting.transforms, (192, 192))[0].mean() < 0.8


def test_planes_that_have_nothing_in_common_stay_and_say_why(rng):
    planes = np.stack([ndimage.gaussian_filter(rng.normal(size=(96, 96)), 1) for _ in range(4)])
    result = align(planes.astype(np.float32))
    np.testing.assert_allclose(result.transforms, np.tile(np.eye(3), (4, 1, 1)), atol=1e-9)
    assert all(r.fallback for r in result.report if r.model != "reference")


def test_report_holds_the_matches(drifting):
    report = align(drifting.stack.planes).report
    for plane in report:
        assert len(plane.points) == len(plane.displacements) == plane.inliers
        assert plane.inliers <= plane.matches <= plane.keypoints
    assert [r.plane for r in report] == list(range(9))
    assert report[4].model == "reference"


def test_bright_spots_never_wrap_around():
    scene = synthetic.noise_texture((96, 96), slope=0.5, seed=3)
    scene = np.clip(scene * 2 - 0.4, 0, 1)
    motion = synthetic.drift(3, (64, 64), shift=3, magnification=0)
    planes = synthetic.moved(np.stack([scene] * 3), motion, margin=16)
    planes = np.clip(np.rint(planes * 255), 0, 255).astype(np.uint8)
    result = align(planes)
    assert np.abs(result.transforms - np.eye(3)).max() > 0.5
    difference = result.planes[0][result.valid].astype(int) - planes[1][result.valid]
    assert np.abs(difference).max() < 60


def test_none_leaves_everything(surface):
    result = align(surface.stack.planes, registration="none")
    np.testing.assert_array_equal(result.planes, surface.stack.planes)
    assert result.valid.all()


def test_bad_input_is_named(surface):
    planes = surface.stack.planes
    with pytest.raises(ValueError, match="registration must be one of sift, ecc, none"):
        align(planes, registration="orb")
    with pytest.raises(ValueError, match="motion must be one of auto"):
        align(planes, motion="shear")
    with pytest.raises(ValueError, match="reference must be a plane from 0 to 11, got 12"):
        align(planes, reference=12)
    with pytest.raises(ValueError, match="no contrast anywhere"):
        align(np.full((4, 32, 32), 7, np.uint16))
