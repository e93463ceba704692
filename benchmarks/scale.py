"""How far does it go? Time and memory against size and against workers; one table and one plot.

Run from the top of a clone::

    python benchmarks/scale.py --data /tmp/scale            # all sizes, then workers; an hour
    python benchmarks/scale.py --data /tmp/scale 0.4 1.7    # gigavoxels
    python benchmarks/scale.py --data /tmp/scale --workers  # one worker against two

Stacks are OME-Zarr, 16 bit, a rough surface mirrored to the size with noise of its own everywhere;
they are made where they lack (2 GB on the disk a gigavoxel). Every command runs in a process of its
own, compiled beforehand. The estimate of memory is that which the command prints before it starts;
memory is the largest resident set.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from speed import stack_of

from napari_dff.io import sample_path

SHAPES = {0.1: (100, 1024), 0.4: (100, 2048), 1.7: (100, 4096), 6.7: (100, 8192), 13.4: (200, 8192)}
MEMORY = "2GB"
# Of the largest, which takes an hour else: the straight recipe, with plain windows.
PLAIN = ["--registration", "none", "--refinement", "none", "--aggregation", "window"]
STACKS, PLANES, SIDE = 16, 30, 1024  # that workers share
REPEATS = 3
HERE = Path(__file__).parent
PROGRAM = [sys.executable, "-m", "napari_dff"]
CHILD = (
    "import resource, subprocess, sys, time; start = time.perf_counter();"
    "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE);"
    "sys.stderr.buffer.write(done.stderr); done.check_returncode();"
    "print(time.perf_counter() - start,"
    " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6)"
)


def make(path: Path, count: int, side: int) -> None:
    """An OME-Zarr 0.4 of `count` planes."""
    block = stack_of(0.25, count)
    turned = np.concatenate([block, block[:, :, ::-1]], axis=2)
    block = np.concatenate([turned, turned[:, ::-1]], axis=1)
    rng = np.random.default_rng(0)
    noise = rng.integers(-300, 301, (1536, 1536), dtype=np.int32)
    group = zarr.open_group(path, mode="w", zarr_format=2)
    shape, chunks = (count, side, side), (1, min(side, 1024), min(side, 1024))
    planes = group.create_array("0", shape=shape, chunks=chunks, dtype="uint16")
    repeats = -(-side // block.shape[1])
    for i in range(count):
        grain = np.roll(noise, tuple(rng.integers(0, 1536, 2)), (0, 1))
        grain = np.tile(grain, (-(-side // 1536),) * 2)[:side, :side]
        plane = np.tile(block[i].astype(np.int32), (repeats, repeats))[:side, :side] + grain
        planes[i] = np.clip(plane, 0, 65535).astype(np.uint16)
    scale = {"type": "scale", "scale": [0.5, 0.1, 0.1]}
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    dataset = {"path": "0", "coordinateTransformations": [scale]}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]


def run(words: list[str]) -> tuple[float, float, str]:
    """Seconds, gigabytes, and what a command says on the side."""
    child = [sys.executable, "-c", CHILD, *PROGRAM, *words]
    done = subprocess.run(child, check=True, capture_output=True, text=True)
    seconds, gigabytes = map(float, done.stdout.split())
    return seconds, gigabytes, done.stderr


def size(data: Path, gigavoxels: float) -> dict[str, Any]:
    """One row of the table."""
    count, side = SHAPES[gigavoxels]
    path = data / f"{count}x{side}.ome.zarr"
    if not (path / ".zattrs").exists():
        make(path, count, side)
    words = ["run", str(path), "--out", str(data / "out"), "--memory", MEMORY]
    plain = gigavoxels == max(SHAPES)
    words += PLAIN if plain else []
    seconds, gigabytes, told = run(words)
    estimate = re.search(r"estimate: ([\d.]+) GB of memory, (.*)", told)
    assert estimate is not None, told
    tiles = re.search(r"in (\d+) tiles", estimate[2])
    return {
        "planes × side": f"{count} × {side}²",
        "gigavoxels": count * side**2 / 1e9,
        "recipe": "straight: plain windows, neither aligned nor refined" if plain else "default",
        "tiles": int(tiles[1]) if tiles else 1,
        "estimated (GB)": float(estimate[1]),
        "memory (GB)": gigabytes,
        "time (min)": seconds / 60,
        "megavoxels a second": count * side**2 / seconds / 1e6,
    }


def workers(data: Path, repeats: int) -> list[dict[str, Any]]:
    """Stacks a minute with one worker and with two, in turns."""
    folder = data / "many"
    for k in range(STACKS):
        path = folder / f"{k}.ome.zarr"
        if not (path / ".zattrs").exists():
            make(path, PLANES, SIDE)
    spent: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats):
        for count in spent:
            out = data / f"batch-{count}-{repeat}-{time.time_ns()}"
            words = ["batch", str(folder / "*.ome.zarr"), "--out", str(out), "--quiet"]
            spent[count].append(run([*words, "--workers", str(count)])[0])
    seconds = {count: statistics.median(each) for count, each in spent.items()}
    return [
        {"workers": n, "stacks a minute": 60 * STACKS / s, "gain": seconds[1] / s}
        for n, s in seconds.items()
    ]


def table(rows: list[dict[str, Any]]) -> None:
    print("|", " | ".join(rows[0]), "|")
    print("|---" * len(rows[0]) + "|")
    for row in rows:
        values = (f"{v:.2f}" if isinstance(v, float) else f"{v}" for v in row.values())
        print("|", " | ".join(values), "|", flush=True)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Minutes and gigabytes against gigavoxels; with the estimates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = [row["gigavoxels"] for row in rows]
    for axes, name, unit in ((left, "time", "min"), (right, "memory", "GB")):
        axes.plot(at, [row[f"{name} ({unit})"] for row in rows], "o-", label="measured")
        axes.set_xscale("log")
        axes.set_xlabel("gigavoxels")
        axes.set_ylabel(f"{name} ({unit})")
        axes.grid(alpha=0.3)
        axes.legend()
    right.plot(at, [row["estimated (GB)"] for row in rows], "x:", label="estimated")
    left.set_yscale("log")
    right.axhline(2, color="black", lw=0.8)
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=float, help=f"of {', '.join(map(str, SHAPES))}")
    parser.add_argument("--data", type=Path, required=True, help="folder for stacks and results")
    parser.add_argument("--workers", action="store_true", help="one worker against two, only")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of the workers")
    parser.add_argument("--plot", type=Path, default=HERE.parent / "docs" / "scale.png")
    given = parser.parse_args()
    given.data.mkdir(parents=True, exist_ok=True)
    run(["run", str(sample_path("cell_sheet")), "--out", str(given.data / "out")])  # compiles
    run(["run", str(sample_path("machined_part")), "--out", str(given.data / "out")])
    if not given.workers:
        kept = given.data / "sizes.json"  # rows of earlier calls stay
        rows = json.loads(kept.read_text()) if kept.exists() else {}
        for gigavoxels in given.sizes or SHAPES:
            rows[str(gigavoxels)] = size(given.data, gigavoxels)
            kept.write_text(json.dumps(rows))
        found = [rows[key] for key in sorted(rows, key=float)]
        table(found)
        plot(found, given.plot)
    if given.workers or not given.sizes:
        table(workers(given.data, given.repeats))


if __name__ == "__main__":
    main()
