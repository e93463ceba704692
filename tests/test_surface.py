"""Numbers measured on surfaces whose answer is known."""

import sys
from typing import get_args

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

from napari_dff.surface import (
    LEVELLINGS,
    Levelling,
    Profile,
    SurfalizeMissing,
    further_parameters,
    level,
    mesh,
    profile,
    profile_parameters,
    roughness,
    scale_limited_profile,
    scale_limited_surface,
    step_height,
    volume,
)

SHAPE = (60, 80)
ROWS, COLUMNS = np.indices(SHAPE)
TILTED = 5.0 + 0.03 * ROWS - 0.02 * COLUMNS


def by_name(quantities):
    return {q.name: q for q in quantities}


def correlated_noise(rng, shape, deviation):
    """Noise that is correlated over 5 × 5 pixels."""
    return 5 * deviation * uniform_filter(rng.normal(size=shape), 5, mode="wrap")


def with_hole(heights):
    holed = heights.copy()
    holed[10:20, 30:45] = np.nan
    return holed


# Levelling


def test_every_levelling_has_its_function():
    assert set(get_args(Levelling)) == set(LEVELLINGS)


@pytest.mark.parametrize(
    ("levelling", "extra"),
    [
        ("plane", {}),
        ("polynomial", {"degree": 1}),
        ("three_points", {"points": [(0, 0), (59, 3.4), (30, 79)]}),
    ],
)
def test_a_levelled_plane_is_zero(levelling, extra):
    heights, form = level(with_hole(TILTED), levelling=levelling, **extra)
    assert np.isnan(heights[15, 40])
    assert np.nanmax(np.abs(heights)) < 1e-5
    np.testing.assert_allclose(form, TILTED, atol=1e-5)
    assert heights.dtype == form.dtype == np.float32


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_a_polynomial_removes_terms_up_to_its_degree_only(degree):
    y, x = ROWS / 60, COLUMNS / 80
    heights = 1e4 + 3 * x**degree - 2 * y * x ** (degree - 1) + y**degree
    left = level(with_hole(heights), levelling="polynomial", degree=degree).heights
    assert np.nanmax(np.abs(left)) < 1e-3  # float32 of the form, 1e4
    left = level(x ** (degree + 1), levelling="polynomial", degree=degree).heights
    assert np.std(left) > 1e-4


def test_a_plane_is_fitted_by_least_squares(rng):
    heights = TILTED + rng.normal(size=SHAPE)
    known = np.isfinite(with_hole(heights))
    terms = np.column_stack([np.ones(known.sum()), ROWS[known], COLUMNS[known]])
    a, b, c = np.linalg.lstsq(terms, heights[known])[0]
    form = level(with_hole(heights)).form
    np.testing.assert_allclose(form, a + b * ROWS + c * COLUMNS, atol=1e-5)


def test_the_form_is_fitted_inside_the_region_and_subtracted_everywhere():
    heights = TILTED.copy()
    heights[:, 40:] += 7
    left = level(heights, where=COLUMNS < 40).heights
    np.testing.assert_allclose(left[:, :40], 0, atol=1e-5)
    np.testing.assert_allclose(left[:, 40:], 7, atol=1e-5)


def test_no_levelling_keeps_the_heights():
    heights, form = level(TILTED, levelling="none")
    np.testing.assert_array_equal(heights, TILTED.astype(np.float32))
    assert not form.any()


# Roughness


def test_a_sine_has_the_roughness_of_a_sine():
    amplitude, periods = 2.0, 4
    heights = 10 + amplitude * np.sin(2 * np.pi * periods * (COLUMNS + 0.5) / SHAPE[1])
    result = by_name(roughness(heights, (0.5, 0.5)))
    assert result["Sa"].value == pytest.approx(2 * amplitude / np.pi, rel=5e-3)
    assert result["Sq"].value == pytest.approx(amplitude / np.sqrt(2))
    assert result["Sz"].value == pytest.approx(2 * amplitude * np.cos(np.pi / 20))
    assert result["Ssk"].value == pytest.approx(0, abs=1e-9)
    assert result["Sku"].value == pytest.approx(1.5)
    assert [result[name].unit for name in ("Sa", "Ssk", "Sdr")] == ["µm", "", "%"]
    assert result["Sq"].uncertainty is None


