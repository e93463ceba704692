"""Invalid and doubtful files: each gives a one-line message."""

import itertools
import json
import os
import pickle
import pyexpat
import re
import shutil
import struct
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import imageio.v3 as iio
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr

import napari_dff
from napari_dff import Recipe
from napari_dff.cli.commands import COMPILING
from napari_dff.cli.program import main
from napari_dff.io import (
    StackError,
    read_acquisitions,
    read_height_map,
    read_recipe,
    read_stack,
    read_transforms,
    sample_path,
    write_recipe,
)
from napari_dff.io.readers import xml_size
from napari_dff.io.readers.image_headers import count_pixels
from napari_dff.io.readers.photos import read_pixels

BARE = str(sample_path("bare_patch"))
QUICK = ["--registration", "none", "--refinement", "none", "--quiet"]
PIXELS = np.random.default_rng(3).integers(1, 60000, (4, 32, 40)).astype(np.uint16)
LENGTHS = {f"PhysicalSize{axis}": 2.0 for axis in "XYZ"}
REFUSED, DOUBTFUL, USABLE = [], [], []


def case(table: list, *values):
    """Return a decorator that adds a function which writes a file to a table of cases."""
    return lambda make: table.append(
        pytest.param(make, *values, id=make.__name__.replace("_", " "))
    )


def refused(words: str):
    """Register a file that is refused, and the pattern of its message."""
    return case(REFUSED, words)


def tiff(path: Path, planes: np.ndarray = PIXELS, *, pages: bool = False, **options) -> Path:
    """Write a TIFF of `planes`, in one page each or in the default layout of tifffile."""
    options.setdefault("photometric", "minisblack")
    if not pages:
        tifffile.imwrite(path, planes, **options)
        return path
    with tifffile.TiffWriter(path) as tif:
        for plane in planes:
            tif.write(plane, contiguous=False, metadata=None, **options)
    return path


def ome(path: Path, planes: np.ndarray = PIXELS, axes: str = "ZYX", **metadata) -> Path:
    return tiff(path, planes, ome=True, metadata={"axes": axes, **LENGTHS, **metadata})


SCHEMA = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
SIZES = 'SizeX="40" SizeY="32" SizeZ="4" SizeC="1" SizeT="1"'


def described(path: Path, inside: str, *, sizes=SIZES, before="", uuid="") -> Path:
    """Write an OME-TIFF with this content in its description."""
    xml = (
        f'<?xml version="1.0"?>{before}<OME {SCHEMA} {uuid}><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" {sizes}>'
        f'<Channel ID="Channel:0"/>{inside}</Pixels></Image></OME>'
    )
    return tiff(path, description=xml, metadata=None)


def truncate(path: Path, share: float) -> Path:
    """Truncate a file to a share of its size."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def patched(path: Path, offset: int, content: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)
    return path


def with_tags(path: Path, page: int = 0, **values) -> Path:
    """Overwrite values of tags."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        for name, value in values.items():
            tif.pages[page].tags[name].overwrite(value)
    return path


def frames(folder: Path, *planes: np.ndarray, suffix: str = ".png") -> Path:
    folder.mkdir(exist_ok=True)
    for i, plane in enumerate(planes or PIXELS.astype(np.uint8)):
        iio.imwrite(folder / f"{i}{suffix}", plane)
    return folder


def array(path: Path, planes: np.ndarray = PIXELS, **options) -> Path:
    """Write a bare Zarr array with one chunk per plane."""
    zarr.create_array(path, data=planes, chunks=(1, 32, 40), **({"zarr_format": 2} | options))
    return path


