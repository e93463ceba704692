"""Measurement noise from repeats beside the uncertainty that one stack foretells, rendered scenes.

    python benchmarks/repeats.py

Six photographs of each surface, 400 photons, planes 2 µm apart. The columns, in µm: noise from the
repeats, root mean square of the foretold uncertainties, true error of one stack, and the part of it
that all repeats share.
"""

import numpy as np

from napari_dff import Recipe, depth_from_focus, synthetic
from napari_dff.model.stack import FocalStack
from napari_dff.surface import repeats

POSITIONS, SIZE, COUNT = 2.0 * np.arange(12), 160, 6


def photographs(kind: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the true depth and the planes of each photograph."""
    depth = 22 * (0.1 + 0.8 * synthetic.relief((SIZE, SIZE), smoothness=24, seed=1))
    texture = synthetic.noise_texture((SIZE, SIZE), seed=2)
    if kind == "opaque":
        clean = synthetic.render_opaque(texture, depth, POSITIONS, defocus=0.8)
    else:
        settings = {"defocus": 0.9, "haze": 0.5}
        clean = synthetic.render_fluorescent(texture**2, depth, POSITIONS, **settings)
    return depth, [synthetic.photograph(clean, photons=400, seed=seed) for seed in range(COUNT)]


def main() -> None:
    print(f"{'scene':<12}{'refined':>8}{'noise':>10}{'foretold':>10}{'error':>10}{'shared':>10}")
    for kind in ("opaque", "fluorescent"):
        depth, stacks = photographs(kind)
        for refinement in ("none", Recipe().refinement):
            recipe = Recipe(registration="none", refinement=refinement)
            results = [
                depth_from_focus(FocalStack(each, POSITIONS, (0.5, 0.5), "micrometer"), recipe)
                for each in stacks
            ]
            heights, errors = (
                [getattr(each.refined, name) for each in results]
                for name in ("depth", "uncertainty")
            )
            heights = [
                np.where(np.isfinite(e), h, np.nan) for h, e in zip(heights, errors, strict=True)
            ]
            found = repeats(heights, (0.5, 0.5), uncertainties=errors).quantities
            values = {quantity.name: quantity.value for quantity in found}
            deviation = np.array(heights) - depth
            total = np.sqrt(np.nanmean(deviation**2))
            shared = np.sqrt(np.nanmean(np.mean(deviation, axis=0) ** 2))
            row = values["noise"], values["foretold noise"], total, shared
            is_refined = "yes" if refinement != "none" else "no"
            print(f"{kind:<12}{is_refined:>8}" + "".join(f"{each:>10.3f}" for each in row))


if __name__ == "__main__":
    main()
