"""Focus offset between channels: known offsets, their uncertainty, images and projections."""

import json

import cv2
import numpy as np
import pytest
import tifffile

from napari_dff import DepthMap, Recipe, focus_offset, project_slab, synthetic
from napari_dff.cli.program import main
from napari_dff.depth.offset import FocusOffsetError
from napari_dff.model.acquisition import Acquisition
from napari_dff.pipeline.channel_offsets import describe_offset
from napari_dff.pipeline.driver import run
from napari_dff.pipeline.planning import Plan
from napari_dff.pipeline.sinks import ArraySink
from napari_dff.runtime.windows import window_grid

QUICK = Recipe(registration="none", refinement="none", sigma=1, window=9)
POSITIONS, OFFSET = 0.5 * np.arange(12), 0.63


def maps(depth, uncertainty=0.1):
    index = np.zeros(depth.shape, np.uint16)
    return DepthMap(index, depth, np.broadcast_to(np.float32(uncertainty), depth.shape))


def correlated(rng, shape, sigma_px=4):
    """Noise of standard deviation 1 that is correlated over several pixels."""
    noise = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), sigma_px)
    return noise * 2 * np.sqrt(np.pi) * sigma_px


def test_the_uncertainty_is_the_scatter_of_offsets_with_correlated_errors_and_outliers():
    rng, depth, deviations = np.random.default_rng(3), 5 * synthetic.relief((240, 300)), []
    for _ in range(40):
        other = depth + 0.7 + 0.4 * correlated(rng, depth.shape)
        other[: rng.integers(30, 70), 40:100] += 6  # another structure in one channel
        offset = focus_offset(maps(depth), maps(other))
        deviations.append((offset.value - 0.7) / offset.uncertainty)
    assert 0.7 < np.sqrt(np.mean(np.square(deviations))) < 1.3
    assert abs(np.mean(deviations)) < 0.5


def test_pixels_that_are_never_in_focus_in_a_channel_have_no_weight():
    depth = np.zeros((200, 200))
    uncertainty = np.where(np.arange(200) < 80, np.inf, 0.1)
    other = np.where(np.isinf(uncertainty), 9.0, 0.25) * np.ones((200, 1))
    offset = focus_offset(maps(depth), maps(other, uncertainty), spacing=0.5)
    np.testing.assert_allclose(offset[:2], (0.25, 0.005), atol=1e-9)
    with pytest.raises(FocusOffsetError, match="too little is in focus in both channels"):
        focus_offset(maps(depth), maps(other, np.inf))
    with pytest.raises(ValueError, match="must have the same shape"):
        focus_offset(maps(depth), maps(other[1:]))


def test_an_offset_that_changes_across_the_field_or_from_place_to_place_is_doubtful():
    rng, depth = np.random.default_rng(0), np.zeros((200, 200))
    tilted = focus_offset(maps(depth), maps(depth + np.linspace(0, 2, 200)))
    # from the centre of the first block of 24 pixels to that of the last, at row 12 and 180
    assert abs(tilted.tilt - 2 * 168 / 199) < 0.02
    assert "changes by 1.7 planes across the field" in describe_offset("", tilted, 1.0, "pixel")
    rough = focus_offset(maps(depth), maps(5 * correlated(rng, depth.shape, 20)))
    sentence = describe_offset("green", rough, 1.0, "pixel")
    assert "the channels may show different structures" in sentence
    level = focus_offset(maps(depth), maps(depth + 0.5 + 0.1 * correlated(rng, depth.shape)))
    assert level.tilt == 0


@pytest.fixture(scope="module")
def channels():
    """Two channels with other texture on the same surface; the second one is 0.63 µm higher."""
    depth = 1.2 + 2.6 * synthetic.relief((160, 160), smoothness=32, seed=3)
    textures = [synthetic.noise_texture((160, 160), seed=seed) for seed in (1, 2)]
    planes = [
        synthetic.photograph(synthetic.render_opaque(t, z, POSITIONS, defocus=0.9), photons=800)
        for t, z in zip(textures, (depth, depth + OFFSET), strict=True)
    ]
    sharp = synthetic.record_without_noise(textures[1], np.uint16).astype(float)
    return np.stack(planes), sharp