def changed(path: Path, **values) -> Path:
    """Overwrite values in a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return path


def image(path: Path, where: str = "0", *, unit: str = "micrometer", scale: float = 2.0) -> Path:
    """Write OME-Zarr whose metadata give `where` as the path of the image."""
    axes = [{"name": axis, "type": "space", "unit": unit} for axis in "zyx"]
    moves = [{"type": "scale", "scale": [scale, 1.0, 1.0]}]
    datasets = [{"path": where, "coordinateTransformations": moves}]
    group = zarr.open_group(path, mode="w", zarr_format=2)
    array(path / "0")
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    return path


# Missing or of another format


@refused("there is no file or folder")
def no_such_path(folder):
    return folder / "a.tif"


@refused("folder a holds no image files")
def empty_folder(folder):
    (folder / "a").mkdir()
    return folder / "a"


@refused("folder a holds no image files")
def folder_of_texts(folder):
    (folder / "a").mkdir()
    (folder / "a" / "notes.txt").write_text("notes")
    return folder / "a"


@refused(r"a\.tif can't be read as TIFF")
def file_of_no_bytes(folder):
    (folder / "a.tif").touch()
    return folder / "a.tif"


@refused(r"a\.tif can't be read as TIFF: not a TIFF file")
def text_called_tif(folder):
    (folder / "a.tif").write_text("no image at all")
    return folder / "a.tif"


@refused(r"a\.txt is neither a folder of frames nor TIFF|a\.txt can't be read by bioio")
def text(folder):
    (folder / "a.txt").write_text("no image at all")
    return folder / "a.txt"


@refused(r"a\.png is a single image: give the folder")
def one_frame(folder):
    return frames(folder / "a") / "0.png" and (folder / "a" / "0.png").rename(folder / "a.png")


# Truncated TIFF


@refused(r"a\.tif is damaged or cut short: invalid page offset")
def tiff_without_its_last_pages(folder):
    return truncate(tiff(folder / "a.tif"), 0.6)


@refused(r"a\.tif is damaged or cut short: invalid page offset")
def tiff_of_single_pages_without_the_last(folder):
    return truncate(tiff(folder / "a.tif", pages=True), 0.6)


@refused(r"a\.tif is cut short: page 3 goes beyond its end")
def tiff_without_its_last_pixels(folder):
    return truncate(tiff(folder / "a.tif", pages=True), 0.98)


@refused(r"a\.tif is cut short: page 3 goes beyond its end")
def tiff_of_lzw_cut_short(folder):
    return truncate(tiff(folder / "a.tif", compression="lzw"), 0.98)


@refused(r"a\.tif is cut short: page 3 goes beyond its end")
def tiff_of_deflate_cut_short(folder):
    return truncate(tiff(folder / "a.tif", compression="zlib"), 0.98)


@refused(r"a\.tif is damaged or cut short")
def tiff_of_zstd_cut_short(folder):
    return truncate(tiff(folder / "a.tif", compression="zstd"), 0.5)


@refused(r"a\.ome\.tif is damaged or cut short: invalid value offset")
def ome_tiff_without_its_description(folder):
    return truncate(ome(folder / "a.ome.tif"), 0.97)


@refused(r"a\.tif is damaged or cut short")
def imagej_cut_short(folder):
    return truncate(tiff(folder / "a.tif", imagej=True, metadata={"axes": "ZYX"}), 0.6)


# TIFF with invalid content


@refused(r"a\.tif can't be decoded")
def tiff_with_pixels_that_are_no_deflate(folder):
    path = tiff(folder / "a.tif", compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[2].dataoffsets[0]
    return patched(path, offset, bytes(40))


@refused(r"a\.tif can't be decoded")
def tiff_with_pixels_that_are_no_jpeg(folder):
    path = tiff(folder / "a.tif", PIXELS.astype(np.uint8), compression="jpeg")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[1].dataoffsets[0]
    return patched(path, offset, bytes(700))


@refused(r"a\.tif is damaged or cut short: invalid offset to first page 1073741824")
def tiff_whose_first_page_is_beyond_its_end(folder):
    return patched(tiff(folder / "a.tif"), 4, struct.pack("<I", 1 << 30))


@refused(r"a\.tif can't be read as TIFF: (suspicious number of tags|corrupted tag list)")
def tiff_whose_second_page_is_among_the_pixels(folder):
    path = tiff(folder / "a.tif", np.full_like(PIXELS, 60000), pages=True)
    with tifffile.TiffFile(path) as tif:
        after, pixels = tif.pages[1].offset, tif.pages[0].dataoffsets[0]
        tags = len(tif.pages[0].tags)
        assert after
        next_offset = tif.pages[0].offset + 2 + 12 * tags
    return patched(path, next_offset, struct.pack("<I", pixels))


def ring(path: Path, count: int, back_to: int) -> Path:
    """Write a TIFF whose last page points back to another page."""
    tiff(path, np.ones((count, 8, 8), np.uint8), pages=True)
    with tifffile.TiffFile(path) as tif:
        tags, offset, target = (
            len(tif.pages[0].tags),
            tif.pages[-1].offset,
            tif.pages[back_to].offset,
        )
    return patched(path, offset + 2 + 12 * tags, struct.pack("<I", target))


@refused(r"a\.tif is damaged: its pages form a loop")
def tiff_whose_pages_are_a_ring(folder):
    return ring(folder / "a.tif", 5, 2)


@refused(r"a\.tif is damaged: its pages form a loop")
def tiff_whose_pages_are_a_ring_after_the_hundredth(folder):
    return ring(folder / "a.tif", 130, 120)


@refused(r"a\.tif is damaged|a\.tif can't be read as TIFF")
def tiff_with_a_tag_of_four_billion_values(folder):
    path = tiff(folder / "a.tif", pages=True)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].tags["StripOffsets"].offset
    return patched(path, offset + 4, struct.pack("<I", 0xFFFFFFFF))


@refused(r"a\.tif has chunks of 2000\.0 GB, each decoded at once, but only .* are free")
def tiff_that_claims_a_terabyte(folder):
    path = tiff(folder / "a.tif", pages=True, compression="zlib", rowsperstrip=32)
    for page in range(4):
        with_tags(path, page, ImageWidth=1000000, ImageLength=1000000, RowsPerStrip=1000000)
    return path


@refused(r"a\.tif is cut short: its pixels go beyond its end")
def tiff_that_claims_a_terabyte_of_plain_pixels(folder):
    path = tiff(folder / "a.tif", pages=True)
    return with_tags(path, ImageWidth=1000000, ImageLength=1000000, RowsPerStrip=1000000)


@refused(r"a\.tif holds 4 single images of different kinds, as of size or compression: save all")
def tiff_with_pages_of_different_strips(folder):
    with tifffile.TiffWriter(folder / "a.tif") as tif:
        for i, plane in enumerate(PIXELS):
            tif.write(plane, rowsperstrip=5 + i, metadata=None, contiguous=False)
    return folder / "a.tif"


@refused(r"a\.tif has the axes unnamed 2, unnamed 4, Y 32, X 40: name them")
def tiff_with_unnamed_axes(folder):
    return tiff(folder / "a.tif", np.stack([PIXELS, PIXELS]))


# Invalid OME metadata


LAUGHS = "".join(
    f'<!ENTITY {name} "{10 * f"&{before};"}">' for before, name in itertools.pairwise("abcdefghij")
)
BOMB = f'<!DOCTYPE OME [<!ENTITY a "ha">{LAUGHS}]>'


@refused(r"a\.ome\.tif is damaged: its OME metadata has a DOCTYPE")
def ome_with_a_billion_laughs(folder):
    return described(folder / "a.ome.tif", "<TiffData/>&j;", before=BOMB)


@refused(r"a\.ome\.tif is damaged: its OME metadata has a DOCTYPE")
def ome_that_includes_another_file(folder):
    before = '<!DOCTYPE OME [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    return described(folder / "a.ome.tif", "<TiffData/>&a;", before=before)


@refused(r"a\.ome\.tif is damaged: its OME metadata doesn't fit its pages")
def ome_with_other_sizes_than_the_pixels(folder):
    sizes = 'SizeX="39" SizeY="32" SizeZ="4" SizeC="1" SizeT="1"'
    return described(folder / "a.ome.tif", "<TiffData/>", sizes=sizes)


@refused(r"a\.ome\.tif is damaged: its metadata describes 1e\+12 planes")
def ome_with_a_billion_planes(folder):
    sizes = 'SizeX="40" SizeY="32" SizeZ="1000000" SizeC="1" SizeT="1000000"'
    return described(folder / "a.ome.tif", "<TiffData/>", sizes=sizes)


@refused(r"a\.ome\.tif is damaged: its metadata describes 4e\+09 planes")
def ome_with_a_billion_planes_in_one_file(folder):
    return described(folder / "a.ome.tif", '<TiffData PlaneCount="4000000000"/>')


@refused(r"a\.ome\.tif names the file '\.\./b\.ome\.tif', which isn't in its folder")
def ome_that_leads_out_of_its_folder(folder):
    (folder / "in").mkdir()
    tiff(folder / "b.ome.tif")
    part = '<TiffData><UUID FileName="../b.ome.tif">urn:uuid:2</UUID></TiffData>'
    return described(folder / "in" / "a.ome.tif", part, uuid='UUID="urn:uuid:1"')


@refused(r"a\.ome\.tif names the file '/etc/passwd', which isn't in its folder")
def ome_that_leads_to_an_absolute_path(folder):
    part = '<TiffData><UUID FileName="/etc/passwd">urn:uuid:2</UUID></TiffData>'
    return described(folder / "a.ome.tif", part)


@refused(r"a\.ome\.tif names the file '\.\.\\\\\.\.\\\\b\.tif', which isn't in its folder")
def ome_that_leads_out_of_its_folder_on_windows(folder):
    part = r'<TiffData><UUID FileName="..\..\b.tif">urn:uuid:2</UUID></TiffData>'
    return described(folder / "a.ome.tif", part)


@refused(r"a\.ome\.tif contains only a part of an image: open \.\./\.\./etc/passwd")
def ome_whose_metadata_are_elsewhere(folder):
    other = '<BinaryOnly MetadataFile="../../etc/passwd" UUID="urn:uuid:0"/>'
    xml = f"<OME {SCHEMA}>{other}</OME>"
    return tiff(folder / "a.ome.tif", description=xml, metadata=None)


def micromanager(path: Path, kind: tuple[int, ...], summary: dict, index: bytes = b"") -> Path:
    """Write a TIFF with a Micro-Manager header; its first directory is moved to the end."""
    tags = [(51123, 2, 0, '{"a": 1}', True)]
    content = bytearray(tiff(path, pages=True, extratags=tags).read_bytes())
    directory = content[8 : 8 + 2 + 12 * content[8] + 4]
    summary_json = json.dumps(summary).encode()
    kind = tuple(len(content) + len(directory) if n == -1 else n for n in kind)
    header = struct.pack(f"<{len(kind) + 2}I", *kind, 2355492, len(summary_json)) + summary_json
    assert len(header) <= len(directory)
    content[4:8] = struct.pack("<I", len(content))
    content[8 : 8 + len(header)] = header
    path.write_bytes(content + directory + index)
    return path


MMSTACK = (54773648, -1, 0, 0, 0, 0)  # -1 is where the index begins
NDTIFF = (483729, 2)


def mmstack(path: Path, offsets: list[int], **summary) -> Path:
    """Write a Micro-Manager file with planes at these offsets."""
    rows = [(0, z, 0, 0, offset) for z, offset in enumerate(offsets)]
    index = struct.pack("<II", 3453623, len(rows)) + np.array(rows, "<u4").tobytes()
    summary = {"MicroManagerVersion": "2", "Frames": 1, "Slices": len(rows)} | summary
    return micromanager(path, MMSTACK, summary, index)


def ndtiff(path: Path, name: str, z: int) -> Path:
    """Write a Micro-Manager file whose index names another file."""
    with (path.parent / "NDTiff.index").open("wb") as file:
        for z_index in (0, z):
            for text in (json.dumps({"z": z_index}).encode(), name.encode()):
                file.write(struct.pack("<I", len(text)) + text)
            file.write(struct.pack("<IiiiiIii", 0, 40, 32, 1, 0, 0, 0, 0))
    return micromanager(path, NDTIFF, {})


@refused(r"a_MMStack\.tif is damaged: its metadata describes 4e\+12 planes")
def mmstack_with_a_billion_planes(folder):
    return mmstack(folder / "a_MMStack.tif", [8, 3000, 5000, 7000], Frames=10**12)


@refused(r"a\.tif names the file '/etc/passwd', which isn't in its folder")
def ndtiff_that_leads_to_an_absolute_path(folder):
    return ndtiff(folder / "a.tif", "/etc/passwd", 1)


@refused(r"a\.tif is damaged: its metadata describes 2e\+09 planes")
def ndtiff_with_a_billion_planes(folder):
    return ndtiff(folder / "a.tif", "a.tif", 1999999999)


@refused(r"a\.ome\.tif has the axes T 4, .* none of which is the focus axis \(Z\)")
def ome_without_a_focus_axis(folder):
    return ome(folder / "a.ome.tif", axes="TYX")


@refused(r"a\.ome\.tif: planes must be at least 3 along Z, got 2")
def ome_of_two_planes(folder):
    return ome(folder / "a.ome.tif", PIXELS[:2])


@refused(r"a\.ome\.tif has the axes Y 32, X 40: a single image, not a focal stack")
def ome_of_one_plane(folder):
    return ome(folder / "a.ome.tif", PIXELS[0], "YX")


# Frames


@refused(r"frames must have one shape and type: 0\.png is 32 × 40 uint8, 1\.png is 32 × 39 uint8")
def frames_of_two_sizes(folder):
    grey = PIXELS.astype(np.uint8)
    return frames(folder / "a", grey[0], grey[1, :, :39], grey[2])


@refused(r"frames must have one shape and type: 0\.png is 32 × 40 uint8, 1\.png is 32 × 40 uint16")
def frames_of_two_types(folder):
    return frames(folder / "a", PIXELS[0].astype(np.uint8), PIXELS[1], PIXELS[2])


@refused(r"a: planes must be at least 3 along Z, got 2")
def two_frames(folder):
    return frames(folder / "a", *PIXELS[:2])


@refused(r"2\.png can't be read as an image")
def one_frame_that_is_none_among_others(folder):
    (frames(folder / "a") / "2.png").write_text("no image at all")
    return folder / "a"


@refused(r"2\.png can't be read as an image: image file is truncated")
def png_cut_short(folder):
    truncate(frames(folder / "a") / "2.png", 0.7)
    return folder / "a"


@refused(r"1\.jpg can't be read as an image: image file is truncated")
def jpeg_cut_short(folder):
    truncate(frames(folder / "a", suffix=".jpg") / "1.jpg", 0.7)
    return folder / "a"


@refused(r"1\.png can't be read as an image: cannot identify image file")
def postscript_called_png(folder):
    """Pillow would pass it to another program."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 32\n%%EndComments\nshowpage\n"
    (frames(folder / "a") / "1.png").write_bytes(script)
    return folder / "a"