def test_a_tilted_plane_has_the_area_of_a_tilted_plane():
    result = by_name(roughness(0.3 * 0.5 * ROWS + 0.4 * 2 * COLUMNS, (0.5, 2.0)))
    assert result["Sdq"].value == pytest.approx(0.5)
    assert result["Sdr"].value == pytest.approx(100 * (np.sqrt(1.25) - 1))


def test_peaks_of_the_surface_are_pits_of_its_mirror_image(rng):
    heights = rng.exponential(size=SHAPE)
    up, down = (by_name(roughness(h, (1, 1))) for h in (heights, -heights))
    assert up["Sp"].value == pytest.approx(down["Sv"].value)
    assert up["Sv"].value == pytest.approx(down["Sp"].value)
    assert up["Ssk"].value == pytest.approx(-down["Ssk"].value)
    assert up["Sdr"].value == pytest.approx(down["Sdr"].value)


@pytest.mark.parametrize("size", [(1.0, 1.0), (0.7, 1.3)])
@pytest.mark.filterwarnings("ignore:The surface has different pixel size")
def test_roughness_equals_that_of_surfalize(rng, size):
    surfalize = pytest.importorskip("surfalize")
    heights = uniform_filter(rng.exponential(size=SHAPE), 3) * 10
    oracle = surfalize.Surface(heights, step_x=size[1], step_y=size[0])
    for quantity in roughness(heights, size):
        assert quantity.value == pytest.approx(getattr(oracle, quantity.name)(), rel=1e-9)


def test_unknown_pixels_and_pixels_outside_the_region_are_ignored(rng):
    heights = rng.normal(size=SHAPE)
    corner = (ROWS < 30) & (COLUMNS < 40)
    ruined = np.where(corner, heights, np.nan)
    cut = roughness(heights[:30, :40], (1, 2))
    assert roughness(heights, (1, 2), where=corner) == cut
    assert roughness(ruined, (1, 2)) == cut
    uncertainty_map = np.where(corner, 0.1, np.inf)
    assert roughness(heights, (1, 2), uncertainty=uncertainty_map)[0].value == cut[0].value

    plane = by_name(roughness(with_hole(TILTED), (1, 1)))
    assert plane["Sdq"].value == pytest.approx(np.hypot(0.03, 0.02))


def test_a_flat_surface_has_no_skewness():
    result = by_name(roughness(np.full(SHAPE, 1234.567), (1, 1), uncertainty=np.full(SHAPE, 0.1)))
    assert result["Sa"].value == pytest.approx(0, abs=1e-9)
    assert np.isnan(result["Ssk"].value)
    assert np.isnan(result["Sku"].value)
    assert np.isfinite(result["Sq"].uncertainty)


def test_slopes_are_left_out_without_calibration():
    result = by_name(roughness(TILTED, (1, 1), "pixel"))
    assert result["Sa"].unit == "planes"
    assert not {"Sdq", "Sdr"} & set(result)


@pytest.mark.parametrize("filters", [{}, {"s_filter": 4.0, "l_filter": 20.0}])
def test_uncertainty_of_roughness_equals_the_scatter_of_repetitions(rng, filters):
    waves = 2 * np.sin(2 * np.pi * COLUMNS / 17) + np.cos(2 * np.pi * ROWS / 11)
    runs = [
        by_name(roughness(waves + correlated_noise(rng, SHAPE, 0.2), (1, 1), **filters))
        for _ in range(60)
    ]
    deviation = {"uncertainty": np.full(SHAPE, 0.2)}
    result = by_name(
        roughness(waves + correlated_noise(rng, SHAPE, 0.2), (1, 1), **deviation, **filters)
    )
    for name in ("Sa", "Sq", "Sz", "Ssk", "Sku", "Sdq"):
        ratio = result[name].uncertainty / np.std([run[name].value for run in runs])
        # Many peaks of one height: one of them is the highest by chance, and Sz scatters with it.
        assert 0.6 < ratio < (2.2 if name == "Sz" else 1.5), name
    assert ("noise alone would give 0.2" in result["Sq"].meaning) == (not filters)


