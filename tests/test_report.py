"""Reports: the numbers of the library, whatever the names; PDF pages; overviews; own files."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from napari_dff import Recipe, depth_from_focus
from napari_dff.cli.program import main
from napari_dff.io import ResultFiles, save_reconstruction
from napari_dff.io.records import PROVENANCE_FILE
from napari_dff.model.acquisition import Acquisition
from napari_dff.model.depth_map import DepthMap
from napari_dff.report.content import Picture, Pictures, Report, Sentences, Table
from napari_dff.report.files import write_report, write_reports
from napari_dff.report.parameters import ParameterSettings
from napari_dff.report.result import ASSUMED_SIZE, read_report
from napari_dff.runtime.windows import full_window
from napari_dff.surface import level, roughness, scale_limited_surface
from napari_dff.surface.quantity import table_rows

UNALIGNED = Recipe(registration="none", refinement="none")
ERROR = np.full((20, 30), 0.25, np.float32)
HOSTILE = """<script>alert("1")</script>&'$\\frac$ \x1b[2J 表面.tif"""


class Page(HTMLParser):
    """The texts, tags and attributes of a page."""

    def __init__(self, path):
        super().__init__()
        self.texts, self.tags, self.links, self.images = [], set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.add(tag)
        self.links += [values["href"]] if "href" in values else []
        self.images += [values["src"]] if "src" in values else []
        assert not any(name.startswith("on") for name in values)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr("napari_dff.report.html.PICTURE_DPI", 70)


@pytest.fixture(scope="session")
def reconstruction(surface):
    return depth_from_focus(surface.stack, UNALIGNED)


@pytest.fixture
def result(tmp_path, reconstruction):
    save_reconstruction(reconstruction, tmp_path / "result", input={"path": "rough.tif"})
    return tmp_path / "result"


def parameters(reconstruction, levelling="plane", **filters):
    """Return the rows of the table as the library computes its numbers."""
    _, depth, uncertainty = reconstruction.refined
    heights = np.where(np.isfinite(uncertainty), depth, np.nan).astype(np.float32)
    stack, flat = reconstruction.stack, level(heights, levelling=levelling).heights
    if "s_filter" in filters:  # the form is that of the S-filtered heights
        primary = scale_limited_surface(flat, stack.pixel_size, s_filter=filters["s_filter"])
        flat = flat - level(primary, levelling=levelling).form
    errors = {"uncertainty": uncertainty, **filters}
    return table_rows(roughness(flat, stack.pixel_size, stack.unit, **errors))


def page_count(path):
    return len(re.findall(rb"/Type\s*/Page\b", path.read_bytes()))


def save_series(folder, *, channels=("",), times=1, path="a.tif", error=ERROR, **details):
    """Write a result with all values of time t at t, and a first plane that is the sharpest."""
    planes = np.broadcast_to(np.empty((), np.uint8), (times, len(channels), 4, 20, 30))
    positions = np.tile(np.arange(4.0), (times, 1))
    acquisition = Acquisition(planes, positions, (0.5, 0.5), "micrometer", channels, **details)
    rows = np.arange(20, dtype=np.float32)[:, None] * np.ones(30, np.float32)
    with ResultFiles(folder, acquisition, UNALIGNED, {"path": path}) as files:
        for t in range(times):
            index = np.zeros((20, 30), np.uint16)
            maps = DepthMap(index, rows**2 * np.float32(t + 1) / 200, error)
            images = [np.full((20, 30), 40 * t, np.uint8) for _ in channels]
            files.write_window(full_window((20, 30)), maps, images, time=t)
    return folder


def test_a_report_has_the_numbers_of_the_library_in_one_file(result, reconstruction, capsys):
    assert main(["report", str(result), "--levelling", "polynomial", "--s-filter", "2.5"]) == 0
    assert capsys.readouterr().out.split() == [str(result / f"report.{x}") for x in ("html", "pdf")]
    page = Page(result / "report.html")
    for row in parameters(reconstruction, "polynomial", s_filter=2.5):
        assert set(row) - {""} <= set(page.texts)
    assert any("polynomial of degree 2; S-filter 2.5 µm" in text for text in page.texts)
    record = json.loads((result / "provenance.json").read_text(encoding="utf-8"))
    assert {*map(str, record["recipe"].values())} <= set(page.texts)
    never = np.isinf(reconstruction.refined.uncertainty).mean()
    assert f"{never:.1%} of the pixels" in page.texts
    assert record["files"]["depth.ome.tif"] in page.texts
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert len(page.images) == 3
    for source in page.images:
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        assert min(Image.open(io.BytesIO(content)).size) > 150
    assert "default-src 'none'" in (result / "report.html").read_text(encoding="utf-8")
    assert page_count(result / "report.pdf") == 2


def test_pictures_have_scale_bars_and_maps_have_colour_bars(result):
    (pictures,) = (part for part in read_report(result).parts if isinstance(part, Pictures))
    from matplotlib.figure import Figure

    labels = []
    for picture in pictures.pictures:
        panel = Figure().add_axes((0, 0, 1, 1))
        picture.draw(panel)
        assert [text.get_text() for text in panel.texts] == ["5 µm"]
        labels += [bar.get_ylabel() for bar in panel.child_axes]
    assert labels == ["depth (µm)", "standard uncertainty, 1σ (µm)"]


@pytest.mark.filterwarnings("error::UserWarning")
def test_whatever_the_names_they_are_text(tmp_path):
    folder = save_series(tmp_path / "a b#%20 ünï", path=HOSTILE, channels=(HOSTILE, "</td>"))
    write_reports(tmp_path)
    for path in (tmp_path / "report.html", folder / "report.html"):
        page = Page(path)
        assert not page.tags & {"script", "iframe"}
        assert "\x1b" not in path.read_text(encoding="utf-8")
    assert any('<script>alert("1")</script>&' in text for text in page.texts)
    assert set(Page(tmp_path / "report.html").links) == {
        "./a%20b%23%2520%20%C3%BCn%C3%AF/report.html"
    }
    assert page_count(folder / "report.pdf") == 2


