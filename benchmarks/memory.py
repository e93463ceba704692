"""Does a run keep to the memory that it promises? Promised against measured, for many layouts.

Run from the top of a clone, on Linux::

    python benchmarks/memory.py --data /tmp/memory              # all rows; half an hour
    python benchmarks/memory.py --data /tmp/memory planes 64x512

Every run is a process of its own, compiled beforehand. *promised* is what the command prints before
it starts, and never more than ``--memory``. *measured* is the peak of the memory that the process
occupies itself (RssAnon and RssShmem, looked at every 10 ms); *VmHWM* counts the pages of mapped
files and libraries, too, which the system may take away at any time.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
import zarr

from napari_dff.io import sample_path

UNREFINED = ("--registration", "none", "--refinement", "none")
REFINED = ("--registration", "none")
PROGRAM = [sys.executable, "-m", "napari_dff", "run"]
MEMORY_FIELDS = "RssAnon", "RssShmem", "VmHWM"
TOLERANCE = 1.05  # measured over promised
ESTIMATE = re.compile(r"estimate: ([\d.]+) GB of memory, (?:in (\d+) tiles)?")


class Layout(NamedTuple):
    """A stack, and how it is stored."""

    shape: tuple[int, ...]  # (Z, Y, X) or (Z, Y, X, 3)
    dtype: str
    chunks: tuple[int, int, int] | None  # of OME-Zarr; None for TIFF
    compressed: bool = False
    limits_mb: tuple[int, ...] = (0,)  # 0: no limit
    options: tuple[str, ...] = UNREFINED


ROWS = {
    "10 planes": Layout((10, 2048, 2048), "uint16", None, limits_mb=(0, 500)),
    "planes": Layout((100, 1024, 1024), "uint16", None, limits_mb=(0, 600)),
    "planes refined": Layout((50, 512, 512), "uint16", None, False, (0, 600), REFINED),
    "planes aligned": Layout((20, 1024, 1024), "uint16", None, False, (0, 600), ()),
    "frames LZW": Layout((50, 1024, 1024), "uint16", None, True, (0, 500)),
    "100x1024 chunks": Layout((100, 1024, 1024), "uint16", (100, 1024, 1024), True, (1100,)),
    "64x1024 chunks": Layout((64, 1024, 1024), "uint16", (64, 1024, 1024), True, (850,)),
    "64x512 chunks": Layout((64, 1024, 1024), "uint16", (64, 512, 512), True, (0, 600)),
    "64x512 refined": Layout((64, 512, 512), "uint16", (64, 512, 512), True, (700,), REFINED),
    "64x512 aligned": Layout((20, 1024, 1024), "uint16", (20, 512, 512), True, (600,), ()),
    "colour": Layout((20, 1024, 1024, 3), "uint8", None, limits_mb=(0, 500)),
    "float32": Layout((40, 1024, 1024), "float32", None, limits_mb=(0, 500)),
    "300 planes": Layout((300, 512, 512), "uint16", None, limits_mb=(0, 600)),
    "300 planes refined": Layout((300, 512, 512), "uint16", None, False, (600,), REFINED),
    "300 planes aligned": Layout((300, 512, 512), "uint16", None, limits_mb=(800,), options=()),
    "1000 planes": Layout((1000, 256, 256), "uint16", None, limits_mb=(0, 900, 600)),
    "1000 planes refined": Layout((1000, 256, 256), "uint16", None, False, (700,), REFINED),
    "1000x512 planes": Layout((1000, 512, 512), "uint16", None, True, (600, 800)),
    "3000 planes": Layout((3000, 256, 256), "uint16", None, limits_mb=(1000,)),
    "3000 planes refined": Layout((3000, 256, 256), "uint16", None, False, (1300,), REFINED),
    "20 planes refined": Layout((20, 1024, 1024), "uint16", None, True, (500,), REFINED),
    "1000 planes aligned": Layout((1000, 256, 256), "uint16", None, limits_mb=(1000,), options=()),
}


def make(path: Path, layout: Layout) -> None:
    """Write planes of a tilted, textured surface; it takes seconds."""
    count, height, width, *_ = layout.shape
    rng = np.random.default_rng(0)
    texture = rng.normal(size=(height, width)).astype(np.float32)
    depth = np.linspace(0.2, 0.8, height)[:, None] * count
    colour = len(layout.shape) == 4
    top = 1.0 if layout.dtype == "float32" else float(np.iinfo(layout.dtype).max)
    array = None
    if layout.chunks is not None:
        group = zarr.open_group(path, mode="w", zarr_format=2)
        options = {} if layout.compressed else {"compressors": None}
        settings = {"shape": layout.shape, "chunks": layout.chunks, "dtype": layout.dtype}
        array = group.create_array("0", **settings, **options)
        scale = {"type": "scale", "scale": [0.5, 0.1, 0.1]}
        axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
        dataset = {"path": "0", "coordinateTransformations": [scale]}
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    step = layout.chunks[0] if layout.chunks else 1
    writer = tifffile.TiffWriter(path, bigtiff=True) if array is None else None
    for first in range(0, count, step):
        planes = [
            0.5 + 0.08 * texture * np.exp(-(((k - depth) / (0.06 * count + 1)) ** 2))
            for k in range(first, min(first + step, count))
        ]
        block = (np.clip(planes, 0, 1) * top).astype(layout.dtype)
        block = np.repeat(block[..., None], 3, -1) if colour else block
        if writer is None:
            array[first : first + step] = block
        else:
            options = {"compression": "lzw"} if layout.compressed else {"contiguous": True}
            photometric = "rgb" if colour else "minisblack"
            writer.write(block[0], photometric=photometric, metadata=None, **options)
    if writer is not None:
        writer.close()


def measure(words: list[str]) -> tuple[str, int, float, float, float]:
    """Return what a command prints, its exit code, seconds, peak of own memory and VmHWM in MB."""
    start, peak, high = time.perf_counter(), 0, 0
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        status = Path(f"/proc/{child.pid}/status")
        while True:
            pid, code = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                break
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            sizes = {k: int(v.split()[0]) for k, v in fields.items() if k in MEMORY_FIELDS}
            peak = max(peak, sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0))
            high = max(high, sizes.get("VmHWM", 0))
            time.sleep(0.01)
        child.returncode = os.waitstatus_to_exitcode(code)
        text = child.stderr.read().decode()
    seconds = time.perf_counter() - start
    return text, child.returncode, seconds, peak * 1024 / 1e6, high * 1024 / 1e6


def report(name: str, layout: Layout, path: Path, out: Path) -> None:
    """Print one row of the table for each limit."""
    for limit in layout.limits_mb:
        words = [*PROGRAM, str(path), "--out", str(out), *layout.options]
        text, code, seconds, own, high = measure(
            words + (["--memory", f"{limit}MB"] if limit else [])
        )
        shutil.rmtree(out, ignore_errors=True)
        found = ESTIMATE.search(text)
        shown = f"{limit} MB" if limit else "none"
        if code or found is None:
            print(f"| {name} | {shown} | {' '.join(text.split())[-150:]} |", flush=True)
            continue
        promised = 1000 * float(found[1])
        verdict = "" if own <= TOLERANCE * (limit or promised) else "more than promised"
        cells = name, shown, f"{promised:.0f}", found[2] or 1, f"{own:.0f}", f"{high:.0f}"
        print("|", " | ".join(map(str, cells)), f"| {seconds:.0f} | {verdict} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; words of their names")
    parser.add_argument("--data", type=Path, required=True, help="folder for stacks and results")
    given = parser.parse_args()
    given.data.mkdir(parents=True, exist_ok=True)
    out = given.data / "out"
    sample = str(sample_path("cell_sheet"))
    measure([*PROGRAM, sample, "--out", str(out), "--overwrite"])  # compiles
    print("| stack | limit | promised (MB) | tiles | measured (MB) | VmHWM (MB) | s | |")
    print("|---" * 8 + "|")
    for name, layout in ROWS.items():
        if given.rows and not any(words in name for words in given.rows):
            continue
        suffix = ".tif" if layout.chunks is None else ".ome.zarr"
        path = given.data / (name.replace(" ", "_") + suffix)
        if not path.exists():
            make(path, layout)
        report(name, layout, path, out)


if __name__ == "__main__":
    main()
