"""Readers of all formats: order of axes, units of lengths, lazy loading."""

import copy
import functools
import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path

import dask.array as da
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr

from napari_dff.cli.program import main
from napari_dff.io import StackError, read_acquisitions, read_stack
from napari_dff.model.units import conversion_factor, normalize_unit
from napari_dff.pipeline import driver
from napari_dff.runtime import file_array
from napari_dff.runtime.file_array import FileArray

MICRONS = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
SIZES = {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.3, "PhysicalSizeZ": 2.0, **MICRONS}


def numbered(axes: str, dtype: type = np.uint16, **lengths: int) -> np.ndarray:
    """Array with `axes` whose pixels are 1000 × position + 100 × time + 10 × channel + plane."""
    lengths = {"Y": 9, "X": 10} | lengths
    values = np.zeros([lengths[axis] for axis in axes], dtype)
    for axis, weight in (("P", 1000), ("T", 100), ("C", 10), ("Z", 1)):
        if axis in axes:
            shape = [-1 if each == axis else 1 for each in axes]
            values += (weight * np.arange(lengths[axis])).astype(dtype).reshape(shape)
    return values


def values(acquisition) -> np.ndarray:
    """Value of each plane, (T, C, Z)."""
    return np.asarray(acquisition.data[:, :, :, 0, 0])


def write_plain(path: Path, data: np.ndarray, **options) -> Path:
    tifffile.imwrite(path, data, photometric="minisblack", **options)
    return path


def write_ome(path: Path, data: np.ndarray, axes: str, **metadata) -> Path:
    photometric = "rgb" if axes.endswith("S") else "minisblack"
    options = {key: metadata.pop(key) for key in ("compression", "tile") if key in metadata}
    metadata = {"axes": axes, **metadata}
    tifffile.imwrite(path, data, ome=True, photometric=photometric, metadata=metadata, **options)
    return path


# Units


@pytest.mark.parametrize(
    ("of", "to", "expected"),
    [
        ("micrometer", "micrometer", 1.0),
        ("millimeter", "micrometer", 1000.0),
        ("micrometer", "millimeter", 0.001),
        ("nanometer", "meter", 1e-9),
        ("centimeter", "nanometer", 1e7),
    ],
)
def test_factors_between_units(of, to, expected):
    assert conversion_factor(of, to) == expected


def test_units_are_known_in_every_spelling():
    for text in ("µm", "μm", "um", "micron", "\\u00B5m", "\\u00b5m", "micrometer", " um "):
        assert normalize_unit(text) == "micrometer"
    for text in ("pixel", "inch", "reference frame", None, 5):
        assert normalize_unit(text) is None


# TIFF: axes


@pytest.mark.parametrize("axes", ["TZCYX", "TCZYX", "CTZYX", "ZCTYX"])
def test_ome_axes_are_put_in_order(tmp_path, axes):
    path = write_ome(tmp_path / "a.ome.tif", numbered(axes, T=2, C=3, Z=4), axes)
    (acquisition,) = read_acquisitions(path)
    assert acquisition.data.shape == (2, 3, 4, 9, 10)
    assert isinstance(acquisition.data, FileArray)
    np.testing.assert_array_equal(values(acquisition), numbered("TCZ", T=2, C=3, Z=4))
    assert acquisition.name == ""


def test_ome_channels_have_their_names(tmp_path):
    path = write_ome(
        tmp_path / "a.ome.tif",
        numbered("CZYX", C=2, Z=3),
        "CZYX",
        Channel={"Name": ["DAPI", "488"]},
    )
    assert read_acquisitions(path)[0].channels == ("DAPI", "488")
    np.testing.assert_array_equal(read_stack(path, channel="488").planes[:, 0, 0], [10, 11, 12])
    np.testing.assert_array_equal(read_stack(path, channel=0).planes[:, 0, 0], [0, 1, 2])


def test_imagej_hyperstack(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", numbered("TZCYX", T=2, C=3, Z=4), imagej=True, resolution=(4.0, 2.0),
        metadata={"axes": "TZCYX", "spacing": 0.7, "unit": "micron", "Labels": list("abc") * 8},
    )  # fmt: skip
    (acquisition,) = read_acquisitions(tmp_path / "a.tif")
    np.testing.assert_array_equal(values(acquisition), numbered("TCZ", T=2, C=3, Z=4))
    np.testing.assert_allclose(acquisition.positions, [[0, 0.7, 1.4, 2.1]] * 2)
    assert acquisition.pixel_size == (0.5, 0.25)
    assert acquisition.unit == "micrometer"
    assert acquisition.channels == ("a", "b", "c")


def test_labels_of_imagej_that_differ_from_plane_to_plane_are_no_channels(tmp_path):
    labels = [f"{c} {z}" for z in range(3) for c in "ab"]
    tifffile.imwrite(
        tmp_path / "a.tif", numbered("ZCYX", C=2, Z=3), imagej=True,
        metadata={"axes": "ZCYX", "Labels": labels},
    )  # fmt: skip
    assert read_acquisitions(tmp_path / "a.tif")[0].channels == ("", "")


def test_big_endian_as_imagej_writes_it_is_lazy_and_native(tmp_path):
    planes = numbered("ZYX", Z=4)
    write_plain(tmp_path / "a.tif", planes, byteorder=">", metadata=None)
    lazy_planes = read_stack(tmp_path / "a.tif").planes
    assert isinstance(lazy_planes, FileArray)
    assert np.asarray(lazy_planes[0]).dtype.isnative
    np.testing.assert_array_equal(lazy_planes, planes)


def test_a_tiff_of_many_pages_is_a_focal_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in numbered("ZYX", Z=5):
            tif.write(plane, contiguous=False, metadata=None)
    stack = read_stack(tmp_path / "a.tif")
    np.testing.assert_array_equal(stack.planes[:, 0, 0], range(5))
    np.testing.assert_array_equal(stack.positions, range(5))
    assert (stack.unit, stack.pixel_size) == ("pixel", (1.0, 1.0))


def test_several_unnamed_axes_must_be_named(tmp_path):
    path = tmp_path / "a.tif"
    write_plain(path, numbered("TZYX", T=3, Z=4))
    message = r"a\.tif has the axes unnamed 3, unnamed 4, Y 9, X 10: name them .* --axes TZYX"
    with pytest.raises(StackError, match=message):
        read_acquisitions(path)
    (acquisition,) = read_acquisitions(path, axes="tzyx")
    np.testing.assert_array_equal(values(acquisition), numbered("TCZ", T=3, C=1, Z=4))
    (acquisition,) = read_acquisitions(path, axes="ZCYX")
    np.testing.assert_array_equal(values(acquisition)[0, 2], [2, 102, 202])
    write_plain(path, numbered("TCZYX", T=2, C=2, Z=4))
    with pytest.raises(StackError, match="--axes TCZYX"):
        read_acquisitions(path)


def test_an_axis_can_be_named_as_positions(tmp_path):
    write_plain(tmp_path / "a.tif", numbered("PZYX", P=3, Z=4))
    acquisitions = read_acquisitions(tmp_path / "a.tif", axes="PZYX")
    assert [each.name for each in acquisitions] == ["position 0", "position 1", "position 2"]
    for i, each in enumerate(acquisitions):
        np.testing.assert_array_equal(values(each), numbered("PTCZ", P=3, T=1, C=1, Z=4)[i])
    stack = read_stack(tmp_path / "a.tif", axes="PZYX", position="position 2")
    assert stack.planes[1, 0, 0] == 2001


