"""Folders of frames: axes and order by names, colours, orientation, what a camera wrote."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_dff.cli.program import main
from napari_dff.io import StackError, read_acquisitions, read_stack
from napari_dff.io.readers.frame_order import arrange_frames
from napari_dff.io.readers.orientation import turn

CASES = Path(__file__).parents[2] / "shared" / "cases"
GREY = np.random.default_rng(1).integers(0, 255, (12, 16), dtype=np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 255, (12, 16, 3), dtype=np.uint8)


def order(*names: str) -> list[str]:
    return [path.stem for path in arrange_frames("a", [Path(f"{n}.png") for n in names]).paths]


def write(folder: Path, names: list[str], suffix: str = ".png", **options) -> Path:
    """Write frames whose pixels are their number in `names`."""
    for i, name in enumerate(names):
        Image.fromarray(np.full((8, 9), i, np.uint8)).save(folder / f"{name}{suffix}", **options)
    return folder


def numbers(folder: Path) -> list[int]:
    return np.asarray(read_stack(folder).planes[:, 0, 0]).tolist()


def only_warning(folder: Path) -> str:
    with pytest.warns(UserWarning, match=".") as caught:
        read_acquisitions(folder)
    (warning,) = (each for each in caught if each.category is UserWarning)
    return str(warning.message)


# Order


@pytest.mark.parametrize(
    "names",
    [
        [f"scan_z{z}um" for z in range(-30, 30, 5)],
        [f"scan_z{z:g}mm" for z in np.arange(12) * 0.25],
        ["focus-1.5", "focus-1", "focus0", "focus1", "focus1.5"],
        ["a_-0,5mm", "a_-0,25mm", "a_0mm", "a_+0,25mm", "a_+0,5mm"],
        ["z0p25um", "z0p5um", "z1p0um", "z1p25um"],
        ["z−5um", "z0", "z500um", "z1mm", "z1.25mm"],  # mixed units, and the sign of Unicode
        [f"{z / 2}" for z in range(8)],
        [f"s1.{n}" for n in range(12)],  # two counters, not decimals
        [f"a-{n}" for n in range(12)],  # a hyphen, not a sign
        [f"2024-01-05 12.{n // 60:02}.{n % 60:02}" for n in range(50, 70)],
        [f"IMG_{n}" for n in (1, 2, 3, 10)],
        ["a", "b", "c"],
    ],
)
def test_frames_are_in_the_order_of_their_positions_or_counters(names):
    assert order(*reversed(names)) == names


def test_lengths_that_are_all_negative_have_a_sign():
    assert order("z-5um", "z-30um", "z-10um") == ["z-30um", "z-10um", "z-5um"]
    assert order("z-5um", "z-0um", "z-10um") == ["z-0um", "z-5um", "z-10um"]


def test_a_counter_that_begins_again_is_continued(tmp_path):
    write(tmp_path, ["D_9998", "D_9999", "D_0001", "D_0002"])
    assert "D_9999.png: D_0001.png is taken as the next plane" in only_warning(tmp_path)
    with pytest.warns(UserWarning, match="begins again"):
        assert numbers(tmp_path) == [0, 1, 2, 3]


def dated(folder: Path, times: dict[str, str], **tags) -> Path:
    """Write JPEGs with EXIF capture times."""
    for i, (name, time) in enumerate(times.items()):
        image = Image.fromarray(np.full((8, 16), 20 * i, np.uint8))
        exif = image.getexif()
        exif.get_ifd(0x8769)[36867] = time
        exif.update(tags.get("exif", {}))
        image.save(folder / f"{name}.jpg", exif=exif, quality=95, **tags.get("options", {}))
    return folder


def test_capture_times_that_contradict_counters_are_followed(tmp_path):
    times = {f"a{n}": f"2024:05:01 10:00:0{5 - n}" for n in range(4)}
    dated(tmp_path, times)
    assert "a3.jpg was taken before a0.jpg" in only_warning(tmp_path)
    with pytest.warns(UserWarning, match="capture time"):
        assert numbers(tmp_path) == [60, 40, 20, 0]


def tiff_of_camera(path: Path, pixels: np.ndarray, time: str) -> None:
    """Write a TIFF with capture time and f-number in its EXIF directory."""
    tifffile.imwrite(path, pixels, metadata=None, extratags=[(65000, 4, 1, 0, True)])
    content = bytearray(path.read_bytes())
    start = len(content)
    entry = content.index(struct.pack("<HHI", 65000, 4, 1))  # becomes the tag ExifTag
    content[entry : entry + 12] = struct.pack("<HHII", 34665, 4, 1, start)
    text = start + 2 + 2 * 12 + 4
    entries = struct.pack("<HHII", 33437, 5, 1, text + 20) + struct.pack(
        "<HHII", 36867, 2, 20, text
    )
    content += struct.pack("<H", 2) + entries + bytes(4) + time.encode() + b"\0"
    path.write_bytes(content + struct.pack("<II", 28, 10))


def test_capture_times_of_tiff_are_read(tmp_path):
    for i in range(3):
        frame = np.full((8, 16), i, np.uint8)
        tiff_of_camera(tmp_path / f"{i}.tif", frame, f"2024:05:01 10:00:0{5 - i}")
    with pytest.warns(UserWarning, match="capture time"):
        (acquisition,) = read_acquisitions(tmp_path)
    np.testing.assert_array_equal(acquisition.data[0, 0, :, 0, 0], [2, 1, 0])
    assert acquisition.exif["FNumber"] == 2.8


def test_capture_times_do_not_change_positions_or_equal_times(tmp_path):
    (tmp_path / "positions").mkdir()
    (tmp_path / "equal").mkdir()
    dated(tmp_path / "positions", {f"z{n}um": f"2024:05:01 10:00:0{5 - n}" for n in range(4)})
    dated(tmp_path / "equal", {f"a{n}": "2024:05:01 10:00:00" for n in range(4)})
    assert numbers(tmp_path / "positions") == numbers(tmp_path / "equal") == [0, 20, 40, 60]


def test_uneven_positions_in_names_are_used(tmp_path):
    write(tmp_path, ["z-10um", "z-5um", "z0um", "z0.02mm"])
    message = (
        r"positions in the names of the frames \(z\) are uneven, 0 and then 0\.02: depth is in"
    )
    with pytest.warns(UserWarning, match=message):
        (acquisition,) = read_acquisitions(tmp_path)
    np.testing.assert_allclose(acquisition.positions, [[-10, -5, 0, 20]])
    assert (acquisition.unit, acquisition.has_pixel_size) == ("micrometer", False)
    with pytest.warns(UserWarning, match="uneven"):
        (acquisition,) = read_acquisitions(tmp_path, spacing=(5, 0.1, 0.1))
    np.testing.assert_allclose(acquisition.positions, [[0, 5, 10, 15]])
    assert acquisition.has_pixel_size


def test_missing_numbers_of_planes_are_reported(tmp_path):
    write(tmp_path, ["a_z00", "a_z01", "a_z02", "a_z04"])
    assert "(z) are uneven, 02 and then 04: the planes are counted" in only_warning(tmp_path)
    for path in tmp_path.iterdir():
        path.rename(tmp_path / f"c1{path.name}")
    write(tmp_path, ["c2a_z00", "c2a_z01", "c2a_z02", "c2a_z04"])
    assert "02 and then 04" in only_warning(tmp_path)


# Axes in names

GRIDS = {  # names as format strings, and the lengths of (positions, times, channels, planes)
    "Series001_z{z:02}_ch{c:02}": (1, 1, 2, 4),  # Leica
    "img_channel{c:03}_position{p:03}_time{t:09}_z{z:03}": (2, 2, 2, 3),  # Micro-Manager
    "r01c{p:02}f01p{z:02}-ch{c}sk1fk1fl1": (2, 1, 2, 4),  # Harmony
    "A_C02_T{t:04}F{p:03}L01A01Z{z:02}C{c:02}": (2, 1, 2, 4),  # CellVoyager
    "exp_w{c}_s{p}_t{t}_z{z}": (2, 1, 3, 4),
    "B{p:02}_z{z}": (3, 1, 1, 4),  # wells
    "image_{z}_ch{c}": (1, 1, 2, 5),
    "image--L00--S00--V{p:02}--T{t:04}--Z{z:02}--C{c:02}.ome": (2, 1, 2, 3),  # MatrixScreener
    "Image_c{c}m{p}z{z}_ORG": (2, 1, 2, 3),  # Zen
}


@pytest.mark.parametrize("pattern", GRIDS)
def test_channels_positions_and_times_in_names_are_axes(pattern, tmp_path):
    lengths = GRIDS[pattern]
    for i, (p, t, c, z) in enumerate(np.ndindex(lengths)):
        frame = np.full((8, 9), i, np.uint8)
        tifffile.imwrite(tmp_path / f"{pattern.format(p=p, t=t, c=c, z=z)}.tif", frame)
    acquisitions = read_acquisitions(tmp_path)
    data = np.stack([np.asarray(each.data)[..., 0, 0] for each in acquisitions])
    np.testing.assert_array_equal(data, np.arange(np.prod(lengths)).reshape(lengths))
    assert len(set(acquisitions[0].channels)) == lengths[2]
    assert len({each.name for each in acquisitions}) == lengths[0]


def test_wells_have_their_names(tmp_path):
    write(tmp_path, [f"{well}_z{z}" for well in ("A01", "B02") for z in range(3)])
    assert [each.name for each in read_acquisitions(tmp_path)] == ["A 01", "B 02"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"x_{c}_z{z}" for c in ("DAPI", "GFP") for z in range(3)], "the words DAPI…GFP 2, Z 3"),
        ([f"{a}_{b}" for a in range(3) for b in range(4)], r"number 1 0…2 3, number 2 0…3 4"),
        ([f"p{p}_{c}" for p in range(3) for c in ("DAPI", "GFP")], "the axes the words DAPI…GFP 2"),
        ([f"z{z}_ch{c}" for z in range(4) for c in range(2)][:-1], "vary in ch 0…1 and z 0…3, and"),
        (
            [f"x_{c}_z{z}" for c in ("DAPI", "GFP") for z in range(3)][:-1],
            "several frames of one z",
        ),
        (
            [f"x_{c}_{z}" for c in ("DAPI", "GFP") for z in range(3)][:-1],
            "combinations are missing",
        ),
        (
            [f"Stack {s}_Frame {z}" for s in (1, 2) for z in range(4)][:-1],
            "combinations are missing",
        ),
        ([f"img_ch{c}" for c in range(3)], "C 3, .* none of which is the focus axis"),
    ],
)
def test_names_that_vary_in_unclear_parts_are_refused(names, message, tmp_path):
    write(tmp_path, names)
    with pytest.raises(StackError, match=message):
        read_acquisitions(tmp_path)


def test_two_counters_that_are_no_grid_are_reported(tmp_path):
    write(tmp_path, [f"{stack}_{z}" for stack in (1, 2) for z in range(4)][:-1])
    message = (
        "vary in number 1 1…2 and number 2 0…3, and are taken as one stack: if they are several"
    )
    assert message in only_warning(tmp_path)
    assert order("12_30", "12_59", "13_00", "13_30") == ["12_30", "12_59", "13_00", "13_30"]


def test_axes_of_names_can_be_named(tmp_path):
    write(tmp_path, [f"x_{c}_z{z}" for c in ("DAPI", "GFP") for z in range(3)])
    (acquisition,) = read_acquisitions(tmp_path, axes="CZYX")
    np.testing.assert_array_equal(acquisition.data[0, :, :, 0, 0], [[0, 1, 2], [3, 4, 5]])


# Files that do not belong there


def test_one_frame_in_two_formats_is_read_once(tmp_path):
    write(write(tmp_path, ["1", "2", "3"], ".jpg"), ["1", "2", "3"], ".tif")
    message = r"3 frames are there as \.tif and as \.jpg, such as 1\.tif: \.tif is used"
    with pytest.warns(UserWarning, match=message):
        assert read_stack(tmp_path).planes.shape[0] == 3


def test_an_earlier_result_among_frames_is_left_out(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        plane = rng.integers(0, 255, (64, 64)).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"{i}.tif", plane)
    options = ["--registration", "none", "--refinement", "none", "--quiet"]
    assert main(["run", str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 0
    (tmp_path / "out" / "all_in_focus.ome.tif").rename(tmp_path / "4.tif")
    assert only_warning(tmp_path) == "4.tif: results of an earlier run, not used as planes"
    with pytest.warns(UserWarning, match="earlier run"):
        assert read_stack(tmp_path).planes.shape[0] == 4


def test_images_beside_the_record_of_a_run_are_results(tmp_path):
    write(tmp_path, ["0", "1", "2", "preview"])
    (tmp_path / "provenance.json").write_text("{}")
    assert only_warning(tmp_path) == "preview.png: results of an earlier run, not used as planes"


def test_a_frame_with_another_name_is_reported(tmp_path):
    write(tmp_path, [*(f"DSC_{n:04}" for n in range(4)), "stacked"])
    assert "stacked.png is not named like the other 4 frames" in only_warning(tmp_path)


# Colours

YCBCR = Image.fromarray(COLOUR).convert("YCbCr")
SAVED = {  # file name, how it is saved, and the pixels that are right
    "white is zero": ("a.tif", "miniswhite", 255 - GREY, GREY),
    "white is zero, 16 bits": ("a.tif", "miniswhite", 65535 - 9 * GREY.astype("u2"), 9 * GREY.astype("u2")),  # noqa: E501
    "CMYK TIFF": ("a.tif", "pillow", Image.fromarray(COLOUR).convert("CMYK"), COLOUR),
    "YCbCr TIFF": ("a.tif", "pillow", YCBCR, np.asarray(YCBCR.convert("RGB"))),
    "palette TIFF": ("a.tif", "pillow", Image.fromarray(COLOUR // 64 * 85).quantize(64), COLOUR // 64 * 85),  # noqa: E501
    "palette PNG": ("a.png", "pillow", Image.fromarray(COLOUR // 64 * 85).quantize(64), COLOUR // 64 * 85),  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize("case", SAVED)
def test_colours_are_converted_by_what_the_file_states(case, tmp_path):
    name, way, pixels, expected = SAVED[case]
    for i in range(3):
        path = tmp_path / f"{i}{name}"
        if way == "pillow":
            pixels.save(path)
        else:
            tifffile.imwrite(path, pixels, photometric=way)
    planes = np.asarray(read_stack(tmp_path).planes)
    assert planes.dtype == expected.dtype
    np.testing.assert_allclose(planes, [expected] * 3, atol=1)


def test_cmyk_jpegs_have_the_colours_of_the_photograph(tmp_path):
    smooth = np.stack(np.broadcast_arrays(200, np.arange(16)[:, None] * 8, np.arange(16) * 9), -1)
    smooth = smooth.astype(np.uint8)
    for i in range(3):
        Image.fromarray(smooth).convert("CMYK").save(tmp_path / f"{i}.jpg", quality=98)
    np.testing.assert_allclose(read_stack(tmp_path).planes[1], smooth, atol=6)


def test_the_profile_of_inks_is_not_kept(tmp_path):
    for i in range(3):
        inks = Image.fromarray(COLOUR).convert("CMYK")
        inks.save(tmp_path / f"{i}.jpg", icc_profile=b"profile of inks")
    assert "CMYK colours, converted to RGB without their colour profile" in only_warning(tmp_path)
    with pytest.warns(UserWarning, match="CMYK"):
        assert read_acquisitions(tmp_path)[0].icc_profile == b""


@pytest.mark.parametrize("photometric", ["cielab", 32803])
def test_colours_that_are_not_converted_are_refused(photometric, tmp_path):
    pixels = COLOUR if photometric == "cielab" else GREY
    for i in range(3):
        tifffile.imwrite(tmp_path / f"{i}.tif", pixels, photometric=photometric)
    with pytest.raises(StackError, match=r"0\.tif stores its pixels as (CIELAB|CFA) in uint8"):
        read_stack(tmp_path)


def png_16_bit(pixels: np.ndarray, colour_type: int) -> bytes:
    """Encode 16-bit pixels, which pillow can't write in colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("colour_type", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_stay_16_bits(colour_type, samples, tmp_path):
    pixels = np.random.default_rng(3).integers(0, 1023, (9, 10, samples)).astype(np.uint16)
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png_16_bit(pixels, colour_type))
    planes = np.asarray(read_stack(tmp_path).planes)
    assert planes.dtype == np.uint16
    np.testing.assert_array_equal(planes[1], pixels[..., 0] if samples < 3 else pixels[..., :3])


