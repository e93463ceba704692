"""Planes that are resampled when they are read; estimation on stacks larger than memory."""

import tracemalloc
import weakref

import numpy as np
import pytest
from scipy import ndimage

from napari_dff import Recipe, synthetic
from napari_dff.imaging.images import luminance
from napari_dff.imaging.warp import valid_mask
from napari_dff.registration import LazyAlignedStack, align, downsampling, exposure, joint, resample
from napari_dff.registration.estimation import estimate_transforms
from napari_dff.registration.exposure import estimate_gains
from napari_dff.registration.motion import MOTIONS
from napari_dff.runtime.threads import ThreadLimits, set_thread_limits
from napari_dff.runtime.windows import Window, full_window

SIZE = (150, 190)
WINDOWS = [
    Window(0, 150, 0, 190),
    Window(40, 72, 64, 128),
    Window(0, 8, 0, 8),
    Window(120, 150, 150, 190),
    Window(77, 78, 0, 190),
]


def random_transforms(count, kind, rng):
    """Transforms of planes: the first is the identity, the last shifts its plane outside."""
    matrices = np.tile(np.eye(3), (count, 1, 1))
    matrices[1:, :2, 2] = rng.normal(0, 9, (count - 1, 2))
    if kind != "translation":
        a, b = rng.normal(0, 0.03, (2, count - 1))
        matrices[1:, :2, :2] += np.array([[a, -b], [b, a]]).transpose(2, 0, 1)
    if kind == "homography":
        matrices[1:, 2, :2] = rng.normal(0, 2e-4, (count - 1, 2))
    matrices[-1, :2, 2] = 300, -400
    return matrices


class Lazy:
    """A stack that is read by index only and records the shape of each part."""

    ndim = 3

    def __init__(self, planes, chunks=None):
        self._planes, self.shape, self.dtype = planes, planes.shape, planes.dtype
        self.chunks = chunks
        self.reads = []

    def __getitem__(self, index):
        part = self._planes[index]
        self.reads.append((index[0], part.shape))
        return part.copy()


class Endless:
    """Planes of any size that are computed when they are read."""

    def __init__(self, shape):
        self.shape, self.dtype, self.ndim = shape, np.dtype(np.uint16), len(shape)
        self.largest = 0

    def __getitem__(self, index):
        y, x = (
            np.arange(*part.indices(n)) for part, n in zip(index[1:], self.shape[1:], strict=True)
        )
        self.largest = max(self.largest, len(y) * len(x))
        picture = np.sin(y / 9 + index[0])[:, None] * np.sin(x / 7) + np.sin(y / 23)[:, None]
        return np.rint(9000 * picture + 30000).astype(np.uint16)


@pytest.mark.parametrize("kind", ["translation", "similarity", "homography"])
@pytest.mark.parametrize("light", ["kept", "equal"])
@pytest.mark.parametrize(("dtype", "colours"), [("uint16", 0), ("uint8", 3), ("float32", 0)])
def test_a_window_equals_that_part_of_all_planes(kind, light, dtype, colours, rng):
    planes = rng.uniform(0, 250, (5, *SIZE, colours or 1)).astype(dtype)
    planes = planes if colours else planes[..., 0]
    gains = None if light == "kept" else rng.uniform(0.5, 2, (5, *planes.shape[3:]))
    aligned = LazyAlignedStack(planes, random_transforms(5, kind, rng), gains)
    everything = np.asarray(aligned)
    assert everything.shape == aligned.shape == planes.shape
    assert everything.dtype == aligned.dtype == planes.dtype
    if light == "kept":
        np.testing.assert_array_equal(everything, resample(planes, aligned.transforms)[0])
    for window in WINDOWS:
        for i in range(5):
            part = aligned[(i, *window.slices)]
            np.testing.assert_array_equal(part, everything[(i, *window.slices)])


def test_blocks_of_any_size_give_the_same_planes(rng, monkeypatch):
    planes = rng.integers(0, 60000, (3, *SIZE)).astype(np.uint16)
    aligned = LazyAlignedStack(planes, random_transforms(3, "homography", rng))
    before = aligned[:]
    monkeypatch.setattr("napari_dff.registration.lazy_stack.MAX_BLOCK_PX", 48)
    np.testing.assert_array_equal(aligned[:], before)


