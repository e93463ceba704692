"""Files with random changes are read, or refused with a one-line message, within a time limit.

They are read in a subprocess with limited memory, which is stopped if it hangs. Manually, for the
files number 5000 to 5999: ``python tests/test_fuzzing.py 5000 1000``.
"""

import faulthandler
import json
import resource
import signal
import subprocess
import sys
import tempfile
import types
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import psutil
import pytest
import tifffile
import zarr

from napari_dff import Recipe
from napari_dff.cli.program import main
from napari_dff.io import DepthFiles, read_acquisitions, read_recipe, read_transforms, write_recipe
from napari_dff.runtime.windows import full_window

pytestmark = pytest.mark.endurance
FILES = 150  # multiplied by the effort
MEMORY_BYTES = 2 << 30  # bytes, for the reader
FREE_BYTES = 1 << 30  # bytes of free memory, as the reader sees it
TIMEOUT_S = 10  # seconds per file
PIXELS = np.random.default_rng(1).integers(1, 255, (4, 16, 24)).astype(np.uint16)
PALETTE = np.tile(np.arange(256, dtype=np.uint16) * 256, (3, 1))
LENGTHS = {f"PhysicalSize{axis}": 2.0 for axis in "XYZ"}
HEIGHTS = {"PositionZ": [0.0, 1.0, 3.0, 4.0], "PositionZUnit": ["µm"] * 4}
QUICK = ["--registration", "none", "--refinement", "none", "--quiet"]


def test_changed_files_are_read_or_refused(effort):
    count = FILES * effort
    command = [sys.executable, __file__, "0", str(count)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-5000:]
    lines = [line for line in process.stderr.splitlines() if "compiling" not in line]
    assert lines == []  # no output of libraries
    counts = json.loads(process.stdout)
    assert sum(counts.values()) == count
    assert (
        min(counts["read"], counts["refused"]) > count // 20
    )  # the changes are not too few or many


# Valid files


def tiff(path: Path, **options) -> None:
    tifffile.imwrite(path, PIXELS, **({"photometric": "minisblack"} | options))


def frames(path: Path, suffix: str) -> None:
    path.mkdir()
    for i, plane in enumerate(PIXELS.astype(np.uint8)):
        iio.imwrite(path / f"{i}{suffix}", plane)


def ome_zarr(path: Path, version: int) -> None:
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    moves = [{"type": "scale", "scale": [2.0, 1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": moves}]
    described = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]}
    group = zarr.open_group(path, mode="w", zarr_format=version)
    zarr.create_array(path / "0", data=PIXELS, chunks=(1, 16, 16), zarr_format=version)
    group.attrs.update(described if version == 2 else {"ome": {"version": "0.5", **described}})


def pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as tif:
        for plane in PIXELS:
            tif.write(plane, contiguous=False, metadata=None, compression="lzw", predictor=True)


def result(path: Path) -> None:
    tiff(path.with_suffix(".tif"))
    main(["run", str(path.with_suffix(".tif")), "--out", str(path), *QUICK])


OME = {"ome": True, "metadata": {"axes": "ZYX", **LENGTHS, "Plane": HEIGHTS}}
KINDS: dict[str, Callable[[Path], object]] = {
    "plain.tif": tiff,
    "big.tif": lambda path: tiff(path, bigtiff=True, byteorder=">"),
    "imagej.tif": lambda path: tiff(path, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0}),
    "ome.ome.tif": lambda path: tiff(path, **OME),
    "zlib.ome.tif": lambda path: tiff(path, compression="zlib", **OME),
    "tiles.ome.tif": lambda path: tiff(path, tile=(16, 16), compression="zstd", **OME),
    "white.tif": lambda path: tiff(path, photometric="miniswhite", metadata=None),
    "palette.tif": lambda path: tifffile.imwrite(
        path, PIXELS.astype(np.uint8), photometric="palette", colormap=PALETTE, compression="zlib"
    ),
    "film.webp": lambda path: iio.imwrite(path, PIXELS.astype(np.uint8), lossless=True),
    "pages.tif": pages,
    "png": lambda path: frames(path, ".png"),
    "jpeg": lambda path: frames(path, ".jpg"),
    "tiffs": lambda path: frames(path, ".tif"),
    "two.zarr": lambda path: ome_zarr(path, 2),
    "three.zarr": lambda path: ome_zarr(path, 3),
    "recipe.json": lambda path: write_recipe(path, Recipe()),
    "transforms.json": lambda path: path.write_text(
        json.dumps({"transforms": np.tile(np.eye(3), (4, 1, 1)).tolist()})
    ),
    "result": result,
}


