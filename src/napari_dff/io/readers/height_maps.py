"""Read height maps of surface metrology: X3P, SDF and SUR."""

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from napari_dff.io.readers.axes import StackError, check_memory, reason
from napari_dff.io.readers.regular_files import check_regular
from napari_dff.io.readers.xml_size import describe_excess
from napari_dff.model.checks import as_path
from napari_dff.model.units import conversion_factor, normalize_unit

MAX_XML_BYTES = 200_000_000  # the heights may be in the XML
MAX_XML_ELEMENTS = 2_000_000  # each takes some 300 bytes
MAX_PIXELS = 1 << 30
X3P_TYPES = {"I": "<i2", "L": "<i4", "F": "<f4", "D": "<f8"}
SDF_TYPES = {0: "<u1", 1: "<u2", 2: "<u4", 3: "<f4", 4: "<i1", 5: "<i2", 6: "<i4", 7: "<f8"}
SDF_HEADER = struct.Struct("<8s10s12s12sHHddddBBB")
SUR_HEADER_BYTES = 512


class HeightMap(NamedTuple):
    """A height map from a file.

    Attributes
    ----------
    heights : (Y, X) float64
        In micrometers; NaN where not measured. The first row of the file is the first row.
    pixel_size : (float, float)
        Height and width of a pixel, in micrometers.
    """

    heights: np.ndarray
    pixel_size: tuple[float, float]


def read_height_map(path: str | os.PathLike[str]) -> HeightMap:
    """Read a height map of surface metrology.

    Parameters
    ----------
    path : path
        Ends in ``.x3p`` (ISO 25178-72), ``.sdf`` (ISO 25178-71, as text or binary, without
        compression) or ``.sur`` (Digital Surf, also compressed).

    Returns
    -------
    HeightMap

    Raises
    ------
    StackError
        A ValueError, if the file is damaged, or holds no grid of heights.
    OSError
        If the file cannot be opened.

    References
    ----------
    https://www.opengps.eu (X3P); ISO 25178-71:2017; ISO 25178-72:2017.
    """
    file = as_path("path", path)
    if file.suffix.lower() not in DECODERS:
        raise StackError(f"path must end in {', '.join(DECODERS)}, got {file.name!r}")
    check_regular(file)
    try:
        if file.exists():
            check_memory(file.name, (file.stat().st_size,), np.dtype(np.uint8))
        heights, (height, width) = DECODERS[file.suffix.lower()](file)
        if not (np.isfinite([height, width]).all() and min(height, width) > 0):
            raise ValueError(f"its pixels are {height:g} × {width:g} m")
        if not np.isfinite(heights).any():
            raise ValueError("no height is measured")
    except OSError:
        raise
    except Exception as error:  # damaged in one of many ways
        raise StackError(f"{file.name} can't be read as a height map: {reason(error)}") from error
    factor = conversion_factor("meter", "micrometer")
    return HeightMap(heights * factor, (height * factor, width * factor))


Decoded = tuple[np.ndarray, tuple[float, float]]  # heights and pixel size in metres


def _read_x3p(path: Path) -> Decoded:
    with zipfile.ZipFile(path) as archive:
        if (size := archive.getinfo("main.xml").file_size) > MAX_XML_BYTES:
            raise ValueError(f"its main.xml is larger than {MAX_XML_BYTES / 1e6:.0f} MB")
        xml = _member(archive, "main.xml", size)
        if excess := describe_excess(xml.decode("latin-1"), MAX_XML_ELEMENTS):
            raise ValueError(f"its main.xml has {excess}: save the heights as binary data")
        root = ElementTree.fromstring(xml)
        columns, rows, layers = (int(_text(root, f"Size{axis}")) for axis in "XYZ")
        if layers != 1:
            raise ValueError(f"it has {layers} layers, not 1")
        _check_size(rows, columns)
        kinds = [_text(root, f"{axis}/{{*}}AxisType") for axis in ("CX", "CY")]
        if kinds != ["I", "I"]:
            raise ValueError("its points lie on no grid: the axes CX and CY are not incremental")
        width, height = (float(_text(root, f"{a}/{{*}}Increment")) for a in ("CX", "CY"))
        values = _x3p_values(archive, root, rows * columns)
        valid = root.findtext(".//{*}ValidPointsLink")
        if valid:
            count = (rows * columns + 7) // 8
            bits = np.frombuffer(_member(archive, valid, count), np.uint8)
            mask = np.unpackbits(bits, bitorder="little")[: rows * columns].astype(bool)
            values = np.where(mask, values, np.nan)
    scale = float(_text(root, "CZ/{*}Increment", "1"))
    offset = float(_text(root, "CZ/{*}Offset", "0"))
    return (values * scale + offset).reshape(rows, columns), (height, width)


def _x3p_values(archive: zipfile.ZipFile, root: ElementTree.Element, count: int) -> np.ndarray:
    """Return the values of CZ, (Y · X,) float64, before increment and offset."""
    link = root.findtext(".//{*}PointDataLink")
    if not link:
        points = [datum.text or "" for datum in root.iterfind(".//{*}DataList/{*}Datum")]
        if len(points) != count:
            raise ValueError(f"it holds {len(points)} heights instead of {count}")
        return np.array([float(p.split(";")[-1].strip() or "nan") for p in points])
    dtype = np.dtype(X3P_TYPES[_text(root, "CZ/{*}DataType")])
    content = _member(archive, link, count * dtype.itemsize)
    expected = _text(root, "MD5ChecksumPointData", "").lower()
    if expected and hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
        raise ValueError(f"its {link} doesn't match the checksum in main.xml")
    return np.frombuffer(content, dtype).astype(np.float64)


