"""Stacks are found by their index along named leading axes."""

import numpy as np
import pytest

from napari_dff import Acquisition

POSITIONS = np.arange(4.0)


def numbered(*leading: int) -> np.ndarray:
    """Stacks of (4, 8, 8) whose grey level is their number."""
    levels = np.arange(np.prod(leading, dtype=int)).reshape(*leading, 1, 1, 1)
    return np.broadcast_to(levels, (*leading, 4, 8, 8)).astype(np.uint16)


def test_a_stack_without_leading_axes_is_its_own_only_result():
    acquisition = Acquisition(numbered(), POSITIONS, axes=())
    assert acquisition.indices == [()]
    assert acquisition.stack().planes.shape == (4, 8, 8)


def test_results_have_length_1_along_the_channel_axis_wherever_it_is():
    acquisition = Acquisition(
        numbered(2, 3, 5), POSITIONS, channels=tuple("abc"), axes=("t", "channel", "p")
    )
    assert acquisition.result_shape == (2, 1, 5)
    assert acquisition.times == 2
    assert acquisition.indices[6] == (1, 0, 1)
    assert acquisition.describe((1, 0, 1)) == "time 2 of 2, position 2 of 5"


def test_channels_of_an_index_are_found_by_number_and_name():
    acquisition = Acquisition(numbered(2, 2), POSITIONS, channels=("dna", "actin"), focus_channel=1)
    assert acquisition.other_channels == [0]
    assert (acquisition.focus_stack((1, 0)).planes == 3).all()
    assert (acquisition.channel_stack((1, 0), 0).planes == 2).all()
    assert (acquisition.stack(1).planes == 2).all()
    assert acquisition.channel("actin") == acquisition.channel("1") == 1
    with pytest.raises(ValueError, match="the focus channel must be chosen, of 0 dna, 1 actin"):
        acquisition.channel(None)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (1, 4), (2, 3, 4), (1, 1, 4)])
def test_positions_are_for_all_stacks_or_for_each_time_with_or_without_channels(shape):
    positions = np.broadcast_to(POSITIONS, shape)
    acquisition = Acquisition(numbered(2, 3), positions, channels=tuple("abc"))
    np.testing.assert_array_equal(acquisition.positions, np.stack([POSITIONS, POSITIONS]))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 1), (2, 2, 4)])
def test_positions_of_other_stacks_are_refused(shape):
    with pytest.raises(ValueError, match=r"positions must be one number per plane, \(4,\) or"):
        Acquisition(numbered(2, 3), np.ones(shape), channels=tuple("abc"))


def test_data_with_other_axes_than_named_are_refused():
    with pytest.raises(ValueError, match=r"data must have axes \(T, C, Z, Y, X\[, 3\]\), got"):
        Acquisition(numbered(2), POSITIONS)