def test_long_content_goes_on_on_further_pages(tmp_path):
    words = "word " * 30  # 2 lines of a page, 15 of a narrow column
    tall = Picture("tall", np.zeros((400, 20), np.float32), (1, 1), "pixel", "height")
    parts = [
        Sentences("Sentences", [words] * 30),
        Table("Table", [(words, words, "x" * 200)] * 12, ("a", "b", "c")),
        Pictures("Pictures", [tall] * 3),
    ]
    write_report(tmp_path / "long.pdf", Report("Long", parts))
    assert page_count(tmp_path / "long.pdf") == 4


def test_a_batch_gets_an_overview_with_links_warnings_and_failures(tmp_path, capsys):
    for name in ("one", "two", "cut"):
        save_series(tmp_path / name)
    (tmp_path / "cut" / "depth.ome.tif").write_bytes(b"")
    stacks = [{"stack": "broken.tif", "state": "failed", "why": "no TIFF"}, {"state": "done"}]
    (tmp_path / "summary.json").write_text(json.dumps({"stacks": stacks}), encoding="utf-8")
    assert main(["report", str(tmp_path), "--quiet"]) == 1
    errors = capsys.readouterr().err
    assert "failed: broken.tif: no TIFF\n" in errors
    assert "failed: cut: " in errors
    page = Page(tmp_path / "report.html")
    assert set(page.links) == {"./one/report.html", "./two/report.html"}
    assert all((tmp_path / link).is_file() for link in page.links)
    assert len(page.images) == 2
    assert any(text.startswith("one: The stack may start too late") for text in page.texts)
    assert {"100.0%", "no TIFF", "2 results, 2 warnings, 2 failures"} <= set(page.texts)
    assert page_count(tmp_path / "report.pdf") == 1


def test_one_time_and_all_channels_of_a_series_are_reported(tmp_path):
    folder = save_series(tmp_path / "series", channels=("red", "green"), times=3)
    settings = ParameterSettings("none")
    first, last = (read_report(folder, settings, time=t) for t in (0, 2))
    assert last.title == "a.tif, time 2"
    pictures = last.parts[1].pictures
    titles = ["all in focus red", "all in focus green", "depth", "uncertainty"]
    assert [each.title for each in pictures] == titles
    assert (pictures[0].pixels == 80).all()
    value = [float(each.numbers["Sq"].split()[0]) for each in (first, last)]
    assert value[1] == pytest.approx(3 * value[0], rel=1e-3)
    with pytest.raises(ValueError, match=r"time must be 0 to 2, got 3"):
        read_report(folder, time=3)


def test_without_a_pixel_size_lateral_numbers_are_left_out(tmp_path):
    report = read_report(save_series(tmp_path / "result", has_pixel_size=False))
    assert ASSUMED_SIZE in report.warnings
    names = [row[0] for row in report.parts[4].rows]
    assert "Sq" in names
    assert "Sdq" not in names
    assert {each.unit for each in report.parts[1].pictures} == {"pixel"}
    assert ("pixel size", "unknown") in report.parts[0].rows


def test_the_kind_of_filter_is_chosen_and_named(tmp_path):
    folder = save_series(tmp_path / "result")
    kinds = ("gaussian", "spline")
    tables = [
        read_report(folder, ParameterSettings(s_filter=3.0, filter_type=kind)).parts[4]
        for kind in kinds
    ]
    assert tables[0].rows != tables[1].rows
    for kind, table in zip(kinds, tables, strict=True):
        assert re.search(rf"S-filter 3 \S+, {kind}\. ±", table.note), table.note


def test_too_few_pixels_for_parameters_are_no_error_but_a_bad_filter_is(tmp_path, capsys):
    error = np.full((20, 30), np.inf, np.float32)
    error[0, :2] = 0.1
    folder = save_series(tmp_path / "result", error=error)
    assert main(["report", str(folder), "--quiet"]) == 0
    texts = Page(folder / "report.html").texts
    assert any(text.startswith("Not computed: where must hold enough known") for text in texts)
    with pytest.raises(ValueError, match="time must be 0, the only one, got 3"):
        read_report(folder, time=3)
    assert main(["report", str(folder), "--s-filter", "0.1"]) == 2
    assert "s_filter must be from 1 (two pixels)" in capsys.readouterr().err


def test_a_report_belongs_to_its_result(result, reconstruction, capsys):
    main(["report", str(result), "--quiet"])
    write_reports(result)  # its own is replaced
    save_reconstruction(reconstruction, result)  # a new result removes the report of the old one
    assert not list(result.glob("report.*"))
    (result / "report.html").write_text("mine", encoding="utf-8")
    assert main(["report", str(result), "--quiet"]) == 2
    assert "holds report.html, which no run of napari-dff has written" in capsys.readouterr().err
    assert (result / "report.html").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: shutil.rmtree(folder), "folder must be that of a result or of a batch"),
        (lambda folder: (folder / PROVENANCE_FILE).unlink(), "holds no results of a run"),
        (
            lambda folder: (folder / PROVENANCE_FILE).write_text('{"input": [1]}'),
            "holds no result of a run",
        ),
        (lambda folder: (folder / "uncertainty.ome.tif").unlink(), "uncertainty is missing"),
    ],
)
def test_what_is_no_result_is_refused_in_one_sentence(tmp_path, capsys, damage, sentence):
    folder = save_series(tmp_path / "result")
    damage(folder)
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("report.*"))
