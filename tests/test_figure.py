"""Figures for print and movies, on the disk."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_dff.figure import Plate, frames, plate
from napari_dff.io.pictures import write_figure, write_movie
from napari_dff.stack import FocalStack


@pytest.fixture
def given(surface):
    doubt = np.full(surface.depth.shape, 0.1, np.float32)
    line = np.array([[5.0, 5.0], [80.0, 90.0]])
    return Plate(surface.sharp, surface.depth, (0.5, 0.25), "micrometer", line, doubt)


def test_a_plate_has_its_panels_its_scale_bar_and_its_profile(given):
    figure = plate(given, colormap="magma", width=6.0)
    picture, depth, profile = figure.axes
    (bar,) = depth.child_axes
    assert figure.get_size_inches()[0] == 6.0
    assert {text.get_text() for text in (*picture.texts, *depth.texts)} == {"2 µm"}
    ends = picture.lines[1].get_xdata()
    assert (ends[1] - ends[0]) * 0.25 == pytest.approx(2.0)  # as long as it says
    assert bar.get_ylabel() == "depth (µm)"
    assert profile.get_xlabel() == "distance (µm)"
    x, y = profile.lines[0].get_data()
    assert x[-1] == pytest.approx(np.hypot(75 * 0.5, 85 * 0.25))
    assert y[0] == pytest.approx(given.depth[5, 5], abs=0.05)
    assert len(plate(given._replace(line=None)).axes) == 2


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_figures_are_written_whole_or_not_at_all(tmp_path, given, suffix, monkeypatch):
    path = tmp_path / f"figure.{suffix}"
    write_figure(path, plate(given))
    before = path.read_bytes()
    figure = plate(given)
    monkeypatch.setattr(figure, "savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_figure(path, figure)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_movie_is_read_back(tmp_path, surface):
    stack = FocalStack(surface.stack.planes, surface.stack.positions, (1, 1), "micrometer")
    made = list(frames(stack, surface.sharp, side=48))
    assert made[0].shape == (48, 96, 3)
    write_movie(tmp_path / "movie.tif", made)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "movie.tif"), np.stack(made))
    write_movie(tmp_path / "movie.gif", made, seconds=0.2)
    with Image.open(tmp_path / "movie.gif") as movie:
        assert movie.n_frames == 12
        assert movie.info["duration"] == 200


@pytest.mark.parametrize("write", [write_figure, write_movie])
def test_another_suffix_is_told(tmp_path, write):
    with pytest.raises(ValueError, match=r"path must end in .*, got 'x\.bmp'"):
        write(tmp_path / "x.bmp", [])
