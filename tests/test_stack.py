import numpy as np
import pytest

from napari_dff.imaging.images import as_dtype, luminance, read_plane
from napari_dff.model.checks import Range, check_choice
from napari_dff.model.stack import FocalStack

GOOD = np.zeros((4, 8, 9), np.uint16)


def test_default_positions_are_plane_indices():
    stack = FocalStack(GOOD)
    np.testing.assert_array_equal(stack.positions, [0, 1, 2, 3])
    assert stack.unit == "pixel"


@pytest.mark.parametrize(
    ("planes", "settings", "words"),
    [
        (np.zeros((8, 9)), {}, r"axes \(Z, Y, X\).*got shape \(8, 9\)"),
        (np.zeros((4, 8, 9, 2)), {}, r"\(Z, Y, X, 3\)"),
        (np.zeros((2, 8, 9)), {}, "at least 3 along Z, got 2"),
        (np.zeros((4, 3, 9)), {}, "at least 8 × 8 pixels, got 3 × 9"),
        (np.zeros((4, 8, 9), complex), {}, "got complex128"),
        (np.zeros((4, 8, 9), bool), {}, "got bool"),
        (GOOD, {"positions": [0, 1, 2]}, r"\(4,\), got shape \(3,\)"),
        (GOOD, {"positions": [0, 1, 1, 2]}, "must rise"),
        (GOOD, {"positions": [0, 1, np.nan, 2]}, "positions must be finite, got 1 NaN"),
        (GOOD, {"pixel_size": (0, 1)}, r"two positive lengths, .* got \(0, 1\)"),
    ],
)
def test_invalid_stacks_raise_with_the_reason(planes, settings, words):
    with pytest.raises(ValueError, match=words):
        FocalStack(planes, **settings)


def test_a_plane_that_is_not_finite_is_named():
    planes = np.zeros((3, 8, 8), np.float32)
    planes[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="1 NaN or infinite values in plane 1"):
        read_plane(planes, 1)


def test_luminance_weights_red_by_0_299():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 100
    np.testing.assert_allclose(luminance(red), 29.9, atol=0.01)


def test_as_dtype_clips_and_never_wraps_around():
    np.testing.assert_array_equal(
        as_dtype(np.array([-3.0, 1.6, 300.0]), np.dtype(np.uint8)), [0, 2, 255]
    )


def test_values_outside_a_range_or_not_among_the_choices_are_refused():
    Range(0.0, 2.0, 0.1).check("sigma", 2)
    Range(1, 9, 2).check("window", np.int64(3))
    for wrong in (4, 3.0, True, 11, "3"):
        with pytest.raises(ValueError, match="window must be an odd number from 1 to 9"):
            Range(1, 9, 2).check("window", wrong)
    for wrong in (-1, float("nan"), "a", None):
        with pytest.raises(ValueError, match="sigma must be a number from 0 to 2"):
            Range(0.0, 2.0, 0.1).check("sigma", wrong)
    with pytest.raises(ValueError, match="peak must be one of a, b, got 'c'"):
        check_choice("peak", "c", ("a", "b"))
