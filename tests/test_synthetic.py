import numpy as np
import pytest
import tifffile

from napari_dff import synthetic
from napari_dff.io import SAMPLE_NAMES, sample_path


def test_a_flat_scene_is_sharp_in_its_plane_and_blurred_in_its_neighbours():
    sharp = synthetic.noise_texture((64, 64), seed=1)
    planes = synthetic.render_opaque(sharp, np.full((64, 64), 2.0), np.arange(5.0), defocus=0.8)
    np.testing.assert_allclose(planes[2], sharp, atol=1e-12)
    np.testing.assert_allclose(planes[3], synthetic.blur(sharp, 0.8), atol=1e-12)
    np.testing.assert_allclose(planes[1], planes[3], atol=1e-12)


def test_a_near_edge_in_focus_occludes_the_blurred_light_behind_it():
    sharp = np.full((32, 64), 0.2)
    sharp[:, 32:] = 0.9
    depth = np.where(np.arange(64) < 32, 6.0, 0.0) * np.ones((32, 1))
    plane = synthetic.render_opaque(sharp, depth, np.arange(8.0), defocus=1.0)[6]
    np.testing.assert_allclose(plane[:, :32], 0.2, atol=1e-6)


def test_a_hair_is_sharp_in_its_own_plane_only_and_the_ground_shines_through_elsewhere():
    ground = np.full((8, 41, 41), 0.6)
    hair = np.zeros((41, 41), bool)
    hair[:, 20] = True
    planes = synthetic.render_in_front(ground, hair, 0.1, 6.0, np.arange(8.0), defocus=1.0)
    np.testing.assert_allclose(planes[6], np.where(hair, 0.1, 0.6), atol=1e-12)
    light_lost = (0.6 - planes).sum(axis=(1, 2))
    np.testing.assert_allclose(light_lost, 0.5 * 41, rtol=1e-3)
    assert 0.6 - planes[1, 20, 20] == pytest.approx(0.5 / np.sqrt(2 * np.pi) / 5, rel=0.01)


def test_fluorescence_conserves_the_light():
    emission = np.zeros((65, 65))
    emission[32, 32] = 1
    planes = synthetic.render_fluorescent(
        emission, np.full((65, 65), 1.0), np.arange(4.0), defocus=1.0
    )
    np.testing.assert_allclose(planes.sum(axis=(1, 2)), 1, atol=1e-3)


def test_both_apertures_blur_by_the_same_standard_deviation():
    point = np.zeros((81, 81))
    point[40, 40] = 1
    y = np.arange(81) - 40
    for aperture in ("gaussian", "disc"):
        spread = synthetic.blur(point, 4.0, aperture).sum(axis=1)
        assert np.sqrt((spread * y**2).sum()) == pytest.approx(4.0, rel=0.03)


def test_shot_noise_has_the_variance_of_its_mean():
    shot = synthetic.photograph(np.full((200, 200), 0.5), photons=1000, read_noise=0, seed=2)
    electrons = shot / (0.9 * 65535) * 1000
    assert electrons.mean() == pytest.approx(500, rel=0.01)
    assert electrons.var() == pytest.approx(500, rel=0.05)


def test_drift_keeps_the_middle_plane_and_moves_the_others():
    motion = synthetic.drift(9, (100, 100), shift=9, magnification=0.03, seed=1)
    np.testing.assert_allclose(motion[4], np.eye(3), atol=1e-12)
    centre = np.array([49.5, 49.5, 1])
    travelled = np.linalg.norm((motion[8] - motion[0]) @ centre)
    assert 6 < travelled < 12
    assert np.sqrt(np.linalg.det(motion[8]) / np.linalg.det(motion[0])) == pytest.approx(
        1.03, abs=0.002
    )


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_rendering_reproduces_the_bundled_samples(name):
    truth = synthetic.SCENES[name]()
    path = sample_path(name)
    np.testing.assert_array_equal(tifffile.imread(path), truth.stack.planes)
    folder = path.parent
    np.testing.assert_array_equal(tifffile.imread(folder / f"{name}.depth.tif"), truth.depth)
    np.testing.assert_array_equal(tifffile.imread(folder / f"{name}.sharp.tif"), truth.sharp)


def test_bundled_samples_are_small():
    assert sum(f.stat().st_size for f in sample_path("cell_sheet").parent.iterdir()) <= 8e6
