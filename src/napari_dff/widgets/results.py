"""Results from the disk as layers: of a run, or of layers that were saved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_dff.io import StackError, frames_in
from napari_dff.io.axes import reason
from napari_dff.io.folders import RECORD, settle
from napari_dff.io.records import from_json
from napari_dff.io.tiff_opening import ome_of, opened
from napari_dff.io.tiff_reading import TIFFS
from napari_dff.io.zarr_reading import check_unpickled
from napari_dff.registration import LazyAlignedStack
from napari_dff.units import EXPONENTS
from napari_dff.widgets.layers import METADATA_KEY, plane_spacing
from napari_dff.widgets.maps import look_of, sample
from napari_dff.widgets.series import valid_in

STEP = "Depth from focus"  # what a run of the command line is, too
ROLES = {  # in a run's folder, from the bottom to the top
    "uncertainty": "uncertainty",
    "index": "plane index",
    "all_in_focus": "all in focus",
    "depth": "depth",
}
ENDS = (".ome.zarr", ".tif")
HELD = 500e6  # bytes: what is smaller is read at once, to be looked through without waiting
LayerData = tuple[Any, dict[str, Any], str]


def is_result(path: Path) -> bool:
    """Whether there is a result of ours: a run's folder, one of its images, or a saved layer."""
    if path.is_dir() and path.suffix != ".zarr":
        return bool(_folders(path))
    told = record_of(path)
    return "layer" in told or ("recipe" in told and _role_in(path) is not None)


def result_layers(path: Path) -> list[LayerData]:
    """The layers of a result; StackError with a sentence where a file of it is broken."""
    try:
        if path.is_dir() and path.suffix != ".zarr":
            return [layer for folder in _folders(path) for layer in _of_a_folder(folder)]
        told = record_of(path)
        if "layer" in told:
            return [_saved(pixels_in(path), told, path)]
        return [_of_a_file(path, told)]
    except Exception as error:  # every decoder has its own
        sentence = f"{path.name} holds no result as a run writes it: {reason(error)}"
        raise StackError(sentence) from error


def _of_a_folder(folder: Path) -> list[LayerData]:
    told = from_json(folder / RECORD, "the record of a run")
    files = {name: _file(folder, name) for name in ROLES}
    moved = folder / "transforms.json"
    if moved.exists():
        told["transforms"] = json.loads(moved.read_text(encoding="utf-8"))["transforms"]
    held = {name: pixels_in(file) for name, file in files.items() if file is not None}
    doubts = held.get("uncertainty")
    return [_of_a_run(name, data, told, folder, doubts) for name, data in held.items()]


def _of_a_file(path: Path, told: dict[str, Any]) -> LayerData:
    name, doubts = _role_in(path) or "depth", None
    beside = _file(path.parent, "uncertainty")
    if name == "index" and beside is not None:
        doubts = pixels_in(beside)
    return _of_a_run(name, pixels_in(path), told, path.parent, doubts)


def title(path: str, position: str = "") -> str:
    """What a position of a file is called: the name of the file without endings, and its own."""
    place = Path(path)
    stem = place.name if place.is_dir() else place.stem
    for ending in (".zarr", ".ome"):
        stem = stem.removesuffix(ending)
    return f"{stem} {position}".strip()


def record_of(path: Path) -> dict[str, Any]:
    """What a file of ours says made it; empty of any other."""
    try:
        if path.suffix == ".zarr":
            import zarr  # 0.3 s, needed only here

            told: Any = dict(zarr.open(path, mode="r").attrs).get(METADATA_KEY)
        elif path.suffix.lower() in TIFFS:
            with opened(path, []) as tif:
                root = ome_of(path, tif)
            told = root.findtext("{*}Image/{*}Description") if root is not None else ""
            if "napari_dff" not in (told or ""):
                return {}
            told = json.loads(told)
        else:
            return {}
    except Exception:  # whoever reads it says why it can't be
        return {}
    return dict(told) if isinstance(told, Mapping) and "napari_dff" in told else {}