def _member(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """Return a file of an archive; ValueError unless it has `size` bytes, and unpacks to no more.

    Only DEFLATE is unpacked up to a size; bzip2 and LZMA would be unpacked to their end.
    """
    info = archive.getinfo(name.lstrip("./"))
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its {name} is compressed by another method than DEFLATE")
    if info.file_size != size:
        raise ValueError(f"its {name} holds {info.file_size} bytes instead of {size}")
    with archive.open(info) as file:
        return file.read(size)


def _text(root: ElementTree.Element, name: str, default: str | None = None) -> str:
    """Return the text of an element of any namespace; ValueError if it has none."""
    text = (root.findtext(f".//{{*}}{name}") or "").strip() or default
    if text is None:
        raise ValueError(f"its main.xml has no {name.replace('{*}', '')}")
    return text


def _read_sdf(path: Path) -> Decoded:
    content = path.read_bytes()
    if content[:1] == b"a":
        return _read_sdf_text(content.decode("latin-1"))
    fields = SDF_HEADER.unpack_from(content)
    columns, rows, width, height, scale, _, compression, kind, _ = fields[4:]
    _check_size(rows, columns)
    if fields[0][:4] != b"bISO" or compression != 0:
        raise ValueError("it is compressed, or no SDF of version 1")
    dtype = np.dtype(SDF_TYPES[kind])
    values = np.frombuffer(content, dtype, rows * columns, SDF_HEADER.size)
    heights = values.astype(np.float64)
    lowest = np.finfo(dtype).min if dtype.kind == "f" else np.iinfo(dtype).min
    heights[values == lowest] = np.nan  # the standard's mark of "not measured"
    return heights.reshape(rows, columns) * scale, (height, width)


def _read_sdf_text(text: str) -> Decoded:
    head, values = text.split("*")[:2]
    pairs = (line.partition("=") for line in head.splitlines() if "=" in line)
    fields = {key.strip().lower(): value.strip() for key, _, value in pairs}
    rows, columns = int(fields["numprofiles"]), int(fields["numpoints"])
    _check_size(rows, columns)
    words = values.split(None, rows * columns)
    if len(words) != rows * columns:
        raise ValueError(f"it does not hold {rows} × {columns} heights")
    heights = np.array([np.nan if word == "BAD" else float(word) for word in words])
    scales = [float(fields[name]) for name in ("yscale", "xscale", "zscale")]
    return heights.reshape(rows, columns) * scales[2], (scales[0], scales[1])


def _read_sur(path: Path) -> Decoded:
    content = path.read_bytes()
    is_compressed = content[:12] == b"DSCOMPRESSED"
    if content[:12] != b"DIGITAL SURF" and not is_compressed:
        raise ValueError("it is no file of Digital Surf")
    kind, bits = (struct.unpack_from("<h", content, at)[0] for at in (18, 98))
    lowest, _, columns, rows = struct.unpack_from("<4i", content, 100)
    _check_size(rows, columns)
    if kind != 2 or bits not in (16, 32):
        raise ValueError(f"it holds no surface of 16 or 32 bits, but type {kind} of {bits} bits")
    width, height, scale = struct.unpack_from("<3f", content, 120)
    metres = [_metres(content[at : at + 16]) for at in (180, 196, 212)]
    comment, private = struct.unpack_from("<2h", content, 334)
    (offset,) = struct.unpack_from("<f", content, 474)
    start = SUR_HEADER_BYTES + comment + private
    if is_compressed:
        content, start = _unpacked_blocks(content[start:], rows * columns * bits // 8), 0
    values = np.frombuffer(content, f"<i{bits // 8}", rows * columns, start)
    heights = values * float(scale) + offset
    if struct.unpack_from("<h", content, 86)[0]:  # holds points that are not measured
        heights[values == lowest - 2] = np.nan
    return heights.reshape(rows, columns) * metres[2], (height * metres[1], width * metres[0])


def _unpacked_blocks(content: bytes, size: int) -> bytes:
    """Return the data of a compressed SUR: number of blocks, two lengths of each, then blocks."""
    (count,) = struct.unpack_from("<I", content)
    lengths = struct.iter_unpack("<2I", content[4 : 4 + 8 * count])
    start, data = 4 + 8 * count, b""
    for _, packed in lengths:
        unpacker = zlib.decompressobj()
        data += unpacker.decompress(content[start : start + packed], size - len(data) + 1)
        start += packed
    if len(data) != size:
        raise ValueError(f"its blocks do not hold {size} bytes of heights")
    return data


def _metres(unit: bytes) -> float:
    """Return the factor from a unit of a SUR to metres."""
    text = unit.split(b"\0")[0].decode("latin-1").replace("Â", "").strip()  # "µm" in UTF-8
    name = normalize_unit(text)
    if name is None:
        raise ValueError(f"its unit {text!r} is no length")
    return conversion_factor(name, "meter")


def _check_size(rows: int, columns: int) -> None:
    if not (rows > 0 and columns > 0 and rows * columns <= MAX_PIXELS):
        raise ValueError(f"its size is {rows} × {columns} pixels")


DECODERS: dict[str, Callable[[Path], Decoded]] = {
    ".x3p": _read_x3p,
    ".sdf": _read_sdf,
    ".sur": _read_sur,
}
