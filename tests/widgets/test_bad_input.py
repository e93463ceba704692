"""What can't be gives one sentence, and leaves all as it was and the widget ready."""

import errno
import itertools
import json
import logging
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import zarr

from napari_dff import Recipe, depth_from_focus, synthetic
from napari_dff.io import StackError, save_reconstruction
from napari_dff.widgets.app.layers import METADATA_KEY
from napari_dff.widgets.files.reader import reader

from .conftest import TITLES

GREY = np.random.default_rng(3).integers(0, 255, (6, 32, 32), dtype=np.uint8)
STILL = Recipe(registration="none", refinement="none")
NO_DEPTH = "no depth layer: run 'Depth from focus, all steps' on a stack first"


def spoilt(value, dtype=np.float32):
    """Planes with one pixel that is `value`."""
    planes = GREY.astype(dtype)
    planes[2, 10, 10] = value
    return planes


STACKS = {  # data, how the layer lies, and what is said
    "no plane": (GREY[:0], {}, "at least 3 along Z, got 0"),
    "one plane": (GREY[:1], {}, "at least 3 along Z, got 1"),
    "two planes": (GREY[:2], {}, "at least 3 along Z, got 2"),
    "low planes": (GREY[:, :4], {}, "at least 8 × 8 pixels, got 4 × 32"),
    "truth values": (GREY > 9, {}, "must be integers or floats (uint8, uint16, float32), got bool"),
    "NaN": (spoilt(np.nan), {}, "1 NaN or infinite values in plane 2"),
    "infinity": (spoilt(-np.inf), {}, "1 NaN or infinite values in plane 2"),
    "huge": (spoilt(1e300, np.float64), {}, "must be from -1e+12 to 1e+12, got 1e+300 in plane 2"),
    "black": (np.zeros_like(GREY), {}, "no contrast anywhere"),
    "saturated": (np.full_like(GREY, 255), {}, "no contrast anywhere"),
    "two units": (GREY, {"units": ("mm", "um", "um")}, "must have one unit for Z, Y and X, got"),
    "a time": (GREY, {"units": ("s", "s", "s")}, "unit must be pixel, "),
    "tiny pixels": (GREY, {"scale": (1, 1e-14, 1)}, "pixel_size must be two positive lengths"),
    "no distance": (GREY, {"scale": (1e-20, 1, 1), "translate": (5, 0, 0)}, "must rise (or fall)"),
    "unnamed": (GREY[None], {}, "name the 4 axes of 'mine' in their order, for example T Z Y X"),
    "channels": (
        np.stack([GREY] * 2),
        {"axis_labels": ("c", "z", "y", "x")},
        "choose the focus channel of 'mine'",
    ),
}


@pytest.fixture(autouse=True)
def unlogged(caplog):
    """No traceback in the log either."""
    yield
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.fixture
def told(notifications):
    """Checks the one sentence that a widget notifications, in the form and as a notification."""

    def check(widget, words, kind):
        assert len(notifications) == 1, (kind, notifications)
        sentence = notifications.pop()
        assert words in sentence, kind
        assert "\n" not in sentence, kind
        assert widget.status.value == f"failed: {sentence.split(': ', 1)[1]}", kind
        assert widget._task is None, kind

    return check


def test_stacks_that_are_none(person, told):
    """Each kind of stack in one of the forms, which hand all that they get to the functions."""
    widgets = person.open("align", "focus", "all")
    for (kind, (data, look, words)), widget in zip(STACKS.items(), itertools.cycle(widgets)):
        layer = person.viewer.add_image(data, name="mine", contrast_limits=(0, 1), **look)
        widget.stack.value = layer
        person.run(widget)
        told(widget, words, kind)
        assert widget.run.enabled
        assert list(person.viewer.layers) == [layer]
        person.viewer.layers.clear()
        person.qtbot.wait(10)
    person.viewer.add_image(GREY, name="good")
    for widget in widgets:
        person.run(widget)
        assert widget.status.value == "done"


# What each widget is asked for: a function sets it up, yields a widget, its button and the sentence
# to expect, and clears up.


