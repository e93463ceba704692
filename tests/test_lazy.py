"""Memory-mapped planes occupy memory only while they are used."""

import sys

import numpy as np
import psutil
import pytest

from napari_dff.focus.sampling import SampledOperator
from napari_dff.fusion.blends import PlaneWindow
from napari_dff.pipeline.image_quality import image_quality
from napari_dff.runtime.windows import full_window

COUNT, SIDE = 24, 512  # a file maps 2 MB at a time


def measure_focus(planes):
    SampledOperator(planes, "log", 1.0, 9)(full_window((SIDE, SIDE)))


def read_for_fusion(planes):
    window = PlaneWindow(planes, full_window((SIDE, SIDE)))
    for k in range(COUNT):
        window.read_as_stored(k).max()


def compare_image(planes):
    image_quality(np.zeros((SIDE, SIDE), np.float32), planes)


@pytest.mark.skipif(sys.platform != "linux", reason="memory of a file is known on Linux only")
@pytest.mark.parametrize("use", [measure_focus, read_for_fusion, compare_image])
def test_planes_that_were_used_are_released(tmp_path, rng, use):
    path = tmp_path / "planes.raw"
    rng.integers(0, 4000, (COUNT, SIDE, SIDE)).astype(np.uint16).tofile(path)
    planes = np.memmap(path, np.uint16, "r", shape=(COUNT, SIDE, SIDE))

    def resident() -> int:
        maps = psutil.Process().memory_maps()
        return sum(part.rss for part in maps if part.path == str(path))

    planes.max()
    assert resident() == planes.nbytes
    use(planes)
    assert resident() <= planes.nbytes // 4
