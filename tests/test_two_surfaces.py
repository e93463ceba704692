"""Two surfaces in each curve: known peaks, a rendered film, single surfaces, tiles, the command."""

import re

import numpy as np
import pytest
import tifffile
from scipy.ndimage import distance_transform_edt

from napari_dff import Recipe, focus_measure, synthetic, two_surfaces
from napari_dff.cli.program import main
from napari_dff.io import write_stack
from napari_dff.io.readers.results import read_image, read_image_record
from napari_dff.pipeline.tile import AlignedStack
from napari_dff.pipeline.two_surfaces import two_surfaces_in_tile
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.windows import full_window, window_grid

POSITIONS = 0.5 * np.arange(24)
RECIPE = Recipe(registration="none", refinement="none", sigma=1, window=9)


def curves(*peaks, shape=(40, 50), seed=0):
    """Squared Lorentzians at (position, height) above a floor of 1 that fluctuates by a tenth."""
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.1, (24, *shape)))
    signal = sum(
        height / (1 + ((POSITIONS[:, None, None] - at) / 0.6) ** 2) ** 2 for at, height in peaks
    )
    return noise * (1 + signal)


def test_both_peaks_are_found_and_the_thickness_is_the_distance_times_the_refractive_index():
    found = two_surfaces(curves((3.2, 60), (8.1, 25)), POSITIONS, refractive_index=1.5)
    assert np.isfinite(found.thickness).mean() > 0.99
    for depth, truth in ((found.first.depth, 3.2), (found.last.depth, 8.1)):
        assert abs(np.median(depth) - truth) < 0.02
    assert abs(np.nanmedian(found.thickness) - 1.5 * 4.9) < 0.03
    errors = np.hypot(found.first.uncertainty, found.last.uncertainty)
    two = np.isfinite(found.thickness)
    np.testing.assert_allclose(found.uncertainty[two], 1.5 * errors[two], rtol=1e-5)
    mirrored = two_surfaces(curves((3.2, 60), (8.1, 25))[::-1], POSITIONS[::-1])
    assert abs(np.median(mirrored.first.depth) - 8.1) < 0.02  # the first along Z
    assert abs(np.nanmedian(mirrored.thickness) - 4.9) < 0.03


@pytest.mark.parametrize("peaks", [[(5.0, 60)], [(5.0, 60), (9.0, 1.0)], [(5.0, 60), (5.9, 50)]])
def test_noise_and_peaks_that_no_dip_separates_are_no_second_surface(peaks):
    found = two_surfaces(curves(*peaks), POSITIONS)
    assert np.isnan(found.thickness).all()
    assert np.isinf(found.uncertainty).all()
    np.testing.assert_array_equal(found.first.depth, found.last.depth)
    assert np.isfinite(found.first.uncertainty).all()


def test_second_peaks_of_few_pixels_are_no_surface_and_a_region_of_them_is():
    focus, both = curves((4.0, 40)), curves((4.0, 40), (9.0, 40))
    focus[:, ::4, ::4] = both[:, ::4, ::4]
    focus[:, :, 10:14] = both[:, :, 10:14]  # a band as narrow as an edge
    assert np.isnan(two_surfaces(focus, POSITIONS).thickness).all()
    focus[:, :, 24:] = both[:, :, 24:]
    has_two = np.isfinite(two_surfaces(focus, POSITIONS).thickness)
    assert has_two[:, 26:].mean() > 0.98
    assert not has_two[:, :20].any()


@pytest.fixture(scope="module")
def film():
    return synthetic.transparent_film(size=112, planes=22)


def measure(stack, **settings):
    focus = focus_measure(stack.planes, sigma=1, window=9)
    return two_surfaces(focus, stack.positions, sigma=1, window=9, **settings)


def test_of_a_rendered_film_both_surfaces_and_the_thickness_are_found(film):
    found = measure(film.stack, refractive_index=1.5)
    has_two, is_film = np.isfinite(found.thickness), np.isfinite(film.film)
    assert has_two[is_film].mean() > 0.9
    # the window of 9 pixels contains texture of the rim up to 4 pixels away
    assert not has_two[distance_transform_edt(~is_film) > 5].any()
    both = has_two & is_film
    for values, truth, limit in (
        (found.first.depth, film.ground, 0.06),
        (found.last.depth, film.film, 0.1),
        (found.thickness, film.thickness, 0.18),
    ):
        assert np.median(np.abs(values - truth)[both]) < limit
    deviations = np.abs(found.thickness - film.thickness)[both] / found.uncertainty[both]
    assert 0.55 < np.mean(deviations <= 1) < 0.8
    assert np.mean(deviations <= 2) > 0.9


