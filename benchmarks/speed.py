"""How long does each step take, and how much memory does the whole take? One table.

Every stack runs twice in a process of its own (the second run counts: kernels are compiled by
then). Run from the top of a clone: ``python benchmarks/speed.py`` (bundled stacks) or with sizes
in megapixels, ``python benchmarks/speed.py 1 4``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import numpy as np

from napari_dff import FocalStack, Recipe, depth_from_focus, synthetic

STEPS = {
    "Reading": "align",
    "Finding features": "align",
    "Matching planes": "align",
    "Checking planes": "align",
    "Refining motions": "align",
    "Resampling": "align",
    "Comparing light": "align",
    "Measuring focus": "focus",
    "Fusing": "fuse",
    "Message passing": "refine",
    "Least squares": "refine",
}


def stack_of(name: str) -> FocalStack:
    if name in synthetic.SCENES:
        return synthetic.SCENES[name]().stack
    side = int(np.sqrt(float(name) * 1e6))
    tile = synthetic.rough_surface(planes=30).stack.planes
    repeats = -(-side // tile.shape[1])
    return FocalStack(np.tile(tile, (1, repeats, repeats))[:, :side, :side].copy())


def measure(name: str) -> None:
    """Run in a process of its own; print seconds a step and peak memory."""
    stack = stack_of(name)
    for _ in range(2):
        spent = dict.fromkeys(["align", "focus", "depth", "fuse", "refine"], 0.0)

        def clock(items, /, *, desc):
            start = time.perf_counter()
            yield from items
            step = next(s for d, s in STEPS.items() if desc.startswith(d))
            spent[step] += time.perf_counter() - start  # noqa: B023

        start = time.perf_counter()
        depth_from_focus(stack, Recipe(), progress=clock)
        total = time.perf_counter() - start
        spent["depth"] = total - sum(spent.values())  # peaks, noise and what else has no loop
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shape = " × ".join(map(str, stack.planes.shape))
    print(json.dumps([shape, str(stack.planes.dtype), *spent.values(), total, peak]))


def main() -> None:
    names = sys.argv[1:] or list(synthetic.SCENES)
    print("| stack | shape | align | focus | peaks and the rest | fuse | refine | all (s) | MB |")
    print("|---" * 9 + "|")
    for name in names:
        done = subprocess.run(
            [sys.executable, __file__, "--measure", name],
            capture_output=True,
            text=True,
            check=True,
        )
        shape, dtype, *seconds, peak = json.loads(done.stdout.splitlines()[-1])
        cells = " | ".join(f"{s:.2f}" for s in seconds)
        print(f"| {name} | {shape} {dtype} | {cells} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
    else:
        main()
