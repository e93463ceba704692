"""Write height maps for programs of surface metrology: X3P, SDF and SUR."""

import hashlib
import io
import os
import struct
import time
import zipfile
from collections.abc import Callable

import numpy as np

import napari_dff
from napari_dff.io.atomic import write_file
from napari_dff.io.file_checks import check_suffix
from napari_dff.io.readers.height_maps import SDF_HEADER, SUR_HEADER_BYTES
from napari_dff.model.stack import validate_pixel_size
from napari_dff.model.units import conversion_factor, validate_unit
from napari_dff.surface.region import known_pixels

SUR_LEVELS = 1 << 30  # between 0 and the largest magnitude of a height, of int32
DATA_FILE, CHECKSUM_FILE = "bindata/data.bin", "md5checksum.hex"


def write_height_map(
    path: str | os.PathLike[str],
    heights: np.ndarray,  # (Y, X)
    pixel_size: tuple[float, float],
    unit: str = "micrometer",
) -> None:
    """Write a height map for other programs, complete or not at all.

    Parameters
    ----------
    path : path
        Ends in ``.x3p`` (ISO 25178-72, float64), ``.sdf`` (ISO 25178-71, binary, float64) or
        ``.sur`` (Digital Surf, in steps of 1e-9 of the largest height). An existing file is
        replaced.
    heights : (Y, X) float array
        In `unit`; NaN where never in focus, which the file marks as not measured.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        Unit of length, a napari name; not "pixel", as the files are in metres.

    Raises
    ------
    ValueError
        For an invalid argument, or if no height is known.
    OSError
        If the file cannot be written.
    """
    file = check_suffix(path, ENCODERS)
    size, unit = validate_pixel_size(pixel_size), validate_unit(unit)
    mask = known_pixels(heights)
    if unit == "pixel":
        raise ValueError("unit must be a length, as a height map in a file is in metres, got pixel")
    if file.suffix.lower() == ".sdf" and max(heights.shape) > 0xFFFF:
        raise ValueError(f"heights must have up to 65535 rows and columns, got {heights.shape}")
    factor = conversion_factor(unit, "meter")
    metres = np.where(mask, heights, np.nan).astype(np.float64) * factor
    content = ENCODERS[file.suffix.lower()](metres, (size[0] * factor, size[1] * factor))
    with write_file(file) as new:
        new.write_bytes(content)


_X3P_XML = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<p:ISO5436_2 xmlns:p="http://www.opengps.eu/2008/ISO5436_2">
  <Record1>
    <Revision>ISO5436 - 2000</Revision>
    <FeatureType>SUR</FeatureType>
    <Axes>
      <CX><AxisType>I</AxisType><DataType>D</DataType>
        <Increment>{width!r}</Increment><Offset>0</Offset></CX>
      <CY><AxisType>I</AxisType><DataType>D</DataType>
        <Increment>{height!r}</Increment><Offset>0</Offset></CY>
      <CZ><AxisType>A</AxisType><DataType>D</DataType>
        <Increment>1</Increment><Offset>0</Offset></CZ>
    </Axes>
  </Record1>
  <Record2>
    <Date>{date}</Date>
    <Instrument><Manufacturer>napari-dff</Manufacturer><Model>depth from focus</Model>
      <Serial>none</Serial><Version>{version}</Version></Instrument>
    <CalibrationDate>{date}</CalibrationDate>
    <ProbingSystem><Type>NonContacting</Type><Identification>microscope</Identification>
    </ProbingSystem>
  </Record2>
  <Record3>
    <MatrixDimension><SizeX>{columns}</SizeX><SizeY>{rows}</SizeY><SizeZ>1</SizeZ></MatrixDimension>
    <DataLink><PointDataLink>{data_file}</PointDataLink>
      <MD5ChecksumPointData>{digest}</MD5ChecksumPointData></DataLink>
  </Record3>
  <Record4><ChecksumFile>{checksum_file}</ChecksumFile></Record4>
</p:ISO5436_2>
"""


def _x3p(heights: np.ndarray, size: tuple[float, float]) -> bytes:
    data = heights.astype("<f8").tobytes()
    xml = _X3P_XML.format(
        width=size[1],
        height=size[0],
        columns=heights.shape[1],
        rows=heights.shape[0],
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        version=napari_dff.__version__,
        data_file=DATA_FILE,
        checksum_file=CHECKSUM_FILE,
        digest=_md5(data),
    ).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("main.xml", xml)
        archive.writestr(CHECKSUM_FILE, f"{_md5(xml)} *main.xml\n")
        archive.writestr(DATA_FILE, data)
    return buffer.getvalue()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _sdf(heights: np.ndarray, size: tuple[float, float]) -> bytes:
    rows, columns = heights.shape
    date = time.strftime("%d%m%Y%H%M", time.gmtime()).encode()
    names = b"bISO-1.0", b"napari-dff", date, date
    scales = size[1], size[0], 1.0, -1.0  # x, y, z, and an unknown resolution
    header = SDF_HEADER.pack(*names, columns, rows, *scales, 0, 7, 0)  # plain float64
    # The lowest number of the type means "not measured".
    values = np.where(np.isfinite(heights), heights, np.finfo(np.float64).min)
    return header + values.astype("<f8").tobytes()


def _sur(heights: np.ndarray, size: tuple[float, float]) -> bytes:
    """Return a SUR of 32 bits; heights are multiples of a step, which the file has as float32.

    Programs differ in the unit of the offset, so that it is 0.
    """
    rows, columns = heights.shape
    mask = np.isfinite(heights)
    step = float(np.float32(max(np.nanmax(np.abs(heights)), 1e-12) / SUR_LEVELS))
    values = np.rint(np.where(mask, heights, np.nanmin(heights)) / step).astype("<i4")
    low, high = int(values.min()), int(values.max())
    values[~mask] = low - 2
    header = bytearray(SUR_HEADER_BYTES)
    for at, text in _SUR_TEXTS.items():
        header[at : at + len(text)] = text
    fields: dict[int, tuple[str, tuple[float, ...]]] = {
        14: ("<3h", (1, 1, 2)),  # one object, version 1, a surface
        84: ("<3h", (1, int(not mask.all()), 1)),  # with points that are not measured
        98: ("<h", (32,)),
        100: ("<5i", (low, high, columns, rows, rows * columns)),
        120: ("<3f", (size[1], size[0], step)),
        276: ("<3f", (1.0, 1.0, 1.0)),
    }
    for at, (layout, numbers) in fields.items():
        struct.pack_into(layout, header, at, *numbers)
    return bytes(header) + values.tobytes()


_SUR_TEXTS = {  # by position in the header; names of axes and units are padded with zeros
    0: b"DIGITAL SURF",
    20: b"napari-dff".ljust(30),
    50: b" " * 30,
    **dict(zip((132, 148, 164), (b"X", b"Y", b"Z"), strict=True)),
    **dict.fromkeys((180, 196, 212, 228, 244, 260), b"m"),
}

ENCODERS: dict[str, Callable[[np.ndarray, tuple[float, float]], bytes]] = {
    ".x3p": _x3p,
    ".sdf": _sdf,
    ".sur": _sur,
}
