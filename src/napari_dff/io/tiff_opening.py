"""Open TIFF: the only place that does. What it claims, names or lacks is checked before reading."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import struct
import threading
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

import numpy as np
import tifffile
from tifffile.tifffile import read_ndtiff_index

from napari_dff.io.axes import StackError

NEEDED = "25[6-9]|270|273|27[7-9]|317|32[2-5]|339"  # tags that pixels and lengths need
LOST = re.compile(rf"TiffPages |TiffTag ({NEEDED}) |missing data offset")  # in what tifffile logs
COUNTS = ("Channels", "Slices", "Frames", "Positions")  # as Micro-Manager calls and orders them
MOST_PLANES = 10_000_000  # more than that nobody takes


@contextlib.contextmanager
def open_tiff(
    path: Path, odd: list[str]
) -> Iterator[tuple[tifffile.TiffFile, ElementTree.Element | None]]:
    """Open a TIFF file; gives it with the root of its OME metadata, or None.

    Messages that tifffile logs are not shown; if there are any, a sentence is appended to `odd`.

    Raises
    ------
    StackError
        Where pages or their description are missing, or the metadata claims more planes than there
        can be, or names files outside the folder of the file.
    """
    ear = _Ear()
    tifffile.logger().addHandler(ear)
    try:
        with tifffile.TiffFile(path) as tif:
            _check_ring(path, tif)
            _check_micromanager(path, tif)
            yield tif, _checked_ome(path, tif)
    finally:
        tifffile.logger().removeHandler(ear)
        lost = next(filter(LOST.search, ear.heard), None)
        if lost is not None:
            raise StackError(f"{path.name} is damaged or cut short: {_plainly(lost)}")
    if ear.heard:
        odd.append(f"{path.name} may be damaged: {_plainly(ear.heard[0])}")


def map_tiff(path: Path) -> np.ndarray:
    """Map the first series of an uncompressed TIFF into memory, read-only.

    StackError where its planes are compressed, lie apart, or lie in several files.
    """
    with open_tiff(path, []) as (tif, _):
        mapped = map_series(tif.series[0])
    if mapped is None:
        raise StackError(f"{path.name} is compressed or in several pieces, and can't be mapped")
    return mapped


def map_series(series: tifffile.TiffPageSeries) -> np.ndarray | None:
    """Map a series where it lies in one file as one uncompressed piece, else return None."""
    page = series.keyframe
    if series.dataoffset is None or not page.is_memmappable or series.is_multifile:
        return None
    file = page.parent  # holds this series, and may be another file than the one that was opened
    dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
    return np.memmap(file.filehandle.path, dtype, "r", series.dataoffset, tuple(series.shape))


def _checked_ome(path: Path, tif: tifffile.TiffFile) -> ElementTree.Element | None:
    """Parse the OME metadata, if there is any.

    StackError where it claims more planes than there can be, or names files elsewhere.
    """
    text = tif.ome_metadata
    if not text:
        return None
    if "<!DOCTYPE" in text:  # which it never has, and whose entities could fill the memory
        raise StackError(f"{path.name} is damaged: its OME metadata has a DOCTYPE")
    root = ElementTree.fromstring(text)
    for each in root.iter():
        planes = math.prod(int(each.get(f"Size{axis}", 1)) for axis in "TCZ")
        _check_count(path, planes, *(int(each.get(n, 0)) for n in ("PlaneCount", "NumPlanes")))
        if "End" in each.attrib:  # of an axis that is told in an annotation
            span = float(each.attrib["End"]) - float(each.get("Start", 0))
            _check_count(path, abs(span / float(each.get("Step", 1))))
        if each.tag.endswith("UUID") and each.text != root.get("UUID"):
            _check_name(path, each.get("FileName", ""))
    return root


class _Ear(logging.Handler):
    """Hears what is logged in this thread, so that it isn't shown on the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.heard.append(record.getMessage())


def _plainly(message: str) -> str:
    """What a message of tifffile says, without the objects it names."""
    raised = re.search(r"raised \w+\((.+)", message)
    told = raised[1].strip("'\")") if raised else message
    return " ".join(re.sub(r"<[^<>]*>", "", told).split())


def _check_ring(path: Path, tif: tifffile.TiffFile) -> None:
    """StackError where the last page points back to another: tifffile would go on for ever."""
    kind, file, offset, seen = tif.tiff, tif.filehandle, tif.pages.first.offset, set[int]()
    while 0 < offset < file.size:
        if offset in seen:
            raise StackError(f"{path.name} is damaged: its pages follow each other in a ring")
        seen.add(offset)
        file.seek(offset)
        start = file.read(kind.tagnosize)
        if len(start) < kind.tagnosize:
            break
        tags = struct.unpack(kind.tagnoformat, start)[0]
        file.seek(offset + kind.tagnosize + tags * kind.tagsize)
        following = file.read(kind.offsetsize)
        if len(following) < kind.offsetsize:
            break
        offset = int(struct.unpack(kind.offsetformat, following)[0])


def _check_micromanager(path: Path, tif: tifffile.TiffFile) -> None:
    """StackError where its index claims more planes than there can be, or names files elsewhere."""
    told = tif.micromanager_metadata or {}
    index = told.get("IndexMap", np.zeros((1, 5), int))
    most = np.max(index[:, :4], axis=0, initial=0).tolist()
    summary = told.get("Summary", {})
    counts = [max(int(summary.get(name, 1)), n + 1) for name, n in zip(COUNTS, most, strict=True)]
    if tif.is_ndtiff:
        places = []
        for place, name, *_ in read_ndtiff_index(path.parent / "NDTiff.index"):
            _check_name(path, name)
            places.append([i if isinstance(i, int) else 0 for i in place.values()])
        counts += [max(along) - min(along) + 1 for along in zip(*places, strict=False)]
    _check_count(path, math.prod(counts))


def _check_count(path: Path, *counts: float) -> None:
    """StackError where nobody can have taken so many planes."""
    for planes in counts:
        if not planes <= MOST_PLANES:
            raise StackError(f"{path.name} is damaged: its metadata claims {planes:.3g} planes")


def _check_name(path: Path, name: str) -> None:
    """StackError where `name`, of a file that belongs to `path`, leads out of its folder."""
    plain = PureWindowsPath(name)  # which knows both kinds of slashes
    if plain.anchor or ".." in plain.parts:
        raise StackError(f"{path.name} names the file {name!r}, which isn't in its folder")
