"""How long do whole commands take, and how much memory? Tables, and one plot of the growth.

Run from the top of a clone, with focusweave installed in any environment::

    python benchmarks/speed.py --focusweave ENV/bin/focusweave      # four recipes, 30 x 2048 x 2048
    python benchmarks/speed.py --growth 0.25x30 1x30 4x30 1x100     # megapixels x planes
    python benchmarks/speed.py --size 1x30 --repeats 1              # short

Every command runs in a process of its own, compiled beforehand, files in the page cache, in turns
with focusweave; medians of `--repeats`. CPU seconds are those of all threads; they depend less on
the load of the machine than the wall time. Memory is the largest resident set, the stack included.
focusweave makes no depth map.
"""

from __future__ import annotations

import argparse
import functools
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from napari_dff import synthetic

UNREFINED = ("--registration", "none", "--refinement", "none")
REFINED = ("--registration", "none")
NOT_ALIGNED, ALIGNED = ("--no-align",), ("--keep-size",)
# Recipe: input of napari-dff and its options, input of focusweave and its options.
ROWS = {
    "one uncompressed TIFF, no alignment, no refinement": ("tif", UNREFINED, "plain", NOT_ALIGNED),
    "the same, refined": ("tif", REFINED, "plain", NOT_ALIGNED),
    "LZW frames, no alignment, no refinement": ("lzw", UNREFINED, "lzw", NOT_ALIGNED),
    "LZW frames, aligned and refined": ("lzw", (), "lzw", ALIGNED),
}
GROWTH = ("0.25x30", "1x30", "4x30", "16x30", "64x30", "1x10", "1x100", "1x200", "1x400")
HERE = Path(__file__).parent
OURS = [sys.executable, "-m", "napari_dff", "run"]
CHILD = """
import resource, subprocess, sys, time
start, null = time.perf_counter(), subprocess.DEVNULL
subprocess.run(sys.argv[1:], stdout=null, stderr=null, check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
print(seconds, cpu, usage.ru_maxrss * 1024 / 1e6)
"""
STEP = re.compile(r"DEBUG (\w[^:]*): (\d+\.\d+) s")


class Cost(NamedTuple):
    """Cost of a command."""

    seconds: float
    cpu: float  # seconds of all threads
    megabytes: float


@functools.cache
def pattern() -> np.ndarray:
    return synthetic.rough_surface(size=512, planes=30).stack.planes


