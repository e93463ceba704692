"""Multi-scale fusion: known answers, bounded support, missing pixels, outliers."""

import cv2
import numpy as np
import pytest

from napari_dff.fusion import multiscale
from napari_dff.fusion.bands import compute_band, discount, plane_pyramids, pyramid, split_band
from napari_dff.fusion.fuse import all_in_focus, fuse_window, source_window
from napari_dff.fusion.weighted_sums import Sums, add_band, add_fine_band
from napari_dff.runtime.progress import no_progress
from napari_dff.runtime.windows import Window, full_window


@pytest.fixture
def texture(rng):
    """Texture at all scales, 40 … 215."""
    image = sum(
        scale * cv2.GaussianBlur(rng.normal(size=(200, 232)), (0, 0), scale)
        for scale in (1, 2, 4, 8)
    )
    return np.clip(128 + 60 * image / np.abs(image).max() * 1.4, 40, 215)


def blurred(image, sigma=4.0):
    return cv2.GaussianBlur(image, (0, 0), sigma)


NEVER = {"uncertainty": np.full((200, 232), np.inf)}
DEPTH = np.zeros((200, 232))


def test_a_plane_that_is_sharp_everywhere_is_returned(texture):
    planes = np.stack([blurred(texture), texture, blurred(texture), blurred(texture, 8)])
    for dtype in (np.uint8, np.uint16, np.float32):
        scale = 250 if dtype == np.uint16 else 1
        stack = (planes * scale).astype(dtype)
        fused = all_in_focus(stack, DEPTH, **NEVER)
        assert fused.dtype == dtype
        assert np.abs(fused.astype(float) - stack[1]).max() <= 2 * scale


def test_two_half_sharp_planes_give_one_sharp_image(texture):
    left = np.arange(232) < 116
    soft = blurred(texture)
    planes = np.stack([np.where(left, texture, soft), np.where(left, soft, texture), soft])
    fused = all_in_focus(planes.astype(np.float32), DEPTH, **NEVER)
    away = np.abs(np.arange(232) - 116) > 12
    assert np.abs(fused - texture)[:, away].max() < 2


@pytest.mark.parametrize("value", [0, 1, 255])
def test_constant_planes_fuse_to_their_constant(value):
    planes = np.full((4, 40, 50, 3), value, np.uint8)
    fused = all_in_focus(planes, np.zeros((40, 50)), uncertainty=np.full((40, 50), np.inf))
    np.testing.assert_array_equal(fused, planes[0])


def test_tiny_planes_are_fused():
    for shape in ((8, 8), (8, 37), (17, 9)):
        planes = np.stack([np.full(shape, 7, np.uint16)] * 3)
        np.testing.assert_array_equal(all_in_focus(planes, np.zeros(shape)), planes[0])


def test_values_stay_in_the_range_of_the_planes_around_the_pixel(rng):
    planes = rng.integers(0, 65536, (5, 64, 72)).astype(np.uint16)
    fused = all_in_focus(planes, np.full((64, 72), 2.0))
    near = np.ones((3, 3), np.uint8)
    assert (fused >= cv2.erode(planes.min(axis=0), near)).all()
    assert (fused <= cv2.dilate(planes.max(axis=0), near)).all()


def test_a_tile_with_its_margin_equals_the_whole(rng):
    planes = rng.integers(0, 4000, (4, 520, 560)).astype(np.uint16)
    depth = rng.uniform(0, 3, (520, 560)).astype(np.float32)
    error = np.where(rng.random((520, 560)) < 0.3, np.inf, 0.3).astype(np.float32)
    z, rest = np.arange(4.0), ("multiscale", no_progress)
    whole = fuse_window(planes, depth, error, z, full_window((520, 560)), *rest)
    tile = Window(200, 280, 240, 336)
    outer = source_window(tile, (520, 560), "multiscale")
    assert outer.top > 0
    assert outer.right < 560
    parts = planes[(slice(None), *outer.slices)], depth[outer.slices], error[outer.slices]
    part = fuse_window(*parts, z, tile.shift(-outer.top, -outer.left), *rest)
    np.testing.assert_array_equal(part, whole[tile.slices])


def test_grey_planes_in_three_channels_stay_grey(texture):
    planes = np.stack([texture, blurred(texture), texture]).astype(np.uint8)
    fused = all_in_focus(np.repeat(planes[..., None], 3, axis=3), DEPTH, **NEVER)
    np.testing.assert_array_equal(fused[..., 0], fused[..., 1])
    np.testing.assert_array_equal(fused[..., 0], fused[..., 2])