@pytest.mark.parametrize("scene", ["rough_surface", "cell_sheet"])
def test_of_a_single_surface_no_second_one_is_found(scene):
    stack = getattr(synthetic, scene)(size=96, planes=12, seed=2).stack
    assert np.isfinite(measure(stack).thickness).mean() < 0.001


@pytest.mark.parametrize("name", ["truth/surface_a", "truth/medieval", "truth/sideboard"])
def test_of_real_stacks_of_opaque_scenes_hardly_any_pixel_has_two_surfaces(name, real):
    from napari_dff import read_stack

    planes = np.asarray(read_stack(real(name)).planes)[:, :200, :200]
    found = two_surfaces(focus_measure(planes, sigma=1, window=9), sigma=1, window=9)
    assert np.isfinite(found.thickness).mean() < 0.01


def test_tiles_give_the_same(film):
    stack = AlignedStack(film.stack.planes, film.stack.positions)
    settings = 1.5, no_progress
    whole = two_surfaces_in_tile(stack, RECIPE, full_window((112, 112)), *settings)
    for window in window_grid((112, 112), 56):
        part = two_surfaces_in_tile(stack, RECIPE, window, *settings)
        np.testing.assert_allclose(
            part.thickness, whole.thickness[window.slices], atol=2e-3, equal_nan=True
        )
        np.testing.assert_array_equal(part.first.index, whole.first.index[window.slices])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"refractive_index": 0.9}, "refractive_index must be a number from 1 to 5, got 0.9"),
        ({"peak": "sharp"}, "peak must be one of argmax"),
        ({"focus": np.ones((2, 8, 8))}, "focus must have axes (Z, Y, X)"),
    ],
)
def test_invalid_arguments_are_named(settings, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        two_surfaces(**{"focus": curves((4, 9)), "positions": None, **settings})


def test_the_command_writes_six_channels(film, tmp_path, capsys):
    file, out = tmp_path / "film.ome.tif", tmp_path / "surfaces.ome.tif"
    write_stack(file, film.stack)
    settings = ["--registration", "none", "--sigma", "1", "--window", "9"]
    words = ["two-surfaces", str(file), "--refractive-index", "1.5", *settings, "--out"]
    assert main([*words, str(out)]) == 0
    stack = AlignedStack(film.stack.planes, film.stack.positions)
    found = two_surfaces_in_tile(stack, RECIPE, full_window((112, 112)), 1.5, no_progress)
    image = tifffile.imread(out)
    expected = found.first.depth, found.first.uncertainty, found.last.depth
    expected += found.last.uncertainty, found.thickness, found.uncertainty
    np.testing.assert_array_equal(image, np.stack(expected))
    share = np.isfinite(found.thickness).mean()
    sentence = f"two surfaces at {share:.1%} of the pixels, thickness about "
    assert sentence in capsys.readouterr().out
    with tifffile.TiffFile(out) as tif:
        assert 'Name="thickness uncertainty"' in tif.ome_metadata
    assert read_image_record(out)["two_surfaces"]["refractive_index"] == 1.5
    assert main([*words, str(out)]) == 2
    assert "exists: write elsewhere, or add --overwrite" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "s.ome.zarr"), "--quiet"]) == 0
    np.testing.assert_array_equal(read_image(tmp_path / "s.ome.zarr"), image)
    assert main([*words, str(tmp_path / "s.png")]) == 2
    assert "out must end in .ome.tif or .ome.zarr" in capsys.readouterr().err


def test_of_one_surface_the_command_says_so_and_warns_of_nothing(tmp_path, capsys):
    file = tmp_path / "rough.ome.tif"
    write_stack(file, synthetic.rough_surface(size=48, planes=8).stack)
    words = ["two-surfaces", str(file), "--registration", "none"]
    assert main([*words, "--out", str(tmp_path / "s.ome.tif")]) == 0
    captured = capsys.readouterr()
    assert "only one surface is found everywhere" in captured.out
    assert "empty" not in captured.err
