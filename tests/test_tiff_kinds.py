"""TIFF of many programs: names, colours, calibration, contradictions in the metadata."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_dff.io import StackError, read_acquisitions, read_stack
from napari_dff.model.units import metric_unit

PLANES = np.random.default_rng(1).integers(0, 255, (5, 12, 16), dtype=np.uint8)
COLOURS = np.random.default_rng(2).integers(0, 255, (5, 12, 16, 3), dtype=np.uint8)
MICROMETERS = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
SIZES = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0, **MICROMETERS}


def plain(path: Path, data: np.ndarray = PLANES, **options) -> Path:
    tifffile.imwrite(path, data, **({"photometric": "minisblack"} | options))
    return path


def ome(path: Path, data: np.ndarray = PLANES, axes: str = "ZYX", **metadata) -> Path:
    return plain(path, data, ome=True, metadata={"axes": axes, **SIZES, **metadata})


def imagej(path: Path, lines: str, data: np.ndarray = PLANES, **options) -> Path:
    count = len(data)
    text = f"ImageJ=1.54p\nimages={count}\nslices={count}\n{lines}"
    options = {"resolution": (10, 10), "resolutionunit": 1} | options
    return plain(path, data, description=text, metadata=None, **options)


def warning_of(path: Path, **options) -> str:
    with pytest.warns(UserWarning, match=".") as caught:
        read_acquisitions(path, **options)
    (warning,) = (each for each in caught if each.category is UserWarning)
    return str(warning.message)


@pytest.mark.parametrize("suffix", ["btf", "tf2", "tf8", "ome.btf"])
def test_names_of_bigtiff_are_tiff(suffix, tmp_path):
    path = plain(tmp_path / f"a.{suffix}", bigtiff=True, ome=suffix.startswith("ome"))
    np.testing.assert_array_equal(read_stack(path, axes="ZYX").planes, PLANES)


# Colours


def pages(path: Path, images: list[Image.Image]) -> Path:
    images[0].save(path, save_all=True, append_images=images[1:], compression="tiff_lzw")
    return path


def test_white_is_zero_is_inverted(tmp_path):
    for data in (PLANES, PLANES.astype(np.uint16) * 9):
        light = np.iinfo(data.dtype).max - data
        plain(tmp_path / "a.tif", data, photometric="miniswhite")
        np.testing.assert_array_equal(read_stack(tmp_path / "a.tif").planes, light)
    twelve_bits = PLANES.astype(np.uint16)
    plain(tmp_path / "b.tif", twelve_bits, photometric="miniswhite", compression="zlib")
    assert read_stack(tmp_path / "b.tif").planes[0].dtype == np.uint16


def test_white_is_zero_of_floats_is_refused(tmp_path):
    plain(tmp_path / "a.tif", PLANES.astype(np.float32), photometric="miniswhite")
    with pytest.raises(StackError, match=r"a\.tif stores its pixels as MINISWHITE in float32"):
        read_stack(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_inks_and_chrominance_become_red_green_and_blue(mode, tmp_path):
    images = [Image.fromarray(plane).convert(mode) for plane in COLOURS]
    path = pages(tmp_path / "a.tif", images)
    expected = np.stack([np.asarray(image.convert("RGB")) for image in images])
    np.testing.assert_allclose(read_stack(path).planes, expected, atol=1)


@pytest.mark.parametrize("is_shared", [True, False])
def test_palettes_become_colours(is_shared, tmp_path):
    """Of every page its own, as most programs write them."""
    colours = COLOURS // 64 * 85
    if is_shared:
        colours = np.stack([colours[0]] * 5)
    images = [Image.fromarray(plane).quantize(256) for plane in colours]
    path = pages(tmp_path / "a.tif", images)
    np.testing.assert_allclose(read_stack(path).planes, colours, atol=1)


def test_grey_palettes_become_grey(tmp_path):
    inverted = np.tile(np.arange(255, -1, -1, dtype=np.uint16) * 257, (3, 1))
    plain(tmp_path / "a.tif", photometric="palette", colormap=inverted)
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif").planes, 255 - PLANES)


def test_inks_of_16_bits_and_with_alpha(tmp_path):
    light = COLOURS.astype(np.uint16) * 257
    inks = np.concatenate([65535 - light, 0 * light[..., :1], light[..., :1]], axis=-1)
    plain(tmp_path / "a.tif", inks, photometric="separated", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif").planes, light)


def test_the_profile_of_inks_is_not_that_of_the_result(tmp_path):
    path = plain(
        tmp_path / "a.tif",
        np.zeros((3, 9, 9, 4), np.uint8),
        photometric="separated",
        iccprofile=b"inks",
    )
    assert "converted to RGB without their colour profile" in warning_of(path)


def test_signed_white_is_zero(tmp_path):
    signed = PLANES.astype(np.int16)
    plain(tmp_path / "a.tif", -1 - signed, photometric="miniswhite")
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif").planes, signed)


def test_ome_metadata_that_are_cut_off_are_reported(tmp_path):
    with tifffile.TiffFile(ome(tmp_path / "a.ome.tif")) as tif:
        text = tif.ome_metadata[:-40]
    path = plain(tmp_path / "b.ome.tif", description=text.encode(), metadata=None)
    assert "the OME metadata of b.ome.tif is not well-formed" in warning_of(path)


@pytest.mark.parametrize("words", ['Name="A & B"', 'Name="A\x02"'])
def test_ome_metadata_with_stray_characters_are_repaired(words, tmp_path):
    with tifffile.TiffFile(ome(tmp_path / "a.ome.tif")) as tif:
        text = tif.ome_metadata.replace('Name="Image0"', words)
    assert words in text
    path = plain(tmp_path / "b.ome.tif", description=text.encode(), metadata=None)
    with pytest.warns(UserWarning, match=r"is not well-formed .* is used without what is not XML"):
        stack = read_stack(path)
    np.testing.assert_array_equal(stack.planes, PLANES)
    np.testing.assert_allclose(stack.positions, 2.0 * np.arange(5))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_cmyk_of_tiles_or_separate_planes(planar, tmp_path):
    inks = np.random.default_rng(3).integers(0, 255, (3, 32, 48, 4), dtype=np.uint8)
    light = np.rint((255 - inks[..., :3]) * ((255.0 - inks[..., 3:]) / 255)).astype(np.uint8)
    stored = inks if planar == "contig" else np.moveaxis(inks, -1, 1)
    options = {"photometric": "separated", "planarconfig": planar, "tile": (16, 16)}
    path = plain(tmp_path / "a.tif", stored, compression="zlib", **options)
    np.testing.assert_array_equal(read_stack(path).planes, light)


def test_a_stack_of_pages_is_turned_upright(tmp_path):
    extratags = [(274, 3, 1, 8, True)]
    path = plain(tmp_path / "a.tif", extratags=extratags, metadata=None)
    planes = read_stack(path).planes
    np.testing.assert_array_equal(planes, np.rot90(PLANES, axes=(1, 2)))


# Calibration


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("unit=micron\n", (1.0, 0.1, "micrometer")),  # ImageJ omits a spacing of 1
        ("unit=micron\nspacing=2.0\n", (2.0, 0.1, "micrometer")),
        ("unit=micrometers\nspacing=2.0\n", (2.0, 0.1, "micrometer")),
        ("spacing=0.5\n", (1.0, 0.2, "pixel")),  # numbers without unit: the ratio
        ("", (1.0, 0.1, "pixel")),
        ("unit=inch\nspacing=0.1\n", (2.54, 2.54, "millimeter")),
    ],
)
def test_imagej_calibration(lines, expected, tmp_path):
    stack = read_stack(imagej(tmp_path / "a.tif", lines))
    step, size, unit = expected
    np.testing.assert_allclose(stack.positions, step * np.arange(5))
    np.testing.assert_allclose(stack.pixel_size, (size, size))
    assert stack.unit == unit


def test_imagej_takes_the_unit_of_the_resolution(tmp_path):
    stack = read_stack(imagej(tmp_path / "a.tif", "spacing=0.1\n", resolutionunit=3))
    assert (stack.unit, stack.pixel_size) == ("centimeter", (0.1, 0.1))
    path = imagej(tmp_path / "b.tif", "", resolution=(300, 300), resolutionunit=2)
    assert read_stack(path).unit == "pixel"  # of print; nothing is known of the planes
    path = imagej(tmp_path / "b.tif", "", resolution=(72, 72), resolutionunit=2)
    assert (read_stack(path).unit, read_stack(path).pixel_size) == ("pixel", (1.0, 1.0))


@pytest.mark.filterwarnings("ignore:.*positions fall:UserWarning")
def test_negative_distances_are_falling_positions(tmp_path):
    path = imagej(tmp_path / "a.tif", "unit=micron\nspacing=-0.5\n")
    assert "the distance of planes is -0.5 micron: positions fall" in warning_of(path)
    np.testing.assert_allclose(read_stack(path).positions, -0.5 * np.arange(5))
    path = ome(tmp_path / "a.ome.tif", PhysicalSizeZ=-2.0)
    np.testing.assert_allclose(read_stack(path).positions, -2.0 * np.arange(5))


@pytest.mark.parametrize(("unit", "size"), [("dm", 1e-5), ("in", 1 / 25400), ("thou", 1 / 25.4)])
def test_other_units_of_ome_are_converted(unit, size, tmp_path):
    path = ome(tmp_path / "a.ome.tif", PhysicalSizeZ=size, PhysicalSizeZUnit=unit)
    with pytest.warns(
        UserWarning, match=rf"the distance of planes is .* {unit}, read as 1 µm; give"
    ):
        stack = read_stack(path)
    np.testing.assert_allclose(stack.positions, np.arange(5), rtol=1e-6)


def test_units_in_other_spellings():
    assert metric_unit("Micrometers") == metric_unit("micrometre") == ("micrometer", 1.0)
    assert metric_unit("inches") == ("millimeter", 25.4)
    assert metric_unit("parsec") is metric_unit("pixels") is metric_unit(None) is None


def test_scifio(tmp_path):
    text = (
        "SCIFIO=0.46.0\naxes=X,Y,Z,Channel\nlengths=16,12,5,2\nscales=0.2,0.3,1.5,1.0\n"
        "units=um,um,um,null\nbitsPerPixel=8\nimages=10\n"
    )
    data = np.stack([PLANES, 255 - PLANES])
    path = plain(tmp_path / "a.tif", data.reshape(10, 12, 16), description=text, metadata=None)
    (acquisition,) = read_acquisitions(path)
    np.testing.assert_array_equal(acquisition.data[0], data)
    np.testing.assert_allclose(acquisition.positions, [1.5 * np.arange(5)])
    assert (acquisition.pixel_size, acquisition.unit) == ((0.3, 0.2), "micrometer")


def lsm(path: Path) -> Path:
    """Write a stack of two channels as Zeiss LSM does, with a thumbnail after every page."""
    info = bytearray(612)
    struct.pack_into("<Ii", info, 0, 0x00400494C, len(info))
    struct.pack_into("<iiiii", info, 8, 16, 12, 5, 1, 1)  # X, Y, Z, channels, times
    struct.pack_into("<i", info, 28, 1)  # 8 bits
    struct.pack_into("<ddd", info, 40, 2e-7, 3e-7, 1.5e-6)  # voxel in meter
    with tifffile.TiffWriter(path) as tif:
        for i, plane in enumerate(PLANES):
            tags = [(34412, 1, len(info), bytes(info), True)] if i == 0 else []
            tif.write(plane, photometric="minisblack", metadata=None, extratags=tags)
            tif.write(np.zeros((4, 4), np.uint8), subfiletype=1, metadata=None)
    return path


def test_lsm(tmp_path):
    stack = read_stack(lsm(tmp_path / "a.lsm"))
    np.testing.assert_array_equal(stack.planes, PLANES)
    np.testing.assert_allclose(stack.positions, 1.5 * np.arange(5))
    np.testing.assert_allclose(stack.pixel_size, (0.3, 0.2))
    assert stack.unit == "micrometer"


def stk(path: Path) -> Path:
    """Write a stack as MetaMorph does: one page, then pixels of all planes, and UIC tags."""
    count = len(PLANES)
    uic2 = np.zeros((count, 6), "<u4")
    uic2[:, 0], uic2[:, 1] = 3, 2  # distance of planes, 3 / 2
    rational = struct.Struct("<II")
    content = bytearray(plain(path, metadata=None).read_bytes())
    with tifffile.TiffFile(path) as tif:
        pixels = tif.pages.first.dataoffsets[0]
    unit, sizes = len(content), len(content) + 8
    content += struct.pack("<I", 3) + b"um\0\0" + rational.pack(2, 10) + rational.pack(3, 10)
    uic1 = len(content)
    content += struct.pack("<8I", 4, sizes, 5, sizes + 8, 6, unit, 2, 0)
    planes = len(content)
    content += uic2.tobytes()
    entries = [
        (256, 4, 1, 16), (257, 4, 1, 12), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, pixels), (277, 3, 1, 1), (278, 4, 1, 12), (279, 4, 1, 192),
        (33628, 4, 3, uic1), (33629, 5, count, planes),
    ]  # fmt: skip
    content[4:8] = struct.pack("<I", len(content))
    content += struct.pack("<H", len(entries))
    content += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    path.write_bytes(content)
    return path


def test_stk(tmp_path):
    stack = read_stack(stk(tmp_path / "a.stk"))
    np.testing.assert_array_equal(stack.planes, PLANES)
    np.testing.assert_allclose(stack.positions, 1.5 * np.arange(5))
    np.testing.assert_allclose(stack.pixel_size, (0.3, 0.2))


def test_metaxpress(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for z, plane in enumerate(PLANES):
            props = (
                '<prop id="spatial-calibration-x" type="float" value="0.2"/>'
                '<prop id="spatial-calibration-y" type="float" value="0.3"/>'
                '<prop id="spatial-calibration-units" type="string" value="um"/>'
                f'<prop id="z-position" type="float" value="{10 - 0.5 * z}"/>'
            )
            text = f"<MetaData><PlaneInfo>{props}</PlaneInfo></MetaData>"
            tif.write(
                plane, description=text, software="MetaSeries", metadata=None, contiguous=False
            )
    stack = read_stack(tmp_path / "a.tif")
    np.testing.assert_allclose(stack.positions, [10, 9.5, 9, 8.5, 8])
    assert (stack.pixel_size, stack.unit) == ((0.3, 0.2), "micrometer")


# Contradictions


def positions(*values: float, unit: str = "µm") -> dict:
    return {"Plane": {"PositionZ": list(values), "PositionZUnit": [unit] * len(values)}}


def test_positions_that_contradict_the_distance_are_reported(tmp_path):
    path = ome(tmp_path / "a.ome.tif", **positions(0, 2, 4, 6, 8, unit="mm"))
    message = "the positions of planes are 2000 µm apart, but the distance of planes is 2 µm"
    assert message in warning_of(path)


def test_equal_positions_are_named(tmp_path):
    path = ome(tmp_path / "a.ome.tif", **positions(0, 2, 2, 4, 6))
    assert "they are not monotonic, planes 1 and 2 are at 2 and 2 µm" in warning_of(path)


def test_positions_that_are_all_equal_are_of_the_stage(tmp_path):
    path = ome(tmp_path / "a.ome.tif", **positions(7, 7, 7, 7, 7))
    np.testing.assert_allclose(read_stack(path).positions, 2.0 * np.arange(5))


def test_fewer_planes_in_the_metadata_than_pages_are_reported(tmp_path):
    text = "ImageJ=1.54p\nimages=3\nslices=3\nunit=micron\nspacing=1.0\n"
    path = plain(tmp_path / "a.tif", description=text, metadata=None)
    assert "holds 5 pages, but its ImageJ metadata describe 3 planes" in warning_of(path)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="16" SizeY="12" SizeZ="3" '
        'SizeC="1" SizeT="1"><Channel ID="Channel:0"/><TiffData/></Pixels></Image></OME>'
    )
    path = plain(tmp_path / "a.ome.tif", description=xml, metadata=None)
    assert "holds 5 pages, but its OME metadata describe 3 planes" in warning_of(path)


def test_a_series_of_times_that_was_stopped_keeps_its_complete_times(tmp_path):
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="16" SizeY="12" SizeZ="3" '
        'SizeC="1" SizeT="4"><Channel ID="Channel:0"/><TiffData/></Pixels></Image></OME>'
    )
    data = np.concatenate([PLANES, PLANES[:3]])  # two times and two planes
    path = plain(tmp_path / "a.ome.tif", data, description=xml, metadata=None)
    with pytest.warns(UserWarning, match="only 2 along T are complete"):
        (acquisition,) = read_acquisitions(path)
    np.testing.assert_array_equal(acquisition.data[:, 0], data[:6].reshape(2, 3, 12, 16))