def read(path: Path) -> None:
    """Read all content of a file."""
    if path.name == "recipe.json":
        read_recipe(path)
    elif path.name == "transforms.json":
        read_transforms(path)
    elif path.name == "result":
        (acquisition,) = read_acquisitions(path.with_suffix(".tif"))
        DepthFiles(path, acquisition).at((0, 0))(full_window(PIXELS.shape[1:]))
    else:
        for acquisition in read_acquisitions(path):
            for index in list(np.ndindex(acquisition.data.shape[:3]))[:20]:
                np.asarray(acquisition.data[index])


# Changes

INTEGERS = [0, 1, 2, 7, 8, 255, 256, 65535, 65536]
INTEGERS += [2**i + j for i in (31, 32, 40, 63, 64) for j in (-1, 0)]
WORDS = [b"-1", b"0", b"1e999", b"NaN", b"null", b"[]", b"{}", b'"x"', b"99999999999999", b"0.5"]
WORDS += [b"../", b"<", b'"', b"&a;", b"\n", b"\0", b"\xff", b"1" * 5000, b"[" * 5000]


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the content with some bytes changed, mostly near its start or end."""
    text = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        distance = int(min(rng.choice([40, 400, 40000]), len(text)))
        place = int(rng.integers(distance + 1))
        place = len(text) - place if rng.random() < 0.4 else place
        length = int(rng.integers(1, 60))
        match rng.integers(8):
            case 0:
                text[place : place + 1] = rng.bytes(1)
            case 1 | 2:
                size = int(rng.choice([1, 2, 4, 8]))
                value = INTEGERS[rng.integers(len(INTEGERS))] % 256**size
                text[place : place + size] = value.to_bytes(
                    size, str(rng.choice(["little", "big"]))
                )
            case 3:
                del text[place:]
            case 4:
                del text[place : place + length]
            case 5:
                text[place:place] = text[place : place + length] * int(rng.integers(1, 3))
            case 6:
                other = int(rng.integers(len(text) + 1))
                text[place : place + length] = text[other : other + length]
            case 7:
                digits = [i for i, byte in enumerate(text) if 48 <= byte < 58] or [place]
                start = digits[rng.integers(len(digits))]
                text[start : start + 1] = WORDS[rng.integers(len(WORDS))]
    return bytes(text)


# The process that reads


class ReadTimeout(BaseException):
    """Reading takes too long; not caught by `except Exception`."""


def raise_timeout(*_) -> None:
    raise ReadTimeout


def outcome(path: Path) -> str:
    """Return "read", "refused", or the message of an unexpected error."""
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT_S)
    faulthandler.dump_traceback_later(3 * TIMEOUT_S, exit=True)
    try:
        read(path)
    except (ValueError, OSError) as error:
        lines = str(error).splitlines()
        memory = "MemoryError" in str(error) or "llocate" in str(error)
        return "refused" if len(lines) == 1 and not memory else f"{error!r}"
    except (Exception, ReadTimeout) as error:
        return f"{type(error).__name__} {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    return "read"


def run(first: int, count: int) -> int:
    """Read changed files and print how many were read and refused; return 1 for other outcomes."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, raise_timeout)
    counts, exit_code = Counter(read=0, refused=0), 0
    with tempfile.TemporaryDirectory() as folder:
        for name, make in KINDS.items():
            make(Path(folder) / name)
            assert outcome(Path(folder) / name) == "read", name
        limit = psutil.Process().memory_info().vms + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        psutil.virtual_memory = lambda: types.SimpleNamespace(available=FREE_BYTES)
        for number in range(first, first + count):
            rng = np.random.default_rng(number)
            path = Path(folder) / list(KINDS)[rng.integers(len(KINDS))]
            files = sorted(p for p in path.rglob("*") if p.is_file()) or [path]
            file = files[rng.integers(len(files))]
            original = file.read_bytes()
            file.write_bytes(changed(original, rng))
            result_kind = outcome(path)
            file.write_bytes(original)
            if result_kind not in counts:
                print(f"{number} {path.name} {file.name}: {result_kind[:500]}")
                exit_code = 1
            else:
                counts[result_kind] += 1
    print(json.dumps(counts))
    return exit_code


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), int(sys.argv[2])))