def stack_of(megapixels: float, count: int) -> np.ndarray:
    """Rough surface of 512 x 512 pixels and 30 planes, mirrored and interpolated to the size."""
    at = np.linspace(0, len(pattern()) - 1, count)
    below = np.minimum(at.astype(int), len(pattern()) - 2)
    share = (at - below)[:, None, None]
    planes = (1 - share) * pattern()[below] + share * pattern()[below + 1]
    planes = np.rint(planes).astype(np.uint16)
    side = int(np.sqrt(megapixels) * 1024)
    pair = np.concatenate([planes, planes[:, :, ::-1]], axis=2)
    block = np.concatenate([pair, pair[:, ::-1]], axis=1)
    repeats = -(-side // block.shape[1])
    return np.tile(block, (1, repeats, repeats))[:, :side, :side]


def write_inputs(folder: Path, size: str) -> dict[str, str]:
    """Write a stack as one TIFF, as plain frames and as LZW frames."""
    megapixels, count = size.split("x")
    planes = stack_of(float(megapixels), int(count))
    paths = {"tif": folder / "stack.tif", "plain": folder / "plain", "lzw": folder / "lzw"}
    tifffile.imwrite(paths["tif"], planes, metadata={"axes": "ZYX"}, bigtiff=True)
    for name, options in (("plain", {}), ("lzw", {"compression": "lzw", "predictor": True})):
        paths[name].mkdir()
        for i, plane in enumerate(planes):
            tifffile.imwrite(paths[name] / f"{i:03d}.tif", plane, **options)
    return {name: str(path) for name, path in paths.items()}


def run(command: list[str]) -> Cost:
    """Return the cost of one command, started by a small process: a fork counts as large as it."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "check": True}
    done = subprocess.run([sys.executable, "-c", CHILD, *command], **options)
    return Cost(*map(float, done.stdout.split()))


def in_turns(commands: list[list[str]], repeats: int) -> list[Cost]:
    """Run commands one after the other, `repeats` times; return the median of each."""
    costs = [[run(command) for command in commands] for _ in range(repeats)]
    return [
        Cost(*map(statistics.median, zip(*each, strict=True))) for each in zip(*costs, strict=True)
    ]


def commands_of(row: str, paths: dict[str, str], weave: str | None) -> list[list[str]]:
    """Return the commands of napari-dff and, if it is there, of focusweave."""
    ours, options, theirs, weave_options = ROWS[row]
    out = str(Path(paths["tif"]).parent)
    commands = [[*OURS, paths[ours], "--out", f"{out}/ours", "--quiet", *options]]
    if weave:
        commands.append([weave, paths[theirs], "--output", f"{out}/weave.tif", *weave_options])
    return commands


def steps_of(command: list[str], folder: str) -> dict[str, float]:
    """Return the seconds of each step that a command of napari-dff logs; the rest is "other"."""
    log = Path(folder) / "log.txt"
    log.unlink(missing_ok=True)
    cost = run([*command, "--log-file", str(log), "-v"])
    steps: dict[str, float] = {}
    for name, seconds in STEP.findall(log.read_text(encoding="utf-8")):
        steps[name] = steps.get(name, 0.0) + float(seconds)
    return {**steps, "start, read, write": max(cost.seconds - sum(steps.values()), 0.0)}


def recipes(size: str, repeats: int, weave: str | None) -> None:
    """Print the four recipes, and the share of each step."""
    print("| input, recipe | wall (s) | CPU (s) | MB | of focusweave: wall | CPU | MB |")
    print("|---" * 7 + "|")
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_inputs(Path(folder), size)
        for row in ROWS:
            commands = commands_of(row, paths, weave)
            ours, *peers = in_turns(commands, repeats)
            ratios = [f"{a / b:.2f}" for a, b in zip(ours, peers[0], strict=True)] if peers else []
            cells = [f"{ours.seconds:.1f}", f"{ours.cpu:.1f}", f"{ours.megabytes:.0f}", *ratios]
            print(f"| {row} | {' | '.join(cells)} |", flush=True)
            shares[row] = steps_of(commands[0], folder)
    print("\n| step, % of the wall time | " + " | ".join(shares) + " |")
    print("|---" * (1 + len(shares)) + "|")
    for step in dict.fromkeys(step for each in shares.values() for step in each):
        cells = [f"{100 * each.get(step, 0) / sum(each.values()):.0f}" for each in shares.values()]
        print(f"| {step} | {' | '.join(cells)} |", flush=True)


def growth(sizes: list[str], repeats: int, weave: str | None) -> None:
    """Print and plot the first two recipes at each size."""
    names = ["no refinement", "refined", *(["focusweave"] if weave else [])]
    heads = [f"{name} ({unit})" for name in names for unit in ("s", "CPU s", "MB")]
    print("\n| Mpixel × planes | " + " | ".join(heads) + " | refined, CPU ns a voxel |")
    print("|---" * (2 + len(heads)) + "|")
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_inputs(Path(folder), size)
            plain, refined = (commands_of(row, paths, weave) for row in list(ROWS)[:2])
            costs = in_turns([plain[0], *refined], repeats)
        megapixels, count = map(float, size.split("x"))
        rows.append((megapixels, count, costs))
        cells = [f"{each.seconds:.1f} | {each.cpu:.1f} | {each.megabytes:.0f}" for each in costs]
        voxel = 1e9 * costs[1].cpu / (megapixels * 2**20 * count)
        print(f"| {size} | {' | '.join(cells)} | {voxel:.0f} |", flush=True)
    plot(rows, names)


def plot(rows: list[tuple[float, float, list[Cost]]], names: list[str]) -> None:
    """Plot CPU seconds and memory against megapixels of 30 planes, and planes of a megapixel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    labels = {"cpu": "CPU seconds", "megabytes": "megabytes"}
    series = {
        "megapixels, 30 planes": sorted((size, cost) for size, count, cost in rows if count == 30),
        "planes of 1 megapixel": sorted((count, cost) for size, count, cost in rows if size == 1),
    }
    panels = figure.subplots(2, 2)
    for (field, label), line in zip(labels.items(), panels, strict=True):
        for panel, (axis, points) in zip(line, series.items(), strict=True):
            for k, name in enumerate(names):
                values = [getattr(costs[k], field) for _, costs in points]
                panel.loglog([size for size, _ in points], values, marker="o", label=name)
            panel.set_xlabel(axis)
            panel.set_ylabel(label)
            panel.grid(True, which="major", alpha=0.3)
    panels[0, 0].legend()
    figure.savefig(HERE.parent / "docs" / "speed.png", dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="4x30", help="of the four recipes; 0 leaves them out")
    parser.add_argument("--growth", nargs="*", help="megapixels x planes; all without any")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--focusweave", metavar="PROGRAM", help="path of focusweave")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:  # compiles the kernels
        paths = write_inputs(Path(folder), "0.25x10")
        for row in ROWS:
            run(commands_of(row, paths, None)[0])
    if options.size != "0":
        recipes(options.size, options.repeats, options.focusweave)
    if options.growth is not None:
        growth(options.growth or list(GROWTH), options.repeats, options.focusweave)


if __name__ == "__main__":
    main()
