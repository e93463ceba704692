"""Blank, duplicated and displaced planes are named and left out; a wrong order is reported."""

import cv2
import numpy as np
import pytest

from napari_dff import FocalStack, Recipe, depth_from_focus, read_stack, synthetic
from napari_dff.pipeline import focus_curve, reconstruct_region
from napari_dff.pipeline.plane_checks import PlaneChecks, check_planes
from napari_dff.runtime.windows import Window

RECIPE = Recipe(registration="none")
BLANK = [4, 9, 14]


def has_wrong_order(planes):
    return check_planes(planes).has_wrong_order


@pytest.fixture(scope="module")
def truth():
    return synthetic.rough_surface(size=128, planes=20, seed=3)


@pytest.fixture
def interrupted(truth):
    """The stack with three black planes."""
    planes = truth.stack.planes.copy()
    planes[BLANK] = 0
    return FocalStack(planes, truth.stack.positions)


def test_blank_planes_are_named_and_leave_depth_and_image_nearly_unchanged(truth, interrupted):
    whole = depth_from_focus(FocalStack(truth.stack.planes, truth.stack.positions), RECIPE)
    with pytest.warns(UserWarning, match=r"planes 4, 9, 14 have no contrast"):
        result = depth_from_focus(interrupted, RECIPE)
    errors = [np.abs(r.refined.depth - truth.depth).mean() for r in (whole, result)]
    spacing = abs(np.diff(truth.stack.positions)).mean()
    assert errors[1] < errors[0] + 0.1 * spacing
    assert np.isfinite(result.refined.uncertainty).mean() > 0.9
    assert not np.isin(result.refined.index, BLANK).any()
    assert result.all_in_focus.min() > 0


@pytest.mark.filterwarnings("ignore:planes 4, 9, 14")
def test_the_preview_of_a_region_leaves_out_blank_planes_too(interrupted):
    whole = depth_from_focus(interrupted, Recipe(registration="none", refinement="none"))
    window = Window(16, 64, 24, 72)
    region = reconstruct_region(interrupted, Recipe(registration="none", refinement="none"), window)
    np.testing.assert_array_equal(region.depth.depth, whole.estimate.depth[window.slices])
    np.testing.assert_array_equal(region.depth.index, whole.estimate.index[window.slices])
    curve = focus_curve(interrupted, RECIPE, 40, 40)
    assert len(curve.focus) == 17
    assert curve.plane == whole.estimate.index[40, 40]


def test_planes_out_of_focus_and_dim_planes_are_not_blank(truth):
    planes = truth.stack.planes.astype(np.float32)
    dim = planes.copy()
    dim[3] *= 0.2
    assert check_planes(dim) == PlaneChecks([], [], [])
    sparse = np.zeros_like(planes)
    sparse[:, 40:50, 40:50] = planes[:, 40:50, 40:50]
    assert check_planes(sparse) == PlaneChecks([], [], [])


def test_fewer_than_three_planes_with_contrast_are_an_error(truth):
    planes = truth.stack.planes[8:12].copy()
    planes[[1, 2]] = 0
    with pytest.raises(ValueError, match="at least 3 planes must have contrast; planes 1, 2 have"):
        check_planes(planes)


def test_a_copy_of_the_plane_before_is_left_out(truth):
    planes = truth.stack.planes.copy()
    planes[[7, 12, 13]] = planes[[6, 11, 11]]
    planes[7, ::16, ::16] += 1  # by a codec
    assert check_planes(planes) == PlaneChecks([], [7, 12, 13], [])
    with pytest.warns(UserWarning, match="planes 7, 12, 13 have nearly the same pixels"):
        result = depth_from_focus(FocalStack(planes, truth.stack.positions), RECIPE)
    assert not np.isin(result.refined.index, [7, 12, 13]).any()


def test_planes_that_are_all_alike_are_not_copies_of_each_other(truth):
    planes = np.repeat(truth.stack.planes[9:10], 6, axis=0)
    assert check_planes(planes).left_out == []


@pytest.mark.parametrize("knocked", [[8], [8, 9], [0], [5, 14]])
def test_planes_that_were_knocked_are_left_out(knocked, truth):
    planes = truth.stack.planes.copy()
    planes[knocked] = np.roll(planes[knocked], (25, 40), axis=(1, 2))
    assert check_planes(planes) == PlaneChecks([], [], knocked)


@pytest.mark.parametrize("registration", ["none", "joint"])
def test_a_plane_of_another_field_leaves_the_depth_nearly_unchanged(registration, truth):
    planes = truth.stack.planes.copy()
    planes[10] = planes[10, ::-1]
    with pytest.warns(UserWarning, match="plane 10 has little in common with the planes beside"):
        result = depth_from_focus(
            FocalStack(planes, truth.stack.positions), Recipe(registration=registration)
        )
    whole = depth_from_focus(FocalStack(truth.stack.planes, truth.stack.positions), RECIPE)
    spacing = abs(np.diff(truth.stack.positions)).mean()
    errors = [np.abs(r.refined.depth - truth.depth).mean() for r in (whole, result)]
    assert errors[1] < errors[0] + 0.1 * spacing