@pytest.mark.parametrize("axes", ["ZYX", "TCZYX", "CTZYX"])
def test_axes_can_be_named_with_or_without_those_of_length_one(tmp_path, axes):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(1, 1, 4, 9, 10), dtype="uint16")
    array[:] = numbered("TCZYX", T=1, C=1, Z=4)
    (acquisition,) = read_acquisitions(tmp_path / "a.zarr", axes=axes)
    np.testing.assert_array_equal(values(acquisition), [[[0, 1, 2, 3]]])


def test_invalid_axes_are_refused(tmp_path):
    write_plain(tmp_path / "a.tif", numbered("ZYX", Z=4))
    for axes in ("TYX", "ZZYX", "ZYXQ", ""):
        with pytest.raises(ValueError, match=r"axes must be letters of P .* got '"):
            read_acquisitions(tmp_path / "a.tif", axes=axes)
    message = "axes must name each axis of a.tif, which are unnamed 4, Y 9, X 10; got 'TZYX'"
    with pytest.raises(StackError, match=message):
        read_acquisitions(tmp_path / "a.tif", axes="TZYX")


@pytest.mark.parametrize("axis", ["T", "C"])
def test_a_focus_axis_with_another_name_can_be_renamed(tmp_path, axis):
    path = write_ome(tmp_path / "a.ome.tif", numbered("ZYX", Z=5), f"{axis}YX", **SIZES)
    message = rf"the axes {axis} 5, Y 9, X 10, none of which .* if it is {axis}, use --axes ZYX"
    with pytest.raises(StackError, match=message):
        read_acquisitions(path)
    stack = read_stack(path, axes="ZYX")
    np.testing.assert_array_equal(stack.planes[:, 0, 0], range(5))
    np.testing.assert_allclose(stack.positions, [0, 2, 4, 6, 8])


def test_focus_positions_stored_as_times_are_used_for_planes(tmp_path):
    plane = {"PositionZ": [1.0, 2.0, 4.0], "PositionZUnit": ["µm"] * 3}
    path = write_ome(tmp_path / "a.ome.tif", numbered("ZYX", Z=3), "TYX", **SIZES, Plane=plane)
    np.testing.assert_allclose(read_stack(path, axes="ZYX").positions, [1, 2, 4])


def test_axes_of_other_kinds_must_be_named(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, numbered("CZYX", C=2, Z=4), photometric="minisblack", metadata={"axes": "HZYX"}
    )
    message = r"the axes lifetime 2, Z 4, Y 9, X 10: name them .* --axes TZYX"
    with pytest.raises(StackError, match=message):
        read_acquisitions(path)
    assert read_acquisitions(path, axes="CZYX")[0].data.shape[:3] == (1, 2, 4)


