"""Report on the alignment of one plane."""

from enum import Enum, auto
from typing import NamedTuple

import numpy as np


class Outcome(Enum):
    """How the motion that was used compares with the requested motion model."""

    AS_REQUESTED = auto()
    SIMPLER_MODEL = auto()
    NO_MOTION_NEEDED = auto()  # no motion lowers the difference to the neighbour
    NOT_MATCHED = auto()  # the transform is interpolated from the planes around it


class PlaneReport(NamedTuple):
    """How one plane was aligned.

    Attributes
    ----------
    plane, neighbour : int
        The plane, and the one to which it was matched (itself for the reference).
    keypoints, matches, inliers : int
        Features of the plane, matches that were unambiguous and mutual, and those that agree.
    residual : float
        Root mean square distance of the inliers from the motion, in pixels; NaN without any.
    model : str
        The motion model that was used, ``identity`` or ``reference``.
    fallback : str
        Why it is not the motion that was requested; empty if it is.
    points, displacements : (N, 2) float64
        Inliers (y, x) in the plane, and their positions in the neighbour minus these.
    outcome : Outcome
        The reason of `fallback` as a category.
    """

    plane: int
    neighbour: int
    keypoints: int = 0
    matches: int = 0
    inliers: int = 0
    residual: float = float("nan")
    model: str = "identity"
    fallback: str = ""
    points: np.ndarray = np.empty((0, 2))
    displacements: np.ndarray = np.empty((0, 2))
    outcome: Outcome = Outcome.AS_REQUESTED