def test_jpeg_2000_of_16_bits_stays_16_bits(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = COLOUR.astype(np.uint16) * 4
    for i in range(3):
        (tmp_path / f"{i}.jp2").write_bytes(imagecodecs.jpeg2k_encode(pixels, level=0))
    np.testing.assert_array_equal(read_stack(tmp_path).planes[2], pixels)


def test_the_preview_in_a_camera_jpeg_is_ignored(tmp_path):
    image = Image.fromarray(np.full((16, 24, 3), 90, np.uint8))
    for i in range(3):
        preview = [image.resize((8, 8))]
        image.save(tmp_path / f"D{i}.JPG", format="MPO", save_all=True, append_images=preview)
    assert read_stack(tmp_path).planes.shape == (3, 16, 24, 3)


# Orientation, EXIF and colour profile


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_pillow_does(orientation):
    from PIL import ImageOps

    image = Image.fromarray(GREY)
    image.getexif()[274] = orientation
    np.testing.assert_array_equal(turn(GREY, orientation), ImageOps.exif_transpose(image))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_portrait_frames_are_upright(suffix, tmp_path):
    image = Image.fromarray(np.arange(128, dtype=np.uint8).reshape(8, 16))
    exif = image.getexif()
    exif[274] = 6
    for i in range(3):
        image.save(tmp_path / f"{i}.{suffix}", exif=exif)
    plane = read_stack(tmp_path).planes[0]
    assert plane.shape == (16, 8)
    assert plane[0, 0] > plane[0, -1]  # the first row was the first column, from below


def test_frames_of_two_orientations_are_turned_alike(tmp_path):
    for i in range(4):
        image = Image.fromarray(GREY)
        exif = image.getexif()
        exif[274] = 1 if i == 2 else 6
        image.save(tmp_path / f"{i}.png", exif=exif)
    message = r"2\.png have another EXIF orientation .* turned by orientation 6"
    with pytest.warns(UserWarning, match=message):
        assert read_stack(tmp_path).planes.shape == (4, 16, 12)


def test_results_keep_exif_and_colour_profile(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 255, (48, 64, 3)).astype(np.uint8)
        image = Image.fromarray(noise)
        exif = image.getexif()
        exif[272] = "Camera 5"
        exif.get_ifd(0x8769)[33437] = 2.8
        exif[274] = 8
        image.save(folder / f"{i}.jpg", exif=exif, icc_profile=profile)
    options = ["--registration", "none", "--refinement", "none", "--quiet"]
    assert main(["run", str(folder), "--out", str(tmp_path / "out"), *options]) == 0
    with tifffile.TiffFile(tmp_path / "out" / "all_in_focus.ome.tif") as tif:
        page = tif.pages.first
        assert page.shape == (64, 48, 3)
        assert page.iccprofile == profile
        assert page.tags["Model"].value == "Camera 5"
        assert page.tags[33437].value == (14, 5)
    text = (tmp_path / "out" / "provenance.json").read_text()
    assert '"Model": "Camera 5"' in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.open(io.BytesIO((tmp_path / "out" / "all_in_focus.ome.tif").read_bytes())).load()


# Inputs that failed before


CASE_MEANS = {
    "cmyk_frames/jpeg": [98.2, 56.8, 26.0],
    "cmyk_frames/tiff": [98.2, 56.8, 26.0],
    "white_is_zero/white_is_zero": [103.3],
    "white_is_zero/palette": [98.2, 56.8, 26.0],
    "white_is_zero/ycbcr": [98.2, 56.8, 26.0],
    "sixteen_bit_colour_frames/rgb16": [393.6, 229.5, 102.2],
    "sixteen_bit_colour_frames/rgba16": [393.6, 229.5, 102.2],
    "sixteen_bit_colour_frames/jp2": [393.6, 229.5, 102.2],
    "sixteen_bit_colour_frames/la16": [393.6],
    "mpo_camera_jpeg/frames": [98.2, 56.8, 26.0],
}


@pytest.mark.parametrize("case", CASE_MEANS)
def test_cases_have_the_colours_of_the_scene(case):
    if not (CASES / case).is_dir():
        pytest.skip(f"{CASES / case} is not on this machine")
    planes = np.asarray(read_stack(CASES / case).planes)
    means = planes.reshape(-1, len(CASE_MEANS[case])).mean(0)
    np.testing.assert_allclose(means, CASE_MEANS[case], atol=1.6)