def test_the_only_plane_in_focus_and_planes_that_drift_or_tremble_are_not_unlike(rng):
    texture = np.kron(rng.normal(100, 20, (32, 32)), np.ones((6, 6))).astype(np.float32)
    light = np.linspace(0, 50, 192, dtype=np.float32)
    blurred = [cv2.GaussianBlur(texture, (0, 0), 1 + 30 * abs(k - 3)) + light for k in range(7)]
    assert check_planes(np.stack(blurred)).left_out == []
    for shifts in (np.arange(12) * 5, rng.integers(-9, 9, 12)):
        moved = np.stack([np.roll(texture, (shift, shift), axis=(0, 1)) for shift in shifts])
        moved += rng.normal(0, 3, moved.shape).astype(np.float32)
        assert check_planes(moved).left_out == []


def test_no_plane_of_the_real_stacks_is_left_out(real):
    """Those with truth by others, and photographs, also in steps of up to four planes."""
    for name in ("blood_smear", "leaves", "keyboard", "disc", "truth/cotton", "truth/surface_a"):
        planes = np.asarray(read_stack(real(name)).planes)
        for step in range(1, 5):
            checked = check_planes(planes[::step])
            assert not checked.left_out
            assert not checked.has_wrong_order


@pytest.mark.parametrize("scene", [synthetic.rough_surface, synthetic.cell_sheet])
def test_shuffled_planes_and_a_sweep_there_and_back_are_in_wrong_order(scene, rng):
    planes = scene(size=128, planes=16, seed=1).stack.planes
    assert not has_wrong_order(planes)
    assert not has_wrong_order(planes[::-1])
    assert not has_wrong_order(np.repeat(planes, 2, axis=0))
    assert has_wrong_order(planes[rng.permutation(16)])
    assert has_wrong_order(np.concatenate([planes[::2], planes[::-2]]))
    assert has_wrong_order(np.concatenate([planes, planes[::-1]]))
    for step in (2, 3):  # coarse planes, which hardly resemble their neighbours
        assert not has_wrong_order(planes[::step])


def test_two_flat_surfaces_far_apart_are_in_right_order(rng):
    """All planes out of focus are alike, those between the surfaces and those outside."""
    brightness = np.kron(rng.random((2, 16, 16)), np.ones((8, 8)))
    textures = (brightness * rng.normal(0, 20, (2, 128, 128))).astype(np.float32)
    planes = np.zeros((16, 128, 128), np.float32)
    for texture, position in zip(textures, (4, 12), strict=True):
        for k in range(16):
            planes[k] += cv2.GaussianBlur(texture, (0, 0), 0.5 + abs(k - position))
    assert not has_wrong_order(planes)


@pytest.mark.parametrize("scene", [synthetic.rough_surface, synthetic.cell_sheet])
def test_a_sweep_back_over_the_second_half_is_in_wrong_order(scene):
    planes = scene(size=128, planes=16, seed=1).stack.planes
    assert has_wrong_order(np.concatenate([planes, planes[7:-1][::-1]]))


def test_photographs_of_a_silhouette_in_wrong_order(real, rng):
    """Frames 11 to 13 were taken beside frames 1 to 3, as their light shows."""
    planes = np.asarray(read_stack(real("pseudoscorpion")).planes)
    assert has_wrong_order(planes)
    assert not has_wrong_order(planes[:11])
    for _ in range(4):
        assert has_wrong_order(planes[rng.permutation(11)])


def test_the_sweep_there_and_back_over_the_mineral_is_in_wrong_order(real):
    planes = read_stack(real("mineral")).planes
    assert has_wrong_order(planes)
    assert not has_wrong_order(planes[1:14])


def test_noise_and_few_planes_are_not_in_wrong_order(truth, rng):
    for count in (20, 150):
        assert not has_wrong_order(rng.normal(100, 10, (count, 104, 104)).astype(np.float32))
    assert not has_wrong_order(truth.stack.planes[[8, 10, 9, 11]])


def test_a_wrong_order_is_reported(truth, rng):
    planes = truth.stack.planes[rng.permutation(20)]
    with pytest.warns(UserWarning, match="check their order"):
        depth_from_focus(FocalStack(planes), Recipe(registration="none", refinement="none"))


@pytest.mark.parametrize("defocus", [0.8, 3.0])
@pytest.mark.parametrize("hair", [False, True])
def test_the_only_sharp_plane_of_a_flat_specimen_is_not_left_out(defocus, hair):
    y, x = np.mgrid[:256, :256]
    is_hair = ((x + y) % 60 < 3) & hair
    depth = np.where(is_hair, 15.0, 4.0)
    sharp = np.where(is_hair, 0.05, synthetic.noise_texture((256, 256), seed=1))
    clean = synthetic.render_opaque(sharp, depth, np.arange(20.0), defocus=defocus)
    planes = synthetic.photograph(clean, photons=2000, dtype=np.uint8)
    assert check_planes(planes).left_out == []
