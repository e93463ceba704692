"""Error of the focus offset between two channels of known offset, rendered and photographed.

    python benchmarks/focus_offset.py

Each channel has a texture of its own on the same surface. The columns are the RMS error, the mean
standard uncertainty and the share of the errors within 2 standard uncertainties.
"""

import numpy as np

from napari_dff import DepthMap, depth_map, focus_measure, focus_offset, synthetic

POSITIONS, OFFSET, SEEDS = 0.5 * np.arange(16), 0.63, 8  # µm


def depth_of(planes: np.ndarray) -> DepthMap:
    """Return the depth map of a channel before refinement."""
    return depth_map(focus_measure(planes, sigma=1.0, window=9), POSITIONS)


def render(kind: str, size: int, seed: int) -> list[np.ndarray]:
    """Return the planes of two channels: 800 photons, and 200 for the higher one."""
    depth = 7.5 * (0.2 + 0.5 * synthetic.relief((size, size), smoothness=size / 5, seed=seed))
    channels = []
    for number, (at, photons) in enumerate(((depth, 800), (depth + OFFSET, 200))):
        texture = synthetic.noise_texture((size, size), seed=2 * seed + number + 100)
        if kind == "opaque":
            clean = synthetic.render_opaque(texture, at, POSITIONS, defocus=0.8)
        else:
            settings = {"defocus": 0.9, "haze": 0.5}
            clean = synthetic.render_fluorescent(texture**2, at, POSITIONS, **settings) / 1.5
        channels.append(synthetic.photograph(clean, photons=photons, seed=seed + 50 * number))
    return channels


def main() -> None:
    print(f"{'scene':<12}{'pixels':>8}{'RMS µm':>10}{'σ µm':>10}{'2 σ':>8}")
    for kind in ("opaque", "fluorescent"):
        for size in (96, 200):
            offsets = [
                focus_offset(*map(depth_of, render(kind, size, seed)), spacing=0.5)
                for seed in range(SEEDS)
            ]
            errors = np.array([offset.value - OFFSET for offset in offsets])
            deviations = np.array([offset.uncertainty for offset in offsets])
            share = np.mean(np.abs(errors) <= 2 * deviations)
            rms = np.sqrt(np.mean(errors**2))
            print(f"{kind:<12}{size:>8}{rms:>10.4f}{deviations.mean():>10.4f}{share:>8.0%}")


if __name__ == "__main__":
    main()
