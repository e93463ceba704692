"""TIFF: multi-page files, ImageJ hyperstacks, OME-TIFF in one or several files."""

import dataclasses
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_dff.io.readers.axes import Source, StackError, as_dask_array, as_stack_error
from napari_dff.io.readers.calibration import UNCALIBRATED, Calibration, Length, make_calibration
from napari_dff.io.readers.tiff_opening import map_series, open_tiff

TIFF_SUFFIXES = {".tif", ".tiff"}
TIFF_AXES = "TCZYXS"  # letters with the same meaning in tifffile
UNNAMED_AXES = "IQ"
MULTI_FILE_KINDS = ("ome", "mmstack", "ndtiff")  # planes may be in several files


def tiff_sources(path: Path) -> list[Source]:
    """Return every series of pages in a TIFF as a lazy source."""
    messages: list[str] = []
    with as_stack_error(f"{path.name} can't be read as TIFF"):
        with open_tiff(path, messages) as (tif, ome):
            images = _ome_images(path, ome)
            sources = [_source(path, tif, series, images) for series in tif.series]
        return [dataclasses.replace(each, warnings=tuple(messages)) for each in sources]


def check_codec(name: str, page: tifffile.TiffPage) -> None:
    """Raise StackError if the pixels of `page` can only be decoded with imagecodecs."""
    is_supported = page.compression in tifffile.TIFF.DECOMPRESSORS
    if not (is_supported and page.predictor in tifffile.TIFF.UNPREDICTORS):
        kind = getattr(page.compression, "name", str(page.compression))
        raise StackError(f"{name} is compressed ({kind}): pip install imagecodecs, then try again")


def _source(
    path: Path,
    tif: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    images: list[ElementTree.Element],
) -> Source:
    if images and series.kind not in MULTI_FILE_KINDS:
        raise StackError(f"{path.name} is damaged: its OME metadata doesn't fit its pages")
    image = _take_image(series, images)
    name, calibration, channels = "", UNCALIBRATED, tuple[str, ...]()
    if image is not None:
        name, (calibration, channels) = series.name, _calibrate_ome(image)
    elif tif.imagej_metadata:
        calibration, channels = _calibrate_imagej(tif.imagej_metadata, tif.pages.first)
    pages = series if series.kind in MULTI_FILE_KINDS else series[:1]
    files = tuple({Path(page.parent.filehandle.path) for page in pages if page is not None})
    axes = tuple(_axis(letter, series.kind) for letter in series.axes)
    pixels = _lazy_pixels(path, series)
    return Source(pixels, axes, path.name, name, channels, calibration, files=files)


def _axis(letter: str, kind: str) -> str:
    if letter in TIFF_AXES:
        return letter
    if letter == "R" and kind in MULTI_FILE_KINDS[1:]:  # of Micro-Manager
        return "P"
    if letter in UNNAMED_AXES and kind != "ome":
        return ""
    return str(tifffile.TIFF.AXES_NAMES.get(letter, letter))


def _lazy_pixels(path: Path, series: tifffile.TiffPageSeries) -> Any:
    """Return the pixels of a series: memory-mapped if possible, else decoded on demand."""
    page = series.keyframe
    # the offset of a missing plane is 0 in a truncated Micro-Manager file
    pages: Any = series if series.kind in MULTI_FILE_KINDS else ()
    missing = sum(each is None or each.offset == 0 for each in pages)
    if missing:
        problem = f"{missing} of the {len(series)} planes of {path.name} are missing"
        raise StackError(f"{problem}: the files that contain them must be in the same folder")
    check_codec(path.name, page)
    mapped = map_series(series)
    if mapped is not None:
        if mapped.dtype.isnative:
            return mapped
        planes = (1,) * (mapped.ndim - page.ndim) + mapped.shape[-page.ndim :]
        return as_dask_array(mapped, planes, series.axes, path.name)
    import zarr  # 0.3 s, needed only here

    _check_ends(path, series)
    store = series.aszarr(level=0, chunkmode=0 if page.is_tiled else 2)  # tiles, else whole pages
    array = zarr.open_array(store, mode="r")
    return as_dask_array(array, array.chunks, series.axes, path.name)