def test_resampled_planes_agree_with_scipy(rng):
    planes = ndimage.gaussian_filter(rng.normal(size=(3, *SIZE)), (0, 1.5, 1.5)).astype(np.float32)
    matrices = random_transforms(3, "homography", rng)
    y, x = np.mgrid[:150, :190]
    back = np.linalg.inv(matrices[1]) @ np.stack([y.ravel(), x.ravel(), np.ones(y.size)])
    places = back[:2] / back[2]
    held = np.clip(places, 0, np.array([[149], [189]]))
    truth = ndimage.map_coordinates(planes[1].astype(float), held, order=3, mode="mirror")
    np.testing.assert_allclose(LazyAlignedStack(planes, matrices)[1].ravel(), truth, atol=1e-5)


def test_a_plane_outside_the_field_of_view_repeats_its_border(rng):
    planes = rng.integers(0, 250, (3, *SIZE)).astype(np.uint8)
    matrices = np.tile(np.eye(3), (3, 1, 1))
    matrices[1, :2, 2] = 1000, 0
    aligned = LazyAlignedStack(planes, matrices)
    np.testing.assert_array_equal(aligned[1], np.tile(planes[1, :1], (150, 1)))
    assert not aligned.valid(full_window(SIZE)).any()


@pytest.mark.parametrize("kind", ["translation", "similarity", "homography"])
def test_a_valid_window_equals_that_part_of_the_valid_mask(kind, rng):
    matrices = random_transforms(6, kind, rng)[:5]
    aligned = LazyAlignedStack(np.zeros((5, *SIZE), np.uint8), matrices)
    everything = np.all([valid_mask(matrix, SIZE) for matrix in matrices], axis=0)
    assert 0.5 < everything.mean() < 1
    np.testing.assert_array_equal(resample(aligned.planes, matrices)[1], everything)
    for window in WINDOWS:
        np.testing.assert_array_equal(aligned.valid(window), everything[window.slices])


INDICES = np.s_[
    2,
    -1,
    1:3,
    ::-2,
    (slice(None), 5, 7),
    (1, slice(3, 9)),
    (slice(1, 4), slice(-9, None), slice(20, 4, -3)),
    (0, slice(9, 9), slice(None)),
    (slice(3, 3), slice(2), slice(2)),
    (slice(None), slice(4), slice(2, 90, 7), 1),
    (1, 4, slice(None), slice(0, 2)),
]


@pytest.mark.parametrize("index", INDICES)
def test_lazy_planes_are_indexed_like_an_array(index, rng):
    planes = rng.integers(0, 250, (4, 40, 50, 3)).astype(np.uint8)
    transforms = random_transforms(4, "similarity", rng)
    aligned = LazyAlignedStack(planes, transforms, rng.uniform(1, 2, (4, 3)))
    np.testing.assert_array_equal(aligned[index], np.asarray(aligned)[index])


def test_lazy_planes_have_the_shape_and_type_of_the_stack():
    aligned = LazyAlignedStack(np.zeros((4, 20, 30, 3), np.uint16), np.tile(np.eye(3), (4, 1, 1)))
    assert len(aligned) == aligned.ndim == 4
    assert aligned.shape == (4, 20, 30, 3)
    assert aligned.dtype == np.uint16
    with pytest.raises(IndexError):
        aligned[4]
    with pytest.raises(ValueError, match="transforms must be one 3 × 3 matrix for each of the 4"):
        LazyAlignedStack(aligned.planes, aligned.transforms[1:])
    with pytest.raises(ValueError, match=r"gains must be one number .* got shape \(3,\)"):
        LazyAlignedStack(aligned.planes, aligned.transforms, np.ones(3))


