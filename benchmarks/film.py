"""Error of two surfaces and of the thickness between them, on rendered films; false pairs.

    python benchmarks/film.py [STACK ...]

Median absolute errors in planes (= µm), share within 1 and 2 standard uncertainties, share of the
film in which both surfaces are found, and of other pixels in which two are. The same share of each
STACK that has one surface, and of the bundled samples.
"""

import sys

import numpy as np

from napari_dff import focus_measure, read_stack, synthetic, two_surfaces
from napari_dff.io import SAMPLE_NAMES, sample_path

INDEX = 1.5


def thin_film(distance: float, size: int = 160) -> np.ndarray:
    """Return the planes of a film of constant thickness on a relief, 1 plane apart."""
    positions, shape = 1.0 * np.arange(24), (size, size)
    ground = 4 + 5 * synthetic.relief(shape, smoothness=32)
    texture, particles = (synthetic.noise_texture(shape, seed=seed) for seed in (1, 2))
    below = synthetic.render_opaque(texture, ground, positions, defocus=0.9)
    above = synthetic.render_fluorescent(particles, ground + distance, positions, defocus=0.9)
    return synthetic.photograph((0.7 * below + 0.6 * above) / 1.5, photons=1500)


def main() -> None:
    print("seed   ground     film  thickness   1 σ   2 σ  found  false")
    for seed in range(4):
        truth = synthetic.transparent_film(seed=seed, refractive_index=INDEX)
        z = truth.stack.positions
        found = two_surfaces(focus_measure(truth.stack.planes), z, refractive_index=INDEX)
        has_two, is_film = np.isfinite(found.thickness), np.isfinite(truth.film)
        both = has_two & is_film
        errors = [
            np.abs(surface - true)[both]
            for surface, true in (
                (found.first.depth, truth.ground),
                (found.last.depth, truth.film),
                (found.thickness, truth.thickness),
            )
        ]
        medians = "".join(f"{np.median(each):9.3f}" for each in errors)
        within = [np.mean(errors[2] <= k * found.uncertainty[both]) for k in (1, 2)]
        shares = *within, has_two[is_film].mean(), has_two[~is_film].mean()
        print(f"{seed:4}{medians}" + "".join(f"{each:7.1%}" for each in shares))
    print("distance  found  median error  within 2 σ, of thin films; distance in planes")
    for distance in (2.0, 3.0, 3.5, 4.0, 5.0):
        found = two_surfaces(focus_measure(thin_film(distance)))
        has_two = np.isfinite(found.thickness)
        error = (found.thickness - distance)[has_two]
        within = np.mean(np.abs(error) <= 2 * found.uncertainty[has_two]) if error.size else np.nan
        middle = np.median(error) if error.size else np.nan
        print(f"{distance:8}{has_two.mean():7.1%}{middle:14.3f}{within:12.1%}")
    stacks = [*(sample_path(name) for name in SAMPLE_NAMES), *sys.argv[1:]]
    for path in stacks:
        focus = focus_measure(np.asarray(read_stack(path).planes))
        share = np.isfinite(two_surfaces(focus).thickness).mean()
        print(f"{share:7.2%} of {path}")


if __name__ == "__main__":
    main()