class Scene:
    """A stack with the results of each step, and all widgets."""

    def __init__(self, person, chosen_file, tmp_path, monkeypatch):
        self.person, self.viewer, self.file = person, person.viewer, chosen_file
        self.folder, self.patch = tmp_path, monkeypatch
        names = [name for name in TITLES if name != "inspector"]
        for name, widget in zip(names, person.open(*names), strict=True):
            setattr(self, name, widget)

    def fill(self):
        truth = synthetic.rough_surface(size=32, planes=6, seed=5)
        self.source = self.person.stack(truth)
        for widget in (self.focus, self.depth, self.refine):
            self.person.run(widget)
        self.made = self.person.layer("refined depth")

    def held(self):
        """The layers, and what the images among them hold."""
        return [
            (each.name, id(getattr(each, "_data", None)), each.visible)
            for each in self.viewer.layers
        ]

    def points(self, *places):
        self.added = self.viewer.add_points(np.array(places, float), **self.lying(len(places[0])))
        return self.added

    def shapes(self, *corners, kind):
        self.added = self.viewer.add_shapes(ndim=2, **self.lying(2))
        self.added.add(list(corners), shape_type=kind)
        return self.added

    def lying(self, ndim):
        return {
            "scale": self.source.scale[-ndim:],
            "translate": self.source.translate[-ndim:],
            "units": self.source.units[-ndim:],
        }


def nothing_open(s):
    for widget in (s.align, s.focus, s.depth, s.refine, s.all):
        yield widget, widget.run, "no stack: open a focal stack"
    yield s.reuse, s.reuse.run, "nothing to use yet"
    for button in (s.surface.run, s.surface.export):
        yield s.surface, button, NO_DEPTH
    for button in (s.figure.play, s.figure.movie, s.figure.figure):
        yield s.figure, button, NO_DEPTH
    yield s.measure, s.measure.run, NO_DEPTH
    yield s.measure, s.measure.draw, NO_DEPTH
    yield s.measure, s.measure.keep, "nothing measured yet: press Measure first"
    yield s.measure, s.measure.save, "nothing to save: press Measure first"


def a_stack_alone(s):
    s.viewer.add_image(GREY, name="mine")
    yield s.depth, s.depth.run, "'mine' has no layer 'focus' yet: run 'Focus measure' first"
    yield s.refine, s.refine.run, "run 'Depth and all-in-focus' first"
    s.viewer.layers.clear()


def other_planes(s):
    whole = s.source.data
    for part in (whole[1:], whole[:, 1:], whole[..., 1:]):
        s.source.data = part
        yield s.depth, s.depth.run, "run 'Focus measure' again"
        yield s.refine, s.refine.run, "again"
    s.source.data = whole


def hints(s):
    for places, words in (
        ([[9, 10, 10]], "must lie in planes 0 to 5, got 9"),
        ([[10, 10]], "must have points with Z, Y, X"),
    ):
        s.refine.hints.layer.value = s.points(*places)
        yield s.refine, s.refine.run, words
        s.viewer.layers.remove(s.added)
    labels = s.viewer.add_labels(np.ones((4, 4), np.uint8))
    s.refine.hints.layer.value = labels
    yield s.refine, s.refine.run, "must cover the stack, (6, 32, 32), got shape (4, 4)"
    s.viewer.layers.remove(labels)


def measuring(s):
    m = s.measure
    m.input_layer.value = s.made
    for what, words in (("profile", "no line: press Draw"), ("step height", "two areas, got 0")):
        m.measure.value = what
        yield m, m.run, words
    m.shapes.value = s.shapes([[50, 50], [50, 60], [60, 60], [60, 50]], kind="rectangle")
    for what in ("roughness", "volume"):
        m.measure.value = what
        yield m, m.run, "heights must be known somewhere inside the region"
    s.viewer.layers.remove(s.added)
    m.measure.value = "profile"
    m.shapes.value = s.shapes([[5, 5], [5, 5]], kind="line")
    yield m, m.run, "line must have two vertices that differ"
    s.viewer.layers.remove(s.added)
    m.measure.value, m.levelling.value = "roughness", "three_points"
    yield m, m.run, "no points: add a Points layer with three points"
    for places, words in (
        ([[5, 5], [9, 9], [11, 11]], "points must not lie on a line"),
        ([[5, 5], [9, 9], [90, 11]], "points must lie inside the 32 × 32 pixels, got (90, 11)"),
    ):
        m.plane_points.value = s.points(*places)
        yield m, m.run, words
        s.viewer.layers.remove(s.added)
    m.levelling.value = "plane"