def test_a_parameter_that_noise_changes_says_by_how_much(rng):
    flat = correlated_noise(rng, SHAPE, 0.2)
    result = by_name(roughness(flat, (1, 1), uncertainty=np.full(SHAPE, 0.2)))
    assert "noise changes it by about +0." in result["Sdq"].meaning
    assert "changes" not in result["Ssk"].meaning


# Further parameters


def test_further_parameters_of_a_wave_with_holes(rng):
    pytest.importorskip("surfalize")
    wave = np.sin(2 * np.pi * COLUMNS / 16) * np.sin(2 * np.pi * ROWS / 16)
    wave += rng.normal(scale=0.01, size=SHAPE)
    full, holed = (by_name(further_parameters(h, (0.5, 0.5))) for h in (wave, with_hole(wave)))
    assert full["Sal"].value == pytest.approx(1.74, rel=0.1)  # where cos(x π / 4 µm) is 0.2
    assert full["Str"].value == pytest.approx(1, abs=0.15)
    assert full["Sal"].unit == full["Sk"].unit == "µm"
    for name in ("Sal", "Sk", "Vmc"):
        assert holed[name].value == pytest.approx(full[name].value, rel=0.1)


def test_functional_parameters_use_only_known_pixels(rng):
    pytest.importorskip("surfalize")
    heights = rng.normal(size=SHAPE)
    left = COLUMNS < 40
    half, masked = (
        by_name(q)
        for q in (
            further_parameters(heights[:, :40], (1, 1)),
            further_parameters(heights, (1, 1), where=left | ((ROWS == 0) & (COLUMNS == 79))),
        )
    )
    for name in ("Sk", "Spk", "Vmp"):
        assert masked[name].value == pytest.approx(half[name].value, rel=0.02)


def test_without_surfalize_the_error_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "surfalize", None)
    with pytest.raises(SurfalizeMissing, match=r"pip install 'napari-dff\[roughness\]'"):
        further_parameters(TILTED, (1, 1))


# Profiles


def test_a_profile_over_a_plane_is_a_straight_line():
    result = profile(TILTED, [(2, 3), (32, 43)], (0.5, 2.0))
    assert len(result.distance) == 51  # a pixel apart along 50 pixels
    assert result.distance[-1] == pytest.approx(np.hypot(15, 80))
    np.testing.assert_allclose(result.points[[0, -1]], [(2, 3), (32, 43)])
    rows, columns = result.points.T
    np.testing.assert_allclose(result.height, 5 + 0.03 * rows - 0.02 * columns)
    assert result.uncertainty is None


def test_distance_follows_the_corners_of_the_line():
    result = profile(TILTED, [(10, 10), (10, 10), (10, 40), (30, 40)], (1.0, 3.0))
    assert result.distance[30] == pytest.approx(90)
    assert result.distance[-1] == pytest.approx(110)


def test_a_profile_is_unknown_only_where_a_pixel_it_needs_is():
    heights = TILTED.copy()
    heights[10, 20] = np.nan
    below, through = (profile(heights, [(r, 0), (r, 79)], (1, 1)).height for r in (11, 10.5))
    assert np.isfinite(below).all()
    assert np.flatnonzero(np.isnan(through)).tolist() == [20]
    assert np.isnan(profile(heights, [(5, -2), (5, 10)], (1, 1)).height).sum() == 2


def test_width_averages_across_the_line():
    ridge = np.where(ROWS == 30, 9.0, 0.0)
    along = profile(ridge, [(30, 5), (30, 70)], (1, 1), width=3)
    np.testing.assert_allclose(along.height, 3)
    # At right angles on the specimen, not on the picture: along this line's normal it is level.
    size = np.array([1.0, 2.0])
    slope = 0.1 * ROWS * size[0] + 0.1 * COLUMNS * size[1]
    thin, thick = (
        profile(slope, [(20, 20), (40, 30)], size, width=width).height for width in (1, 7)
    )
    np.testing.assert_allclose(thick, thin)