@refused(r"frames must be single images, and 0\.webp holds 4 pages")
def films_among_frames(folder):
    (folder / "a").mkdir()
    for i in range(3):
        iio.imwrite(folder / "a" / f"{i}.webp", PIXELS.astype(np.uint8))
    return folder / "a"


@refused(r"1\.tif can't be read as an image: failed to read")
def tiff_frame_cut_short(folder):
    truncate(frames(folder / "a", suffix=".tif") / "1.tif", 0.7)
    return folder / "a"


@refused(r"0\.png is cut short: \d+ bytes cannot hold 100000 × 100000")
def png_that_unpacks_to_gigabytes(folder):
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 100000, 100000, 8, 0, 0, 0, 0)
    content = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    (folder / "a").mkdir()
    for i in range(3):
        (folder / "a" / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return folder / "a"


@refused(r"0\.tif has chunks of 2000\.0 GB, each decoded at once")
def tiff_frames_that_claim_a_terabyte(folder):
    (folder / "a").mkdir()
    for i in range(3):
        path = tiff(folder / "a" / f"{i}.tif", PIXELS[:1], pages=True, compression="zlib")
        with_tags(path, ImageWidth=1000000, ImageLength=1000000, RowsPerStrip=1000000)
    return folder / "a"


# Zarr


@refused(r"a\.zarr can't be read as Zarr")
def zarr_that_is_an_empty_folder(folder):
    (folder / "a.zarr").mkdir()
    return folder / "a.zarr"


@refused(r"a\.zarr is a Zarr group without OME metadata: give one of its arrays \(none\)")
def zarr_that_holds_nothing(folder):
    zarr.open_group(folder / "a.zarr", mode="w")
    return folder / "a.zarr"


@refused(r"a\.zarr can't be read as Zarr: Expecting property name|a\.zarr can't be read as Zarr")
def zarr_whose_metadata_are_no_json(folder):
    (array(folder / "a.zarr") / ".zarray").write_text("{no")
    return folder / "a.zarr"


@refused(r"a\.zarr isn't valid OME-Zarr: multiscales")
def ome_zarr_whose_metadata_are_of_another_kind(folder):
    changed(image(folder / "a.zarr") / ".zattrs", multiscales=[{"axes": 5}])
    return folder / "a.zarr"


@refused(r"a\.zarr can't be decoded")
def zarr_with_a_chunk_that_is_no_zstd(folder):
    (array(folder / "a.zarr") / "2.0.0").write_bytes(b"nothing that could be decoded")
    return folder / "a.zarr"


@refused(r"a\.zarr can't be decoded")
def zarr_3_with_a_chunk_cut_short(folder):
    truncate(array(folder / "a.zarr", zarr_format=3) / "c" / "2" / "0" / "0", 0.5)
    return folder / "a.zarr"


@refused(r"4 of the 4 chunks of a\.zarr are missing")
def zarr_without_any_chunk(folder):
    for chunk in array(folder / "a.zarr").glob("*.0.0"):
        chunk.unlink()
    return folder / "a.zarr"


@refused(r"\d+ of the \d+ chunks of a\.zarr are missing")
def zarr_that_claims_terabytes(folder):
    changed(array(folder / "a.zarr") / ".zarray", shape=[4, 10**7, 3 * 10**14])
    return folder / "a.zarr"


@refused(r"a\.zarr has chunks of \d+\.\d GB, each decoded at once")
def zarr_with_chunks_of_terabytes(folder):
    changed(array(folder / "a.zarr") / ".zarray", chunks=[10**12, 32, 40])
    return folder / "a.zarr"


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@refused(r"a\.zarr can't be read as Zarr|a\.zarr has pickled pixels")
def zarr_of_pickled_objects(folder):
    changed(array(folder / "a.zarr") / ".zarray", dtype="|O", compressor=None, filters=[{"id": "pickle", "protocol": 5}])  # fmt: skip # noqa: E501
    (folder / "a.zarr" / "0.0.0").write_bytes(pickle.dumps(Harmful(folder / "harm")))
    return folder / "a.zarr"


@refused(r"a\.zarr can't be read as Zarr|a\.zarr has pickled pixels")
def zarr_of_pickled_pixels(folder):
    changed(array(folder / "a.zarr") / ".zarray", compressor={"id": "pickle", "protocol": 5})
    (folder / "a.zarr" / "0.0.0").write_bytes(pickle.dumps(Harmful(folder / "harm")))
    return folder / "a.zarr"


@refused(r"a\.zarr can't be read as Zarr: .*codec .*not available")
def zarr_of_an_unknown_codec(folder):
    changed(array(folder / "a.zarr") / ".zarray", compressor={"id": "nonsense"})
    return folder / "a.zarr"


@refused(r"a\.zarr (can't be read as Zarr|isn't valid OME-Zarr)")
def ome_zarr_that_leads_out_of_its_folder(folder):
    array(folder / "b.zarr")
    return image(folder / "a.zarr", "../b.zarr")


@refused(r"a\.zarr isn't valid OME-Zarr: 7 is missing")
def ome_zarr_whose_array_is_missing(folder):
    return image(folder / "a.zarr", "7")


# Unsupported pixels


def pixels(planes: np.ndarray):
    return lambda folder: array(folder / "a.zarr", planes, fill_value=None)


SPECIAL = {
    "complex": (PIXELS.astype(complex), "planes must be integers or floats .*, got complex128"),
    "truth values": (PIXELS > 9000, "planes must be integers or floats .*, got bool"),
    "structured": (
        np.ones(PIXELS.shape, [("a", "u1"), ("b", "u2")]),
        r"planes must be integers or floats|can't be read as Zarr",
    ),
    "of 7 rows": (PIXELS[:, :7], "planes must be at least 8 × 8 pixels, got 7 × 40"),
}
REFUSED += [
    pytest.param(pixels(planes), words, id=f"pixels {kind}")
    for kind, (planes, words) in SPECIAL.items()
]


@pytest.mark.filterwarnings("ignore::Warning:zarr")
@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_invalid_files_are_refused_with_a_one_line_message(make, words, tmp_path, capsys):
    path = make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        np.asarray(read_stack(path).planes)
    assert re.search(words, str(error.value))
    assert error.type in (StackError, FileNotFoundError)
    capsys.readouterr()
    assert main(["run", str(path), "--out", str(tmp_path / "out"), *QUICK]) == 2
    output = capsys.readouterr()
    assert re.fullmatch(r"napari-dff: (.+)\n", output.err), output.err
    assert re.search(words, output.err)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "harm").exists()


