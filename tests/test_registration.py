import cv2
import numpy as np
import pytest
from scipy import ndimage

from napari_dff import FocalStack, Recipe, depth_from_focus, synthetic
from napari_dff.registration import estimation
from napari_dff.registration.alignment import align, align_lazily, resample
from napari_dff.registration.exposure import estimate_gains
from napari_dff.registration.joint import PairTransform, solve
from napari_dff.registration.matching import Candidates, Matches
from napari_dff.registration.motion import MOTIONS, transform_points
from napari_dff.registration.still_pattern import STILL_PATTERN_NOTE


def error(found, truth, shape):
    """Distances in pixels of mapped grid points, (Z, 81)."""
    y, x = np.meshgrid(np.linspace(0, shape[0], 9), np.linspace(0, shape[1], 9))
    grid = np.column_stack([y.ravel(), x.ravel()])
    mapped = (
        (transform_points(a, grid), transform_points(b, grid))
        for a, b in zip(found, truth, strict=True)
    )
    return np.array([np.hypot(*(a - b).T) for a, b in mapped])


EXAMPLES = {
    "translation": np.array([[1, 0, 3.2], [0, 1, -1.4], [0, 0, 1]]),
    "similarity": np.array([[1.01, -0.02, 3.2], [0.02, 1.01, -1.4], [0, 0, 1]]),
    "affine": np.array([[1.01, -0.02, 3.2], [0.05, 0.98, -1.4], [0, 0, 1]]),
    "homography": np.array([[1.01, -0.02, 3.2], [0.05, 0.98, -1.4], [1e-4, -3e-4, 1]]),
}


@pytest.mark.parametrize("motion", MOTIONS)
def test_each_motion_model_is_recovered_despite_wrong_matches(motion, rng):
    source = rng.uniform(0, 200, (80, 2))
    target = transform_points(EXAMPLES[motion], source)
    target[:8] += rng.uniform(-3, 3, (8, 2))
    found = MOTIONS[motion].fit(source, target, np.ones(80))
    assert error([found], [EXAMPLES[motion]], (200, 200)).max() < 1e-2


@pytest.mark.parametrize("motion", MOTIONS)
def test_auto_selects_the_true_motion_model(motion, rng):
    source = rng.uniform(0, 200, (150, 2))
    target = transform_points(EXAMPLES[motion], source) + rng.normal(0, 0.2, (150, 2))
    matches = Matches(source, target, np.ones(150), 150)
    assert estimation._select_model([Candidates({}, matches)]) == motion


def test_a_feature_in_several_orientations_counts_once(rng):
    source = rng.uniform(0, 200, (12, 2))
    repeated = np.repeat(source, 3, axis=0)
    matches = Matches(repeated, repeated + 5, np.arange(36.0), 40).distinct()
    assert sorted(matches.source.tolist()) == sorted(source.tolist())
    assert len(matches.weights) == 12


@pytest.mark.parametrize("seed", [0, 1])
def test_nuclei_that_narrow_along_z_are_not_magnified(seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:160, :160]
    planes = np.full((10, 160, 160), 0.05)
    for centre_y, centre_x, radius in rng.uniform((20, 20, 14), (140, 140, 22), (9, 3)):
        for k in range(10):
            narrow = radius * np.sqrt(1 - (k / 11) ** 2)
            planes[k][np.hypot(y - centre_y, x - centre_x) < narrow] = 0.8
    texture = 1 + 0.2 * synthetic.noise_texture((160, 160), slope=1, seed=seed)
    blurred = ndimage.gaussian_filter(planes * texture, (0, 1.5, 1.5))
    photograph = synthetic.photograph(blurred.astype(np.float32), photons=1000, dtype=np.uint8)
    magnification = np.sqrt(np.linalg.det(align(photograph).transforms[:, :2, :2]))
    np.testing.assert_allclose(magnification, 1, atol=2e-3)


@pytest.mark.parametrize(("registration", "limit"), [("joint", 0.12), ("sift", 0.3), ("ecc", 0.25)])
def test_drift_and_breathing_are_corrected(registration, limit, drifting, alignment):
    default = registration == "joint"
    result = alignment if default else align(drifting.stack.planes, registration=registration)
    before = error(np.tile(np.eye(3), (9, 1, 1)), drifting.transforms, (192, 192))
    after = error(result.transforms, drifting.transforms, (192, 192))
    assert before.mean() > 1
    assert after.mean() < limit
    assert {r.model for r in result.report} == {"reference", "similarity"}
    assert 0.8 < result.valid.mean() < 1
    assert result.planes.dtype == np.uint8


def test_a_stationary_stack_is_unchanged(surface):
    result = align(surface.stack.planes)
    np.testing.assert_array_equal(result.transforms, np.tile(np.eye(3), (12, 1, 1)))
    np.testing.assert_array_equal(result.planes, surface.stack.planes)