def test_uncertainty_along_a_profile():
    uncertainty_map = np.full(SHAPE, 0.3)
    uncertainty_map[10, 20] = np.inf
    line = [(10, 5), (10, 60)]
    thin, thick = (
        profile(TILTED, line, (1, 1), uncertainty=uncertainty_map, width=w) for w in (1, 20)
    )
    assert np.isnan(thin.uncertainty[15])
    assert np.isnan(thin.height[15])
    assert thin.uncertainty[0] == pytest.approx(0.3)
    assert thick.uncertainty[0] == pytest.approx(0.3 / 2)  # 20 pixels are 4 independent ones


# Filters


def test_half_of_the_amplitude_passes_at_the_nesting_index():
    x = np.arange(400) * 0.5
    wave = np.tile(np.sin(2 * np.pi * x / 20), (9, 1))
    for name in ("s_filter", "l_filter"):
        limited = scale_limited_surface(wave, (0.5, 0.5), **{name: 20.0})
        np.testing.assert_allclose(limited[:, 40:-40], wave[:, 40:-40] / 2, atol=1e-4)


@pytest.mark.parametrize("index", [3.0, 12.0])
def test_filters_are_normalized_convolutions_of_the_known_pixels(rng, index):
    heights, size = with_hole(1000 + rng.normal(size=SHAPE)), (1.0, 0.7)
    sigma = [index / step * np.sqrt(np.log(2) / 2) / np.pi for step in size]
    known = np.isfinite(heights)
    settings = {"sigma": sigma, "mode": "constant"}
    weights = np.where(known, gaussian_filter(known.astype(float), **settings), np.nan)
    mean = gaussian_filter(np.where(known, heights, 0), **settings) / weights
    short = scale_limited_surface(heights, size, s_filter=index)
    np.testing.assert_allclose(short, mean, rtol=1e-12)
    long = scale_limited_surface(heights, size, l_filter=index)
    np.testing.assert_allclose(long, heights - mean, atol=1e-9)


@pytest.mark.parametrize("waves", [(0, 1), (1, 0), (0.6, 0.8), (0, 0.5), (0, 2)])
def test_a_spline_passes_the_share_of_the_standard_of_each_wave(waves):
    y, x = np.mgrid[:160, :240] * 0.5
    wave = np.cos(2 * np.pi * (waves[0] * y + waves[1] * x) / 20)
    short = scale_limited_surface(wave, (0.5, 0.5), s_filter=20.0, filter_type="spline")
    inside = np.s_[60:-60, 60:-60]
    share = 1 / (1 + np.hypot(*waves) ** 4)
    np.testing.assert_allclose(short[inside], share * wave[inside], atol=2e-3)


def second_differences(count):
    return np.diff(np.eye(count), 2, axis=0)


def test_a_spline_of_a_profile_solves_the_equations_of_the_standard(rng):
    line = straight(100 + np.arange(80.0) + rng.normal(size=80), 0.5)
    line.height[[3, 40, 41, 42]] = np.nan
    known = np.isfinite(line.height)
    alpha = 1 / (2 * np.sin(np.pi * 0.5 / 12))
    curvature = second_differences(80)
    matrix = np.diag(known.astype(float)) + alpha**4 * curvature.T @ curvature
    expected = np.linalg.solve(matrix, np.where(known, line.height, 0))
    found = scale_limited_profile(line, s_filter=12.0, filter_type="spline")
    np.testing.assert_allclose(found.height[known], expected[known], rtol=1e-6)
    assert np.isnan(found.height[~known]).all()


