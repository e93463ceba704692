"""A transparent film on a ground: two surfaces in each focus curve."""

from typing import NamedTuple

import numpy as np

from napari_dff.model.checks import Range
from napari_dff.model.stack import FocalStack
from napari_dff.synthetic.optics import photograph, render_fluorescent, render_opaque
from napari_dff.synthetic.scenes import check_scene, noise_texture, relief

REFRACTIVE_INDEX = Range(1.0, 5.0, 0.01)
FILM_RADIUS = 0.38  # of the disc, of the side of the picture


class FilmTruth(NamedTuple):
    """A rendered stack of a transparent film on a ground, with its ground truth."""

    stack: FocalStack
    ground: np.ndarray  # (Y, X) float32, depth of the ground as it is in focus, through the film
    film: np.ndarray  # (Y, X) float32, depth of the top of the film; NaN where there is none
    thickness: np.ndarray  # (Y, X) float32, the refractive index times the distance in focus


def transparent_film(
    size: int = 192, planes: int = 24, seed: int = 0, refractive_index: float = 1.5
) -> FilmTruth:
    """Render a disc of a transparent film with texture on its top: 16 bit, 1,500 photons, µm.

    The light of film and ground is added. In focus, they are 6 to 9 µm apart; outside the disc
    there is only the ground.
    """
    check_scene(size, planes, seed)
    REFRACTIVE_INDEX.check("refractive_index", refractive_index)
    positions, shape = 1.0 * np.arange(planes), (size, size)
    y, x = np.mgrid[:size, :size] / size
    is_film = np.hypot(y - 0.5, x - 0.5) < FILM_RADIUS
    heights = [relief(shape, smoothness=size / 5, seed=seed + k) for k in (0, 9)]
    ground = 3 + 5 * heights[0]
    film = np.where(is_film, ground + 6 + 3 * heights[1], ground)
    texture, particles = (noise_texture(shape, seed=seed + k) for k in (1, 2))
    below = (1 - 0.3 * is_film) * render_opaque(texture, ground, positions, defocus=0.9)
    above = render_fluorescent(0.6 * is_film * particles, film, positions, defocus=0.9)
    shot = photograph((below + above) / 1.5, photons=1500, seed=seed)
    stack = FocalStack(shot, positions, (0.5, 0.5), "micrometer")
    top = np.where(is_film, film, np.nan)
    thickness = refractive_index * (top - ground)
    return FilmTruth(stack, *(each.astype(np.float32) for each in (ground, top, thickness)))
