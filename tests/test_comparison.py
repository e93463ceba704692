"""Differences of height maps whose registration is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_dff.surface import ComparisonError, compare

SHAPE = (90, 100)
ROWS, COLUMNS = np.indices(SHAPE)


@pytest.fixture
def ground(rng):
    """A function of rows and columns: a surface of which every part is seen."""
    values = gaussian_filter(rng.normal(size=(200, 200)), 3) * 20
    return lambda rows, columns: map_coordinates(values, [rows + 50, columns + 50])


def by_name(comparison):
    return {q.name: q for q in comparison.quantities}


@pytest.mark.parametrize("shift", [(0, 0), (7.3, -12.6), (-20.0, 3.5)])
def test_shift_offset_and_tilt_are_found_and_removed(ground, shift):
    reference = ground(ROWS, COLUMNS)
    heights = ground(ROWS - shift[0], COLUMNS - shift[1]) + 3 + 0.02 * ROWS - 0.01 * COLUMNS
    heights[30:40, 20:50] = np.nan
    result = compare(heights, reference, (0.5, 0.5))
    quantities = by_name(result)
    assert quantities["shift y"].value == pytest.approx(shift[0] * 0.5, abs=2e-3)
    assert quantities["shift x"].value == pytest.approx(shift[1] * 0.5, abs=2e-3)
    assert quantities["tilt"].value == pytest.approx(
        np.degrees(np.arctan(np.hypot(0.04, 0.02))), abs=0.01
    )
    assert quantities["Sq"].value < 0.01 * reference.std()
    assert result.difference.shape == SHAPE
    assert np.isnan(result.difference).any()


def test_maps_of_other_pixel_sizes_and_shapes_are_compared(ground):
    reference = ground(*np.indices((45, 40)) * 2.0)
    heights = ground(ROWS - 4, COLUMNS + 6)
    result = by_name(compare(heights, reference, (1, 1), reference_pixel_size=(2, 2)))
    assert result["shift y"].value == pytest.approx(4, abs=0.02)
    assert result["shift x"].value == pytest.approx(-6, abs=0.02)
    assert result["Sq"].value < 0.02 * reference.std()


def test_large_maps_with_fine_texture_are_registered(rng):
    values = gaussian_filter(rng.normal(size=(700, 700)), 1.5)
    result = by_name(compare(values[30:630, 20:620], values[23:623, 43:643], (1, 1)))
    assert result["shift y"].value == pytest.approx(-7, abs=1e-3)
    assert result["shift x"].value == pytest.approx(23, abs=1e-3)
    assert result["Sq"].value < 1e-3 * values.std()


def test_single_unknown_pixels_do_not_hinder_the_registration(ground):
    reference, heights = ground(ROWS, COLUMNS), ground(ROWS + 20, COLUMNS - 3.5)
    heights[np.hypot(ROWS % 9, COLUMNS % 7) == 0] = np.nan
    result = by_name(compare(heights, reference, (1, 1)))
    assert result["shift y"].value == pytest.approx(-20, abs=0.01)
    assert result["shift x"].value == pytest.approx(3.5, abs=0.01)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_maps_without_enough_known_pixels_are_refused(ground, rng, share):
    reference = ground(ROWS, COLUMNS)
    heights = np.where(rng.uniform(size=SHAPE) < share, np.nan, reference)
    heights[5, 5] = 0.0
    with pytest.raises(ComparisonError, match=r"must overlap .* lateral=False"):
        compare(heights, reference, (1, 1))


def test_a_defect_stays_in_the_difference(ground):
    reference = ground(ROWS, COLUMNS)
    heights = ground(ROWS - 5, COLUMNS)
    heights[60:70, 60:70] += 2
    difference = compare(heights, reference, (1, 1)).difference
    assert np.nanmedian(difference[57:63, 62:68]) == pytest.approx(2, abs=0.1)
    assert np.nanmedian(np.abs(difference)) < 0.05


def test_the_difference_agrees_with_its_uncertainty(ground, rng):
    deviation, runs = np.full(SHAPE, 0.2), []
    for _ in range(8):
        noisy = [ground(ROWS - s, COLUMNS) + rng.normal(scale=0.2, size=SHAPE) for s in (0, 4)]
        runs.append(
            by_name(compare(*noisy, (1, 1), uncertainty=deviation, reference_uncertainty=deviation))
        )
    for run in runs:
        assert run["expected Sq"].value == pytest.approx(0.2 * np.sqrt(2), rel=0.01)
        assert run["Sq"].value == pytest.approx(run["expected Sq"].value, rel=0.05)
        assert run["within 2 σ"].value == pytest.approx(95.4, abs=1)
        assert abs(run["shift y"].value + 4) < 4 * run["shift y"].uncertainty


def test_strong_noise_does_not_hinder_the_registration(ground, rng):
    noisy = [ground(ROWS - s, COLUMNS) + rng.normal(scale=1.5, size=SHAPE) for s in (0, 4.4)]
    result = by_name(compare(*noisy, (1, 1)))
    assert result["shift y"].value == pytest.approx(-4.4, abs=0.3)
    assert abs(result["shift y"].value + 4.4) < 3 * result["shift y"].uncertainty < 1
    assert result["Sq"].value == pytest.approx(1.5 * 2**0.5, rel=0.2)


def test_without_lateral_registration_a_smooth_surface_is_compared():
    bowl = 0.01 * ((ROWS - 40.0) ** 2)
    result = compare(bowl + 3, bowl, (1, 1), lateral=False)
    np.testing.assert_allclose(result.difference, 0, atol=1e-5)
    assert by_name(result)["offset"].value == pytest.approx(3)
    with pytest.raises(ComparisonError, match=r"no texture .* lateral=False"):
        compare(bowl + 3, bowl, (1, 1))
