"""Reference results of the bundled stacks: `python tests/reference/renew.py` computes them anew.

With `--bits STACK` it prints the SHA-256 of all results of one stack instead, which must be the
same on any number of threads, from run to run, and on every Python with the same libraries.
"""

import dataclasses
import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np

from napari_dff import Recipe, Reconstruction, depth_from_focus, read_stack
from napari_dff.io import SAMPLES
from napari_dff.io.samples import sample_path
from napari_dff.threads import ThreadLimits, set_thread_limits

HERE = Path(__file__).parent
SIDE = 144  # pixels: of larger stacks the upper left part, so that it takes seconds
EVERY = 3  # pixels, of which one is kept
RECIPES = {
    "default": Recipe(),
    "straight": Recipe(
        registration="sift",
        motion="homography",
        aggregation="window",
        peak="argmax",
        refinement="graph_cut+weighted_median",
        fusion="nearest",
    ),
}


def reconstructed(
    name: str, recipe: Recipe, transforms: np.ndarray | None = None
) -> Reconstruction:
    """What a run makes of a bundled stack, its upper left part."""
    stack = read_stack(sample_path(name))
    part = dataclasses.replace(stack, planes=np.asarray(stack.planes)[:, :SIDE, :SIDE])
    return depth_from_focus(part, recipe, transforms=transforms)


def kept(result: Reconstruction) -> dict[str, np.ndarray]:
    """What is compared: depth and uncertainty in planes, at some pixels."""
    spacing = np.float32(np.abs(np.diff(result.stack.positions)).mean())
    thinned = (slice(EVERY // 2, None, EVERY),) * 2
    index, depth, uncertainty = (part[thinned] for part in result.refined)
    return {
        "index": index.astype(np.uint8),
        "depth": depth / spacing,
        "uncertainty": (uncertainty / spacing).astype(np.float16),
        "all_in_focus": result.all_in_focus[thinned],
        "transforms": result.transforms,
    }


def bits(name: str, recipe: Recipe) -> str:
    """SHA-256 of all that a run makes of a bundled stack."""
    found = reconstructed(name, recipe)
    parts = *found.estimate, *found.refined, found.all_in_focus, found.transforms, found.valid
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    ).hexdigest()


def main(words: list[str]) -> None:
    """Print bits, on as many threads as a last word says, or write all references."""
    if words[:1] == ["--bits"]:
        set_thread_limits(ThreadLimits(threads=int(words[2]) if len(words) > 2 else None))
        for kind, recipe in RECIPES.items():
            if "graph_cut" not in recipe.refinement or importlib.util.find_spec("gco"):
                print(kind, bits(words[1], recipe))
        return
    for name in SAMPLES:
        for kind, recipe in RECIPES.items():
            np.savez_compressed(HERE / f"{name}.{kind}.npz", **kept(reconstructed(name, recipe)))


if __name__ == "__main__":
    main(sys.argv[1:])
