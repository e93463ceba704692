"""Figures for print and movies, on the disk."""

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_dff.io.writers import figure
from napari_dff.io.writers.figure import (
    FigureContent,
    difference_figure,
    movie_frames,
    publication_figure,
    write_figure,
    write_movie,
)
from napari_dff.model.stack import FocalStack


@pytest.fixture
def content(surface):
    uncertainty = np.full(surface.depth.shape, 0.1, np.float32)
    line = np.array([[5.0, 5.0], [80.0, 90.0]])
    return FigureContent(surface.sharp, surface.depth, (0.5, 0.25), "micrometer", line, uncertainty)


def test_a_figure_has_panels_scale_bars_and_a_profile(content):
    figure = publication_figure(content, colormap="magma", width=6.0)
    picture, depth, profile = figure.axes
    (bar,) = depth.child_axes
    assert figure.get_size_inches()[0] == 6.0
    assert {text.get_text() for text in (*picture.texts, *depth.texts)} == {"2 µm"}
    ends = picture.lines[1].get_xdata()
    assert (ends[1] - ends[0]) * 0.25 == pytest.approx(2.0)
    assert bar.get_ylabel() == "depth (µm)"
    assert profile.get_xlabel() == "distance (µm)"
    x, y = profile.lines[0].get_data()
    assert x[-1] == pytest.approx(np.hypot(75 * 0.5, 85 * 0.25))
    assert y[0] == pytest.approx(content.depth[5, 5], abs=0.05)
    assert len(publication_figure(content._replace(line=None)).axes) == 2


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_failed_write_keeps_the_old_figure(tmp_path, content, suffix, monkeypatch):
    path = tmp_path / f"figure.{suffix}"
    write_figure(path, publication_figure(content))
    before = path.read_bytes()
    figure = publication_figure(content)
    monkeypatch.setattr(figure, "savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_figure(path, figure)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_movie_is_read_back(tmp_path, surface, monkeypatch):
    monkeypatch.setattr("napari_dff.io.writers.figure.MAX_MOVIE_PX", 48)
    stack = FocalStack(surface.stack.planes, surface.stack.positions, (1, 1), "micrometer")
    images = list(movie_frames(stack, surface.sharp))
    assert images[0].shape == (48, 96, 3)
    write_movie(tmp_path / "movie.tif", images)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "movie.tif"), np.stack(images))
    write_movie(tmp_path / "movie.gif", images)
    with Image.open(tmp_path / "movie.gif") as movie:
        assert movie.n_frames == 12
        assert movie.info["duration"] == 150


@pytest.mark.parametrize("write", [write_figure, write_movie])
def test_an_unknown_suffix_is_refused(tmp_path, write):
    with pytest.raises(ValueError, match=r"path must end in .*, got 'x\.bmp'"):
        write(tmp_path / "x.bmp", [])


def test_a_movie_is_saved_as_mp4_where_ffmpeg_is(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs ffmpeg: pip install imageio-ffmpeg")
    grey = [0, 60, 120, 180]
    write_movie(tmp_path / "movie.mp4", [np.full((31, 41, 3), v, np.uint8) for v in grey])
    frames = iio.imread(tmp_path / "movie.mp4", plugin="FFMPEG")
    assert frames.shape == (4, 32, 42, 3)  # even sides
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), grey, atol=2)


def test_mp4_is_offered_only_where_ffmpeg_is(tmp_path, monkeypatch):
    monkeypatch.setattr(figure.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"path must end in \.gif, \.tif, got 'movie\.mp4'"):
        write_movie(tmp_path / "movie.mp4", [np.zeros((8, 8, 3), np.uint8)])


def test_the_picture_of_a_difference_has_zero_in_the_middle_of_its_colours(rng):
    difference = rng.normal(0.5, 0.1, (40, 50)).astype(np.float32)
    difference[5:9, 7:12] = np.nan
    drawn = difference_figure(difference, (0.5, 0.5), "micrometer")
    panel, histogram = drawn.axes[:2]
    low, high = panel.images[0].get_clim()
    assert low == -high
    assert 0.5 < high < 1.0
    assert sum(patch.get_height() for patch in histogram.patches) == 40 * 50 - 20
    assert histogram.get_xlabel() == "difference (µm)"