# Read with a warning


def doubtful(words: str, unit: str = "pixel"):
    """Register a file that is read with a warning: pattern of the message, resulting unit."""
    return case(DOUBTFUL, words, unit)


@doubtful(r"1 of the 4 chunks of a\.zarr are missing; their pixels are set to 0")
def zarr_without_one_chunk(folder):
    (array(folder / "a.zarr") / "2.0.0").unlink()
    return folder / "a.zarr"


@doubtful(r"the OME metadata of a\.ome\.tif is not well-formed \(mismatched tag.*give --axes")
def ome_that_is_no_xml(folder):
    return described(folder / "a.ome.tif", "<TiffData>")


@doubtful(
    r"a\.ome\.tif holds a stack that was stopped.* describe 9 Z × 32 Y × 40 X, but only 4 along"
)
def ome_with_more_planes_than_pages(folder):
    sizes = 'SizeX="40" SizeY="32" SizeZ="9" SizeC="1" SizeT="1"'
    return described(folder / "a.ome.tif", "<TiffData/>", sizes=sizes)


@doubtful(r"a\.zarr: the distance of planes is -2\.0 micrometer: positions fall", "micrometer")
def ome_zarr_of_negative_scale(folder):
    return image(folder / "a.zarr", scale=-2.0)


@doubtful(r"a\.zarr: distance of planes not used: 'parsec' is not a known unit")
def ome_zarr_of_unknown_unit(folder):
    return image(folder / "a.zarr", unit="parsec")


@doubtful(r"a\.ome\.tif: distance of planes not used: nan µm is not a positive length")
def ome_whose_planes_are_nan_apart(folder):
    return ome(folder / "a.ome.tif", PhysicalSizeZ="nan")


@doubtful(r"a\.ome\.tif: distance of columns not used: inf µm is not a positive length")
def ome_of_infinite_pixels(folder):
    return ome(folder / "a.ome.tif", PhysicalSizeX="inf")


@doubtful(r"a\.ome\.tif: distance of rows not used: 0\.0 µm is not a positive length")
def ome_of_pixels_without_height(folder):
    return ome(folder / "a.ome.tif", PhysicalSizeY=0.0)


@doubtful(r"a\.ome\.tif: distance of columns not used: 'cubit' is not a known unit")
def ome_of_unknown_unit(folder):
    return ome(folder / "a.ome.tif", PhysicalSizeXUnit="cubit")


@doubtful(r"a\.ome\.tif: positions of planes not used: they are not monotonic", "micrometer")
def ome_whose_planes_go_up_and_down(folder):
    plane = {"PositionZ": [0.0, 2.0, 1.0, 3.0], "PositionZUnit": ["µm"] * 4}
    return ome(folder / "a.ome.tif", Plane=plane)


@doubtful(r"a\.tif may be damaged: incorrect StripByteCounts count")
def tiff_with_a_strip_too_many(folder):
    return with_tags(tiff(folder / "a.tif", pages=True), StripByteCounts=(2560, 2560))


@pytest.mark.parametrize(("make", "words", "unit"), DOUBTFUL)
def test_doubtful_files_are_read_with_one_warning(make, words, unit, tmp_path, capfd):
    path = make(tmp_path)
    with pytest.warns(UserWarning, match=words) as record:
        stack = read_stack(path)
    (warning,) = (each for each in record if each.category is UserWarning)  # no ResourceWarning
    assert "\n" not in str(warning.message)
    assert warning.filename == __file__
    assert stack.unit == unit
    assert stack.planes.shape[0] == 4
    np.testing.assert_array_equal(np.asarray(stack.planes[0]), PIXELS[0])
    assert capfd.readouterr().err == ""  # no log of tifffile