def test_only_the_source_window_is_read(rng):
    planes = Lazy(rng.integers(0, 60000, (3, 400, 500)).astype(np.uint16))
    aligned = LazyAlignedStack(planes, random_transforms(3, "similarity", rng)[[0, 1, 1]])
    np.testing.assert_array_equal(aligned[0, 100:164, 200:264], planes._planes[0, 100:164, 200:264])
    assert planes.reads == [(0, (64, 64))]
    aligned[1, 200:264, 200:264]
    number, shape = planes.reads[1]
    assert number == 1
    assert 64 + 50 <= min(shape) <= max(shape) <= 64 + 64


@pytest.fixture(scope="module")
def equalized(drifting):
    """Planes that are aligned and equally bright."""
    return align(drifting.stack.planes, exposure="equal").planes


@pytest.mark.parametrize("library", ["zarr", "dask"])
def test_lazy_arrays_give_the_same_planes_as_arrays_in_memory(library, drifting, equalized):
    planes = drifting.stack.planes
    chunks = (1, 64, 80, 3)
    if library == "zarr":
        lazy = pytest.importorskip("zarr").array(planes, chunks=chunks)
    else:
        lazy = pytest.importorskip("dask.array").from_array(planes, chunks=chunks)
    motions, *_ = estimate_transforms(lazy, Recipe())
    aligned = LazyAlignedStack(lazy, motions, estimate_gains(lazy, motions))
    np.testing.assert_array_equal(aligned[2:5, 30:90], equalized[2:5, 30:90])
    np.testing.assert_array_equal(align(lazy, exposure="equal").planes, equalized)


def test_a_plane_larger_than_memory_is_read_in_windows_only():
    planes = Endless((4, 300_000, 200_000))
    matrix = np.array([[1, -1e-5, 0.3], [1e-5, 1, -7.6], [0, 1e-9, 1]])
    aligned = LazyAlignedStack(planes, np.stack([np.eye(3), matrix, matrix, np.eye(3)]))
    assert aligned[:, 250_000:250_064, 7_000:7_064].shape == (4, 64, 64)
    assert aligned[1, -1, -1].shape == ()
    assert aligned.valid(Window(250_000, 250_064, 7_000, 7_064)).all()
    assert planes.largest < 130**2


@pytest.mark.parametrize("chunks", [None, (1, 17, 50), ((1, 1, 1), (64, 64, 25), (101,))])
@pytest.mark.parametrize("colours", [0, 3])
def test_downsampling_in_strips_equals_downsampling_at_once(chunks, colours, rng, monkeypatch):
    monkeypatch.setattr(downsampling, "STRIP_VALUES", 1 << 10)
    planes = rng.integers(0, 60000, (3, 153, 101, colours or 1)).astype(np.uint16)
    planes = planes if colours else planes[..., 0]
    lazy = Lazy(planes, chunks)
    small = downsampling.read(lazy, 1, 5, as_grey=True)
    assert small.shape == (30, 20)
    np.testing.assert_array_equal(small, downsampling.downsample(luminance(planes[1]), 5))
    assert sum(shape[0] for _, shape in lazy.reads) == 150
    in_colour = downsampling.read(planes, 2, 5)
    assert in_colour.shape == (30, 20, 3)[: planes.ndim - 1]
    assert in_colour.dtype == np.float32
    means = planes[2, :150, :100].reshape(30, 5, 20, 5, -1).mean(axis=(1, 3))
    np.testing.assert_allclose(in_colour.reshape(means.shape), means, rtol=1e-6)


def test_whole_chunks_are_read(rng, monkeypatch):
    monkeypatch.setattr(downsampling, "STRIP_VALUES", 1 << 10)
    planes = rng.integers(0, 60000, (3, 160, 128)).astype(np.uint16)
    for chunks, height in ((None, 8), ((1, 32, 32), 32), (((1, 1, 1), (160,), (128,)), 160)):
        lazy = Lazy(planes, chunks)
        downsampling.read(lazy, 0, 4)
        assert {shape[0] for _, shape in lazy.reads} == {height}