def test_a_spline_minimizes_differences_and_curvature_also_around_unknown_pixels(rng):
    heights, size = rng.normal(size=(14, 17)), (1.0, 0.7)
    heights[4:9, 5:8] = np.nan
    known = np.isfinite(heights)
    rows, columns = (np.eye(n) for n in heights.shape)
    a, b = (1 / (2 * np.sin(np.pi * step / 6.0)) for step in size)
    parts = (
        (a**2, np.kron(second_differences(14), columns)),
        (b**2, np.kron(rows, second_differences(17))),
        (np.sqrt(2) * a * b, np.kron(np.diff(rows, axis=0), np.diff(columns, axis=0))),
    )
    matrix = np.diag(known.ravel().astype(float)) + sum(w**2 * d.T @ d for w, d in parts)
    expected = np.linalg.solve(matrix, np.where(known, heights, 0).ravel()).reshape(heights.shape)
    found = scale_limited_surface(heights, size, s_filter=6.0, filter_type="spline")
    np.testing.assert_allclose(found[known], expected[known], atol=1e-5)


def test_a_plane_passes_a_spline_unchanged_up_to_the_border():
    y, x = np.mgrid[:60, :70]
    plane = 5 + 0.3 * y - 0.2 * x
    plane[10:20, 30:50] = np.nan
    found = scale_limited_surface(plane, (1, 1), l_filter=25.0, filter_type="spline")
    np.testing.assert_allclose(found[np.isfinite(plane)], 0, atol=1e-5)


def test_a_region_is_filtered_with_splines_as_in_the_whole_surface(rng):
    heights = uniform_filter(rng.normal(size=(140, 150)), 3)
    where = np.zeros(heights.shape, bool)
    where[60:80, 60:90] = True
    filters = {"s_filter": 3.0, "l_filter": 16.0, "filter_type": "spline"}
    whole = np.where(where, scale_limited_surface(heights, (1, 1), **filters), np.nan)
    found = by_name(roughness(heights, (1, 1), where=where, **filters))
    assert found["Sq"].value == pytest.approx(np.nanstd(whole), rel=1e-3)


@pytest.mark.filterwarnings("ignore:The surface has different pixel size")
def test_filtered_parameters_equal_those_of_surfalize_away_from_the_border(rng):
    surfalize = pytest.importorskip("surfalize")
    heights, size = 10 * uniform_filter(rng.exponential(size=SHAPE), 3), (0.7, 1.3)
    oracle = surfalize.Surface(heights, step_x=size[1], step_y=size[0])
    oracle = oracle.filter("lowpass", 3.0).filter("highpass", 12.0)
    inside = (slice(16, -16), slice(10, -10))  # both filters reach 0.75 of 15 µm
    oracle = surfalize.Surface(oracle.data[inside], step_x=size[1], step_y=size[0])
    where = np.zeros(SHAPE, bool)
    where[inside] = True
    result = roughness(heights, size, where=where, s_filter=3.0, l_filter=12.0)
    assert len(result) == 9
    for quantity in result:
        expected = getattr(oracle, quantity.name)()
        assert quantity.value == pytest.approx(expected, rel=1e-6), quantity.name


def straight(heights, step=1.0, uncertainty=None):
    distance = np.arange(len(heights)) * step
    return Profile(distance, heights, uncertainty, np.column_stack([0 * distance, distance]))


def test_profile_parameters_equal_those_of_surfalize(rng):
    surfalize = pytest.importorskip("surfalize")
    line = straight(uniform_filter(rng.exponential(size=500), 5), 0.5)
    rough = scale_limited_profile(line, s_filter=2.0, l_filter=50.0)
    sigma = np.array([4, 100]) * np.sqrt(np.log(2) / 2) / np.pi
    short = gaussian_filter(line.height, sigma[0])
    long = short - gaussian_filter(short, sigma[1])
    np.testing.assert_allclose(rough.height[90:-90], long[90:-90], atol=1e-9)
    result = by_name(profile_parameters(line, s_filter=2.0, l_filter=50.0))
    assert list(result) == ["Ra", "Rq", "Rz", "Rt", "Rsk"]
    heights = rough.height - rough.height.mean()
    oracle = surfalize.Profile(heights, 0.5)
    for name, quantity in result.items():
        assert quantity.value == pytest.approx(getattr(oracle, name)(), rel=1e-6), name