def test_spacing_from_the_user_replaces_invalid_lengths_without_a_warning(tmp_path):
    path = ome(tmp_path / "a.ome.tif", PhysicalSizeZ="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        stack = read_stack(path, spacing=(3, 2, 1))
    np.testing.assert_array_equal(stack.positions, [0, 3, 6, 9])


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_warning_is_one_line_on_the_terminal(tmp_path, capfd):
    assert main(["info", str(ome(tmp_path / "a.ome.tif", PhysicalSizeZ="nan"))]) == 0
    line = "napari-dff: a.ome.tif: distance of planes not used: nan µm is not a positive length\n"
    assert capfd.readouterr().err == line


# Unusual but valid


def usable(make):
    case(USABLE)(make)
    return make


@usable
def ome_whose_planes_are_all_at_one_height(folder):
    plane = {"PositionZ": [7.0] * 4, "PositionZUnit": ["µm"] * 4}
    return ome(folder / "a.ome.tif", Plane=plane)


@usable
def name_with_spaces(folder):
    return ome(folder / "my own stack .ome.tif")


@usable
def name_with_accents(folder):
    return ome(folder / "Schärfe à la carte.ome.tif")


@usable
def name_in_japanese(folder):
    return ome(folder / "焦点合成.ome.tif")


@usable
def name_with_a_hash_and_a_percent_sign(folder):
    return ome(folder / "a#1 100%?.ome.tif")


@usable
def name_with_a_new_line(folder):
    return ome(folder / "a\nb.ome.tif")


@usable
def frames_in_a_folder_with_a_new_line(folder):
    return frames(folder / "a\nb# ü", *PIXELS)


@usable
def zarr_in_a_folder_with_a_hash(folder):
    return array(folder / "a#1 é ü 焦.zarr")


@usable
def tiff_behind_a_link(folder):
    (folder / "in").mkdir()
    ome(folder / "b.ome.tif").rename(folder / "in" / "b.ome.tif")
    (folder / "a.ome.tif").symlink_to(folder / "in" / "b.ome.tif")
    return folder / "a.ome.tif"


@usable
def zarr_whose_array_is_a_link(folder):
    (image(folder / "a.zarr") / "0").rename(folder / "elsewhere")
    (folder / "a.zarr" / "0").symlink_to(folder / "elsewhere")
    return folder / "a.zarr"


@usable
def ome_that_names_itself_by_another_path(folder):
    part = '<TiffData><UUID FileName="C:\\old\\b.tif">urn:uuid:1</UUID></TiffData>'
    return described(folder / "a.ome.tif", part, uuid='UUID="urn:uuid:1"')


@pytest.mark.parametrize("make", USABLE)
def test_unusual_files_are_read_without_a_warning(make, tmp_path):
    path = make(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        stack = read_stack(path)
    np.testing.assert_array_equal(np.asarray(stack.planes), PIXELS)


def test_any_name_works_on_the_command_line(tmp_path, capsys):
    """The name is not parsed as a pattern, a URL or the end of a line."""
    path = tiff(tmp_path / "a\nb #1 100% ü 焦点 {x} [1].tif")
    out = tmp_path / "ergebnis\n#2 ü"
    assert main(["run", str(path), "--out", str(out), *QUICK]) == 0
    assert (out / "depth.ome.tif").is_file()
    assert json.loads((out / "provenance.json").read_text())["input"]["path"] == path.name
    # The first run of a process may have to compile.
    assert capsys.readouterr().err.replace(f"{COMPILING}\n", "") == ""


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint32", "uint64", "int64", "float32", "float64", ">u2"]
)
def test_every_number_type_is_read(dtype, tmp_path):
    planes = (PIXELS // 500).astype(dtype)
    for path in (array(tmp_path / "a.zarr", planes), tiff(tmp_path / "a.tif", planes)):
        pixels_read = np.asarray(read_stack(path).planes)
        assert pixels_read.dtype == planes.dtype.newbyteorder("=")
        np.testing.assert_array_equal(pixels_read, planes)


@pytest.mark.parametrize(
    ("planes", "words"),
    [
        (np.zeros((4, 32, 40), np.uint16), "planes have no contrast anywhere"),
        (np.full((4, 32, 40), 65535, np.uint16), "planes have no contrast anywhere"),
        (
            np.where(np.arange(4)[:, None, None] == 2, np.nan, PIXELS).astype(np.float32),
            r"planes must be finite, got 1280 NaN or infinite values in plane 2",
        ),
    ],
    ids=["all black", "saturated", "NaN in a plane"],
)
def test_planes_without_contrast_or_with_nan_are_refused(planes, words, tmp_path, capsys):
    path = tiff(tmp_path / "a.tif", planes)
    assert main(["run", str(path), "--out", str(tmp_path / "out"), *QUICK]) == 2
    assert re.fullmatch(rf"napari-dff: .*{words}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can change the user")
def test_a_file_without_read_permission_is_refused_with_its_path(tmp_path, capsys):
    path = tiff(tmp_path / "a.tif")  # in a folder of root's
    try:
        os.seteuid(65534)
        code = main(["info", str(path)])
    finally:
        os.seteuid(0)
    assert code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"napari-dff: .+\n", error)
    assert "Permission denied" in error
    assert str(path) in error


# Recipes, transforms and results

NEWER = "99.0.0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not a recipe: Expecting value"),
        ("{", "is not a recipe: Expecting property name"),
        (b"\xff\xfe\x00", "is not a recipe: 'utf-16-le' codec can't decode"),
        ("[" * 100000, "is not a recipe: maximum recursion depth"),
        ("[1]", "is not a recipe: it is not a JSON object"),
        ('"joint"', "is not a recipe: it is not a JSON object"),
        ({"sigmaa": 1}, "recipe has no setting 'sigmaa'; did you mean 'sigma'"),
        ({"": 1}, r"recipe has no setting '' \(registration, "),
        ({"sigma": -1}, "sigma must be auto or a number from 0 to 32, got -1"),
        ({"sigma": "1"}, "sigma must be auto or a number from 0 to 32, got '1'"),
        ({"sigma": float("nan")}, "sigma must be auto or a number from 0 to 32, got nan"),
        ({"sigma": 10**400}, "sigma must be auto or a number from 0 to 32"),
        ({"window": 8}, "window must be auto or an odd number from 1 to 255, got 8"),
        ({"window": 9.0}, r"window must be auto or an odd number from 1 to 255, got 9\.0"),
        ({"window": None}, "window must be auto or an odd number from 1 to 255, got None"),
        ({"registration": ["joint"]}, r"registration must be one of .*, got \['joint'\]"),
        ({"peak": "Gaussian"}, "peak must be one of .*, got 'Gaussian'"),
        (
            {"napari_dff": NEWER, "sharpness": 1},
            f"no setting 'sharpness'.*; it is from the newer version {NEWER}",
        ),
        (
            {"napari_dff": NEWER, "operator": "hexagonal"},
            f"got 'hexagonal'; it is from the newer version {NEWER}",
        ),
    ],
)
def test_an_invalid_recipe_is_refused_with_its_path(content, words, tmp_path, capsys):
    path = tmp_path / "recipe.json"
    path.write_bytes(content if isinstance(content, bytes) else as_text(content).encode())
    with pytest.raises(ValueError, match=words) as error:
        read_recipe(path)
    assert str(error.value).startswith(str(path))
    assert main(["run", BARE, "--out", str(tmp_path / "out"), "--recipe", str(path)]) == 2
    assert re.fullmatch(rf"napari-dff: .*{words}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def as_text(content) -> str:
    return content if isinstance(content, str) else json.dumps(content)


def test_a_valid_recipe_of_any_version_is_read(tmp_path):
    for version in (NEWER, "0.0.1", napari_dff.__version__, 5, None):
        (tmp_path / "a.json").write_text(json.dumps({"napari_dff": version, "window": 11}))
        assert read_recipe(tmp_path / "a.json") == Recipe(window=11)
    (tmp_path / "a.json").write_text('{"window": 11}', encoding="utf-8-sig")  # of Windows editors
    assert read_recipe(tmp_path / "a.json") == Recipe(window=11)


def test_an_invalid_recipe_of_an_older_version_is_not_reported_as_newer(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"napari_dff": "0.0.9", "window": 8}))
    with pytest.raises(ValueError, match=r"got 8$"):
        read_recipe(tmp_path / "a.json")


def test_a_huge_recipe_is_not_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(1 << 40)  # with nothing in it
    with pytest.raises(ValueError, match=r"a\.json is not a recipe: it is larger than 100 MB"):
        read_recipe(tmp_path / "a.json")