def test_estimation_reads_every_plane_once_in_strips(monkeypatch):
    stack = synthetic.machined_part(size=192, planes=7, seed=4).stack.planes
    lazy = Lazy(stack)
    lazy.ndim = 4
    monkeypatch.setattr(downsampling, "MAX_SIDE_PX", 100)
    monkeypatch.setattr(exposure, "MAX_SIDE_PX", 100)
    monkeypatch.setattr(downsampling, "STRIP_VALUES", 192 * 3 * 20)
    motions, report, *_ = estimate_transforms(lazy, Recipe())
    assert len(report) == 7
    assert [sum(s[0] for n, s in lazy.reads if n == i) for i in range(7)] == [192] * 7
    assert max(shape[0] for _, shape in lazy.reads) == 20
    lazy.reads.clear()
    estimate_gains(lazy, motions)
    rows = [sum(s[0] for n, s in lazy.reads if n == i) for i in range(7)]
    assert max(rows) <= 192
    assert max(shape[0] for _, shape in lazy.reads) == 20
    lazy.reads.clear()
    result = align(stack)
    np.testing.assert_array_equal(result.transforms, motions)
    np.testing.assert_array_equal(result.planes, np.asarray(LazyAlignedStack(lazy, motions)))


def test_estimate_transforms_gives_the_transforms_and_report_of_align(drifting):
    planes = drifting.stack.planes
    for settings in ({}, {"registration": "sift", "motion": "affine"}, {"registration": "none"}):
        result = align(planes, reference=2, **settings)
        motions, report, *_ = estimate_transforms(Lazy(planes), Recipe(**settings), reference=2)
        np.testing.assert_array_equal(motions, result.transforms)
        assert repr([r[:8] for r in report]) == repr([r[:8] for r in result.report])


@pytest.fixture
def noisy_chain(rng):
    """Images of a drifting plate, and its transforms with errors of 0.3 pixels."""
    sharp = synthetic.noise_texture((130, 140), slope=0.6, seed=6)
    truth = synthetic.drift(12, (100, 110), shift=8, magnification=0.01, seed=3)
    images = synthetic.apply_motion(np.stack([sharp] * 12), truth, margin=15).astype(np.float32)
    chain = truth.copy()
    chain[:, :2, 2] += rng.normal(0, 0.3, (12, 2))
    return images, chain


def test_the_joint_result_does_not_depend_on_the_block_size(noisy_chain, monkeypatch):
    images, chain = noisy_chain
    matched = [i for i in range(12) if i != 5]
    references, alive_counts, ticks = [], [], []
    bandpass = joint.bandpass

    def counted_bandpass(picture):
        band = bandpass(picture)
        references.append(weakref.ref(band.values))
        alive_counts.append(sum(each() is not None for each in references))
        return band

    def progress(items, /, *, desc):
        for item in items:
            yield item
            ticks.append(desc)

    monkeypatch.setattr(joint, "bandpass", counted_bandpass)
    monkeypatch.setattr(joint, "thread_count", lambda: 1)
    found = []
    for block in (4, 100):
        references.clear(), alive_counts.clear(), ticks.clear()
        monkeypatch.setattr(joint, "MIN_BLOCK_PLANES", block)
        similarity = MOTIONS["similarity"]
        found.append(joint.refine_jointly(images, chain, matched, 7, similarity, progress))
        assert len(references) == len(matched)
        assert max(alive_counts) == min(block + 3, len(matched))
        assert ticks == ["Refining motions"] * (10 + 9 + 8)
    np.testing.assert_array_equal(*found)
    assert np.abs(found[0][5] - chain[5]).max() == 0


def test_the_joint_comparison_can_be_cancelled(noisy_chain):
    class Stop(Exception):
        pass

    def progress(items, /, *, desc):
        yield from items[:5]
        raise Stop

    with pytest.raises(Stop):
        joint.refine_jointly(*noisy_chain, list(range(12)), 7, MOTIONS["translation"], progress)