def pixels_in(path: Path) -> Any:
    """The array of a result, in the order of its file, colour last; in memory unless large."""
    if path.suffix != ".zarr":
        with opened(path, []) as tif:
            ome_of(path, tif)
            if path.stat().st_size > HELD:
                return tifffile.memmap(path, mode="r")
            return np.asarray(tif.asarray())
    import zarr

    array: Any = zarr.open_array(path / "0", mode="r")
    check_unpickled(path.name, array)
    if array.nbytes > HELD:
        import dask.array as da

        values: Any = da.from_array(array, chunks=array.chunks)  # type: ignore[no-untyped-call]
    else:
        values = np.asarray(array)
    told: Any = dict(zarr.open_group(path, mode="r").attrs)
    labels = [str(each.get("label")) for each in told.get("omero", {}).get("channels", [])]
    pairs = zip(labels, ("red", "green", "blue"), strict=False)
    if len(labels) < 3 or not all(label.endswith(name) for label, name in pairs):
        return values
    c = [axis["name"] for axis in told["multiscales"][0]["axes"]].index("c")
    parted = values.reshape(*values.shape[:c], -1, 3, *values.shape[c + 1 :])
    coloured = np.moveaxis(parted, c + 1, -1)
    every: Any = slice(None)
    return coloured[(*[every] * c, 0)] if coloured.shape[c] == 1 else coloured


def _of_a_run(
    name: str, data: np.ndarray, told: dict[str, Any], folder: Path, doubts: np.ndarray | None
) -> LayerData:
    """One image of a run's folder, as the widget of all steps puts it."""
    given, positions = told["input"], np.asarray(told["positions"], float)
    own = dict(given.get("layer", {}))
    times, planes = np.atleast_2d(positions).shape
    shape, channels = given["shape"], len(given["channels"])
    colour = name == "all_in_focus" and len(shape) == 6
    before = [("t", times)] * (times > 1) + [("c", channels)] * (channels > 1)
    mine = [n if axis == "t" or name == "all_in_focus" else 1 for axis, n in before]
    if name == "index":
        known = np.ones(data.shape, bool) if doubts is None else np.isfinite(doubts)
        data = np.where(known, data + np.uint16(1), np.uint16(0))
    if before:
        data = data.reshape(*mine, 1, *data.shape[data.ndim - 2 - colour :])
    (step, first), (height, width) = plane_spacing(positions), told["pixel_size"]
    top, left = own.get("translate", (0.0, 0.0))
    place = _thick(
        np.array([1.0] * len(before) + [step, height, width]),
        np.array([0.0] * len(before) + [first, top, left]),
        [n for _, n in before] + [planes, 0, 0],
        [*mine, 1, 0, 0],
    )
    axes = 2 if not before else len(before) + 3
    prefix, stack = (
        own.get("prefix", "refined "),
        title(given.get("path", ""), given.get("position", "")),
    )
    root = own.get("root") or stack or folder.name
    role = prefix + ROLES[name]
    ours = {
        "role": role,
        "root": root,
        "step": own.get("step", STEP),
        "source": f"file {folder.absolute()}",
        "settings": told["recipe"],
        "recipe": told["recipe"],
        "positions": positions if not before or times == 1 else _spread(positions, before),
        "channels": given["channels"],
        "input": given,
    }
    if channels > 1:
        ours["focus_channel"] = told["focus_channel"]
    if "transforms" in told:
        moved = np.asarray(told["transforms"], float)
        alone = moved.ndim == 4 and channels > 1
        ours["transforms"] = moved[:, np.newaxis] if alone else moved
    look: dict[str, Any] = {
        "name": f"{role} · {root}",
        "metadata": {METADATA_KEY: ours},
        "units": tuple(["pixel"] * len(before) + [told["unit"]] * 3)[-axes:],
        "axis_labels": (*(axis for axis, _ in before), "z", "y", "x")[-axes:],
        "visible": name in ("all_in_focus", "depth"),
        **{key: value[-axes:] for key, value in place.items()},
    }
    if name == "index":
        return data, look, "labels"
    return data, look | _look(name, data, positions, colour), "image"