EYE = np.eye(3).tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not transforms: Expecting property name"),
        ([EYE], "is not transforms: it is not a JSON object"),
        ({"transform": [EYE]}, "does not contain transforms written by a run"),
        ({"transforms": None}, "must hold one 3 × 3 matrix per plane"),
        ({"transforms": [EYE, [[1, 0], [0, 1]]]}, "does not contain transforms written by a run"),
        ({"transforms": [[[1, 0], [0, 1]]]}, r"3 × 3 matrix per plane, got shape \(1, 2, 2\)"),
        ({"transforms": [["a"]]}, "does not contain transforms written by a run"),
        ({"transforms": [[[10**400] * 3] * 3]}, "does not contain transforms written by a run"),
        ({"transforms": [[[float("nan")] * 3] * 3]}, "matrices that are finite and can be inver"),
        ({"transforms": [[[1, 1, 1]] * 3]}, "matrices that are finite and can be inverted"),
        ({"transforms": [EYE, EYE]}, "transforms must be of .* planes, .* got 2 planes"),
    ],
)
def test_invalid_transforms_are_refused(content, words, tmp_path, capsys):
    path = tmp_path / "transforms.json"
    path.write_text(as_text(content))
    if "planes, " not in words:  # depends on the stack
        with pytest.raises(ValueError, match=words):
            read_transforms(path)
    arguments = ["run", BARE, "--out", str(tmp_path / "out"), "--transforms", str(path), *QUICK]
    assert main(arguments) == 2
    assert re.fullmatch(rf"napari-dff: .*{words}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Results of the same stack in both formats."""
    folder = tmp_path_factory.mktemp("results")
    stack = tiff(folder / "a.tif")
    for kind in ("ome-tiff", "ome-zarr"):
        out = str(folder / kind)
        assert main(["run", str(stack), "--out", out, "--file_format", kind, *QUICK]) == 0
    return folder


def drop(folder: Path, name: str) -> None:
    (folder / name).unlink()


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


def alter(folder: Path, name: str, **values) -> None:
    changed(folder / f"{name}.json", **values)


RESULT = [
    ("a file is missing", lambda p: drop(p, "provenance.json"), "there is no"),
    ("a map is missing", lambda p: drop(p, "index.ome.tif"), "no result of a run: index"),
    (
        "a map is cut",
        lambda p: truncate(p / "depth.ome.tif", 0.4),
        r"depth\.ome\.tif is damaged or cut short",
    ),
    ("a map is none", lambda p: put(p, "depth.ome.tif", "x"), r"depth\.ome\.tif can't be read"),
    ("the record is a list", lambda p: put(p, "provenance.json", "[]"), "is not the record"),
    ("no positions", lambda p: alter(p, "provenance", positions=None), "positions of shape"),
    ("positions are words", lambda p: alter(p, "provenance", positions=["a"]), "could not"),
    ("too few motions", lambda p: alter(p, "transforms", transforms=[EYE] * 3), "do not match"),
    ("motions are none", lambda p: alter(p, "transforms", transforms=5), "3 × 3 matrix"),
    (
        "maps of two sizes",
        lambda p: tifffile.imwrite(p / "index.ome.tif", np.zeros((9, 9), np.uint16)),
        r"its maps have the shapes \(9, 9\), \(32, 40\), \(32, 40\)",
    ),
]


@pytest.mark.parametrize(
    ("damage", "words"), [pytest.param(damage, words, id=name) for name, damage, words in RESULT]
)
def test_depth_from_a_damaged_result_is_refused(damage, words, results, tmp_path, capsys):
    damaged = tmp_path / "result"
    shutil.copytree(results / "ome-tiff", damaged)
    damage(damaged)
    run_with(results, damaged, tmp_path / "out", words, capsys)


def test_depth_from_a_damaged_zarr_result_is_refused(results, tmp_path, capsys):
    damaged = tmp_path / "result"
    shutil.copytree(results / "ome-zarr", damaged)
    for chunk in (damaged / "depth.ome.zarr" / "0").rglob("*"):
        if chunk.is_file() and chunk.name not in (".zarray", "zarr.json", ".zattrs"):
            chunk.write_bytes(b"nothing that could be decoded")
    run_with(results, damaged, tmp_path / "out", r"depth\.ome\.zarr can't be decoded", capsys)
    for name in (".zarray", "zarr.json"):
        if (damaged / "depth.ome.zarr" / "0" / name).exists():
            (damaged / "depth.ome.zarr" / "0" / name).write_text("{")
    run_with(results, damaged, tmp_path / "out", r"depth\.ome\.zarr can't be read", capsys)


def run_with(results: Path, depth_from: Path, out: Path, words: str, capsys) -> None:
    stack = str(results / "a.tif")
    capsys.readouterr()
    assert main(["run", stack, "--out", str(out), "--depth_from", str(depth_from), *QUICK]) == 2
    assert re.fullmatch(rf"napari-dff: .*{words}.*\n", capsys.readouterr().err)
    assert not out.exists()


# Content of files is never executed


def test_expat_limits_entity_expansion():
    """tifffile parses more XML than napari-dff."""
    assert pyexpat.version_info >= (2, 4, 1)


def test_source_has_no_functions_that_execute_content_of_files():
    """Exceptions must be in `allowed`."""
    allowed = {
        ("io/readers/zarr_store.py", "pickle"),  # where it is refused
        ("widgets/app/controls.py", "exec"),  # of a dialog of Qt
    }
    words = re.compile(r"\b(pickle|eval|exec|allow_pickle|marshal|shelve|dill)\b")
    folder = Path(napari_dff.__file__).parent
    matches = {
        (path.relative_to(folder).as_posix(), match[1])
        for path in folder.rglob("*.py")
        for match in words.finditer(path.read_text(encoding="utf-8"))
    }
    assert matches <= allowed


def test_the_planes_of_an_mmstack_that_was_cut_are_read_with_a_warning(tmp_path):
    path = mmstack(tmp_path / "a_MMStack.tif", [8, 3000, 5000, 1 << 30])
    with pytest.warns(UserWarning, match="stopped, or is cut short.* only 3 along Z are complete"):
        assert read_stack(path).planes.shape == (3, 32, 40)


def test_huge_ome_metadata_are_not_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_dff.io.readers.tiff_opening.MAX_OME_ELEMENTS", 1000)
    path = ome(tmp_path / "a.ome.tif")
    with tifffile.TiffFile(path) as tif:
        text = tif.ome_metadata.replace("<TiffData", "<Plane/>" * 2000 + "<TiffData", 1)
    tiff(path, description=text.encode(), metadata=None)
    monkeypatch.setattr("xml.etree.ElementTree.fromstring", None)
    with pytest.warns(UserWarning, match=r"have 20\d\d elements, more than 1000, and are not used"):
        stack = read_stack(path)
    np.testing.assert_array_equal(np.asarray(stack.planes), PIXELS)


@pytest.mark.parametrize(
    "text",
    ["ImageJ=1.54f\nimages=4\nslices=4\n" + "loop=false\n" * 99, f'{{"shape": {[1] * 999}}}'],
)
def test_a_huge_description_is_not_parsed(text, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_dff.io.readers.tiff_opening.MAX_DESCRIPTION_LENGTH", 1000)
    path = tiff(tmp_path / "a.tif", description=text, metadata=None)
    for parse in ("imagej_description_metadata", "shaped_description_metadata"):
        monkeypatch.setattr(f"tifffile.tifffile.{parse}", None)
    with pytest.warns(UserWarning, match=r"has \d{4} characters, more than 1000, and is not used"):
        stack = read_stack(path)
    np.testing.assert_array_equal(np.asarray(stack.planes), PIXELS)


CODECS = {"gzip": numcodecs.GZip(), "zlib": numcodecs.Zlib(), "blosc": numcodecs.Blosc()}
CODECS |= {"lz4": numcodecs.LZ4(), "zstd": numcodecs.Zstd(), "bz2": numcodecs.BZ2()}
CODECS |= {"lzma": numcodecs.LZMA(preset=0)}
CHUNK = {"chunks": (1, 64, 64), "shape": (4, 64, 64), "dtype": "uint16"}
NOISE = np.random.default_rng(0).integers(0, 60000, CHUNK["shape"], np.uint16)


def modern_codec(kind):
    codecs = {"gzip": zarr.codecs.GzipCodec, "blosc": zarr.codecs.BloscCodec}
    codecs |= {"zstd": zarr.codecs.ZstdCodec}
    if kind in codecs:
        return codecs[kind]()
    names = {"zlib": "Zlib", "lz4": "LZ4", "bz2": "BZ2", "lzma": "LZMA"}
    return getattr(pytest.importorskip("zarr.codecs.numcodecs"), names[kind])()


def bomb_of(name):
    """8 MB of zeros, packed."""
    if not name.startswith("zstd "):
        return bytes(CODECS[name].encode(bytes(8 << 20)))
    block = (128 << 10 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"  # repeats one byte
    last = (128 << 10 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + 79 * block + last
    frame_with_size = bytes(CODECS["zstd"].encode(b"0" * 100))
    skipped = b"\x50\x2a\x4d\x18\4\0\0\0...."
    return {"zstd without size": frame, "zstd after others": frame_with_size + skipped + frame}[
        name
    ]


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in")
@pytest.mark.parametrize("kind", ["Zarr 2", "Zarr 3", "shards"])
@pytest.mark.parametrize("name", [*CODECS, "zstd without size", "zstd after others"])
def test_a_chunk_that_unpacks_to_far_more_than_its_pixels_is_refused(name, kind, tmp_path):
    codec, bomb = name.partition(" ")[0], bomb_of(name)
    options = {"zarr_format": 2, "compressors": CODECS[codec]}
    if kind != "Zarr 2":
        options = {"zarr_format": 3, "compressors": modern_codec(codec)}
    if kind == "shards":
        plain = zarr.codecs.BytesCodec()
        codecs = {"codecs": [plain, modern_codec(codec)], "index_codecs": [plain]}
        serializer = zarr.codecs.ShardingCodec(chunk_shape=CHUNK["chunks"], **codecs)
        options = {"serializer": serializer, "compressors": None, "chunks": CHUNK["shape"]}
    array = zarr.create_array(tmp_path / "a.zarr", **(CHUNK | options))
    array[:] = NOISE
    np.testing.assert_array_equal(np.asarray(read_stack(tmp_path / "a.zarr").planes), NOISE)
    if kind == "shards":
        path = tmp_path / "a.zarr" / array.metadata.encode_chunk_key((0, 0, 0))
        chunks, index = path.read_bytes()[:-64], path.read_bytes()[-64:]
        places = np.frombuffer(index, "<u8").reshape(4, 2).copy()
        places[1] = len(chunks), len(bomb)
        path.write_bytes(chunks + bomb + places.tobytes())
    else:
        (tmp_path / "a.zarr" / array.metadata.encode_chunk_key((1, 0, 0))).write_bytes(bomb)
    planes = read_stack(tmp_path / "a.zarr").planes
    for attempt in (planes, pickle.loads(pickle.dumps(planes))):
        with pytest.raises(StackError, match="unpacks to more than 4 times the 8192 bytes"):
            np.asarray(attempt)


def test_shards_of_zarr_of_too_many_chunks_are_refused(tmp_path):
    options = {"shape": (4, 2048, 2048), "dtype": "uint8", "chunks": (1, 1, 1)}
    zarr.create_array(tmp_path / "a.zarr", shards=(1, 2048, 2048), **options)
    for i in range(4):
        (tmp_path / "a.zarr" / f"c/{i}/0").mkdir(parents=True)
        (tmp_path / "a.zarr" / f"c/{i}/0/0").write_bytes(bytes(100))
    with pytest.raises(StackError, match="a shard has 4194304 chunks, more than 1000000"):
        read_stack(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "coder",
    [
        {"id": "categorize", "labels": ["x"], "dtype": "<U1000000", "astype": "<u2"},
        {"id": "astype", "encode_dtype": "<u2", "decode_dtype": "|S1000000"},
        {"id": "delta", "dtype": "<u2", "astype": "|V1000000"},
    ],
    ids=lambda coder: coder["id"],
)
def test_a_filter_of_zarr_that_makes_long_texts_of_pixels_is_refused(coder, tmp_path):
    changed(array(tmp_path / "a.zarr") / ".zarray", filters=[coder])
    with pytest.raises(StackError, match=r"has a filter whose \w+ must be numbers, got"):
        read_stack(tmp_path / "a.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_file_of_a_chunk_that_is_far_larger_than_its_pixels_is_not_read(zarr_format, tmp_path):
    array = zarr.create_array(
        tmp_path / "a.zarr", zarr_format=zarr_format, compressors=None, **CHUNK
    )
    array[:] = NOISE
    with (tmp_path / "a.zarr" / array.metadata.encode_chunk_key((1, 0, 0))).open("r+b") as file:
        file.truncate(1 << 40)  # a hole, which takes no disk
    with pytest.raises(StackError, match="has 1099511627776 bytes, more than 4 times its pixels"):
        np.asarray(read_stack(tmp_path / "a.zarr").planes)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_of_zarr_that_was_packed_twice_may_not_unpack_to_far_more_than_its_pixels(
    zarr_format, tmp_path
):
    outer, bomb = CODECS["zstd"], bomb_of("bz2")
    options = {"compressors": outer, "filters": [CODECS["bz2"]]}
    if zarr_format == 3:
        options = {"compressors": [modern_codec("bz2"), modern_codec("zstd")]}
    array = zarr.create_array(tmp_path / "a.zarr", zarr_format=zarr_format, **CHUNK, **options)
    array[:] = NOISE
    np.testing.assert_array_equal(np.asarray(read_stack(tmp_path / "a.zarr").planes), NOISE)
    path = tmp_path / "a.zarr" / array.metadata.encode_chunk_key((1, 0, 0))
    path.write_bytes(outer.encode(bomb))
    with pytest.raises(StackError, match="unpacks to more than 4 times the 8192 bytes"):
        np.asarray(read_stack(tmp_path / "a.zarr").planes)


@pytest.mark.parametrize("name", ["zlib", "lzma"])
def test_a_strip_of_a_tiff_that_unpacks_to_far_more_than_its_pixels_is_refused(
    name, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("tifffile.TIFF.DECOMPRESSORS._codecs", {1: lambda data, **_: data})
    monkeypatch.setattr("napari_dff.io.readers.tiff_series.SMALL_BYTES", 1 << 20)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, NOISE, compression=name, photometric="minisblack", rowsperstrip=64)
    with tifffile.TiffFile(path) as tif:
        tags = [tif.pages[1].tags[key].valueoffset for key in ("StripOffsets", "StripByteCounts")]
    bomb, size = bomb_of(name), path.stat().st_size
    with path.open("r+b") as file:
        for offset, value in zip(tags, (size, len(bomb)), strict=True):
            file.seek(offset)
            file.write(struct.pack("<I", value))
        file.seek(size)
        file.write(bomb)
    planes = read_stack(path).planes
    with pytest.raises(StackError, match="unpacks to more than 4 times the 8192 bytes"):
        np.asarray(planes)


@pytest.mark.parametrize("name", ["gzip", "zlib", "bz2", "lzma"])
def test_a_chunk_that_is_cut_short_is_refused(name, tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", compressors=CODECS[name], zarr_format=2, **CHUNK)
    array[:] = NOISE
    path = tmp_path / "a.zarr" / array.metadata.encode_chunk_key((1, 0, 0))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StackError, match="a chunk is cut short"):
        np.asarray(read_stack(tmp_path / "a.zarr").planes)


# XML and JSON whose values fill far more memory than the file is long, and archives


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (zipfile.ZIP_DEFLATED, "Bad CRC-32"),
        (zipfile.ZIP_BZIP2, "compressed by another method than DEFLATE"),
        (zipfile.ZIP_LZMA, "compressed by another method than DEFLATE"),
    ],
)
def test_a_file_of_an_archive_is_not_unpacked_beyond_the_size_that_is_listed(
    method, words, tmp_path, monkeypatch
):
    size = 32 << 20
    with zipfile.ZipFile(tmp_path / "a.x3p", "w", method) as archive:
        archive.writestr("main.xml", bytes(size))
    content = (tmp_path / "a.x3p").read_bytes()
    content = content.replace(struct.pack("<I", size), struct.pack("<I", 1000))
    (tmp_path / "a.x3p").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(StackError, match=words):
        read_height_map(tmp_path / "a.x3p")
    assert tracemalloc.get_traced_memory()[1] < size / 4
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<a/>" * 40, "41 elements, more than 30"),
        (
            "<a " + " ".join(f"b{i}='1'" for i in range(40)) + "/>",
            "more than 30 names of attributes",
        ),
        ('<a b="1"/>' * 25, "25 attributes, more than 20"),
        ('<a b="1"/>' * 20, ""),
    ],
)
def test_elements_and_attributes_of_xml_are_counted_before_it_is_parsed(text, words, monkeypatch):
    limit = 20 if "attributes, more" in words or not words else 1000
    monkeypatch.setattr(xml_size, "MAX_ATTRIBUTES", limit)
    monkeypatch.setattr(xml_size, "MAX_NAMES", 30)
    monkeypatch.setattr(xml_size, "COUNTED", 10)
    assert xml_size.describe_excess(f"<r>{text}</r>", 30) == words


def test_x3p_of_too_many_elements_is_not_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_dff.io.readers.height_maps.MAX_XML_ELEMENTS", 100)
    monkeypatch.setattr("xml.etree.ElementTree.fromstring", None)
    with zipfile.ZipFile(tmp_path / "a.x3p", "w") as archive:
        archive.writestr("main.xml", f"<r>{'<a/>' * 200}</r>")
    with pytest.raises(StackError, match="has 201 elements, more than 100"):
        read_height_map(tmp_path / "a.x3p")


def test_pages_of_different_compression_by_turns_are_reported(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for i, plane in enumerate([*PIXELS, *PIXELS]):
            options = {"compression": "zlib"} if i % 2 else {}
            tif.write(plane, metadata=None, contiguous=False, **options)
    with pytest.warns(UserWarning, match="pages of one size in 2 kinds by turns"):
        assert len(read_acquisitions(tmp_path / "a.tif")) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_recipe_in_any_encoding_of_unicode_is_read(encoding, tmp_path):
    write_recipe(tmp_path / "a.json", Recipe(sigma=2.0))
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    assert read_recipe(tmp_path / "a.json") == Recipe(sigma=2.0)


def test_the_content_of_a_file_is_not_repeated_in_its_error(tmp_path):
    head = "aISO-1.0\nNumPoints = 2\nNumProfiles = 2\nXscale=1\nYscale=1\nZscale=1\n*\n"
    for values in ("1 " * 5000, "1 2 3 " + "4" * 5000 + "x"):
        (tmp_path / "a.sdf").write_text(f"{head}{values}\n*")
        with pytest.raises(StackError, match=r"a\.sdf can't be read as a height map") as error:
            read_height_map(tmp_path / "a.sdf")
        assert len(str(error.value)) < 500


HUGE_VALUES = {
    "lists": "[" + "[]," * 3000 + "[]]",
    "strings": "[" + '"ab",' * 3000 + "0]",
    "names": "{" + ",".join(f'"{i}":0' for i in range(2000)) + "}",
}


@pytest.mark.parametrize("values", HUGE_VALUES.values(), ids=HUGE_VALUES)
def test_json_whose_values_fill_too_much_memory_is_not_decoded(values, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_dff.io.records.MAX_DECODED_JSON_BYTES", 100_000)
    monkeypatch.setattr("json.loads", None)
    path = tmp_path / "a.json"
    path.write_text(f'{{"transforms": {values}}}')
    for read in (read_recipe, read_transforms):
        with pytest.raises(ValueError, match=r"values could fill .* MB, more than"):
            read(path)


def test_a_value_of_a_recipe_that_is_refused_is_shown_in_part(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"sigma": [[]] * 100_000, "window": 9}))
    with pytest.raises(ValueError, match="sigma must be auto or a number") as error:
        read_recipe(tmp_path / "a.json")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("name", "zarr_format"), [("zarr.json", 3), (".zarray", 2), (".zattrs", 2)]
)
def test_metadata_of_zarr_that_fill_too_much_memory_are_not_decoded(
    name, zarr_format, tmp_path, monkeypatch
):
    monkeypatch.setattr("napari_dff.io.readers.zarr_store.SMALL_BYTES", 10_000)
    monkeypatch.setattr("napari_dff.io.records.MAX_DECODED_JSON_BYTES", 100_000)
    path = array(tmp_path / "a.zarr", zarr_format=zarr_format) / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | {"x": [[]] * 4000}))
    with pytest.raises(StackError, match="is not Zarr metadata: its values could fill"):
        read_stack(tmp_path / "a.zarr")


