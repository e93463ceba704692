"""Measurement noise and flatness from repeats: known noise, drift and form, and the command."""

import csv
import dataclasses
import re

import numpy as np
import pytest
import tifffile

from napari_dff import Recipe, depth_from_focus, synthetic
from napari_dff.cli.program import main
from napari_dff.io import read_height_map, save_reconstruction
from napari_dff.model.stack import FocalStack
from napari_dff.surface import repeats

SIZE, SHAPE = (0.5, 0.5), (120, 160)
RELIEF = 6 * synthetic.relief(SHAPE, smoothness=20, seed=2)
NOISE = 0.05
rng = np.random.default_rng(1)
MAPS = [RELIEF + rng.normal(0, NOISE, SHAPE) for _ in range(5)]


def values(result):
    return {q.name: q.value for q in result.quantities}


def test_the_noise_is_that_of_each_map_and_of_two_maps_sq_of_the_difference_over_root_2():
    result = repeats(MAPS, SIZE)
    noise, mean = result.quantities[:2]
    assert abs(noise.value - NOISE) < 0.01 * NOISE
    assert 0.002 * NOISE < noise.uncertainty < 0.05 * NOISE
    assert mean.value == pytest.approx(noise.value / np.sqrt(5))
    two = values(repeats(MAPS[:2], SIZE))["noise"]
    sq = np.std(MAPS[0] - MAPS[1]) / np.sqrt(2)
    assert two == pytest.approx(sq, rel=2e-3)  # less what five terms of drift take
    np.testing.assert_allclose(np.sqrt(np.mean(result.deviation**2)), noise.value, rtol=1e-4)


def test_drift_of_the_stage_is_no_noise_and_is_listed():
    x = np.indices(SHAPE)[1] * SIZE[1]
    slopes = np.gradient(RELIEF)
    drifted = [
        each + 0.4 * (i - 2) + 0.01 * (i - 2) * x + 0.1 * (i - 2) * slopes[0]
        for i, each in enumerate(MAPS)
    ]
    found, still = values(repeats(drifted, SIZE)), values(repeats(MAPS, SIZE))
    assert found["noise"] == pytest.approx(still["noise"], rel=0.01)
    centre = 0.4 * 2 + 0.01 * 2 * x.mean()
    assert found["drift z"] == pytest.approx(centre, abs=0.03)
    assert found["drift tilt"] == pytest.approx(np.degrees(np.arctan(0.02)), rel=0.03)
    assert found["drift y, x"] == pytest.approx(0.2 * SIZE[0], rel=0.15)
    moved = [RELIEF[:, :-4], RELIEF[:, 4:]]
    noisy = [each + rng.normal(0, NOISE, each.shape) for each in moved]
    with pytest.warns(UserWarning, match="shifted by 2 pixels in y or x"):
        repeats(noisy, SIZE)


def test_a_map_that_is_given_twice_is_named():
    with pytest.warns(UserWarning, match="heights 1 and 3 are the same map"):
        repeats([*MAPS[:2], MAPS[0]], SIZE)


def test_flatness_is_the_form_of_the_mean_of_a_tilted_flat():
    y, x = np.indices(SHAPE)
    form = 0.02 * np.cos(2 * np.pi * x / 80) + 0.01 * y
    flats = [form + rng.normal(0, 0.002, SHAPE) for _ in range(8)]
    found = {q.name: q for q in repeats(flats, SIZE, s_filter=5.0).quantities}
    assert found["flatness Sq"].value == pytest.approx(0.02 / np.sqrt(2), rel=0.02)
    assert found["flatness Sz"].value == pytest.approx(0.04, rel=0.06)
    unfiltered = {q.name: q for q in repeats(flats, SIZE).quantities}
    assert unfiltered["flatness Sz"].value > found["flatness Sz"].value


