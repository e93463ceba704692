"""Open TIFF files. Metadata and page offsets are checked before pixels are read."""

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

from napari_dff.io.readers.axes import StackError, reason
from napari_dff.io.readers.regular_files import check_regular
from napari_dff.io.readers.xml_size import describe_excess

REQUIRED_TAGS = "25[6-9]|270|273|27[7-9]|317|32[2-5]|339"  # for pixels and lengths
FATAL_LOG = re.compile(rf"TiffPages |TiffTag ({REQUIRED_TAGS}) |missing data offset")  # of tifffile
# Other order of axes in an index; planes that are missing, which `tiff_series` reports.
HARMLESS_LOG = re.compile(
    r"NDTiff.index axes_dict.keys|OME series contains index out of range|Missing data are zeroed"
    r"|julianday=|STK Datetime"
)
MICROMANAGER_AXES = ("Channels", "Slices", "Frames", "Positions")  # in its order
STRAY_AMPERSAND = re.compile(r"&(?!#?\w+;)")
CONTROL_CHARACTER = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f]")
OME_START = re.compile(r"<(\w+:)?OME\s")
CHECKED_ATTRIBUTES = {"SizeT", "SizeC", "SizeZ", "PlaneCount", "NumPlanes", "End"}
MAX_OME_ELEMENTS = 400_000  # each takes some 600 bytes and 20 µs
MAX_DESCRIPTION_LENGTH = 2_000_000  # characters, of other programs than OME, in lines or as JSON
MAX_PAGES = 500_000  # of a file: each takes some 3,400 bytes and 80 µs
MAX_PLANES = 10_000_000  # more is treated as damaged metadata


@contextlib.contextmanager
def open_tiff(
    path: Path, messages: list[str]
) -> Iterator[tuple[tifffile.TiffFile, ElementTree.Element | None]]:
    """Open a TIFF file; yield it and the root of its OME metadata, or None.

    Log messages of tifffile are not shown; the first one is appended to `messages`. StackError if
    pages or their description are missing, or the metadata describes too many planes or names files
    outside the folder of the file.
    """
    check_regular(path)
    collector = _LogCollector()
    tifffile.logger().addHandler(collector)
    try:
        with contextlib.ExitStack() as stack:
            tif = stack.enter_context(tifffile.TiffFile(path))
            _check_page_loop(path, tif)
            _check_micromanager(path, tif)
            _check_lsm(path, tif)
            if excess := describe_excess(tif.ome_metadata or "", MAX_OME_ELEMENTS):
                messages.append(
                    f"the OME metadata of {path.name} have {excess}, and are not used: its pages "
                    "are taken as planes without calibration; give --axes and --spacing"
                )
                yield stack.enter_context(tifffile.TiffFile(path, is_ome=False)), None
                return
            length = 0 if tif.is_ome else len(tif.pages.first.description)
            if length > MAX_DESCRIPTION_LENGTH:
                messages.append(
                    f"the description of {path.name} has {length} characters, more than "
                    f"{MAX_DESCRIPTION_LENGTH}, and is not used: its pages are taken as planes "
                    "without calibration; give --axes and --spacing"
                )
                plain = tifffile.TiffFile(path, is_ome=False, is_imagej=False, is_shaped=False)
                yield stack.enter_context(plain), None
                return
            root = _parse_ome(path, tif, messages)
            if root is None and (text := _repaired_ome(tif)):
                tif = stack.enter_context(tifffile.TiffFile(path, omexml=text))
                root = _parse_ome(path, tif, messages)
                hint = "it is used without what is not XML; check it with napari-dff info"
                messages[0] = f"{messages[0].rpartition(': ')[0]}: {hint}"
            yield tif, root
    finally:
        tifffile.logger().removeHandler(collector)
        fatal = next(filter(FATAL_LOG.search, collector.messages), None)
        if fatal is not None:
            raise StackError(f"{path.name} is damaged or cut short: {_clean_message(fatal)}")
    doubtful = [each for each in collector.messages if not HARMLESS_LOG.search(each)]
    if doubtful and not messages:
        messages.append(f"{path.name} may be damaged: {_clean_message(doubtful[0])}")


