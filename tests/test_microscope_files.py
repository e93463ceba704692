"""Files that microscopes have written, through bioio and its plugins.

They are in the source packages of ndevio 0.10 and napari-ndev 0.11 (``pip download --no-deps
--no-binary :all: ndevio napari-ndev``): unpack both into a folder, and set
NAPARI_DFF_MICROSCOPE_FILES to it. Expected values are those that czifile and nd2 print.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from napari_dff import StackError, read_acquisitions
from napari_dff.io.readers.bioio_files import bioio_sources

FOLDER = os.environ.get("NAPARI_DFF_MICROSCOPE_FILES", "")
CHANNELS = ("AF647", "AF568", "AF488", "DAPI")


def microscope_file(name: str, plugin: str) -> Path:
    pytest.importorskip(plugin, reason=f"bioio and {plugin} are not installed")
    path = next(Path(FOLDER).rglob(name), None) if FOLDER else None
    if path is None:
        pytest.skip(f"NAPARI_DFF_MICROSCOPE_FILES is not a folder with {name}")
    return path


def test_a_stack_in_czi():
    (stack,) = read_acquisitions(microscope_file("0T-4C-5Z.czi", "bioio_czi"))
    assert (stack.data.shape, stack.data.dtype) == ((1, 4, 5, 32, 32), np.uint16)
    assert (stack.channels, stack.unit) == (CHANNELS, "micrometer")
    np.testing.assert_allclose(stack.pixel_size, 0.62048273556827216)
    np.testing.assert_allclose(stack.positions, [[0, 1, 2, 3, 4]])


def test_times_in_czi():
    (stack,) = read_acquisitions(microscope_file("3T-4C-3Z.czi", "bioio_czi"))
    assert (stack.data.shape, stack.channels) == ((3, 4, 3, 32, 32), CHANNELS)
    np.testing.assert_allclose(stack.positions, [[0, 2.54, 5.08]] * 3)
    np.testing.assert_allclose(stack.pixel_size, 0.62048273556827216)


def test_positions_and_times_in_czi():
    stacks = read_acquisitions(microscope_file("3T-4C-3Z-2pos.czi", "bioio_czi"))
    assert sorted(each.name for each in stacks) == ["P1", "P5"]
    for stack in stacks:
        assert (stack.data.shape, stack.channels) == ((3, 4, 3, 32, 32), CHANNELS)
        np.testing.assert_allclose(stack.positions, [[0, 2.54, 5.08]] * 3)
        np.testing.assert_allclose(stack.pixel_size, 0.62048273556827216)


def test_a_colour_image_in_nd2_is_no_stack():
    path = microscope_file("ND2_dims_rgb.nd2", "bioio_nd2")
    (source,) = bioio_sources(path)
    assert source.data.shape == (1, 1, 1, 64, 64, 3)
    assert (source.axes, source.channels) == (tuple("TCZYXS"), ("Brightfield",))
    np.testing.assert_allclose(source.calibration.pixel_size, 0.34285714285714286)
    with pytest.raises(StackError, match="Y 64, X 64, S 3: a single image, not a focal stack"):
        read_acquisitions(path)