def compute(channels, offset, plan=None):
    names = {"channels": ("red", "green"), "axes": ("c",)}
    acquisition = Acquisition(channels[0], POSITIONS, (0.2, 0.2), "micrometer", **names)
    sink = ArraySink(acquisition)
    run(acquisition, QUICK, sink, plan=plan, focus_offset=offset)
    return sink


def test_an_estimated_offset_makes_the_other_channel_sharp_also_in_tiles(channels):
    without, estimated = compute(channels, 0.0), compute(channels, "auto")
    error, better = (
        np.sqrt(np.mean((each.images[1] - channels[1]) ** 2)) for each in (without, estimated)
    )
    assert better < 0.7 * error
    np.testing.assert_array_equal(estimated.images[0], without.images[0])
    words, _, number = estimated.notes[0].partition(": ")
    value, _, uncertainty, _ = number.split()
    assert words == "Focus offset of channel 1 green"
    assert abs(float(value) - OFFSET) < 3 * float(uncertainty) < 0.03
    tiles = compute(channels, "auto", Plan(window_grid((160, 160), 80), 100.0))
    assert tiles.notes[0] == estimated.notes[0]
    difference = tiles.images[1].astype(float) - estimated.images[1]
    assert np.abs(difference).max() < 0.002 * np.ptp(channels[1])
    assert not without.notes


def test_without_common_texture_the_depth_is_used_as_it_is_with_a_warning(channels):
    flat = np.stack([channels[0][0], np.full_like(channels[0][0], 900)]), None
    with pytest.warns(UserWarning, match="no focus offset of channel 1 green: too little"):
        sink = compute(flat, "auto")
    np.testing.assert_array_equal(sink.images[1], 900)


def test_the_commands_estimate_and_apply_the_offset(channels, tmp_path, capsys):
    both, green = tmp_path / "both.ome.tif", tmp_path / "green.ome.tif"
    sizes = {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 0.5}
    tifffile.imwrite(both, channels[0], metadata={"axes": "CZYX", **sizes})
    tifffile.imwrite(green, channels[0][1], metadata={"axes": "ZYX", **sizes})
    results, other, out = (tmp_path / name for name in ("results", "other", "slab.ome.tif"))
    quick = ["--registration", "none", "--refinement", "none"]
    auto = ["--focus-offset", "auto"]
    words = ["run", str(both), "--out", str(results), "--focus-channel", "0", *auto, *quick]
    assert main(words) == 0
    assert "Focus offset of channel 1: +0.6" in capsys.readouterr().out
    red, record = json.loads((results / "provenance.json").read_text())["focus_offsets"]
    assert red["value"] == 0
    assert abs(record["value"] - OFFSET) < 3 * record["uncertainty"]

    depth_from = ["--depth-from", str(results)]
    assert main(["run", str(green), "--out", str(other), *depth_from, *auto, *quick]) == 0
    image = tifffile.imread(other / "all_in_focus.ome.tif").astype(float)
    expected = tifffile.imread(results / "all_in_focus.ome.tif")[1]
    assert np.abs(image - expected).mean() < 0.001 * np.ptp(expected)

    slab = ["--slab", "-0.25", "0.25", "--quiet"]
    words = ["project", str(green), *depth_from, "--out", str(out), *slab]
    assert main([*words, "--focus-offset", "0.63"]) == 0
    depth = tifffile.imread(results / "depth.ome.tif") + np.float32(0.63)
    expected = project_slab(channels[0][1], depth, POSITIONS, slab=(-0.25, 0.25))
    np.testing.assert_array_equal(tifffile.imread(out), expected)
    assert main([*words, *auto, "--overwrite"]) == 0
    assert np.abs(tifffile.imread(out) - expected.astype(float)).mean() < 0.002 * np.ptp(expected)


@pytest.mark.parametrize(
    ("offset", "sentence"),
    [
        ("much", "focus_offset must be auto or a number, got 'much'"),
        ("nan", "focus_offset must be auto or a number from"),
        ("0.5", "focus_offset needs a stack of several channels, or the depth of another channel"),
        ("auto", "focus_offset needs a stack of several channels, or the depth of another channel"),
    ],
)
def test_an_offset_that_cannot_be_applied_is_refused(offset, sentence, tmp_path, capsys):
    planes = np.random.default_rng(0).integers(0, 255, (5, 16, 16)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", planes, photometric="minisblack")
    words = ["run", str(tmp_path / "stack.tif"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*words, "--focus-offset", offset]) == 2
    assert sentence in capsys.readouterr().err
