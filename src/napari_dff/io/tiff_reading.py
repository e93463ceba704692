"""TIFF: plain ones of many pages, ImageJ's hyperstacks, OME-TIFF in one or many files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_dff.io.axes import Source, StackError, reason, unread
from napari_dff.io.calibration import UNCALIBRATED, Calibration, Length, calibration
from napari_dff.io.tiff_opening import map_series, open_tiff

TIFFS = {".tif", ".tiff"}
NAMED = "TCZYXS"  # letters that mean to tifffile what they mean to us
UNNAMED = "IQ"
JOINED = ("ome", "mmstack", "ndtiff")  # kinds whose planes may lie in several files


def tiff_sources(path: Path) -> list[Source]:
    """Every series of pages in a TIFF, unread."""
    try:
        odd: list[str] = []
        with open_tiff(path, odd) as (tif, ome):
            images = _ome_images(path, ome)
            found = [_source(path, tif, series, images) for series in tif.series]
        return [dataclasses.replace(each, doubts=tuple(odd)) for each in found]
    except StackError:
        raise
    except Exception as error:  # tifffile raises many kinds for a broken file
        raise StackError(f"{path.name} can't be read as TIFF: {reason(error)}") from error


def check_codec(name: str, page: tifffile.TiffPage) -> None:
    """StackError when the pixels of `page` can only be decoded with the package imagecodecs."""
    coded = page.compression in tifffile.TIFF.DECOMPRESSORS
    if not (coded and page.predictor in tifffile.TIFF.UNPREDICTORS):
        kind = getattr(page.compression, "name", str(page.compression))
        raise StackError(f"{name} is compressed ({kind}): pip install imagecodecs, then try again")


def _source(
    path: Path,
    tif: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    images: list[ElementTree.Element],
) -> Source:
    if images and series.kind not in JOINED:
        raise StackError(f"{path.name} is damaged: its OME metadata doesn't fit its pages")
    image = _image_of(series, images)
    known: Calibration = UNCALIBRATED
    channels: tuple[str, ...] = ()
    if image is not None:
        known, channels = _from_ome(image)
    elif tif.imagej_metadata:
        known, channels = _from_imagej(tif.imagej_metadata, tif.pages.first)
    return Source(
        _pixels(path, series),
        tuple(_axis(letter, series.kind) for letter in series.axes),
        path.name,
        series.name if image is not None else "",
        channels,
        known,
        files=_files(series),
    )


def _files(series: tifffile.TiffPageSeries) -> tuple[Path, ...]:
    """All files that hold planes of a series."""
    pages = series if series.kind in JOINED else series[:1]
    return tuple({Path(page.parent.filehandle.path) for page in pages if page is not None})


def _axis(letter: str, kind: str) -> str:
    if letter in NAMED:
        return letter
    if letter == "R" and kind in JOINED[1:]:  # both of Micro-Manager
        return "P"
    if letter in UNNAMED and kind != "ome":
        return ""
    return str(tifffile.TIFF.AXES_NAMES.get(letter, letter))


def _pixels(path: Path, series: tifffile.TiffPageSeries) -> Any:
    """Pixels of a series: mapped where they lie in the file as they are, else decoded when read."""
    page = series.keyframe
    if series.kind in JOINED and (missing := sum(map(_lost, series))):
        raise StackError(
            f"{path.name} lacks {missing} of its {len(series)} planes: the files that hold them "
            "must lie beside it"
        )
    check_codec(path.name, page)
    mapped = map_series(series)
    if mapped is not None:
        if mapped.dtype.isnative:
            return mapped
        planes = (1,) * (mapped.ndim - page.ndim) + mapped.shape[-page.ndim :]
        return unread(mapped, planes, series.axes, path.name)
    import zarr  # 0.3 s, needed only here

    _check_ends(path, series)
    store = series.aszarr(level=0, chunkmode=0 if page.is_tiled else 2)  # tiles, else whole pages
    array = zarr.open_array(store, mode="r")
    return unread(array, array.chunks, series.axes, path.name)


def _lost(page: Any) -> bool:
    """Whether a plane isn't in the file: where Micro-Manager's is cut short, its place is 0."""
    return page is None or page.offset == 0


def _check_ends(path: Path, series: tifffile.TiffPageSeries) -> None:
    """StackError where the first or the last page goes beyond the end of its file."""
    ends_of: tuple[Any, ...] = (series[0], series[-1])
    for page in filter(None, ends_of):
        ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > page.parent.filehandle.size:
            raise StackError(f"{path.name} is cut short: page {page.index} goes beyond its end")


def _ome_images(path: Path, root: ElementTree.Element | None) -> list[ElementTree.Element]:
    """Elements Image of the OME metadata, if there is any."""
    if root is None:
        return []
    other = root.find("{*}BinaryOnly")
    if other is not None:
        raise StackError(
            f"{path.name} holds only pixels of a larger image: open {other.get('MetadataFile')}"
        )
    return root.findall("{*}Image")


def _image_of(
    series: tifffile.TiffPageSeries, images: list[ElementTree.Element]
) -> ElementTree.Element | None:
    """The Image that a series belongs to, taken out of `images`; some have no series."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    for i, image in enumerate(images):
        pixels = image.find("{*}Pixels")
        if pixels is None or (series.name and image.get("Name", series.name) != series.name):
            continue
        if all(int(pixels.get(f"Size{axis}", 0)) == sizes.get(axis, 1) for axis in "YX"):
            del images[: i + 1]
            return image
    return None