def _check_ends(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Raise StackError if the first or the last page extends beyond the end of its file."""
    pages: tuple[Any, ...] = (series[0], series[-1])
    for page in filter(None, pages):
        ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > page.parent.filehandle.size:
            raise StackError(f"{path.name} is cut short: page {page.index} goes beyond its end")


def _ome_images(path: Path, root: ElementTree.Element | None) -> list[ElementTree.Element]:
    if root is None:
        return []
    if (part := root.find("{*}BinaryOnly")) is not None:
        main = part.get("MetadataFile")
        raise StackError(f"{path.name} contains only a part of an image: open {main}")
    return root.findall("{*}Image")


def _take_image(
    series: tifffile.TiffPageSeries, images: list[ElementTree.Element]
) -> ElementTree.Element | None:
    """Return the next of `images` that fits a series, and remove it and those before it."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    for i, image in enumerate(images):
        pixels = image.find("{*}Pixels")
        if pixels is None or (series.name and image.get("Name", series.name) != series.name):
            continue
        if all(int(pixels.get(f"Size{axis}", 0)) == sizes.get(axis, 1) for axis in "YX"):
            del images[: i + 1]
            return image
    return None


def _calibrate_ome(image: ElementTree.Element) -> tuple[Calibration, tuple[str, ...]]:
    """Return calibration and channel names of one Image; the default unit is µm."""
    pixels: Any = image.find("{*}Pixels")
    names = [f"PhysicalSize{axis}" for axis in "ZYX"]
    z, y, x = (Length(pixels.get(n) or None, pixels.get(f"{n}Unit", "µm")) for n in names)
    channels = tuple(each.get("Name", "") for each in pixels.findall("{*}Channel"))
    return make_calibration(z, y, x, focus_positions=_focus_positions(pixels)), channels


def _focus_positions(pixels: ElementTree.Element) -> tuple[np.ndarray, str] | None:
    """Return PositionZ of the planes of the first channel, (T, Z), and its unit."""
    focus_positions = np.full([int(pixels.get(f"Size{axis}", 1)) for axis in "TZ"], np.nan)
    units = set()
    for plane in pixels.findall("{*}Plane"):
        if "PositionZ" in plane.attrib and plane.get("TheC", "0") == "0":
            index = tuple(int(plane.get(f"The{axis}", 0)) for axis in "TZ")
            focus_positions[index] = float(plane.attrib["PositionZ"])
            units.add(plane.get("PositionZUnit", "reference frame"))  # default of the schema
    return (focus_positions, units.pop()) if len(units) == 1 else None


def _calibrate_imagej(
    metadata: dict[str, Any], page: tifffile.TiffPage
) -> tuple[Calibration, tuple[str, ...]]:
    """Return calibration and channel names from the metadata of ImageJ."""
    unit = metadata.get("unit")
    sizes = []
    for axis in "YX":
        tag = page.tags.get(f"{axis}Resolution")
        pixels, lengths = tag.value if tag is not None else (0, 1)
        axis_unit = metadata.get(f"{axis.lower()}unit", unit)
        sizes.append(Length(lengths / pixels if pixels else None, axis_unit))
    z = Length(metadata.get("spacing"), metadata.get("zunit", unit))
    return make_calibration(z, *sizes), _labels(metadata)


def _labels(metadata: dict[str, Any]) -> tuple[str, ...]:
    """Return the label of each channel, "" where its planes have different ones."""
    count, labels = int(metadata.get("channels", 1)), metadata.get("Labels") or []
    if len(labels) < count:
        return ()
    by_channel = [set(labels[c::count]) for c in range(count)]
    return tuple(names.pop() if len(names) == 1 else "" for names in by_channel)
