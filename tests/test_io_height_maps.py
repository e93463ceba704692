"""Height maps in the files of surface metrology."""

import struct
import zipfile
import zlib

import numpy as np
import pytest

from napari_dff.io import StackError, read_height_map, write_height_map

SIZE = (0.5, 0.25)
SUFFIXES = ("x3p", "sdf", "sur")
STEPS = {"x3p": 0, "sdf": 0, "sur": 1e-8}  # of the heights, in µm


def holed(rng):
    heights = rng.normal(5, 2, (7, 11))
    heights[2, 3:5] = np.nan
    return heights


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("unit", ["micrometer", "millimeter"])
def test_a_height_map_is_read_as_it_was_written(tmp_path, rng, suffix, unit):
    heights, path = holed(rng), tmp_path / f"part.{suffix}"
    factor = 1000 if unit == "millimeter" else 1
    write_height_map(path, heights / factor, (SIZE[0] / factor, SIZE[1] / factor), unit)
    found = read_height_map(path)
    np.testing.assert_allclose(found.heights, heights, rtol=1e-14, atol=STEPS[suffix])
    assert found.pixel_size == pytest.approx(SIZE, rel=1e-7)  # float32 in SUR


@pytest.mark.filterwarnings("ignore:The surface has different pixel size")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_surfalize_reads_what_is_written_and_the_other_way_round(tmp_path, rng, suffix):
    surfalize = pytest.importorskip("surfalize")
    heights, path = holed(rng), tmp_path / f"part.{suffix}"
    write_height_map(path, heights, SIZE)
    surface = surfalize.Surface.load(path)
    np.testing.assert_allclose(surface.data, heights, rtol=1e-12, atol=STEPS[suffix])
    assert (surface.step_y, surface.step_x) == pytest.approx(SIZE, rel=1e-7)
    for settings in ({}, {"binary": False}) if suffix == "sdf" else ({},):
        surfalize.Surface(heights, step_x=SIZE[1], step_y=SIZE[0]).save(path, **settings)
        found = read_height_map(path)
        np.testing.assert_allclose(found.heights, heights, atol=2e-6)  # the offset is float32
        assert found.pixel_size == pytest.approx(SIZE, rel=1e-6)


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_compressed_sur_holds_the_heights_of_the_same_file_without_compression(
    tmp_path, rng, blocks
):
    write_height_map(tmp_path / "plain.sur", holed(rng), SIZE)
    plain = (tmp_path / "plain.sur").read_bytes()
    comment, private = struct.unpack_from("<2h", plain, 334)
    start = 512 + comment + private
    parts = [bytes(part) for part in np.array_split(bytearray(plain[start:]), blocks)]
    packed = [zlib.compress(part) for part in parts]
    sizes = [(len(part), len(each)) for part, each in zip(parts, packed, strict=True)]
    lengths = b"".join(struct.pack("<2I", *pair) for pair in sizes)
    data = struct.pack("<I", blocks) + lengths + b"".join(packed)
    path = tmp_path / "packed.sur"
    path.write_bytes(b"DSCOMPRESSED" + plain[12:start] + data)
    expected = read_height_map(tmp_path / "plain.sur")
    np.testing.assert_array_equal(read_height_map(path).heights, expected.heights)
    path.write_bytes(b"DSCOMPRESSED" + plain[12:start] + data[:-9])
    with pytest.raises(StackError, match=r"packed\.sur can't be read as a height map"):
        read_height_map(path)
    bomb = zlib.compress(bytes(50_000_000))
    data = struct.pack("<3I", 1, 50_000_000, len(bomb)) + bomb
    path.write_bytes(b"DSCOMPRESSED" + plain[12:start] + data)
    with pytest.raises(StackError, match=r"do not hold 308 bytes of heights"):
        read_height_map(path)