def test_a_sine_has_the_profile_parameters_of_a_sine():
    x = np.arange(1000.0)
    line = straight(7 + 3 * np.sin(2 * np.pi * (x + 0.5) / 20))
    line.height[5] = np.nan
    primary, rough = (by_name(profile_parameters(line, l_filter=i)) for i in (None, 200.0))
    assert list(primary) == ["Pa", "Pq", "Pt", "Psk"]
    assert primary["Pq"].value == pytest.approx(3 / np.sqrt(2), rel=1e-3)
    assert rough["Ra"].value == pytest.approx(6 / np.pi, rel=0.01)
    assert rough["Rz"].value == pytest.approx(6, rel=0.02)
    assert "mean of 5 sections" in rough["Rz"].meaning
    assert rough["Rsk"].value == pytest.approx(0, abs=0.01)
    assert [q.unit for q in rough.values()] == ["µm"] * 4 + [""]


def test_uncertainty_of_profile_parameters_equals_the_scatter_of_repetitions(rng):
    waves = 2 * np.sin(2 * np.pi * np.arange(400) / 23)
    runs = [
        by_name(
            profile_parameters(
                straight(waves + correlated_noise(rng, (5, 400), 0.2)[0], 1.0, np.full(400, 0.2)),
                l_filter=80.0,
            )
        )
        for _ in range(40)
    ]
    for name in ("Ra", "Rq", "Rz", "Rt", "Rsk"):
        scatter = np.std([run[name].value for run in runs])
        assert np.mean([run[name].uncertainty for run in runs]) == pytest.approx(scatter, rel=0.4)


# Steps and volumes


def step(height):
    return TILTED + np.where(COLUMNS >= 40, height, 0), COLUMNS < 35, COLUMNS >= 45


def test_a_step_on_a_tilt_has_its_height():
    heights, first, second = step(1.5)
    result = by_name(step_height(with_hole(heights), first, second, (0.5, 0.5)))
    assert result["step height"].value == pytest.approx(1.5)
    assert result["scatter"].value == pytest.approx(0, abs=1e-9)
    assert result["tilt"].value == pytest.approx(np.degrees(np.arctan(np.hypot(0.06, 0.04))))
    down = step_height(heights, second, first, (0.5, 0.5), "pixel")
    assert down[0].value == pytest.approx(-1.5)
    assert [q.unit for q in down] == ["planes", "planes"]


@pytest.mark.parametrize("with_uncertainty", [False, True])
def test_uncertainty_of_a_step_equals_the_scatter_of_repetitions(rng, with_uncertainty):
    heights, first, second = step(1.5)
    uncertainty_map = np.full(SHAPE, 0.2) if with_uncertainty else None
    runs = [
        step_height(
            heights + correlated_noise(rng, SHAPE, 0.2),
            *(first, second),
            (1, 1),
            uncertainty=uncertainty_map,
        )[0]
        for _ in range(300)
    ]
    scatter = np.std([run.value for run in runs])
    assert np.mean([run.uncertainty for run in runs]) == pytest.approx(scatter, rel=0.3)


def test_the_larger_of_scatter_and_uncertainty_is_reported():
    heights, first, second = step(1.5)
    exact = step_height(heights, first, second, (1, 1), uncertainty=np.full(SHAPE, 0.2))[0]
    doubled = step_height(heights, first, second, (1, 1), uncertainty=np.full(SHAPE, 0.4))[0]
    assert exact.uncertainty > 0
    assert doubled.uncertainty == pytest.approx(2 * exact.uncertainty)


def test_a_spherical_cap_has_its_volume():
    radius, high = 50.0, 10.0
    size = (0.25, 0.5)
    y, x = (np.arange(n) * s for n, s in zip((320, 160), size, strict=True))
    square = (y[:, None] - y.mean()) ** 2 + (x - x.mean()) ** 2
    heights = np.sqrt(np.maximum(radius**2 - square, 0)) - (radius - high)
    result = by_name(volume(np.maximum(heights, -1), size, where=square < 38**2))
    assert result["volume above"].value == pytest.approx(
        np.pi * high**2 * (3 * radius - high) / 3, rel=1e-3
    )
    area = np.pi * (2 * radius * high - high**2)
    assert result["area above"].value == pytest.approx(area, rel=2e-3)
    assert result["area unknown"].value == 0
    assert [q.unit for q in result.values()] == ["µm³", "µm³", "µm²", "µm²"]