def _from_ome(image: ElementTree.Element) -> tuple[Calibration, tuple[str, ...]]:
    """Calibration and names of channels of one Image in OME metadata.

    Every length there has a unit of its own, micrometer where it isn't given.
    """
    pixels = image.find("{*}Pixels")
    assert pixels is not None
    z, y, x = (
        Length(size, pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if (size := pixels.get(f"PhysicalSize{axis}"))
        else None
        for axis in "ZYX"
    )
    channels = tuple(each.get("Name", "") for each in pixels.findall("{*}Channel"))
    return calibration(z, y, x, heights=_heights(pixels)), channels


def _heights(pixels: ElementTree.Element) -> tuple[np.ndarray, str] | None:
    """PositionZ of the planes of the first channel, (T, Z), and its unit."""
    heights = np.full([int(pixels.get(f"Size{axis}", 1)) for axis in "TZ"], np.nan)
    units = set()
    for plane in pixels.findall("{*}Plane"):
        if "PositionZ" in plane.attrib and plane.get("TheC", "0") == "0":
            where = tuple(int(plane.get(f"The{axis}", 0)) for axis in "TZ")
            heights[where] = float(plane.attrib["PositionZ"])
            units.add(plane.get("PositionZUnit", "reference frame"))  # as the schema has it
    return (heights, units.pop()) if len(units) == 1 else None


def _from_imagej(
    metadata: dict[str, Any], page: tifffile.TiffPage
) -> tuple[Calibration, tuple[str, ...]]:
    """Calibration and names of channels from what ImageJ writes."""
    unit = metadata.get("unit")
    sizes = []
    for axis in "YX":
        tag = page.tags.get(f"{axis}Resolution")
        pixels, lengths = tag.value if tag is not None else (0, 1)
        own = metadata.get(f"{axis.lower()}unit", unit)
        sizes.append(Length(lengths / pixels, own) if pixels else None)
    step = metadata.get("spacing")
    z = None if step is None else Length(step, metadata.get("zunit", unit))
    return calibration(z, *sizes), _labels(metadata)


def _labels(metadata: dict[str, Any]) -> tuple[str, ...]:
    """Labels of the planes, where all of a channel have the same."""
    count, labels = int(metadata.get("channels", 1)), metadata.get("Labels") or []
    if len(labels) < count:
        return ()
    by_channel = [set(labels[c::count]) for c in range(count)]
    return tuple(names.pop() if len(names) == 1 else "" for names in by_channel)