def test_pixels_that_one_map_lacks_do_not_count_and_the_uncertainty_is_compared():
    maps, errors = [each.copy() for each in MAPS], [np.full(SHAPE, 2 * NOISE) for _ in MAPS]
    maps[1][:30] = np.nan
    errors[3][:, :40] = np.inf
    result = repeats(maps, SIZE, uncertainties=errors)
    found = values(result)
    share = 90 * 120 / (120 * 160)
    assert found["used pixels"] == pytest.approx(100 * share)
    assert np.isnan(result.mean).mean() == pytest.approx(1 - share)
    assert found["foretold noise"] == pytest.approx(2 * NOISE)
    assert found["noise / foretold"] == pytest.approx(0.5, rel=0.02)
    assert found["within 1 σ"] == pytest.approx(95.4, abs=0.5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"heights": MAPS[:1]}, "heights must be at least 2 maps of one field, got 1"),
        ({"heights": [MAPS[0], MAPS[1][1:]]}, "heights must be of one shape"),
        ({"uncertainties": MAPS[:2]}, "uncertainties must be one for each map, 5, or none, got 2"),
        ({"heights": [MAPS[0] * np.nan] * 2}, "heights must be known somewhere"),
        ({"s_filter": 0.1}, "s_filter must be from 1 (two pixels)"),
    ],
)
def test_invalid_arguments_are_named(arguments, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        repeats(**{"heights": MAPS, "pixel_size": SIZE, **arguments})


def test_of_photographs_of_one_surface_the_noise_is_below_what_each_stack_foretold(
    tmp_path, capsys
):
    scene = synthetic.rough_surface(size=64, planes=9, seed=3)
    positions, recipe = scene.stack.positions, Recipe(registration="none")
    clean = synthetic.render_opaque(scene.sharp / 65535, scene.depth, positions, defocus=0.8)
    maps, folders = [], []
    for seed in range(3):
        planes = synthetic.photograph(clean, photons=1500, seed=seed)
        result = depth_from_focus(dataclasses.replace(scene.stack, planes=planes), recipe)
        folders.append(str(tmp_path / str(seed)))
        save_reconstruction(result, folders[-1])
        maps.append(result.refined.depth)
    table, mean = tmp_path / "noise.csv", tmp_path / "mean.x3p"
    words = ["repeats", *folders, "--out", str(table), str(mean)]
    assert main(words) == 0
    text = capsys.readouterr().out
    with table.open(encoding="utf-8") as file:
        found = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}
    scatter = np.sqrt(np.mean(np.var(maps, axis=0, ddof=1)))
    assert 0.8 * scatter < found["noise"] < 1.01 * scatter
    assert found["noise / foretold"] == pytest.approx(found["noise"] / found["foretold noise"])
    assert found["noise / foretold"] < 1  # errors that all repeats share are foretold, too
    assert f"noise               {found['noise']:.4g} ± " in text
    heights = read_height_map(mean)
    np.testing.assert_allclose(heights.pixel_size, scene.stack.pixel_size)
    assert np.nanstd(heights.heights) == pytest.approx(found["flatness Sq"], rel=1e-3)
    assert main(words) == 2
    assert "exists: write elsewhere, or add --overwrite" in capsys.readouterr().err
    for extra, sentence in (
        ([str(mean), folders[0]], None),  # equal pixel size and unit
        ([folders[0]], "heights must be at least 2 maps"),
        ([str(tmp_path)], "holds no result of a run"),
        ([str(table)], "must be the folder of a run, or a file that ends in"),
        ([*folders, "--out", "noise.txt"], "out must end in .csv, .x3p, .sdf, .sur"),
    ):
        assert main(["repeats", *extra]) == (2 if sentence else 0)
        assert (sentence or "") in capsys.readouterr().err


@pytest.mark.filterwarnings("default:heights 1 and 2 are the same map")
def test_every_time_of_a_run_is_a_repeat_and_other_pixel_sizes_are_refused(tmp_path, capsys):
    scene = synthetic.rough_surface(size=48, planes=7, seed=1)
    series = np.stack([scene.stack.planes, scene.stack.planes])
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    file, results = tmp_path / "series.ome.tif", tmp_path / "results"
    tifffile.imwrite(file, series, metadata={"axes": "TZYX", **sizes})
    quick = ["--registration", "none", "--refinement", "none", "--quiet"]
    assert main(["run", str(file), "--out", str(results), *quick]) == 0
    assert main(["repeats", str(results)]) == 0
    captured = capsys.readouterr()
    assert "noise               0 ± 0 µm" in captured.out
    assert "heights 1 and 2 are the same map" in captured.err
    other = FocalStack(scene.stack.planes, scene.stack.positions, (0.4, 0.4), "micrometer")
    recipe = Recipe(registration="none", refinement="none")
    save_reconstruction(depth_from_focus(other, recipe), tmp_path / "other")
    assert main(["repeats", str(results), str(tmp_path / "other")]) == 2
    assert "got 0.5 × 0.5 micrometer and 0.4 × 0.4 micrometer" in capsys.readouterr().err