def _parse_ome(
    path: Path, tif: tifffile.TiffFile, messages: list[str]
) -> ElementTree.Element | None:
    """Parse the OME metadata, if any; StackError for too many planes or files elsewhere.

    Metadata that are not well-formed are not used, with a message.
    """
    text = tif.ome_metadata or ""
    if not text and OME_START.search(tif.pages.first.description[:2000]):
        text = tif.pages.first.description  # cut off: tifffile expects the end, too
    if not text:
        return None
    if "<!DOCTYPE" in text:  # entities could expand and fill the memory
        raise StackError(f"{path.name} is damaged: its OME metadata has a DOCTYPE")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        hint = "its pages are taken as planes without calibration; give --axes and --spacing"
        problem = f"the OME metadata of {path.name} is not well-formed ({reason(error)})"
        messages.insert(0, f"{problem}: {hint}")
        return None
    for element in root.iter():
        is_file = element.tag.endswith("UUID")
        if not is_file and CHECKED_ATTRIBUTES.isdisjoint(element.attrib):
            continue
        planes = math.prod(int(element.get(f"Size{axis}", 1)) for axis in "TCZ")
        counts = (int(element.get(name, 0)) for name in ("PlaneCount", "NumPlanes"))
        _check_plane_count(path, planes, *counts)
        if "End" in element.attrib:  # of an axis in an annotation
            span = float(element.attrib["End"]) - float(element.get("Start", 0))
            _check_plane_count(path, abs(span / float(element.get("Step", 1))))
        if is_file and element.text != root.get("UUID"):
            _check_file_name(path, element.get("FileName", ""))
    return root


def _repaired_ome(tif: tifffile.TiffFile) -> str:
    """Return OME metadata without what is not XML, "" if they are well-formed or beyond repair.

    Programs write names with an ampersand, and control characters, as they are.
    """
    text = tif.ome_metadata or ""
    repaired = CONTROL_CHARACTER.sub("", STRAY_AMPERSAND.sub("&amp;", text))
    try:
        ElementTree.fromstring(repaired)
    except ElementTree.ParseError:
        return ""
    return repaired if repaired != text else ""


class _LogCollector(logging.Handler):
    """Collect the log messages of this thread, which are not shown on the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())


def _clean_message(message: str) -> str:
    """Return a message of tifffile without the representations of objects."""
    exception = re.search(r"raised \w+\((.+)", message)
    text = exception[1].strip("'\")") if exception else message
    return " ".join(re.sub(r"<[^<>]*>", "", text).split())


def _check_page_loop(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise StackError for too many pages, and where one points back: tifffile would not end."""
    kind, file, offset, visited = tif.tiff, tif.filehandle, tif.pages.first.offset, set[int]()
    with contextlib.suppress(struct.error):  # the file ends within a page
        while 0 < offset < file.size:
            if offset in visited:
                raise StackError(f"{path.name} is damaged: its pages form a loop")
            visited.add(offset)
            if len(visited) > MAX_PAGES:
                hint = "save it as several files, or as OME-Zarr"
                raise StackError(f"{path.name} has more than {MAX_PAGES} pages: {hint}")
            file.seek(offset)
            tags = struct.unpack(kind.tagnoformat, file.read(kind.tagnosize))[0]
            file.seek(offset + kind.tagnosize + tags * kind.tagsize)
            offset = int(struct.unpack(kind.offsetformat, file.read(kind.offsetsize))[0])


def _check_micromanager(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise StackError if the index describes too many planes or names files elsewhere."""
    metadata = tif.micromanager_metadata or {}
    index = metadata.get("IndexMap", np.zeros((1, 5), int))
    max_indices = np.max(index[:, :4], axis=0, initial=0).tolist()
    summary = metadata.get("Summary", {})
    pairs = zip(MICROMANAGER_AXES, max_indices, strict=True)
    counts = [max(int(summary.get(name, 1)), n + 1) for name, n in pairs]
    if tif.is_ndtiff:
        indices = []
        for coordinates, name, *_ in read_ndtiff_index(path.parent / "NDTiff.index"):
            _check_file_name(path, name)
            indices.append([i if isinstance(i, int) else 0 for i in coordinates.values()])
        counts += [max(along) - min(along) + 1 for along in zip(*indices, strict=False)]
    _check_plane_count(path, math.prod(counts))


def _check_lsm(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise StackError if LSM describes too many planes."""
    metadata = tif.lsm_metadata or {}
    lengths = [metadata.get(f"Dimension{axis}", 1) for axis in ("Z", "Channels", "Time", "P", "M")]
    _check_plane_count(path, math.prod(max(int(n), 1) for n in lengths))


def _check_plane_count(path: Path, *counts: float) -> None:
    """Raise StackError if a number of planes is not plausible."""
    for planes in counts:
        if not planes <= MAX_PLANES:
            raise StackError(f"{path.name} is damaged: its metadata describes {planes:.3g} planes")


def _check_file_name(path: Path, name: str) -> None:
    """Raise StackError if `name`, of a file that belongs to `path`, is outside its folder."""
    name_parts = PureWindowsPath(name)  # accepts both kinds of slashes
    if name_parts.anchor or ".." in name_parts.parts:
        raise StackError(f"{path.name} names the file {name!r}, which isn't in its folder")
    check_regular(path.parent.joinpath(*name_parts.parts))