def test_a_dark_16_bit_stack_does_not_turn_black(drifting):
    grey = drifting.stack.planes.mean(axis=3)
    dark = np.rint(100 + grey / 2).astype(np.uint16)
    after = error(align(dark).transforms, drifting.transforms, (192, 192))
    assert after.mean() < 0.35


def test_a_plane_without_texture_moves_with_its_neighbours(drifting):
    planes = drifting.stack.planes.copy()
    planes[2] = 90
    result = align(planes)
    assert "nothing to match" in result.report[2].fallback
    between = (result.transforms[1] + result.transforms[3]) / 2
    np.testing.assert_allclose(result.transforms[2], between)
    assert error(result.transforms, drifting.transforms, (192, 192))[0].mean() < 0.8


def test_planes_with_nothing_in_common_stay_and_the_report_says_why(rng):
    planes = np.stack([ndimage.gaussian_filter(rng.normal(size=(96, 96)), 1) for _ in range(4)])
    result = align(planes.astype(np.float32))
    np.testing.assert_allclose(result.transforms, np.tile(np.eye(3), (4, 1, 1)), atol=1e-9)
    assert [bool(r.fallback) for r in result.report] == [True, True, False, True]


def test_joint_refinement_gives_all_planes_the_requested_motion(drifting, monkeypatch):
    monkeypatch.setattr(estimation, "_verify", lambda *_: "translation")  # of features
    planes = drifting.stack.planes
    simple = align(planes, registration="sift", motion="similarity").report
    joint = align(planes, registration="joint", motion="similarity").report
    assert {r.model for r in simple} == {"translation", "reference"}
    assert all(r.fallback for r in simple if r.model != "reference")
    assert {(r.model, r.fallback) for r in joint} == {("similarity", ""), ("reference", "")}


def test_the_report_holds_the_inlier_matches(alignment):
    report = alignment.report
    for plane in report:
        assert len(plane.points) == len(plane.displacements) == plane.inliers
        assert plane.inliers <= plane.matches <= plane.keypoints
    assert all(plane.inliers > 0 for plane in report if plane.model != "reference")
    assert [r.plane for r in report] == list(range(9))
    assert report[4].model == "reference"


def test_bright_spots_never_wrap_around():
    scene = synthetic.noise_texture((96, 96), slope=0.5, seed=3)
    scene = np.clip(scene * 2 - 0.4, 0, 1)
    motion = synthetic.drift(3, (64, 64), shift=3, magnification=0)
    planes = synthetic.apply_motion(np.stack([scene] * 3), motion, margin=16)
    planes = np.clip(np.rint(planes * 255), 0, 255).astype(np.uint8)
    result = align(planes)
    assert np.abs(result.transforms - np.eye(3)).max() > 0.5
    difference = result.planes[0][result.valid].astype(int) - planes[1][result.valid]
    assert np.abs(difference).max() < 60


def drifting_plate(change):
    """A drifting textured plate, 9 planes, its motion, with `change` made to planes and motion."""
    sharp = synthetic.noise_texture((192, 192), slope=0.6, seed=6)
    depth = np.tile(np.linspace(1, 7, 192)[:, None], (1, 192))
    clean = synthetic.render_opaque(sharp, depth, np.arange(9.0), defocus=0.7)
    motion = synthetic.drift(9, (160, 160), shift=6, magnification=0.02, rotation=0.3, seed=2)
    clean, motion = change(clean, motion)
    planes = synthetic.apply_motion(clean, motion, margin=16)
    return synthetic.photograph(planes, photons=3000, seed=1), motion


def jump(clean, motion):
    leap = np.array([[1, 0, 5.5], [0, 1, -4.2], [0, 0, 1]])
    return clean, np.array([m if i <= 5 else leap @ m for i, m in enumerate(motion)])


def duplicate(clean, motion):
    order = [0, 1, 2, 2, 3, 4, 5, 6, 7, 8]
    back = np.linalg.inv(motion[4])  # ten planes: the sixth is the middle one
    return clean[order], np.array([back @ motion[i] for i in order])


def flicker(clean, motion):
    return clean * np.linspace(0.6, 1, 9)[[3, 0, 5, 2, 8, 1, 6, 4, 7], None, None], motion


@pytest.mark.parametrize("change", [lambda c, m: (c, m), jump, duplicate, flicker])
def test_joint_registration_is_robust_to_jumps_duplicates_and_flicker(change):
    planes, motion = drifting_plate(change)
    after = error(align(planes).transforms, motion, (160, 160))
    assert after.mean() < 0.1
    assert after.max() < 0.5