def test_volume_below_and_unknown():
    heights = with_hole(np.where(COLUMNS < 40, 3.0, 1.0))
    result = by_name(volume(heights, (2, 1), "pixel", level=2.0))
    assert result["volume above"].value == (60 * 40 - 10 * 10) * 2
    assert result["volume below"].value == (60 * 40 - 10 * 5) * 2
    assert result["area unknown"].value == 150 * 2
    assert result["volume above"].unit == "planes·pixel²"


def test_uncertainty_of_a_volume_equals_the_scatter_of_repetitions(rng):
    heights = np.where(COLUMNS < 40, 3.0, -3.0)
    uncertainty_map = np.full(SHAPE, 0.2)
    runs = [
        volume(heights + correlated_noise(rng, SHAPE, 0.2), (2, 1), uncertainty=uncertainty_map)
        for _ in range(400)
    ]
    for k in (0, 1):
        scatter = np.std([run[k].value for run in runs])
        assert runs[0][k].uncertainty == pytest.approx(scatter, rel=0.3)


# Meshes


@pytest.mark.parametrize("faces", [200_000, 1000, 50, 2])
def test_a_mesh_of_a_plane_is_exact(faces):
    size = (0.5, 2.0)
    triangulated = mesh(TILTED, size, faces=faces)
    most = min(faces, 2 * 59 * 79)  # a pixel is the smallest block
    assert most / 4 < len(triangulated.faces) <= most
    z, y, x = triangulated.vertices.astype(float).T
    rows, columns = y / size[0], x / size[1]
    np.testing.assert_allclose(z, 5 + 0.03 * rows - 0.02 * columns, atol=1e-5)
    np.testing.assert_allclose(triangulated.texcoords[:, 0], (columns + 0.5) / 80, atol=1e-6)
    np.testing.assert_allclose(triangulated.texcoords[:, 1], 1 - (rows + 0.5) / 60, atol=1e-6)
    assert [a.dtype for a in triangulated] == [np.float32, np.int32, np.float32]


@pytest.mark.parametrize("faces", [200_000, 1000])
def test_normals_point_to_increasing_depth(faces):
    vertices, triangles, _ = mesh(TILTED, (1, 1), faces=faces)
    a, b, c = vertices[triangles].swapaxes(0, 1)
    assert (np.cross(b - a, c - a)[:, 0] > 0).all()


def test_a_mesh_has_holes_where_depth_is_unknown():
    holed = with_hole(TILTED)
    triangulated = mesh(holed, (1, 1))
    assert len(triangulated.vertices) == np.isfinite(holed).sum()
    assert len(np.unique(triangulated.faces)) == len(triangulated.vertices)
    assert len(triangulated.faces) == 2 * (59 * 79 - 11 * 16) + 2  # and two corners cut off
    part = mesh(TILTED, (1, 1), where=(ROWS > 20) & (COLUMNS > 50), faces=100)
    assert part.vertices[:, 1].min() > 20
    assert part.vertices[:, 2].min() > 50
    np.testing.assert_allclose(
        part.vertices[:, 0],
        5 + 0.03 * part.vertices[:, 1] - 0.02 * part.vertices[:, 2],
        atol=1e-5,
    )


def test_a_block_is_known_if_half_of_its_pixels_are():
    triangulated = mesh(with_hole(TILTED), (1, 1), faces=2 * 29 * 39)  # blocks of 2 × 2
    assert len(triangulated.vertices) == 30 * 40 - 5 * 7  # column 44 is unknown, 45 is not


def test_an_outlier_doesnt_move_a_decimated_mesh():
    spiked = TILTED.copy()
    spiked[::7, ::7] = 1e6
    plain, spiky = (mesh(h, (1, 1), faces=400).vertices for h in (TILTED, spiked))
    np.testing.assert_allclose(spiky, plain, atol=0.05)