@pytest.mark.filterwarnings("ignore:The surface has different pixel size")
def test_a_compressed_sur_of_surfalize_is_read(tmp_path, rng):
    surfalize = pytest.importorskip("surfalize")
    heights, path = holed(rng), tmp_path / "part.sur"
    surfalize.Surface(heights, step_x=SIZE[1], step_y=SIZE[0]).save(path, compressed=True)
    assert path.read_bytes()[:12] == b"DSCOMPRESSED"
    np.testing.assert_allclose(read_height_map(path).heights, heights, atol=2e-6)


def test_x3p_with_integers_a_mask_of_points_and_another_prefix(tmp_path):
    axis = "<{0}><AxisType>{1}</AxisType><DataType>I</DataType><Increment>{2}</Increment>"
    axis += "<Offset>{3}</Offset></{0}>"
    axes = [("CX", "I", 2e-6, 0), ("CY", "I", 1e-6, 0), ("CZ", "A", 1e-7, 1e-6)]
    xml = '<ns:ISO5436_2 xmlns:ns="http://www.opengps.eu/2008/ISO5436_2"><Record1><Axes>'
    xml += "".join(axis.format(*each) for each in axes) + "</Axes></Record1><Record3>"
    xml += "<MatrixDimension><SizeX>3</SizeX><SizeY>2</SizeY><SizeZ>1</SizeZ></MatrixDimension>"
    xml += "<DataLink><PointDataLink>bindata/data.bin</PointDataLink>"
    xml += "<ValidPointsLink>bindata/valid.bin</ValidPointsLink></DataLink></Record3>"
    with zipfile.ZipFile(tmp_path / "a.x3p", "w") as archive:
        archive.writestr("main.xml", xml + "</ns:ISO5436_2>")
        archive.writestr("bindata/data.bin", np.array([0, 10, 20, 30, 40, 0], "<i2").tobytes())
        archive.writestr("bindata/valid.bin", bytes([0b011111]))
    found = read_height_map(tmp_path / "a.x3p")
    np.testing.assert_allclose(found.heights, [[1, 2, 3], [4, 5, np.nan]])
    assert found.pixel_size == pytest.approx((1, 2))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_file_is_refused_with_its_name(tmp_path, rng, suffix):
    path = tmp_path / f"part.{suffix}"
    write_height_map(path, holed(rng), SIZE)
    content = path.read_bytes()
    for damaged in (b"", content[:90], content[: len(content) // 2], b"x" * 600):
        path.write_bytes(damaged)
        with pytest.raises(StackError, match=rf"part\.{suffix} can't be read as a height map: "):
            read_height_map(path)


def test_an_x3p_whose_heights_were_changed_is_refused(tmp_path, rng):
    write_height_map(tmp_path / "a.x3p", holed(rng), SIZE)
    with (
        zipfile.ZipFile(tmp_path / "a.x3p") as old,
        zipfile.ZipFile(tmp_path / "b.x3p", "w") as new,
    ):
        for name in old.namelist():
            data = bytearray(old.read(name))
            data[5] ^= name.endswith("data.bin")
            new.writestr(name, bytes(data))
    with pytest.raises(StackError, match=r"bindata/data\.bin doesn't match the checksum"):
        read_height_map(tmp_path / "b.x3p")


def test_wrong_arguments_are_named(tmp_path, rng):
    heights = holed(rng)
    with pytest.raises(ValueError, match=r"unit must be a length, .* got pixel"):
        write_height_map(tmp_path / "a.x3p", heights, SIZE, "pixel")
    with pytest.raises(ValueError, match=r"path must end in \.x3p, \.sdf, \.sur"):
        write_height_map(tmp_path / "a.txt", heights, SIZE)
    with pytest.raises(StackError, match=r"path must end in \.x3p, .*, got 'a\.txt'"):
        read_height_map(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="heights must be known somewhere"):
        write_height_map(tmp_path / "a.x3p", np.full((3, 3), np.nan), SIZE)
    assert not list(tmp_path.iterdir())