def test_stationary_dust_does_not_bias_the_transforms():
    planes, motion = drifting_plate(lambda c, m: (c, m))
    y, x = np.mgrid[:160, :160]
    for v, u in ((40, 50), (110, 90), (70, 130)):
        planes[:, np.hypot(y - v, x - u) < 5] = 3000
    assert error(align(planes).transforms, motion, (160, 160)).mean() < 0.15


def test_the_joint_system_recovers_the_transforms_despite_one_wrong_pair():
    truth = synthetic.drift(7, (100, 120), shift=9, magnification=0.03, rotation=0.4, seed=5)
    pairs = [
        PairTransform(a, a + gap, np.linalg.inv(truth[a + gap]) @ truth[a], 0.01)
        for gap in (1, 2, 3)
        for a in range(7 - gap)
    ]
    pairs[4] = pairs[4]._replace(transform=np.eye(3))
    chain = np.tile(np.eye(3), (7, 1, 1))
    found = solve(pairs, chain, 3, MOTIONS["similarity"], (100, 120))
    assert error(found, truth, (100, 120)).max() < 0.02


def test_a_plane_that_no_pair_could_compare_keeps_its_transform():
    truth = synthetic.drift(4, (100, 120), shift=9, magnification=0.03, seed=5)
    pairs = [
        PairTransform(a, a + 1, np.linalg.inv(truth[a + 1]) @ truth[a], (0.01, 0.01, np.inf)[a])
        for a in range(3)
    ]
    chain = np.tile(np.eye(3), (4, 1, 1))
    chain[3, 1, 2] = 7
    found = solve(pairs, chain, 1, MOTIONS["similarity"], (100, 120))
    np.testing.assert_array_equal(found[3], chain[3])


def test_resample_applies_transforms_to_another_stack(drifting, alignment):
    motion = alignment.transforms
    planes, valid = resample(drifting.stack.planes[..., 0], motion)
    np.testing.assert_array_equal(planes, alignment.planes[..., 0])
    assert valid.any()
    with pytest.raises(ValueError, match="transforms must be one 3 × 3 matrix for each of the 9"):
        resample(drifting.stack.planes, motion[1:])


def test_flicker_is_removed_by_equal_exposure(rng):
    scene = synthetic.noise_texture((64, 64), seed=3)[..., None] * [1.0, 0.8, 0.6]
    gains = rng.uniform(0.5, 1, (7, 3))
    gains[3] = 0.8
    planes = np.rint(200 * scene * gains[:, None, None]).astype(np.uint8)
    kept = align(planes, registration="none", exposure="keep")
    np.testing.assert_array_equal(kept.planes, planes)
    result = align(planes, registration="none", exposure="equal")
    np.testing.assert_array_equal(result.planes[3], planes[3])
    middle = planes[3].mean(axis=(0, 1))
    np.testing.assert_allclose(result.planes.mean(axis=(1, 2)), np.tile(middle, (7, 1)), rtol=0.02)
    with pytest.raises(ValueError, match="exposure must be one of auto, keep, equal"):
        align(planes, exposure="same")


@pytest.mark.parametrize("black", [0, 1, 2, 4])
def test_a_black_plane_does_not_change_the_gains_of_others(black, surface):
    planes = np.stack([surface.stack.planes[5] * share for share in (0.5, 0.8, 1.0, 0.4, 0.9)])
    planes[black] = 0
    gains = estimate_gains(planes, np.tile(np.eye(3), (5, 1, 1)))
    lit = np.arange(5) != black
    np.testing.assert_allclose(np.ptp((gains * (0.5, 0.8, 1.0, 0.4, 0.9))[lit]), 0, atol=1e-6)
    assert 0.2 < gains.min() < gains.max() < 5


def test_registration_none_returns_the_planes_unchanged(surface):
    result = align(surface.stack.planes, registration="none")
    np.testing.assert_array_equal(result.planes, surface.stack.planes)
    assert result.valid.all()


def test_error_messages_name_the_wrong_argument(surface):
    planes = surface.stack.planes
    with pytest.raises(ValueError, match="registration must be one of joint, sift, ecc, none"):
        align(planes, registration="orb")
    with pytest.raises(ValueError, match="motion must be one of auto"):
        align(planes, motion="shear")
    with pytest.raises(ValueError, match="reference must be a whole number from 0 to 11, got 12"):
        align(planes, reference=12)
    with pytest.raises(ValueError, match="no contrast anywhere"):
        align(np.full((4, 32, 32), 7, np.uint16))