def test_a_jigsaw_of_wrong_depths_gives_no_seam_where_depth_is_unknown(texture, rng):
    planes = np.stack([blurred(texture), texture, blurred(texture, 8)]).astype(np.float32)
    jigsaw = np.kron(rng.integers(0, 3, (25, 29)), np.ones((8, 8)))
    fused = all_in_focus(planes, jigsaw, **NEVER)
    assert np.abs(fused - planes[1]).max() < 2


def test_planes_that_lack_a_pixel_have_no_weight_there(texture):
    planes = np.stack([texture, blurred(texture, 2)]).astype(np.float32)
    covered = np.ones((2, *texture.shape), bool)
    covered[0, :, 150:] = False
    planes[0, :, 150:] = 1e3 * (np.indices((200, 82)).sum(0) % 2)  # sharp, but no data
    noise = np.full(texture.shape, 0.01, np.float32)
    index, sigma = np.zeros((2, *texture.shape), np.float32)
    _, values = multiscale.survey(planes.__getitem__, 2, covered)
    args = (planes.__getitem__, 2, index, sigma + np.inf, noise, values, covered)
    fused = multiscale.fuse_scales(*args)
    assert np.abs(fused - planes[1])[:, 170:].max() < 1


def test_a_hot_pixel_of_a_defocused_plane_does_not_come_through(texture):
    planes = np.stack([texture, blurred(texture), blurred(texture)]).astype(np.float32)
    clean = all_in_focus(planes, DEPTH)
    planes[2, 90, 100] = 1000
    assert np.abs(all_in_focus(planes, DEPTH) - clean).max() < 2


def test_noise_is_averaged_where_there_is_no_detail(rng):
    planes = rng.normal(1000, 20, (9, 96, 96)).astype(np.float32)
    depth = np.full((96, 96), 4.0)
    assert all_in_focus(planes, depth).std() < 0.75 * planes[4].std()


def test_energies_of_white_noise_in_the_bands_are_as_tabulated(rng):
    levels = pyramid(rng.normal(size=(2048, 2048)).astype(np.float32))
    gains = [split_band(levels, level).var() for level in range(4)]
    np.testing.assert_allclose(gains, multiscale.BAND_NOISE, rtol=0.05)


@pytest.mark.parametrize(
    ("shape", "has_mask"), [((200, 232), False), ((37, 51, 3), True), ((8, 9), False)]
)
def test_the_kernel_of_the_fine_bands_equals_the_plain_formulas(shape, has_mask, rng):
    plane = rng.normal(100, 20, shape).astype(np.float32)
    mask = rng.random(shape[:2]) < 0.99 if has_mask else None
    pyramids, window = plane_pyramids(plane, mask), full_window(shape[:2])
    noise = pyramid(rng.uniform(0.5, 2, shape[:2]).astype(np.float32))
    support = rng.uniform(1, 20, shape[:2]).astype(np.float32)
    prior = (rng.random(shape[:2]) * (rng.random(shape[:2]) < 0.05)).astype(np.float32)
    undiminished = compute_band(pyramids, noise, 0, support)
    band = discount(undiminished, pyramids.shares[0])
    expected, sums = (Sums.zeros(band.values.shape, True) for _ in range(2))
    gains = np.empty(shape[:2], np.float32)
    levels = *pyramids.channels[:2], *pyramids.limited[:2]
    maps = noise[0], support, pyramids.shares[0], prior
    add_fine_band(levels, *maps, tuple(window), tuple(window), gains, tuple(sums))
    add_band(*band, prior, tuple(expected))
    np.testing.assert_allclose(gains, undiminished.gain, rtol=1e-4)
    for each, right in zip(sums, expected, strict=True):
        np.testing.assert_allclose(each, right, rtol=1e-3, atol=1e-4 * np.abs(right).max())


def test_planes_far_from_the_depth_of_a_window_are_read_once_only(texture):
    reads = []

    def read(k):
        reads.append(k)
        return blurred(texture, 1 + abs(k - 5)).astype(np.float32)

    index, sigma = np.full((2, *texture.shape), 5, np.float32)
    variance, values = multiscale.survey(read, 12, None)
    reads.clear()
    multiscale.fuse_scales(read, 12, index, sigma * 0, variance, values)
    assert set(reads) == {0, 3, 4, 5, 6, 7}  # 0 for the shape
