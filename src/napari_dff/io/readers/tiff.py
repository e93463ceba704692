"""TIFF: multi-page files, ImageJ hyperstacks, OME-TIFF in one or several files."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile
from tifffile import natural_sorted

from napari_dff.io.readers.axes import Source, StackError, as_stack_error
from napari_dff.io.readers.photometric import SEPARATED, cmyk_warning
from napari_dff.io.readers.tiff_calibration import describe_ome, describe_series
from napari_dff.io.readers.tiff_opening import open_tiff
from napari_dff.io.readers.tiff_series import MULTI_FILE_KINDS, series_pixels
from napari_dff.model.stack import MIN_PLANES

TIFF_SUFFIXES = {".tif", ".tiff", ".btf", ".tf2", ".tf8", ".stk", ".lsm"}
MMSTACK_NAME = re.compile(r"_MMStack(_[\w-]*)?\.ome\.tiff?$")
TIFF_AXES = "TCZYXS"  # letters with the same meaning in tifffile
UNNAMED_AXES = "IQ"


def tiff_sources(path: Path) -> list[Source]:
    """Return every series of pages in a TIFF as a lazy source."""
    messages: list[str] = []
    with as_stack_error(f"{path.name} can't be read as TIFF"):
        with open_tiff(path, messages) as (tif, ome):
            images = _ome_images(path, ome)
            missing_files = _missing_files(path, ome)
            series = [each for each in tif.series if not _is_thumbnail(each)]
            series = _join_single_pages(path, series, messages)
            sources = [_source(path, tif, each, images, missing_files) for each in series]
            messages += _unread_pages(path, tif) + _mixed_pages(path, series)
        return [
            dataclasses.replace(each, warnings=each.warnings or tuple(messages)) for each in sources
        ]


def find_dataset(folder: Path) -> Path | None:
    """Return the first file of an NDTiff or MMStack dataset in a folder; None if it holds none."""
    files = natural_sorted(str(path) for path in folder.iterdir() if path.suffix in TIFF_SUFFIXES)
    if not (folder / "NDTiff.index").is_file():
        files = [file for file in files if MMSTACK_NAME.search(file)]
    return Path(files[0]) if files else None


def _source(
    path: Path,
    tif: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    images: list[ElementTree.Element],
    missing_files: Sequence[str],
) -> Source:
    if images and series.kind not in MULTI_FILE_KINDS:
        raise StackError(f"{path.name} is damaged: its OME metadata doesn't fit its pages")
    image = _take_image(series, images)
    name = "" if image is None else series.name
    text = describe_series(tif, series) if image is None else describe_ome(image)
    pages = series if series.kind in MULTI_FILE_KINDS else series[:1]
    files = tuple({Path(page.parent.filehandle.path) for page in pages if page is not None})
    data, letters, warnings = series_pixels(path, series, missing_files)
    if text.shape:
        data, letters = data.reshape(tuple(text.shape.values())), "".join(text.shape)
    axes = tuple(_axis(letter, series.kind) for letter in letters)
    profile = b"" if series.keyframe.photometric == SEPARATED else series.keyframe.iccprofile or b""
    if series.keyframe.photometric == SEPARATED and series.keyframe.iccprofile:
        warnings += (cmyk_warning(path.name),)
    details: dict[str, Any] = {"warnings": warnings, "files": files, "icc_profile": profile}
    return Source(data, axes, path.name, name, text.channels, text.calibration, **details)


def _join_single_pages(
    path: Path, series: list[tifffile.TiffPageSeries], messages: list[str]
) -> list[tifffile.TiffPageSeries]:
    """Return equal series of one page each, as of a file written page by page, as one series."""
    pages: list[Any] = [each.pages[0] for each in series if len(each) == 1]
    if len(pages) < max(len(series), MIN_PLANES) or None in pages:
        return series
    if len({page.hash for page in pages}) > 1 or len({each.kind for each in series}) > 1:
        return series
    page, kind = pages[0], series[0].kind
    if kind == "ome":
        messages.append(
            f"the OME metadata of {path.name} describe {len(pages)} images of one plane each: they "
            "are taken as the planes of one stack, in this order"
        )
    shape, axes = (len(pages), *page.shape), ("Z" if kind == "ome" else "I") + page.axes
    kind = "generic" if kind == "shaped" else kind
    return [tifffile.TiffPageSeries(pages, shape, page.dtype, axes, kind=kind)]


def _is_thumbnail(series: tifffile.TiffPageSeries) -> bool:
    """Return whether a series holds the reduced images that LSM has for all planes."""
    return series.kind == "lsm" and bool(series.keyframe.is_reduced)


def _axis(letter: str, kind: str) -> str:
    if letter in TIFF_AXES:
        return letter
    if (letter == "R" and kind in ("mmstack", "ndtiff")) or (letter in "PM" and kind == "lsm"):
        return "P"
    if letter in UNNAMED_AXES and kind != "ome":
        return ""
    return str(tifffile.TIFF.AXES_NAMES.get(letter, letter))


def _missing_files(path: Path, root: ElementTree.Element | None) -> list[str]:
    """Return the files that the OME metadata name and that are not there."""
    elements = [] if root is None else root.findall(".//{*}UUID")
    own = None if root is None else root.get("UUID")
    names = {each.get("FileName") for each in elements if each.text != own}
    return sorted(name for name in names if name and not (path.parent / name).exists())


def _unread_pages(path: Path, tif: tifffile.TiffFile) -> list[str]:
    """Return a warning if OME or ImageJ describe fewer planes than the file has pages."""
    if tif.series[0].kind not in ("ome", "imagej"):
        return []
    pages = [page for series in tif.series for page in series.pages if page is not None]
    count = sum(page.parent is tif for page in pages)
    total = len(tif.pages)
    planes = sum(len(series) for series in tif.series)
    if max(count, planes) >= total:
        return []
    kind = "OME" if tif.series[0].kind == "ome" else "ImageJ"
    return [
        f"{path.name} holds {total} pages, but its {kind} metadata describe {planes} planes: the "
        "others are not read; save it again without these metadata to read all pages"
    ]


def _mixed_pages(path: Path, series: Sequence[tifffile.TiffPageSeries]) -> list[str]:
    """Return a warning if pages of one size belong to different series by turns."""
    kind_counts = Counter(
        (each.keyframe.shape, each.dtype) for each in series if each.kind == "generic"
    )
    pages = [[page.index for page in each.pages if page is not None] for each in series]
    if max(kind_counts.values(), default=0) < 2 or all(
        i[-1] - i[0] == len(i) - 1 for i in pages if i
    ):
        return []
    return [
        f"{path.name} holds pages of one size in {len(series)} kinds by turns, as of different "
        f"compression: they are taken as {len(series)} positions; save all pages in one way"
    ]


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
