"""Which operator stands what: error of each under noise, low contrast and saturation.

After Pertuz, Puig & Garcia 2013. Prints one table: mean absolute depth error in planes, before
refinement, over two textures, with plain windows (the operator alone speaks). Run from the top of a
clone: ``python benchmarks/operators.py``
"""

from __future__ import annotations

import time

import numpy as np
from skimage import data

from napari_dff import focus_measure, synthetic
from napari_dff.depth import depth_map
from napari_dff.focus import OPERATORS

SIZE, PLANES = 192, 16


def scene(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    sharp = getattr(data, name)()[:SIZE, :SIZE] / 255
    z = np.arange(float(PLANES))
    depth = z[-1] * (0.1 + 0.8 * synthetic.relief((SIZE, SIZE), smoothness=40, seed=seed))
    return synthetic.render_opaque(sharp, depth, z, defocus=0.8), depth


def conditions(clean: np.ndarray) -> dict[str, np.ndarray]:
    def shot(picture: np.ndarray, photons: float) -> np.ndarray:
        return synthetic.photograph(picture, photons=photons, seed=1)

    return {
        "clean": shot(clean, 20_000),
        "noise (500 photons)": shot(clean, 500),
        "noise (100 photons)": shot(clean, 100),
        "a tenth of the contrast": shot(0.5 + 0.1 * (clean - clean.mean()), 20_000),
        "30 % saturated": shot(np.minimum(clean / np.percentile(clean, 70), 1), 20_000),
    }


def main() -> None:
    scenes = [scene(name, seed) for seed, name in enumerate(("gravel", "grass"))]
    stacks = [(conditions(clean), depth) for clean, depth in scenes]
    names = list(stacks[0][0])
    print("| operator | " + " | ".join(names) + " | ms a Mpixel |")
    print("|---" * (len(names) + 2) + "|")
    for operator in OPERATORS:
        row = []
        seconds = 0.0
        for name in names:
            errors = []
            for shots, depth in stacks:
                start = time.perf_counter()
                focus = focus_measure(shots[name], operator=operator, aggregation="window")
                seconds += time.perf_counter() - start
                errors.append(np.abs(depth_map(focus).depth - depth).mean())
            row.append(np.mean(errors))
        pixels = len(names) * len(stacks) * PLANES * SIZE**2 / 1e6
        cells = " | ".join(f"{error:.2f}" for error in row)
        print(f"| {operator} | {cells} | {1000 * seconds / pixels:.0f} |", flush=True)


if __name__ == "__main__":
    main()
