"""Reference results of the bundled stacks: `python tests/reference/renew.py` computes them again.

With `--bits STACK` it prints the SHA-256 of all results of one stack. It must be the same for any
number of threads, from run to run, and in every Python version with the same libraries.
"""

import dataclasses
import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np

from napari_dff import Recipe, Reconstruction, depth_from_focus, read_stack
from napari_dff.io import SAMPLE_NAMES
from napari_dff.io.samples import sample_path
from napari_dff.runtime.threads import ThreadLimits, set_thread_limits

HERE = Path(__file__).parent
SIDE_PX = 144  # larger stacks are cropped to the upper left part, which takes seconds
STEP_PX = 3  # results are stored at every third row and column
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


def reconstruct(name: str, recipe: Recipe, transforms: np.ndarray | None = None) -> Reconstruction:
    """Run the pipeline on the upper left part of a bundled stack."""
    stack = read_stack(sample_path(name))
    part = dataclasses.replace(stack, planes=np.asarray(stack.planes)[:, :SIDE_PX, :SIDE_PX])
    return depth_from_focus(part, recipe, transforms=transforms)


def sample_results(result: Reconstruction) -> dict[str, np.ndarray]:
    """Return the compared results at some pixels; depth and uncertainty in planes."""
    spacing = np.float32(np.abs(np.diff(result.stack.positions)).mean())
    thinned = (slice(STEP_PX // 2, None, STEP_PX),) * 2
    index, depth, uncertainty = (part[thinned] for part in result.refined)
    return {
        "index": index.astype(np.uint8),
        "depth": depth / spacing,
        "uncertainty": (uncertainty / spacing).astype(np.float16),
        "all_in_focus": result.all_in_focus[thinned],
        "transforms": result.transforms,
    }


def bits(result: Reconstruction) -> str:
    """Return the SHA-256 of all results of a bundled stack."""
    parts = *result.estimate, *result.refined, result.all_in_focus, result.transforms, result.valid
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    ).hexdigest()


def main(words: list[str]) -> None:
    """Print the hashes, with an optional number of threads, or write all reference results."""
    if words[:1] == ["--bits"]:
        set_thread_limits(ThreadLimits(threads=int(words[2]) if len(words) > 2 else None))
        for kind, recipe in RECIPES.items():
            if "graph_cut" not in recipe.refinement or importlib.util.find_spec("gco"):
                print(kind, bits(reconstruct(words[1], recipe)))
        return
    for name in SAMPLE_NAMES:
        for kind, recipe in RECIPES.items():
            np.savez_compressed(
                HERE / f"{name}.{kind}.npz", **sample_results(reconstruct(name, recipe))
            )


if __name__ == "__main__":
    main(sys.argv[1:])
