"""The public functions of registration: align planes, and resample each plane once."""

import dataclasses
import warnings
from typing import Any, NamedTuple

import numpy as np

from napari_dff.model.recipe import Exposure, Motion, Recipe, Registration
from napari_dff.model.stack import validate_planes
from napari_dff.registration.estimation import estimate_transforms
from napari_dff.registration.exposure import compute_gains, find_drift, measure_light
from napari_dff.registration.lazy_stack import LazyAlignedStack, load_aligned
from napari_dff.registration.report import PlaneReport
from napari_dff.runtime.progress import Progress, no_progress
from napari_dff.runtime.windows import full_window

DRIFT_MESSAGE = (
    "light changes by {:.0%} over the planes, by the same factor everywhere in a plane, as with a "
    "lamp that drifts or flickers: exposure auto equalizes it; keep leaves the grey levels as "
    "they are"
)


class Alignment(NamedTuple):
    """Aligned planes and how they were aligned.

    Attributes
    ----------
    planes : (Z, Y, X[, 3]), dtype of the input
        Each plane resampled once, by cubic splines; its border is repeated where it has no data.
    transforms : (Z, 3, 3) float64
        (y, x, 1) of a plane → (y, x, 1) of the reference plane.
    valid : (Y, X) bool
        Where every plane has data.
    report : tuple of PlaneReport
    """

    planes: np.ndarray
    transforms: np.ndarray
    valid: np.ndarray
    report: tuple[PlaneReport, ...]

    def plane_mask(self) -> np.ndarray | None:
        """Return where each plane has data, (Z, Y, X) bool; None if all have data everywhere."""
        stack = LazyAlignedStack(self.planes, self.transforms)
        return stack.plane_mask(full_window(self.valid.shape))


def align(
    planes: Any,  # (Z, Y, X[, 3])
    *,
    registration: Registration = "joint",
    motion: Motion = "auto",
    reference: int | None = None,
    exposure: Exposure = "auto",
    progress: Progress = no_progress,
) -> Alignment:
    """Align every plane to the reference plane.

    A transform is accepted only where it lowers the difference to the neighbour; otherwise a
    simpler motion model is tried, and last the identity. A plane that cannot be matched gets a
    transform interpolated from the planes around it. The report names its outcome.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type; numpy, memory map, zarr or dask. A lazy plane is read once to
        estimate its transform and once to resample it.
    registration : {"joint", "sift", "ecc", "none"}
        ``joint``: matched features from neighbour to neighbour, then grey levels of all planes one,
        two and three apart, solved as one system. ``sift``: the features only. ``ecc``: grey levels
        from neighbour to neighbour. ``none``: planes stay as they are.
    motion : {"auto", "translation", "similarity", "affine", "homography"}
        Motion model between neighbouring planes; ``auto`` selects the simplest that explains all
        pairs.
    reference : int, optional
        The plane that stays, 0 … Z-1; the middle one when None.
    exposure : {"auto", "keep", "equal"}
        ``keep`` the brightness, or bring every plane (each channel) to that of the reference plane
        (``equal``): for lamps that drift or flicker, not where the brightness itself changes with
        focus. ``auto``: equal, with a warning, where the light of all areas of the plane changes by
        the same factor.
    progress : Progress
        Called with the planes of each step; may raise to cancel.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        For a wrong argument, values that are not finite, or planes without any contrast.

    References
    ----------
    Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94 (SIFT).
    Barath et al. 2020, doi:10.1109/CVPR42600.2020.00138 (MAGSAC++).
    Evangelidis & Psarakis 2008, doi:10.1109/TPAMI.2008.113 (ECC).
    """
    recipe = Recipe(registration=registration, motion=motion, exposure=exposure)
    aligned = align_lazily(validate_planes(planes), recipe, reference=reference, progress=progress)
    for note in aligned.notes:
        warnings.warn(note, stacklevel=2)
    out, valid = load_aligned(aligned, progress)
    return Alignment(out, aligned.transforms, valid, aligned.report)


def align_lazily(
    planes: Any,  # (Z, Y, X[, 3])
    recipe: Recipe,
    *,
    reference: int | None = None,
    transforms: np.ndarray | None = None,  # if known: nothing is estimated, the report is empty
    on_disk: bool = False,  # whether planes that are compared are in a temporary file
    progress: Progress = no_progress,
) -> LazyAlignedStack:
    """Return planes aligned with the settings of a recipe, resampled when they are read."""
    if transforms is None:
        settings: dict[str, Any] = {"on_disk": on_disk, "progress": progress}
        estimate = estimate_transforms(planes, recipe, reference, **settings)
        aligned = LazyAlignedStack(planes, **estimate._asdict())
    else:
        aligned = LazyAlignedStack(planes, transforms)
    if recipe.exposure == "keep":
        return aligned
    light = measure_light(planes, aligned.transforms, progress=progress)
    if recipe.exposure == "auto":
        drift = find_drift(light)
        if not drift:
            return aligned
        aligned = dataclasses.replace(aligned, notes=(*aligned.notes, DRIFT_MESSAGE.format(drift)))
    gains = compute_gains(light, (len(aligned), *aligned.shape[3:]), reference)
    return dataclasses.replace(aligned, gains=gains)


def resample(
    planes: Any, transforms: np.ndarray, *, progress: Progress = no_progress
) -> tuple[np.ndarray, np.ndarray]:
    """Resample planes under known transforms, each once by cubic splines.

    Parameters
    ----------
    planes : (Z, Y, X) or (Z, Y, X, 3) array
        Any integer or float type; numpy, memory map, zarr or dask.
    transforms : (Z, 3, 3) array
        (y, x, 1) of a plane → (y, x, 1) of the reference plane, as in `Alignment`, of these planes
        or of others that were taken together with them.
    progress : Progress
        Called with the planes; may raise to cancel.

    Returns
    -------
    (Z, Y, X[, 3]), dtype of `planes`
        Borders are repeated where a plane has no data.
    (Y, X) bool
        Where every plane has data.

    Raises
    ------
    ValueError
        When `transforms` are not of as many planes.
    """
    return load_aligned(LazyAlignedStack(validate_planes(planes), transforms), progress)