# Invalid arguments

EMPTY = np.full(SHAPE, np.nan)
NOWHERE = np.zeros(SHAPE, bool)
FLOATS = np.ones(SHAPE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: level(TILTED[0]), r"heights must have axes \(Y, X\)"),
        (lambda: level(EMPTY), "heights must be known somewhere, got no"),
        (lambda: level(TILTED, where=NOWHERE), "known somewhere inside the region"),
        (lambda: level(TILTED, where=FLOATS), "where must be a bool mask"),
        (lambda: level(TILTED, levelling="sphere"), "levelling must be one of plane"),
        (lambda: level(TILTED, levelling="polynomial", degree=6), "degree must be a whole number"),
        (lambda: level(TILTED, where=ROWS == 3), "where must hold enough known pixels"),
        (lambda: level(TILTED, where=ROWS == COLUMNS), "where must hold enough known pixels"),
        (lambda: level(TILTED, levelling="three_points"), "points must be three"),
        (
            lambda: level(TILTED, levelling="three_points", points=[(0, 0), (9, 9), (30, 30)]),
            "must not lie on a line",
        ),
        (
            lambda: level(TILTED, levelling="three_points", points=[(0, 0), (9, 9), (60, 3)]),
            r"points must lie inside the 60 × 80 pixels, got \(60, 3\)",
        ),
        (
            lambda: level(
                with_hole(TILTED), levelling="three_points", points=[(0, 0), (9, 9), (15, 40)]
            ),
            r"got none near \(15, 40\)",
        ),
        (lambda: roughness(TILTED, (1, 0)), "pixel_size must be two positive lengths"),
        (lambda: roughness(TILTED, (1, 1), uncertainty=TILTED[1:]), "uncertainty must have the"),
        (lambda: roughness(TILTED, (1, 1), s_filter=1.0), "s_filter must be from 2 .* got 1"),
        (lambda: roughness(TILTED, (1, 1), l_filter=99.0), "l_filter must be from .* to 80"),
        (
            lambda: scale_limited_surface(TILTED, (1, 1), s_filter=9.0, l_filter=8.0),
            "s_filter must be below l_filter, 8, got 9",
        ),
        (lambda: scale_limited_surface(TILTED, (1, 1), s_filter=np.nan), "s_filter must be a num"),
        (
            lambda: profile_parameters(
                profile(TILTED, [(0, 0), (0, 40), (40, 40)], (1, 2)), l_filter=20.0
            ),
            "evenly spaced samples for a filter, got 1 to 2",
        ),
        (lambda: profile_parameters(TILTED), "profile must be a Profile, got ndarray"),
        (lambda: profile_parameters(straight(np.full(9, np.nan))), "must have a known height"),
        (lambda: further_parameters(0 * TILTED, (1, 1)), "heights must differ"),
        (lambda: profile(TILTED, [(1, 2, 3)], (1, 1)), r"line must be \(row, column\) pairs"),
        (lambda: profile(TILTED, [(1, 2), (1, 2)], (1, 1)), "two vertices that differ"),
        (lambda: profile(TILTED, [(1, 2), (5, 2)], (1, 1), width=0), "width must be"),
        (
            lambda: step_height(TILTED, COLUMNS < 40, COLUMNS > 30, (1, 1)),
            "first and second must not overlap, got 540 pixels",
        ),
        (
            lambda: step_height(TILTED, ROWS == 3, ROWS == 9, (1, 1)),
            "two parallel planes, got 160 pixels",
        ),
        (lambda: step_height(TILTED, NOWHERE, ROWS == 9, (1, 1)), "known somewhere"),
        (lambda: step_height(TILTED, FLOATS, ROWS == 9, (1, 1)), "first must be a bool mask"),
        (lambda: volume(TILTED, (1, 1), level=np.nan), "level must be a number from"),
        (lambda: mesh(TILTED, (1, 1), faces=1), "faces must be a whole number from 2"),
        (lambda: mesh(TILTED, (1, 1), where=ROWS == 3), "depth must be known at three neighbours"),
    ],
)
def test_wrong_arguments_are_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