def test_a_round_field_of_view_in_black_is_aligned_by_what_is_inside():
    size, margin, count = 128, 20, 20
    depth = 19 * (0.12 + 0.76 * synthetic.relief((size + 2 * margin,) * 2, smoothness=22, seed=3))
    texture = 0.2 + 0.5 * synthetic.noise_texture((size + 2 * margin,) * 2, seed=1)
    rendered = synthetic.render_opaque(texture, depth, np.arange(float(count)), defocus=0.8)
    motion = synthetic.drift(count, (size, size), shift=12, magnification=0, seed=2)
    moving = synthetic.apply_motion(rendered, motion, margin=margin)
    y, x = np.mgrid[:size, :size] / size
    field = np.hypot(x - 0.5, y - 0.5) < 0.45
    planes = synthetic.photograph(moving * field, photons=2000, dtype=np.uint8)
    result = depth_from_focus(FocalStack(planes), Recipe(refinement="none"))
    radius = size * np.hypot(x - 0.5, y - 0.5)
    in_focus = np.isfinite(result.estimate.uncertainty)
    assert in_focus[radius < 40].mean() > 0.98
    assert not in_focus[radius > 0.45 * size].any()
    assert not result.valid[radius > 0.45 * size].any()
    transforms = result.transforms
    expected = np.linalg.inv(motion[count // 2]) @ motion
    centre = np.array([size / 2, size / 2, 1.0])
    errors = np.hypot(*((transforms - expected) @ centre)[:, :2].T)
    assert errors.mean() < 0.5
    assert errors.max() < 2


def test_a_dark_background_that_moves_with_the_specimen_is_no_black_border(rng):
    texture = cv2.GaussianBlur(rng.random((160, 160)), (0, 0), 1.5)
    y, x = np.mgrid[:160, :160] - 80
    cell = np.where(np.hypot(x, y) < 45, 500 + 2000 * texture, 0)
    blurred = np.stack([cv2.GaussianBlur(cell, (0, 0), 1 + 0.5 * abs(k - 3)) for k in range(6)])
    motion = synthetic.drift(6, (128, 128), shift=8, magnification=0, seed=2)
    planes = synthetic.apply_motion(blurred, motion, margin=16).astype(np.uint16)
    aligned = align_lazily(planes, Recipe())
    assert np.abs(aligned.transforms[:, :2, 2]).max() > 3
    assert aligned.field is None


@pytest.mark.parametrize("has_dust", [True, False])
def test_a_pattern_that_stays_still_while_the_specimen_moves_is_reported(has_dust, rng):
    size, margin, count = 128, 20, 16
    depth = 15 * (0.12 + 0.76 * synthetic.relief((size + 2 * margin,) * 2, smoothness=22, seed=3))
    texture = 0.2 + 0.5 * synthetic.noise_texture((size + 2 * margin,) * 2, seed=1)
    rendered = synthetic.render_opaque(texture, depth, np.arange(float(count)), defocus=0.8)
    motion = synthetic.drift(count, (size, size), shift=12, magnification=0, seed=2)
    moving = synthetic.apply_motion(rendered, motion, margin=margin)
    dust = cv2.GaussianBlur(rng.random((size, size)), (0, 0), 1.5) > 0.53
    planes = synthetic.photograph(moving * (1 - 0.4 * has_dust * dust), photons=2000)
    notes = align_lazily(planes, Recipe()).notes
    assert (STILL_PATTERN_NOTE in notes) == has_dust


def test_planes_agree_best_like_the_dense_least_squares_of_all_pairs(rng):
    """For translations: misfits t_a - t_b - p, with Cauchy weights."""
    shifts, count = rng.normal(0, 3, (6, 2)), 6
    near = [(a, b) for a in range(count) for b in range(a + 1, min(a + 4, count))]
    measured = np.array([shifts[a] - shifts[b] + rng.normal(0, 0.1, 2) for a, b in near])
    measured[4] += 5  # a wrong pair
    deviations = rng.uniform(0.05, 0.2, len(near))
    transforms = np.tile(np.eye(3), (len(near), 1, 1))
    transforms[:, :2, 2] = measured
    pairs = [
        PairTransform(*ab, t, d) for ab, t, d in zip(near, transforms, deviations, strict=True)
    ]
    found = solve(pairs, np.tile(np.eye(3), (count, 1, 1)), 2, MOTIONS["translation"], (90, 120))

    design = np.zeros((len(near), count))
    for k, (a, b) in enumerate(near):
        design[k, a], design[k, b] = 1, -1
    design = np.delete(design, 2, axis=1)
    weights = base = 1 / (deviations**2 + np.median(deviations) ** 2)
    for _ in range(10):
        root = np.sqrt(weights)[:, None]
        expected = np.linalg.lstsq(root * design, root * measured, rcond=None)[0]
        lengths = np.sqrt(((design @ expected - measured) ** 2).mean(axis=1))
        weights = base / (1 + (lengths / (2 * np.median(lengths))) ** 2)
    np.testing.assert_allclose(np.delete(found[:, :2, 2], 2, axis=0), expected, atol=1e-6)
    np.testing.assert_array_equal(found[2], np.eye(3))