def _look(name: str, data: np.ndarray, positions: np.ndarray, colour: bool) -> dict[str, Any]:
    """Colormap and limits, as the widgets have them."""
    if name == "all_in_focus":
        return {"rgb": False, **look_of(data, colour)}
    if name == "depth":
        ends = float(positions.min()), float(positions.max())
        return {"colormap": "gray", "contrast_limits": ends}
    known = sample(data)[np.isfinite(sample(data))]
    doubt = float(np.percentile(known, 99)) if known.size else 1.0
    return {"colormap": "magma", "contrast_limits": (0.0, max(doubt, 1e-6))}


def _thick(
    scale: np.ndarray, translate: np.ndarray, whole: list[int], mine: list[int]
) -> dict[str, np.ndarray]:
    """Scale and translation where an axis that a result has one pixel of is as thick as all."""
    thick = np.array([n if own == 1 else 1 for n, own in zip(whole, mine, strict=True)])
    return {"scale": scale * thick, "translate": translate + scale * (thick - 1) / 2}


def _spread(positions: np.ndarray, before: list[tuple[str, int]]) -> np.ndarray:
    """Positions of each time, with the axes before Z."""
    every = positions if len(before) == 1 else positions[:, np.newaxis]
    return np.broadcast_to(every, (*(n for _, n in before), positions.shape[-1])).copy()


def _saved(data: np.ndarray, told: dict[str, Any], path: Path) -> LayerData:
    """A layer as it was saved."""
    layer = dict(told["layer"])
    kind, shape, order = layer.pop("kind"), layer.pop("shape"), layer.pop("order")
    rgb = layer.get("rgb", False)
    if order:  # which of its axes are the first ones of the file
        data = data.transpose([*np.argsort(order), *range(len(order), data.ndim)])
    data = data.reshape(*shape, *data.shape[data.ndim - rgb :])
    ours = {name: _array(name, value) for name, value in layer.pop("ours").items()}
    if ours.get("role") == "aligned" and "transforms" in ours:
        ours["valid"] = _valid(ours["transforms"], shape[-2:])
    if kind == "image" and path.suffix != ".zarr" and set(layer["units"][-3:]) <= set(EXPONENTS):
        ours["in_file"] = {name: layer[name] for name in ("scale", "translate", "units")}
    if "root" in ours:
        ours["source"] = f"file {path.parent.absolute()} {ours['root']}"
    return data, {**layer, "metadata": {METADATA_KEY: ours} if ours else {}}, kind


def _array(name: str, value: Any) -> Any:
    return np.asarray(value, float) if name in ("positions", "transforms") else value


def _valid(transforms: np.ndarray, plane: list[int]) -> np.ndarray:
    """Where every plane has data, of the motions of one stack or of many."""
    count = transforms.shape[-3]
    empty = np.broadcast_to(np.uint8(0), (count, *plane))
    flat = transforms.reshape(-1, count, 3, 3)
    every = [valid_in(LazyAlignedStack(empty, each)) for each in flat]
    return np.stack(every).reshape(*transforms.shape[:-3], *plane)


def _folders(path: Path) -> list[Path]:
    """The folder of a result, or those in it of several; not those beside frames or of a batch."""
    if _is_folder(path):
        return [path]
    if frames_in(path) or (path / "summary.csv").exists():
        return []
    return sorted(each for each in path.iterdir() if each.is_dir() and _is_folder(each))


def _is_folder(path: Path) -> bool:
    if not (path / RECORD).is_file():
        settle(path)  # a run may have been killed while it moved its result there
    return (path / RECORD).is_file() and _file(path, "depth") is not None


def _file(folder: Path, name: str) -> Path | None:
    """The image of that name, in whichever format it is."""
    files = (folder / f"{name}{end}" for end in ENDS)
    return next((file for file in files if file.exists()), None)


def _role_in(path: Path) -> str | None:
    """Which image of a run a file is, by its name."""
    return next((name for name in ROLES if name in path.name), None)