def test_a_tiff_of_too_many_pages_is_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_dff.io.readers.tiff_opening.MAX_PAGES", 3)
    path = tiff(tmp_path / "a.tif", pages=True)
    with pytest.raises(StackError, match=r"a\.tif has more than 3 pages: save it as several"):
        read_stack(path)


PICTURE = np.zeros((2000, 3000), np.uint8)
IMAGES = {  # compression of TIFF, and how a decoder library writes a file of it
    "JPEG": (7, lambda codecs: codecs.jpeg8_encode(PICTURE)),
    "JPEG 2000": (34712, lambda codecs: codecs.jpeg2k_encode(PICTURE)),
    "JPEG 2000 codestream": (
        33005,
        lambda codecs: codecs.jpeg2k_encode(PICTURE, codecformat="j2k"),
    ),
    "JPEG XL": (50002, lambda codecs: codecs.jpegxl_encode(PICTURE, effort=1)),
    "JPEG XL in boxes": (
        *(50002, lambda codecs: codecs.jpegxl_encode(PICTURE, effort=1, usecontainer=True)),
    ),
    "JPEG XR": (34934, lambda codecs: codecs.jpegxr_encode(PICTURE)),
    "PNG": (34933, lambda codecs: codecs.png_encode(PICTURE)),
    "WebP": (50001, lambda codecs: codecs.webp_encode(np.dstack([PICTURE] * 3), lossless=False)),
    "WebP lossless": (50001, lambda codecs: codecs.webp_encode(np.dstack([PICTURE] * 3))),
    "LERC": (34887, lambda codecs: codecs.lerc_encode(PICTURE)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_strip_that_is_an_image_far_larger_than_its_page_is_refused(name, tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    compression, encode = IMAGES[name]
    packed = encode(codecs)
    assert count_pixels(packed) == PICTURE.size
    for length in (0, 3, 11, 20):
        count_pixels(packed[:length])  # raises nothing
    path = tiff(tmp_path / "a.tif", PIXELS.astype(np.uint8), pages=True)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + packed)
    for page in range(4):
        strip = {"StripOffsets": size, "StripByteCounts": len(packed)}
        with_tags(path, page, Compression=compression, **strip)
    planes = read_stack(path).planes
    reads = [lambda i=i: np.asarray(planes[i]) for i in range(4)]
    tiff(tmp_path / "b.tif", PIXELS[0].astype(np.uint8), metadata=None)
    (tmp_path / "b.tif").write_bytes((tmp_path / "b.tif").read_bytes().ljust(size) + packed)
    with_tags(tmp_path / "b.tif", Compression=compression, **strip)
    for read in (*reads, lambda: read_pixels(tmp_path / "b.tif", 1)):
        with pytest.raises(StackError, match="a strip of 1280 pixels holds an image of 6000000"):
            read()