def test_ome_with_a_lifetime_axis_needs_axes_from_the_user(tmp_path):
    xml = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
    <Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="10"
    SizeY="9" SizeZ="4" SizeC="3" SizeT="1"><Channel ID="Channel:0"/><TiffData/></Pixels>
    <AnnotationRef ID="Annotation:0"/></Image><StructuredAnnotations>
    <XMLAnnotation ID="Annotation:0" Namespace="openmicroscopy.org/omero/dimension/modulo"><Value>
    <Modulo namespace="x"><ModuloAlongC Type="lifetime" Start="0" End="2"/></Modulo></Value>
    </XMLAnnotation></StructuredAnnotations></OME>"""
    data = numbered("CZYX", C=3, Z=4)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, data, photometric="minisblack", description=xml, metadata=None)
    with pytest.raises(StackError, match="lifetime 3, Z 4, Y 9, X 10: name them"):
        read_acquisitions(path)


def test_a_single_image_is_no_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", numbered("YX"))
    with pytest.raises(StackError, match=r"a\.tif has the axes Y 9, X 10: a single image"):
        read_stack(tmp_path / "a.tif")
    path = write_ome(tmp_path / "b.ome.tif", numbered("ZYX", Z=2), "ZYX")
    with pytest.raises(StackError, match=r"b\.ome\.tif: planes must be at least 3 along Z, got 2"):
        read_stack(path)


def test_three_planes_stored_as_colours_can_be_read_as_planes(tmp_path):
    """tifffile stores them as colours by default."""
    planes = numbered("ZYX", Z=3)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(StackError, match=r"the axes S 3, .* if it is S, use --axes ZYX"):
        read_stack(tmp_path / "a.tif")
    stack = read_stack(tmp_path / "a.tif", axes="ZYX")
    np.testing.assert_array_equal(stack.planes[:, 0, 0], [0, 1, 2])


# TIFF: colour


@pytest.mark.parametrize(("samples", "shape"), [(3, (1, 1, 3, 9, 10, 3)), (4, (1, 1, 3, 9, 10, 3))])
def test_colour_is_last_and_without_alpha(tmp_path, samples, shape):
    data = np.zeros((3, 9, 10, samples), np.uint8) + np.arange(samples, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb")
    for axes in (None, "ZYX", "ZYXS"):
        (acquisition,) = read_acquisitions(tmp_path / "a.tif", axes=axes)
        assert acquisition.data.shape == shape
        np.testing.assert_array_equal(acquisition.data[0, 0, 2, 0, 0], [0, 1, 2])


def test_colour_in_separate_planes(tmp_path):
    data = np.zeros((4, 3, 9, 10), np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None]
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig="separate")
    (acquisition,) = read_acquisitions(tmp_path / "a.tif")
    assert acquisition.data.shape == (1, 1, 4, 9, 10, 3)
    np.testing.assert_array_equal(acquisition.data[0, 0, 2, 0, 0], [0, 1, 2])


def test_grey_with_alpha_is_grey_and_more_samples_are_refused(tmp_path):
    data = np.zeros((3, 9, 10, 2), np.uint8) + np.array([5, 255], np.uint8)
    write_plain(tmp_path / "a.tif", data, planarconfig="contig", extrasamples=["unassalpha"])
    (acquisition,) = read_acquisitions(tmp_path / "a.tif")
    assert acquisition.data.shape == (1, 1, 3, 9, 10)
    assert acquisition.data[0, 0, 0, 0, 0] == 5
    data = np.zeros((3, 9, 10, 6), np.uint8)
    write_plain(tmp_path / "a.tif", data, planarconfig="contig", extrasamples=[0] * 5)
    with pytest.raises(StackError, match=r"S 6: samples \(S\) must be 1 to 4"):
        read_acquisitions(tmp_path / "a.tif", axes="ZYXS")


def test_colour_axes_of_channels_can_be_named(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", numbered("ZCYX", C=3, Z=4), "ZCYX")
    assert read_acquisitions(path)[0].data.shape == (1, 3, 4, 9, 10)
    assert read_acquisitions(path, axes="ZSYX")[0].data.shape == (1, 1, 4, 9, 10, 3)


# TIFF: several series and several files


def test_each_series_is_a_position_except_thumbnails(tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for i, (name, shape, axes) in enumerate(
            [("left", (4, 9, 10), "ZYX"), ("label", (9, 10), "YX"), ("right", (5, 11, 12), "ZYX")]
        ):
            data = np.full(shape, i, np.uint8)
            sizes = {"PhysicalSizeX": i + 1.0, "PhysicalSizeY": 1.0, "PhysicalSizeZ": i + 1.0}
            tif.write(data, metadata={"axes": axes, "Name": name, **sizes})
    acquisitions = read_acquisitions(path)
    assert [each.name for each in acquisitions] == ["left", "right"]
    assert [each.data.shape[2:] for each in acquisitions] == [(4, 9, 10), (5, 11, 12)]
    assert [each.pixel_size for each in acquisitions] == [(1.0, 1.0), (1.0, 3.0)]
    np.testing.assert_allclose(acquisitions[1].positions[0], [0, 3, 6, 9, 12])
    assert np.asarray(acquisitions[1].data).min() == 2
    assert read_stack(path, position="right").planes.shape == (5, 11, 12)
    assert read_stack(path, position=0).planes.shape == (4, 9, 10)
    assert read_stack(path, position="1").planes.shape == (5, 11, 12)
    with pytest.raises(StackError, match=r"holds 2 positions \(left, right\): choose .* position"):
        read_stack(path)
    with pytest.raises(ValueError, match="position must be one of left, right, got 'middle'"):
        read_stack(path, position="middle")


def test_positions_without_unique_names_are_numbered(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        for _ in range(2):
            tif.write(numbered("ZYX", Z=3), metadata={"axes": "ZYX", "Name": "same"})
    acquisitions = read_acquisitions(tmp_path / "a.ome.tif")
    assert [each.name for each in acquisitions] == ["position 0", "position 1"]


def test_series_without_a_stack_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        for _ in range(2):
            tif.write(numbered("YX"), metadata={"axes": "YX"})
    with pytest.raises(StackError, match="a single image, not a focal stack"):
        read_acquisitions(tmp_path / "a.ome.tif")


def write_many_files(folder: Path, files: dict[str, tuple[int, int]], images: int) -> None:
    """Write OME-TIFF in several files: name → (image, plane, or -1 for all planes)."""
    ids = {name: f"urn:uuid:0000000{i}-0000-0000-0000-000000000000" for i, name in enumerate(files)}
    parts: list[list[str]] = [[] for _ in range(images)]
    for name, (image, z) in files.items():
        attributes = "" if z < 0 else f'FirstZ="{z}" IFD="0" PlaneCount="1"'
        uuid = f'<UUID FileName="{name}">{ids[name]}</UUID>'
        parts[image].append(f"<TiffData {attributes}>{uuid}</TiffData>")
    text = "".join(
        f"""<Image ID="Image:{i}" Name="field {i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT"
        Type="uint16" SizeX="10" SizeY="9" SizeZ="3" SizeC="1" SizeT="1" PhysicalSizeX="{i + 1}"
        PhysicalSizeY="1" PhysicalSizeZ="2"><Channel ID="Channel:{i}" SamplesPerPixel="1"/>
        {"".join(part)}</Pixels></Image>"""
        for i, part in enumerate(parts)
    )
    for name, (image, z) in files.items():
        data = numbered("PZYX", P=images, Z=3)[image]
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{ids[name]}">'
            f"{text}</OME>"
        )
        planes = data if z < 0 else data[z]
        write_plain(folder / name, planes, description=xml, metadata=None)


def test_planes_in_separate_files_are_one_stack(tmp_path):
    files = {"a.ome.tif": (0, 0), "b.ome.tif": (0, 1), "c.ome.tif": (0, 2)}
    write_many_files(tmp_path, files, 1)
    for name in files:
        stack = read_stack(tmp_path / name)
        np.testing.assert_array_equal(stack.planes[:, 0, 0], [0, 1, 2])
        np.testing.assert_array_equal(stack.positions, [0, 2, 4])
    message = r"\.ome\.tif holds 3 pages: open it by itself, or use batch for a folder of stacks"
    with pytest.raises(StackError, match=message):
        read_stack(tmp_path)
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(StackError, match=r"1 of the 3 planes of a\.ome\.tif are missing: b\.ome"):
        read_stack(tmp_path / "a.ome.tif")


def test_positions_in_separate_files_are_all_read(tmp_path):
    """The mapped file is the one with the pixels, whichever is opened."""
    write_many_files(tmp_path, {"a.ome.tif": (0, -1), "b.ome.tif": (1, -1)}, 2)
    for name in ("a.ome.tif", "b.ome.tif"):
        acquisitions = read_acquisitions(tmp_path / name)
        assert [each.name for each in acquisitions] == ["field 0", "field 1"]
        assert [each.pixel_size[1] for each in acquisitions] == [1.0, 2.0]
        np.testing.assert_array_equal(values(acquisitions[0]), [[[0, 1, 2]]])
        np.testing.assert_array_equal(values(acquisitions[1]), [[[1000, 1001, 1002]]])


def test_a_part_of_ome_tiff_names_the_file_to_open(tmp_path):
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<BinaryOnly MetadataFile="first.ome.tif" UUID="urn:uuid:0"/></OME>'
    )
    data = numbered("ZYX", Z=4)
    write_plain(tmp_path / "a.ome.tif", data, description=xml, metadata=None)
    with pytest.raises(StackError, match=r"part of an image: open first\.ome\.tif"):
        read_stack(tmp_path / "a.ome.tif")


# TIFF: not mapped


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_compressed_pixels_are_decoded_when_read(tmp_path, tile):
    data = numbered("TZCYX", T=2, C=2, Z=3, Y=40, X=48)
    path = write_ome(tmp_path / "a.ome.tif", data, "TZCYX", compression="zlib", tile=tile)
    (acquisition,) = read_acquisitions(path)
    assert isinstance(acquisition.data, da.Array)
    assert acquisition.data.chunksize == (1, 1, 1, 40, 48)
    np.testing.assert_array_equal(np.asarray(acquisition.data), data.transpose(0, 2, 1, 3, 4))
    assert isinstance(read_stack(path, time=1, channel=1).planes, da.Array)


def test_opening_reads_only_the_metadata(tmp_path):
    path = tmp_path / "a.tif"
    write_plain(path, numbered("ZYX", Z=3), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"no zlib")
    stack = read_stack(path)
    with pytest.raises(Exception, match=r"deflate|zlib|Error"):  # depends on the decoder
        np.asarray(stack.planes[0])


def test_only_the_full_resolution_is_read(tmp_path):
    data = numbered("ZYX", Z=3, Y=64, X=64)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        options = {"tile": (16, 16), "compression": "zlib", "photometric": "minisblack"}
        tif.write(data, subifds=1, metadata={"axes": "ZYX"}, **options)
        tif.write(data[:, ::2, ::2], subfiletype=1, **options)
    (acquisition,) = read_acquisitions(tmp_path / "a.ome.tif")
    assert acquisition.data.shape == (1, 1, 3, 64, 64)
    np.testing.assert_array_equal(values(acquisition), [[[0, 1, 2]]])


def test_compression_that_needs_imagecodecs_is_reported(tmp_path):
    """In a subprocess where imagecodecs can't be imported."""
    for name, coding in (("lzw.tif", {"compression": "lzw"}), ("zlib.tif", {"compression": 8})):
        write_plain(tmp_path / name, numbered("ZYX", Z=3), **coding)
    (tmp_path / "frames").mkdir()
    for i in range(3):
        data = numbered("YX")
        tifffile.imwrite(tmp_path / "frames" / f"{i}.tif", data, compression="lzw")
    code = f"""
import sys; sys.modules["imagecodecs"] = None
import numpy as np; from pathlib import Path; from napari_dff.io import read_stack, StackError
place = Path({str(tmp_path)!r})
print(np.asarray(read_stack(place / "zlib.tif").planes)[:, 0, 0].tolist())
for name in ("lzw.tif", "frames"):
    try: read_stack(place / name)
    except StackError as error: print(error)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.splitlines() == [
        "[0, 1, 2]",
        "lzw.tif is compressed (LZW): pip install imagecodecs, then try again",
        "0.tif is compressed (LZW): pip install imagecodecs, then try again",
    ]


# TIFF: lengths


def test_focus_positions_of_every_time_are_converted_to_the_unit_of_pixels(tmp_path):
    focus_positions = [[1000.0, 2000.0, 2500.0], [5000.0, 6000.0, 6500.0]]
    plane = {  # in the order of the pages: T, C, Z
        "PositionZ": [
            focus_positions[t][z] + 7 * c for t in range(2) for c in range(2) for z in range(3)
        ],
        "PositionZUnit": ["nm"] * 12,
    }
    data, sizes = numbered("TCZYX", T=2, C=2, Z=3), SIZES | {"PhysicalSizeZ": 0.8}
    path = write_ome(tmp_path / "a.ome.tif", data, "TCZYX", **sizes, Plane=plane)
    (acquisition,) = read_acquisitions(path)
    np.testing.assert_allclose(acquisition.positions, np.array(focus_positions) / 1000)
    assert (acquisition.unit, acquisition.pixel_size) == ("micrometer", (0.3, 0.2))


def test_focus_positions_may_decrease(tmp_path):
    plane = {"PositionZ": [9.0, 7.0, 6.0], "PositionZUnit": ["µm"] * 3}
    path = write_ome(tmp_path / "a.ome.tif", numbered("ZYX", Z=3), "ZYX", **SIZES, Plane=plane)
    np.testing.assert_allclose(read_stack(path).positions, [9, 7, 6])


@pytest.mark.parametrize(
    "plane",
    [
        {"PositionZ": [0.0, 0.0, 1.0], "PositionZUnit": ["µm"] * 3},
        {"PositionZ": [0.0, 2.0, 1.0], "PositionZUnit": ["µm"] * 3},
        {"PositionZ": [5.0, float("nan"), 7.0], "PositionZUnit": ["µm"] * 3},
        {"PositionZ": [5.0, 6.0, 7.0], "PositionZUnit": ["reference frame"] * 3},
        {"PositionZ": [5.0, 6.0, 7.0]},  # default unit of the schema
        {"PositionZ": [5.0, 6.0, 7.0], "PositionZUnit": ["µm", "nm", "µm"]},
    ],
)
@pytest.mark.filterwarnings("ignore:.* not used:UserWarning")
def test_spacing_replaces_invalid_focus_positions(tmp_path, plane):
    path = write_ome(tmp_path / "a.ome.tif", numbered("ZYX", Z=3), "ZYX", **SIZES, Plane=plane)
    np.testing.assert_allclose(read_stack(path).positions, [0, 2, 4])


@pytest.mark.parametrize(
    ("sizes", "pixel_size", "unit", "step"),
    [
        (
            {"X": (0.001, "mm"), "Y": (2, "µm"), "Z": (500, "nm")},
            (0.002, 0.001),
            "millimeter",
            5e-4,
        ),
        (
            {"X": (0.001, "mm"), "Y": (0.001, "mm"), "Z": (3, None)},
            (1e-3, 1e-3),
            "millimeter",
            3e-3,
        ),
        ({"X": (1, None), "Y": (1, None), "Z": (0.001, "mm")}, (1.0, 1.0), "micrometer", 1.0),
        ({"X": (2, "µm"), "Y": (2, "µm")}, (1.0, 1.0), "pixel", 1.0),
        ({"Z": (2, "µm")}, (1.0, 1.0), "pixel", 1.0),
        ({"X": (2, "pixel"), "Y": (2, "pixel"), "Z": (2, "µm")}, (1.0, 1.0), "pixel", 1.0),
        ({"X": (2, "µm"), "Y": (2, "µm"), "Z": (2, "pixel")}, (1.0, 1.0), "pixel", 1.0),
    ],
)
def test_each_size_can_have_another_unit(tmp_path, sizes, pixel_size, unit, step):
    metadata = {f"PhysicalSize{axis}": size for axis, (size, _) in sizes.items()}
    metadata |= {
        f"PhysicalSize{axis}Unit": unit_name for axis, (_, unit_name) in sizes.items() if unit_name
    }
    path = write_ome(tmp_path / "a.ome.tif", numbered("ZYX", Z=4), "ZYX", **metadata)
    stack = read_stack(path)
    assert stack.unit == unit
    np.testing.assert_allclose(stack.pixel_size, pixel_size)
    np.testing.assert_allclose(stack.positions, step * np.arange(4))


def test_focus_positions_need_no_spacing(tmp_path):
    sizes = {"PhysicalSizeX": 2.0, "PhysicalSizeY": 2.0}
    plane = {"PositionZ": [1.0, 2.0, 4.0], "PositionZUnit": ["µm"] * 3}
    path = write_ome(tmp_path / "a.ome.tif", numbered("ZYX", Z=3), "ZYX", **sizes, Plane=plane)
    stack = read_stack(path)
    np.testing.assert_allclose(stack.positions, [1, 2, 4])
    assert (stack.unit, stack.pixel_size) == ("micrometer", (2.0, 2.0))


@pytest.mark.parametrize(
    ("metadata_fields", "unit", "size", "step"),
    [
        # no unit: the pixel size is in distances of planes
        ({"spacing": 2.0}, "pixel", 0.25, 1.0),
        ({}, "pixel", 0.5, 1.0),
        # ImageJ writes no spacing of 1
        ({"unit": "um"}, "micrometer", 0.5, 1.0),
        ({"spacing": 2.0, "unit": "inch"}, "millimeter", 12.7, 50.8),
        ({"spacing": 2.0, "unit": "nm"}, "nanometer", 0.5, 2.0),
        ({"spacing": 2.0, "unit": "\\u00B5m"}, "micrometer", 0.5, 2.0),
    ],
)
def test_calibration_of_imagej(tmp_path, metadata_fields, unit, size, step):
    path = tmp_path / "a.tif"
    data = numbered("ZYX", Z=3)
    tifffile.imwrite(
        path, data, imagej=True, resolution=(2, 2), metadata={"axes": "ZYX", **metadata_fields}
    )
    stack = read_stack(path)
    assert stack.unit == unit
    np.testing.assert_allclose(stack.pixel_size, (size, size))
    np.testing.assert_allclose(np.diff(stack.positions), step)


# Spacing from the user


def test_spacing_is_used_for_every_position_and_time(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        for _ in range(2):
            tif.write(numbered("TZYX", T=2, Z=3), metadata={"axes": "TZYX", **SIZES})
    for each in read_acquisitions(tmp_path / "a.ome.tif", spacing=5):
        np.testing.assert_allclose(each.positions, [[0, 5, 10]] * 2)
        assert (each.unit, each.pixel_size) == ("micrometer", (0.3, 0.2))
    for each in read_acquisitions(tmp_path / "a.ome.tif", spacing=(5, 2, 1)):
        np.testing.assert_allclose(each.positions, [[0, 5, 10]] * 2)
        assert (each.unit, each.pixel_size) == ("micrometer", (2.0, 1.0))


def test_one_spacing_is_converted_to_the_unit_of_the_file(tmp_path):
    sizes = {"PhysicalSizeX": 500, "PhysicalSizeY": 400, "PhysicalSizeZ": 10}
    units = {f"{name}Unit": "nm" for name in sizes}
    path = write_ome(tmp_path / "a.ome.tif", numbered("ZYX", Z=3), "ZYX", **sizes, **units)
    stack = read_stack(path, spacing=2)
    np.testing.assert_allclose(stack.positions, [0, 2000, 4000])
    assert (stack.unit, stack.pixel_size) == ("nanometer", (400.0, 500.0))


def test_one_spacing_without_pixel_size_calibrates_the_depth(tmp_path):
    write_plain(tmp_path / "a.tif", numbered("ZYX", Z=3))
    with pytest.warns(UserWarning, match=r"a\.tif has no pixel size: depth is in µm, but"):
        (acquisition,) = read_acquisitions(tmp_path / "a.tif", spacing=2.0)
    np.testing.assert_allclose(acquisition.positions, [[0, 2, 4]])
    assert (acquisition.unit, acquisition.has_pixel_size) == ("micrometer", False)


def test_one_spacing_scales_the_ratio_of_a_file_without_unit(tmp_path):
    options = {"imagej": True, "resolution": (2, 2), "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "a.tif", numbered("ZYX", Z=3), **options)
    stack = read_stack(tmp_path / "a.tif", spacing=3.0, axes="ZYX")
    assert (stack.unit, stack.pixel_size) == ("micrometer", (1.5, 1.5))


def test_invalid_spacing_is_refused(tmp_path):
    write_plain(tmp_path / "a.tif", numbered("ZYX", Z=3))
    for spacing in ((1, 2), (1, 0, 1), (1, 2, float("nan"))):
        with pytest.raises(ValueError, match="spacing must be one or three positive lengths"):
            read_stack(tmp_path / "a.tif", spacing=spacing)


# One stack of several


def test_one_of_several_stacks_must_be_selected(tmp_path):
    path = write_ome(
        tmp_path / "a.ome.tif", numbered("TCZYX", T=2, C=2, Z=3), "TCZYX",
        Channel={"Name": ["red", "green"]},
    )  # fmt: skip
    message = r"holds 2 times and 2 channels \(red, green\): choose one with time and channel"
    with pytest.raises(StackError, match=message):
        read_stack(path)
    with pytest.raises(StackError, match="holds 2 times: choose one with time"):
        read_stack(path, channel="red")
    stack = read_stack(path, time=1, channel="green")
    np.testing.assert_array_equal(stack.planes[:, 0, 0], [110, 111, 112])
    with pytest.raises(ValueError, match="time must be 0 to 1, got 2"):
        read_stack(path, time=2, channel=0)
    with pytest.raises(ValueError, match="channel must be one of 0 red, 1 green, got 'blue'"):
        read_stack(path, time=0, channel="blue")
    one = write_ome(tmp_path / "b.ome.tif", numbered("ZYX", Z=3), "ZYX")
    read_stack(one, position=0, time=0, channel=0)
    with pytest.raises(ValueError, match="position must be one of 0, got 'left'"):
        read_stack(one, position="left")


# Folders of frames


def test_frames_are_read_on_access(tmp_path):
    for i in range(12):
        iio.imwrite(tmp_path / f"{i}.png", np.full((8, 9), i, np.uint8))
    planes = read_stack(tmp_path).planes
    assert isinstance(planes, da.Array)
    assert planes.chunks == ((1,) * 12, (8,), (9,))
    np.testing.assert_array_equal(planes[:, 0, 0], range(12))
    iio.imwrite(tmp_path / "3.png", np.full((8, 8), 77, np.uint8))
    with pytest.raises(StackError, match=r"3\.png has changed since it was opened"):
        np.asarray(planes[3])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".jp2"])
def test_colour_frames_of_every_kind(tmp_path, suffix):
    frame = np.zeros((16, 16, 3), np.uint8) + np.array([200, 100, 0], np.uint8)
    for i in range(3):
        iio.imwrite(tmp_path / f"{i}{suffix}", frame)
    planes = read_stack(tmp_path).planes
    assert planes.shape == (3, 16, 16, 3)
    np.testing.assert_allclose(np.asarray(planes[1, 3, 3]).astype(int), [200, 100, 0], atol=2)


def test_frames_of_sixteen_bits_and_of_mixed_kinds(tmp_path):
    frame = np.full((8, 9), 40000, np.uint16)
    iio.imwrite(tmp_path / "0.png", frame)
    tifffile.imwrite(tmp_path / "1.tif", frame + 1, compression="zlib")
    tifffile.imwrite(tmp_path / "2.tif", frame + 2, byteorder=">")
    planes = np.asarray(read_stack(tmp_path).planes)
    assert planes.dtype == np.uint16
    np.testing.assert_array_equal(planes[:, 0, 0], [40000, 40001, 40002])


def test_tiff_frames_with_colour_in_separate_planes(tmp_path):
    frame = np.zeros((3, 8, 9), np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None]
    for i in range(3):
        tifffile.imwrite(tmp_path / f"{i}.tif", frame, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_stack(tmp_path).planes[2, 0, 0], [0, 1, 2])


def test_a_folder_of_stacks_is_refused(tmp_path):
    for i in range(2):
        tifffile.imwrite(tmp_path / f"{i}.tif", numbered("ZYX", Z=30))
    message = r"frames must be single images, and 0\.tif holds 30 pages: open it by itself, or use"
    with pytest.raises(StackError, match=message):
        read_stack(tmp_path)


def test_frames_of_two_types_are_refused_on_opening(tmp_path):
    for i in range(3):
        iio.imwrite(tmp_path / f"{i}.png", np.zeros((8, 9), np.uint8))
    iio.imwrite(tmp_path / "3.png", np.zeros((8, 9), np.uint16))
    with pytest.raises(StackError, match=r"0\.png is 8 × 9 uint8, 3\.png is 8 × 9 uint16"):
        read_stack(tmp_path)


def test_a_single_frame_is_refused(tmp_path):
    iio.imwrite(tmp_path / "a.png", np.zeros((8, 9), np.uint8))
    with pytest.raises(StackError, match=r"a\.png is a single image: give the folder"):
        read_stack(tmp_path / "a.png")


# OME-Zarr

SPACE = {"type": "space", "unit": "micrometer"}
AXES = {
    "T": {"name": "t", "type": "time", "unit": "second"},
    "C": {"name": "c", "type": "channel"},
    **{axis: {"name": axis.lower(), **SPACE} for axis in "ZYX"},
}


def multiscales(letters: str, **options) -> dict:
    """Metadata of one image with pixels of 0.3 × 0.2 µm, planes 2 µm apart from 5 µm on."""
    scale, translation = ({"Z": 2.0, "Y": 0.3, "X": 0.2}, {"Z": 5.0})
    transforms = [
        {"type": "scale", "scale": [scale.get(axis, 1.0) for axis in letters]},
        {"type": "translation", "translation": [translation.get(axis, 0.0) for axis in letters]},
    ]
    half = [{"type": "scale", "scale": [2 * scale.get(axis, 1.0) for axis in letters]}]
    datasets = [
        {"path": "0", "coordinateTransformations": transforms},
        {"path": "1", "coordinateTransformations": half},
    ]
    return {"axes": [AXES[axis] for axis in letters], "datasets": datasets, **options}


def fill(group: zarr.Group, data: np.ndarray, letters: str, version: str, **options) -> None:
    """Write an OME-Zarr image into a group."""
    dimension_names = {"dimension_names": list(letters.lower())} if version == "0.5" else {}
    for path, part in (("0", data), ("1", data[..., ::2, ::2])):
        chunks = (1,) * (part.ndim - 2) + (8, 8)
        config = {"write_empty_chunks": True}  # otherwise omitted
        group.create_array(path, data=part, chunks=chunks, config=config, **dimension_names)
    omero = options.pop("omero", None)
    metadata = {"multiscales": [multiscales(letters, **options)]}
    describe(group, metadata | ({"omero": omero} if omero else {}), version)


def describe(group: zarr.Group, metadata: dict, version: str) -> None:
    group.attrs.update({"ome": {"version": "0.5", **metadata}} if version == "0.5" else metadata)


def new_group(path: Path, version: str) -> zarr.Group:
    return zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    data = numbered("TCZYX", T=2, C=2, Z=3)
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}  # no colours, no windows
    fill(new_group(tmp_path / "a.zarr", version), data, "TCZYX", version, omero=omero)
    (acquisition,) = read_acquisitions(tmp_path / "a.zarr")
    assert isinstance(acquisition.data, da.Array)
    assert acquisition.data.chunksize == (1, 1, 1, 9, 10)  # several of 8 × 8
    np.testing.assert_array_equal(np.asarray(acquisition.data), data)
    np.testing.assert_allclose(acquisition.positions, [[5, 7, 9]] * 2)
    assert (acquisition.unit, acquisition.pixel_size) == ("micrometer", (0.3, 0.2))
    assert acquisition.channels == ("DAPI", "GFP")
    (tmp_path / "a.zarr").rename(tmp_path / "without suffix")
    assert len(read_acquisitions(tmp_path / "without suffix")) == 1


def test_ome_zarr_scales_of_the_whole_image_come_last(tmp_path):
    image_transforms = [
        {"type": "scale", "scale": [10.0, 2.0, 2.0]},
        {"type": "translation", "translation": [1.0, 0.0, 0.0]},
    ]
    fill(new_group(tmp_path / "a.zarr", "0.4"), numbered("ZYX", Z=3), "ZYX", "0.4",
         coordinateTransformations=image_transforms)  # fmt: skip
    stack = read_stack(tmp_path / "a.zarr")
    np.testing.assert_allclose(stack.positions, [51, 71, 91])  # 10 × (5 + 2 z) + 1
    np.testing.assert_allclose(stack.pixel_size, (0.6, 0.4))


@pytest.mark.parametrize(
    ("units", "unit", "start"),
    [
        ({"z": "nanometer"}, "micrometer", 0.005),
        ({"x": "millimeter"}, "millimeter", 0.005),
        ({"z": None}, "pixel", 0),
        ({"x": None}, "pixel", 0),
        ({"y": "parsec"}, "pixel", 0),
    ],
)
@pytest.mark.filterwarnings("ignore:.* not used:UserWarning")
def test_ome_zarr_units(tmp_path, units, unit, start):
    axes = [AXES[a] | ({"unit": units[a.lower()]} if a.lower() in units else {}) for a in "ZYX"]
    axes = [{key: value for key, value in axis.items() if value} for axis in axes]
    fill(new_group(tmp_path / "a.zarr", "0.4"), numbered("ZYX", Z=3), "ZYX", "0.4", axes=axes)
    stack = read_stack(tmp_path / "a.zarr")
    assert stack.unit == unit
    assert stack.positions[0] == pytest.approx(start)


def test_ome_zarr_planes_stored_as_times_can_be_renamed(tmp_path):
    data = numbered("TCZYX", T=5, C=1, Z=1)
    fill(new_group(tmp_path / "a.zarr", "0.4"), data, "TCZYX", "0.4")
    message = r"the axes T 5, C 1, Z 1, Y 9, X 10, none of which .* if it is T, use --axes ZYX"
    with pytest.raises(StackError, match=message):
        read_stack(tmp_path / "a.zarr")
    stack = read_stack(tmp_path / "a.zarr", axes="ZYX")
    np.testing.assert_array_equal(stack.planes[:, 0, 0], [0, 100, 200, 300, 400])
    np.testing.assert_allclose(stack.positions, [5, 7, 9, 11, 13])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_bioformats2raw(tmp_path, version):
    root = new_group(tmp_path / "a.zarr", version)
    describe(root, {"bioformats2raw.layout": 3}, version)
    for i in range(11):  # 10 comes after 9
        data = numbered("ZYX", Z=3) + np.uint16(1000 * i)
        fill(root.create_group(str(i)), data, "ZYX", version, name=f"field {i}")
    acquisitions = read_acquisitions(tmp_path / "a.zarr")
    assert [each.name for each in acquisitions] == [f"field {i}" for i in range(11)]
    assert [int(values(each)[0, 0, 1]) for each in acquisitions] == [
        1000 * i + 1 for i in range(11)
    ]
    metadata = root.create_group("OME")
    describe(metadata, {"series": ["2", "0"]}, version)
    assert [each.name for each in read_acquisitions(tmp_path / "a.zarr")] == ["field 2", "field 0"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plate(tmp_path, version):
    root = new_group(tmp_path / "a.zarr", version)
    wells = [
        {"path": "A/1", "rowIndex": 0, "columnIndex": 0},
        {"path": "B/2", "rowIndex": 1, "columnIndex": 1},
        {"path": "B/1", "rowIndex": 1, "columnIndex": 0},  # missing
    ]
    plate = {
        "rows": [{"name": "A"}, {"name": "B"}],
        "columns": [{"name": "1"}, {"name": "2"}],
        "wells": wells,
        "version": version,
    }
    describe(root, {"plate": plate}, version)
    for i, well in enumerate(wells[:2]):
        group = root.create_group(well["path"])
        describe(group, {"well": {"images": [{"path": "0"}, {"path": "1"}]}}, version)
        for k in range(2):
            data = numbered("ZYX", Z=3) + np.uint16(1000 * i + 100 * k)
            fill(group.create_group(str(k)), data, "ZYX", version)
    acquisitions = read_acquisitions(tmp_path / "a.zarr")
    assert [each.name for each in acquisitions] == ["A/1/0", "A/1/1", "B/2/0", "B/2/1"]
    assert [int(values(each)[0, 0, 2]) for each in acquisitions] == [2, 102, 1002, 1102]
    stack = read_stack(tmp_path / "a.zarr", position="B/2/1")
    np.testing.assert_allclose(stack.positions, [5, 7, 9])
    assert len(read_acquisitions(tmp_path / "a.zarr" / "A" / "1")) == 2


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_invalid_ome_zarr_metadata_are_refused(tmp_path, version):
    group = new_group(tmp_path / "a.zarr", version)
    order = [AXES[axis] for axis in "ZTYX"]
    fill(group, numbered("TZYX", T=2, Z=3), "TZYX", version, axes=order)
    message = (
        r"a\.zarr isn't valid OME-Zarr: multiscales\.0\.axes: All space axes must be at the end"
    )
    with pytest.raises(StackError, match=message):
        read_acquisitions(tmp_path / "a.zarr")
    group = new_group(tmp_path / "b.zarr", version)
    describe(group, {"multiscales": [multiscales("ZYX")]}, version)
    with pytest.raises(StackError, match=r"b\.zarr isn't valid OME-Zarr: 0 is missing"):
        read_acquisitions(tmp_path / "b.zarr")
    group.create_array("0", data=numbered("TZYX", T=2, Z=3))
    with pytest.raises(StackError, match="3 axes are named, /0 has 4"):
        read_acquisitions(tmp_path / "b.zarr")


def test_bare_zarr(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=numbered("ZYX", Z=4), zarr_format=2)
    np.testing.assert_array_equal(read_stack(tmp_path / "a.zarr").planes[:, 0, 0], range(4))
    zarr.create_array(tmp_path / "b.zarr", data=numbered("ZTYX", T=2, Z=4))
    with pytest.raises(StackError, match=r"b\.zarr has the axes unnamed 4, unnamed 2, Y 9"):
        read_acquisitions(tmp_path / "b.zarr")
    (acquisition,) = read_acquisitions(tmp_path / "b.zarr", axes="ZTYX")
    np.testing.assert_array_equal(values(acquisition), numbered("TCZ", T=2, C=1, Z=4))
    names = ["z", "t", "y", "x"]
    zarr.create_array(tmp_path / "c.zarr", data=numbered("ZTYX", T=2, Z=4), dimension_names=names)
    (acquisition,) = read_acquisitions(tmp_path / "c.zarr")
    np.testing.assert_array_equal(values(acquisition), numbered("TCZ", T=2, C=1, Z=4))
    group = new_group(tmp_path / "d.zarr", "0.5")
    group.create_array("raw", data=numbered("ZYX", Z=4))
    message = r"d\.zarr is a Zarr group without OME metadata: give one of its arrays \(raw\)"
    with pytest.raises(StackError, match=message):
        read_stack(tmp_path / "d.zarr")
    assert read_stack(tmp_path / "d.zarr" / "raw").planes.shape == (4, 9, 10)
    (tmp_path / "e.zarr").mkdir()
    with pytest.raises(StackError, match=r"e\.zarr can't be read as Zarr"):
        read_stack(tmp_path / "e.zarr")


# bioio


class Image:
    """Test double of `bioio.BioImage` with two scenes."""

    scenes = ("near", "far")
    reader = None
    channel_names = ("DAPI", "GFP")

    def __init__(self, path, **_):
        if path.suffix == ".lif":
            raise ValueError("no plugin\nand much more")
        self.dims = types.SimpleNamespace(order="TCZYX")
        self.physical_pixel_sizes = types.SimpleNamespace(Z=2.0, Y=0.3, X=0.2)

    def set_scene(self, name):
        self.scene = self.scenes.index(name)

    def get_image_dask_data(self, axes):
        return da.from_array(numbered("PTCZYX", P=2, T=2, C=2, Z=3)[self.scene])


class BlueFirstImage(Image):
    """One scene in order blue, green, red; no argument for chunks, no pixel sizes."""

    scenes = ("only",)
    channel_names = None
    reader = type("Reader", (), {"__module__": "bioio_czi.reader"})()

    def __init__(self, path):
        self.dims = types.SimpleNamespace(order="TCZYXS")
        self.physical_pixel_sizes = types.SimpleNamespace(Z=None, Y=0.0, X=0.0)

    def get_image_dask_data(self, axes):
        assert axes == "TCZYXS"
        return da.zeros((1, 1, 3, 9, 10, 3), dtype=np.uint8) + np.array([1, 2, 3], np.uint8)


def replace_bioio(monkeypatch, image) -> None:
    """Replace `bioio` by a module with this BioImage, or by no module."""
    spec = importlib.util.find_spec
    module_spec = None if image is None else types.SimpleNamespace()
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: module_spec if name == "bioio" else spec(name)
    )
    monkeypatch.setitem(sys.modules, "bioio", types.SimpleNamespace(BioImage=image))


def test_scenes_of_bioio_are_positions(tmp_path, monkeypatch):
    replace_bioio(monkeypatch, Image)
    (tmp_path / "a.czi").touch()
    acquisitions = read_acquisitions(tmp_path / "a.czi")
    assert [each.name for each in acquisitions] == ["near", "far"]
    for i, each in enumerate(acquisitions):
        assert isinstance(each.data, da.Array)
        np.testing.assert_array_equal(values(each), numbered("PTCZ", P=2, T=2, C=2, Z=3)[i])
        np.testing.assert_allclose(each.positions, [[0, 2, 4]] * 2)
        assert (each.unit, each.pixel_size) == ("micrometer", (0.3, 0.2))
        assert each.channels == ("DAPI", "GFP")


def test_colour_from_czi_is_red_green_blue(tmp_path, monkeypatch):
    replace_bioio(monkeypatch, BlueFirstImage)
    (tmp_path / "a.czi").touch()
    (acquisition,) = read_acquisitions(tmp_path / "a.czi")
    np.testing.assert_array_equal(acquisition.data[0, 0, 0, 0, 0], [3, 2, 1])
    assert acquisition.unit == "pixel"


def test_without_bioio_the_message_names_the_package_to_install(tmp_path, monkeypatch):
    for suffix, plugin in (("czi", "bioio-czi"), ("nd2", "bioio-nd2"), ("vsi", "bioio-bioformats")):
        path = tmp_path / f"a.{suffix}"
        path.touch()
        replace_bioio(monkeypatch, None)
        message = rf"\.{suffix} files need bioio: pip install bioio {plugin}"
        with pytest.raises(StackError, match=message):
            read_stack(path)
    (tmp_path / "a.lif").touch()
    replace_bioio(monkeypatch, Image)
    message = r"a\.lif can't be read by bioio, for which \.lif files need bioio-lif: no plugin$"
    with pytest.raises(StackError, match=message):
        read_stack(tmp_path / "a.lif")


def test_czi_through_bioio(tmp_path):
    pytest.importorskip("bioio_czi", reason="bioio and bioio-czi are not installed")
    czi = pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw is not installed")
    data = numbered("TCZYX", T=2, C=2, Z=5, Y=32, X=40)
    with czi.create_czi(str(tmp_path / "a.czi")) as document:
        for t, c, z in np.ndindex(2, 2, 5):
            plane = {"T": t, "C": c, "Z": z}
            document.write(data=data[t, c, z][..., np.newaxis], plane=plane)
        document.write_metadata(
            "a", channel_names={0: "DAPI", 1: "GFP"},
            scale_x=0.2e-6, scale_y=0.3e-6, scale_z=0.7e-6,
        )  # fmt: skip
    (acquisition,) = read_acquisitions(tmp_path / "a.czi")
    assert acquisition.data.chunksize == (1, 1, 1, 32, 40)
    np.testing.assert_array_equal(np.asarray(acquisition.data), data)
    np.testing.assert_allclose(acquisition.positions, [0.7 * np.arange(5)] * 2)
    np.testing.assert_allclose(acquisition.pixel_size, (0.3, 0.2))
    assert (acquisition.unit, acquisition.channels) == ("micrometer", ("DAPI", "GFP"))


def test_colour_of_czi_through_bioio(tmp_path):
    pytest.importorskip("bioio_czi", reason="bioio and bioio-czi are not installed")
    czi = pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw is not installed")
    blue_first = np.zeros((32, 40, 3), np.uint8) + np.array([1, 2, 3], np.uint8)
    with czi.create_czi(str(tmp_path / "a.czi")) as document:
        for z in range(4):
            document.write(data=blue_first, plane={"T": 0, "C": 0, "Z": z})
    stack = read_stack(tmp_path / "a.czi")
    assert stack.planes.shape == (4, 32, 40, 3)
    np.testing.assert_array_equal(stack.planes[2, 5, 5], [3, 2, 1])
    assert stack.unit == "pixel"


def test_import_does_not_load_libraries_of_formats():
    libraries = ("dask", "zarr", "ome_zarr_models", "bioio", "imageio", "pydantic")
    code = (
        "import sys, json, napari_dff.io;"
        f"print(json.dumps([m for m in {libraries} if m in sys.modules]))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(process.stdout) == []


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_a_tiff_written_page_by_page_is_one_stack(name, tmp_path, rng):
    planes = rng.integers(0, 60000, (5, 32, 40), dtype=np.uint16)
    with tifffile.TiffWriter(tmp_path / name) as tif:
        for plane in planes:
            tif.write(plane)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stack = read_stack(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(stack.planes), planes)
    messages = [str(each.message) for each in caught]
    assert messages == [] or "describe 5 images of one plane each" in messages[0]
    assert bool(messages) == name.endswith(".ome.tif")


def test_frames_above_the_limit_of_pillow_are_read_if_they_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 500)  # an error above twice as many
    for i in range(3):
        iio.imwrite(tmp_path / f"{i}.png", np.full((32, 40), i, np.uint8))
    assert np.asarray(read_stack(tmp_path).planes)[2, 0, 0] == 2
    monkeypatch.setattr("napari_dff.io.readers.axes.available_bytes", lambda: 1000)
    with pytest.raises(StackError, match=r"only 0\.0 GB of memory are free"):
        read_stack(tmp_path)


@pytest.mark.parametrize("colour", [(), (3,)], ids=["grey", "colour"])
@pytest.mark.parametrize("dtype", ["uint16", ">u2", "float32"])
def test_any_part_of_an_uncompressed_file_is_read(tmp_path, rng, dtype, colour):
    values = rng.integers(0, 255, (2, 4, 30, 70, *colour)).astype(dtype)
    (tmp_path / "a").write_bytes(b"header" + values.tobytes())
    array = FileArray(tmp_path / "a", values.dtype, 6, values.shape)
    assert array.dtype.isnative
    assert (array.mean(), len(array)) == (values.mean(), 2)
    np.testing.assert_array_equal(array[1, 2] * 2, values[1, 2] * 2)
    order = (1, 0, 3, 2, *range(4, values.ndim))
    np.testing.assert_array_equal(array.transpose(order)[2], values.transpose(order)[2])
    for index in (
        1,
        (0, slice(None), 4),
        (slice(None), slice(3, 0, -2), slice(5, 21), slice(10, 12)),
        (1, 2, slice(None, None, -1), slice(60, 2, -3)),
        (slice(1, 1),),
        (slice(None), slice(None), slice(7, 9), slice(3, 70)),
        (None, 1, slice(1, 3), None),
        (1, 2, 29, 69),
        (..., slice(4, 8)),
        (slice(None), np.array([3, 0])),
    ):
        np.testing.assert_array_equal(array[index], values[index])


def test_narrow_windows_of_an_uncompressed_file_are_read_in_few_pieces(tmp_path, monkeypatch, rng):
    values = rng.integers(0, 65535, (2, 1000, 900)).astype(np.uint16)
    values.tofile(tmp_path / "a")
    array = FileArray(tmp_path / "a", values.dtype, 0, values.shape)
    read_bytes, reads = file_array._read_bytes, []
    monkeypatch.setattr(file_array, "_read_bytes", lambda *all: (reads.append(1), read_bytes(*all)))
    np.testing.assert_array_equal(array[:, 100:800, 200:300], values[:, 100:800, 200:300])
    np.testing.assert_array_equal(array[:, ::-3, 500:400:-7], values[:, ::-3, 500:400:-7])
    assert len(reads) < 12


def test_planes_of_an_uncompressed_file_can_be_pickled_and_copied(tmp_path, rng):
    planes = rng.integers(0, 60000, (5, 64, 72), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", planes)
    lazy = read_stack(tmp_path / "a.tif").planes[::-1, :, 3:]
    for same in (pickle.loads(pickle.dumps(lazy)), copy.deepcopy(lazy), copy.copy(lazy)):
        assert isinstance(same, FileArray)
        np.testing.assert_array_equal(same, planes[::-1, :, 3:])
    assert len(pickle.dumps(lazy)) < 1000  # only the place in the file


@pytest.mark.parametrize("change", ["cut", "overwritten"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_that_is_changed_while_it_is_read_is_an_error(tmp_path, rng, change, compression):
    path, planes = tmp_path / "a.tif", rng.integers(0, 60000, (5, 64, 64), dtype=np.uint16)
    tifffile.imwrite(path, planes, compression=compression)
    stack = read_stack(path)
    np.testing.assert_array_equal(np.asarray(stack.planes[0]), planes[0])
    if change == "cut":
        os.truncate(path, 4000)
    else:
        tifffile.imwrite(path, planes[::-1], compression=compression)
        os.utime(path, ns=(0, 0))
    with pytest.raises(
        (StackError, OSError), match=r"a\.tif has changed since it was opened: open it again"
    ):
        np.asarray(stack.planes)


def frames_file(folder, planes):
    folder.mkdir(exist_ok=True)
    for i, plane in enumerate(planes):
        iio.imwrite(folder / f"{i}.png", plane)
    return folder, folder / "3.png"


def zarr_chunk(folder, planes, **options):
    path = folder.with_suffix(".zarr")
    options = {"shape": planes.shape, "dtype": planes.dtype, "overwrite": True} | options
    array = zarr.create_array(path, chunks=(1, 32, 64), **options)
    array[:] = planes  # with `data` in place of that, zarr 3.1.1 loses chunks of shards
    place = (3, 0, 0) if array.shards is None else (1, 0, 0)
    return path, path / array.metadata.encode_chunk_key(place)


def pages_file(folder, planes):
    folder.mkdir(exist_ok=True)
    settings = {"ome": False, "metadata": None, "compression": "zlib"}
    names = [f"{i}.ome.tif" for i in range(len(planes))]
    data = "".join(
        f'<TiffData FirstZ="{i}" PlaneCount="1"><UUID FileName="{name}">urn:{i}</UUID></TiffData>'
        for i, name in enumerate(names)
    )
    size = f'SizeX="64" SizeY="64" SizeZ="{len(planes)}" SizeC="1" SizeT="1"'
    pixels = f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" {size}>{data}</Pixels>'
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    for i, name in enumerate(names):
        image = f'<Image ID="Image:0">{pixels}</Image>'
        text = f'<?xml version="1.0"?><OME xmlns="{schema}" UUID="urn:{i}">{image}</OME>'
        tifffile.imwrite(folder / name, planes[i], description=text, **settings)
    return folder / names[0], folder / names[3]


STACKS_OF_FILES = {
    "frames": frames_file,
    "Zarr 2": functools.partial(zarr_chunk, zarr_format=2),
    "Zarr 3": zarr_chunk,
    "shards": functools.partial(zarr_chunk, shards=(2, 64, 64)),
    "pages": pages_file,
}


@pytest.mark.parametrize("change", ["other pixels", "other size", "deleted"])
@pytest.mark.parametrize("kind", STACKS_OF_FILES)
def test_a_file_of_a_stack_that_is_changed_while_the_stack_is_read_is_an_error(
    tmp_path, rng, kind, change
):
    planes = rng.integers(0, 60000, (5, 64, 64), dtype=np.uint16)
    path, file = STACKS_OF_FILES[kind](tmp_path / "a", planes)
    stack = read_stack(path)
    np.testing.assert_array_equal(np.asarray(stack.planes), planes)
    content = file.read_bytes()
    file.unlink()
    if change != "deleted":
        file.write_bytes(content[:-1] + b"\1" * (1 if change == "other pixels" else 2))
    np.testing.assert_array_equal(np.asarray(stack.planes[0]), planes[0])
    with pytest.raises(StackError, match=re.escape(file.name) + " has changed since it was opened"):
        np.asarray(stack.planes)


@pytest.mark.parametrize("kind", ["frames", "Zarr 3"])
def test_a_stack_that_changes_while_it_is_computed_gives_no_result(
    tmp_path, rng, kind, monkeypatch, capsys
):
    planes = rng.integers(0, 60000, (5, 64, 64), dtype=np.uint16)
    path, _ = STACKS_OF_FILES[kind](tmp_path / "a", planes)
    align = driver.align_lazily

    def align_and_change(planes_read, *arguments, **settings):
        aligned = align(planes_read, *arguments, **settings)
        STACKS_OF_FILES[kind](tmp_path / "a", planes[::-1])
        return aligned

    monkeypatch.setattr(driver, "align_lazily", align_and_change)
    monkeypatch.setattr(driver, "load_planes", driver.as_plane_file)  # as in tiles
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "has changed since it was opened: open it again when" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
