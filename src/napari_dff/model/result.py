"""Result of all steps."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from napari_dff.model.depth_map import DepthMap
from napari_dff.model.recipe import FocusScale, Recipe
from napari_dff.model.stack import FocalStack
from napari_dff.runtime.windows import Window


class ImageQuality(NamedTuple):
    """What an all-in-focus image has in common with its aligned planes.

    Attributes
    ----------
    seams : float
        Share of the gradient energy that is in no plane, 0 … 1: seams, halos and blends of planes,
        and missing noise.
    noise : float
        The part of `seams` that averaged noise explains, 0 … `seams`.
    sharpness : float
        Mean squared Laplacian in 15 × 15 pixels over that of the sharpest plane there, median of
        the image. It is below 1 where details are softer, or noise was averaged, and above 1 where
        several planes are sharp in the same 15 × 15 pixels.
    """

    seams: float
    noise: float
    sharpness: float


class FocusOffset(NamedTuple):
    """How much higher a channel is in focus than the one that the depth is from.

    Attributes
    ----------
    value : float
        Difference of the positions of sharpest focus, in the unit of the positions.
    uncertainty : float
        Standard uncertainty of `value`; 0 if the offset was given.
    scatter : float
        Standard deviation of the offset from place to place, errors of the depth included.
    tilt : float
        By how much the offset changes across the field; 0 if no change is significant.
    """

    value: float
    uncertainty: float = 0.0
    scatter: float = 0.0
    tilt: float = 0.0


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The result of `depth_from_focus`.

    Parameters
    ----------
    stack : FocalStack
        Aligned. If they do not fit into memory, its planes are resampled when they are read.
    transforms : (Z, 3, 3) float64
        (y, x, 1) of a plane as given → (y, x, 1) of the reference plane.
    valid : (Y, X) bool
        Where at least half of the planes, and 3, have data after alignment.
    estimate, refined : DepthMap
        Before and after refinement; the uncertainty is inf outside `valid`.
    all_in_focus : (Y, X[, 3]), dtype of the planes
    recipe : Recipe
    quality : ImageQuality, optional
        How the all-in-focus image compares with the planes; None if it was not computed.
    gains : (Z,) or (Z, 3) float64, optional
        By which the planes, or each of their channels, were multiplied to equalize their exposure;
        None if they were not.
    window : Window, optional
        The part of the planes as given that the arrays cover: ``top``, ``bottom``, ``left`` and
        ``right``, where the recipe crops them; None: all.
    scale : FocusScale, optional
        The ``sigma`` and ``window`` that focus was measured with, which the recipe may leave to be
        chosen; None if it was not.
    """

    stack: FocalStack
    transforms: np.ndarray
    valid: np.ndarray
    estimate: DepthMap
    refined: DepthMap
    all_in_focus: np.ndarray
    recipe: Recipe
    quality: ImageQuality | None = None
    gains: np.ndarray | None = None
    window: Window | None = None
    scale: FocusScale | None = None