def nowhere_in_focus(s):
    doubt = s.person.layer("refined uncertainty")
    known = doubt.data
    doubt.data = np.full_like(known, np.inf)
    s.measure.measure.value = "roughness"
    yield s.measure, s.measure.run, "heights must be known somewhere"
    s.surface.input_layer.value = s.made
    yield s.surface, s.surface.run, "heights must be known somewhere"
    s.file.path = s.folder / "mesh.ply"
    yield s.surface, s.surface.export, "heights must be known somewhere"
    doubt.data = known


def units(s):
    kept = s.made.units
    for units, words in (
        (("s", "s"), "unit must be pixel, "),
        (("mm", "um"), "must have one unit"),
    ):
        s.made.units = units
        for widget in (s.measure, s.surface):
            widget.input_layer.value = s.made
            yield widget, widget.run, words
        s.measure._on_mouse_move(s.viewer, SimpleNamespace(position=(14, 5, 5)))
    s.made.units = kept


def files(s):
    s.figure.input_layer.value = s.surface.input_layer.value = s.made
    taken = s.folder / "a file.txt"
    taken.touch()
    doors = (
        (s.surface, s.surface.export, "ply"),
        (s.figure, s.figure.movie, "gif"),
        (s.figure, s.figure.figure, "png"),
    )
    for widget, button, suffix in doors:
        s.file.path = s.folder / "x.xyz"
        yield widget, button, "must end in"
        s.file.path = taken / f"x.{suffix}"
        yield widget, button, "a file.txt"
        s.file.path = s.folder / f"folder.{suffix}"
        s.file.path.mkdir()
        yield widget, button, "folder"
        s.file.path.rmdir()

    taken.unlink()

    def full(*_args, **_settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for (widget, button, suffix), name in zip(
        doors,
        (
            "surface.save_mesh",
            "figure.figures.write_movie",
            "figure.figures.write_figure",
        ),
        strict=True,
    ):
        s.patch.setattr(f"napari_dff.widgets.tools.{name}", full)
        s.file.path = s.folder / f"x.{suffix}"
        yield widget, button, "No space left on device"
    s.measure.measure.value = "roughness"
    s.person.run(s.measure)
    s.patch.setattr("napari_dff.widgets.tools.measure.write_quantities", full)
    yield s.measure, s.measure.save, "No space left on device"


def newer(s):
    focus = s.person.layer("focus")
    before = focus.metadata[METADATA_KEY]
    focus.metadata[METADATA_KEY] = {**before, "settings": {**before["settings"], "colour": 1}}
    yield s.depth, s.depth.run, "recipe has no setting 'colour'"
    s.person.press(s.depth.copy)
    assert "not copied: recipe has no setting 'colour'" in s.depth.status.value
    s.person.press(s.depth.save)
    assert "not saved: recipe has no setting 'colour'" in s.depth.status.value
    focus.metadata[METADATA_KEY] = {**before, "settings": {**before["settings"], "window": 4}}
    yield s.depth, s.depth.run, "window must be auto or an odd number from 1 to 255, got 4"
    s.viewer.layers.selection.active = s.source
    s.viewer.layers.selection.active = focus
    assert "settings of 'focus' not shown: window must be" in s.focus.status.value
    assert s.focus.form.settings["window"].value == before["settings"]["window"]
    focus.metadata[METADATA_KEY] = before


def parts_missing(s):
    picture = s.person.layer("refined all in focus")
    s.viewer.layers.remove(picture)
    yield s.figure, s.figure.figure, "has no all-in-focus image beside it"
    s.viewer.layers.remove(s.source)
    yield s.figure, s.figure.play, "was made from is gone"
    s.reuse.input_layer.value = s.made
    yield s.reuse, s.reuse.run, "no stacks chosen"


def recipe_files(s):
    """These are told in the form alone."""
    path = s.file.path = s.folder / "recipe.json"
    for text, words in (
        ("{", "recipe.json"),
        ("[1]", "recipe"),
        ('{"smothness": 2}', "did you mean 'smoothness'"),
        ('{"window": 4}', "window must be auto or an odd number from 1 to 255, got 4"),
        ('{"peak": "best"}', "peak must be one of"),
        ('{"sigma": NaN}', "sigma must be auto or a number from 0 to 32, got nan"),
        (b"\xff\xfe", "recipe.json"),
    ):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        yield s.all, s.all.load, f"not loaded: … {words}"
    path.unlink()
    yield s.all, s.all.load, "not loaded: … recipe.json"
    path.mkdir()
    yield s.all, s.all.load, "not loaded: … recipe.json"
    yield s.all, s.all.save, "not saved: … recipe.json"
    path.rmdir()


CASES = (
    nothing_open,
    a_stack_alone,
    recipe_files,
    other_planes,
    hints,
    measuring,
    nowhere_in_focus,
    units,
    files,
    newer,
    parts_missing,
)


def test_what_widgets_are_asked_for(
    person, told, notifications, chosen_file, tmp_path, monkeypatch
):
    scene = Scene(person, chosen_file, tmp_path, monkeypatch)
    for case in CASES:
        if case is other_planes:
            scene.fill()
        for widget, button, words in case(scene):
            before, files = scene.held(), sorted(tmp_path.iterdir())
            person.run(widget, button)
            if "…" in words:
                assert not notifications
                assert all(part in widget.status.value for part in words.split("… ")), words
                assert "\n" not in widget.status.value
            else:
                told(widget, words, case.__name__)
            assert scene.held() == before, (case.__name__, words)
            assert sorted(tmp_path.iterdir()) == files, (case.__name__, words)
        person.qtbot.wait(10)


# Files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A run's folder."""
    truth = synthetic.rough_surface(size=32, planes=6, seed=5)
    folder = tmp_path_factory.mktemp("run") / "out"
    save_reconstruction(depth_from_focus(truth.stack, STILL), folder)
    return folder


def provenance(folder, **changes):
    """A run's folder whose record is another."""
    path = folder / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def wrong_zarr(folder, multiscales):
    group = zarr.open_group(folder / "wrong.zarr", mode="w")
    group.create_array("0", data=GREY)
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    return folder / "wrong.zarr"


def written(path, content):
    path.write_bytes(content)
    return path


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def tiff(path, data, **settings):
    tifffile.imwrite(path, data, photometric="minisblack", **settings)
    return path


FILES = {  # what is opened, given a folder and that of a run, and what is said
    "no TIFF": (lambda new, _: written(new / "x.tif", b"II*\0nonsense"), "x.tif"),
    "an empty TIFF": (lambda new, _: written(new / "x.tif", b""), "x.tif"),
    "half a TIFF": (lambda new, _: cut(tiff(new / "x.tif", GREY), 0.5), "x.tif"),
    "no axes": (
        lambda new, _: tiff(new / "x.tif", np.stack([GREY] * 2)),
        "in napari, open it with napari's own reader, and write the axes into the form",
    ),
    "no CZI": (lambda new, _: written(new / "x.czi", b"nothing"), "bioio"),
    "a zarr of a word": (lambda new, _: wrong_zarr(new, "word"), "wrong.zarr"),
    "a zarr of nothing": (lambda new, _: wrong_zarr(new, []), "wrong.zarr"),
    "a zarr of numbers": (lambda new, _: wrong_zarr(new, [1]), "wrong.zarr"),
    "half a depth": (lambda _, run: cut(run / "depth.ome.tif", 0.5).parent, "out holds no result"),
    "an empty index": (lambda _, run: written(run / "index.ome.tif", b"").parent, "out holds no"),
    "a record of words": (lambda _, run: provenance(run, input="x"), "out holds no result"),
    "no positions": (lambda _, run: provenance(run, positions=[]), "out holds no result"),
    "broken record": (
        lambda _, run: written(run / "provenance.json", b"{").parent,
        "out holds no result",
    ),
    "no record": (
        lambda _, run: written(run / "provenance.json", b"[]").parent,
        "out holds no result",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_none(result, tmp_path, kind):
    make, words = FILES[kind]
    run = shutil.copytree(result, tmp_path / "out")
    path = make(tmp_path, run)
    read = reader(str(path))
    with pytest.raises(StackError, match=re.escape(words)) as caught:
        read(str(path))
    assert "\n" not in str(caught.value)