def flickering_planes(rng, *channels):
    scene = ndimage.zoom(synthetic.noise_texture((96, 80), seed=3), 2, order=1)
    if channels:
        scene = scene[..., None] * [1.0, 0.8, 0.6]
    gains = rng.uniform(0.5, 1, (6, *channels))
    planes = np.stack([60000 * scene * gain for gain in gains])
    return np.rint(planes).astype(np.uint16), gains


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("largest", [1024, 100])
def test_gains_are_recovered_and_equalize_the_exposure(channels, largest, rng, monkeypatch):
    monkeypatch.setattr(exposure, "MAX_SIDE_PX", largest)
    planes, gains = flickering_planes(rng, *channels)
    matrices = np.tile(np.eye(3), (6, 1, 1))
    matrices[2, :2, 2] = 12, -8
    planes[2] = np.roll(planes[2], (-12, 8), (0, 1))
    found = estimate_gains(Lazy(planes), matrices, reference=1)
    np.testing.assert_allclose(found, gains[1] / gains, rtol=2e-3)
    aligned, valid = resample(planes, matrices)
    equal = align(aligned, registration="none", exposure="equal", reference=1).planes
    np.testing.assert_allclose(equal[:, valid], np.stack([aligned[1][valid]] * 6), rtol=2e-3)


def test_lazy_planes_with_gains_equal_the_planes_of_align(drifting, rng):
    planes = drifting.stack.planes * rng.uniform(0.6, 1, (9, 1, 1, 3))
    planes = planes.astype(np.uint8)
    result = align(planes, exposure="equal", reference=3)
    gains = estimate_gains(planes, result.transforms, reference=3)
    aligned = LazyAlignedStack(planes, result.transforms, gains)
    np.testing.assert_array_equal(aligned[:], result.planes)


def test_gains_are_one_without_a_pixel_that_all_planes_have(rng):
    planes = rng.integers(1, 250, (3, *SIZE)).astype(np.uint8)
    away = random_transforms(3, "translation", rng)
    np.testing.assert_array_equal(estimate_gains(planes, away), np.ones(3))


@pytest.mark.parametrize("registration", ["joint", "sift", "ecc"])
def test_threads_do_not_change_the_result(registration, drifting):
    results = []
    try:
        for threads in (1, 3):
            set_thread_limits(ThreadLimits(threads=threads))
            found = align(drifting.stack.planes, registration=registration, exposure="equal")
            results.append(found.transforms.tobytes() + found.planes.tobytes())
    finally:
        set_thread_limits(ThreadLimits())
    assert len(set(results)) == 1


def test_planes_as_thin_as_a_ribbon_are_aligned(rng):
    for shape in ((8, 200), (12, 2500)):
        scene = ndimage.gaussian_filter(rng.normal(size=shape), 1) * 3000 + 30000
        planes = np.stack([np.roll(scene, 2 * i, axis=1) for i in range(4)]).astype(np.uint16)
        shifts = align(planes).transforms[:, 1, 2]
        np.testing.assert_allclose(shifts, [4, 2, 0, -2], atol=0.1)


def test_transforms_are_the_same_if_compared_planes_are_in_a_temporary_file():
    planes = np.random.default_rng(0).integers(0, 60000, (6, 96, 128), np.uint16)
    planes = np.stack([np.roll(ndimage.gaussian_filter(planes[0], 2), 3 * i, 1) for i in range(6)])
    expected, estimate = (
        estimate_transforms(planes, Recipe(), on_disk=on_disk) for on_disk in (False, True)
    )
    assert np.abs(expected.transforms - np.eye(3)).max() > 2
    np.testing.assert_array_equal(estimate.transforms, expected.transforms)


def test_many_planes_are_solved_in_little_memory():
    count, model = 1000, MOTIONS["similarity"]
    chain = np.tile(np.eye(3), (count, 1, 1))
    chain[:, 0, 2] = np.linspace(-40, 40, count)
    pairs = [
        joint.PairTransform(a, b, np.linalg.inv(chain[b]) @ chain[a], 0.1)
        for gap in joint.PLANE_GAPS
        for a, b in zip(range(count), range(gap, count), strict=False)
    ]
    tracemalloc.start()
    solved = joint.solve(pairs, np.tile(np.eye(3), (count, 1, 1)), count // 2, model, (64, 64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = np.linalg.inv(chain[count // 2]) @ chain
    np.testing.assert_allclose(solved, expected, atol=1e-4)
    assert peak < 40e6  # a full matrix of the equations has 128 MB
