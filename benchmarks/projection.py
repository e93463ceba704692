"""How good is a projection along a curved sheet? Beside the published method of LocalZProjector.

Run from the top of a clone::

    python benchmarks/projection.py                     # the sample Cell sheet, with its truth
    python benchmarks/projection.py --stack STACK.tif   # any stack, without truth

`local_z` is our own implementation of the method that Herbert et al. 2021
(doi:10.1186/s12915-021-01037-w) describe, with the defaults of the program's form: Gaussian filter,
mean or variance in a square window, the plane where it is greatest, median filter. The Fiji plugin
itself was not run.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from scipy.ndimage import median_filter

from napari_dff import FocalStack, Recipe, depth_from_focus, project_slab, read_stack, synthetic

PRE_FILTER_SIGMA, WINDOW_PX, MEDIAN_PX = 1.0, 21, 41  # defaults of LocalZProjector's form
STILL = Recipe(registration="none")


def local_z(
    planes: np.ndarray,  # (Z, Y, X)
    statistic: str,  # "mean" or "std"
    window: int = WINDOW_PX,
    median: int = MEDIAN_PX,
) -> np.ndarray:  # (Y, X) integers
    """Return the reference plane of each pixel."""
    measures = []
    for plane in planes.astype(np.float64):
        smooth = cv2.GaussianBlur(plane, (0, 0), PRE_FILTER_SIGMA, borderType=cv2.BORDER_REFLECT)
        mean = cv2.blur(smooth, (window, window), borderType=cv2.BORDER_REFLECT)
        square = cv2.blur(smooth**2, (window, window), borderType=cv2.BORDER_REFLECT)
        measures.append(mean if statistic == "mean" else square - mean**2)
    return median_filter(np.argmax(measures, axis=0), median, mode="reflect")


def project_planes(planes: np.ndarray, reference: np.ndarray, half: int) -> np.ndarray:
    """Return the maximum of the planes up to `half` from the reference plane of each pixel."""
    offsets = np.arange(-half, half + 1)[:, None, None]
    indices = np.clip(reference + offsets, 0, len(planes) - 1)
    return np.take_along_axis(planes, indices, axis=0).max(axis=0)


def projections(stack: FocalStack) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Return the image of each method, and its depth in planes."""
    planes, positions = np.asarray(stack.planes), stack.positions
    spacing = float(np.abs(np.diff(positions)).mean())
    result = depth_from_focus(stack, STILL)
    depth = result.refined.depth
    height = (depth - positions[0]) / spacing
    settings = {"slab": (-spacing / 2, spacing / 2)}
    slabs = {
        f"napari-dff, {name} of a slab of one plane": (
            project_slab(planes, depth, positions, method=name, **settings),
            height,
        )
        for name in ("maximum", "mean")
    }
    results = {"maximum of all planes": (planes.max(axis=0), None), **slabs}
    results["napari-dff, all-in-focus image"] = result.all_in_focus, height
    for statistic in ("mean", "std"):
        reference = local_z(planes, statistic)
        for half in (0, 1):
            name = f"local Z, maximum of {statistic}, {2 * half + 1} planes"
            results[name] = project_planes(planes, reference, half), reference
    return results


def with_truth() -> None:
    """Print errors against the image and the depth that the sample was rendered from."""
    truth = synthetic.cell_sheet()
    spacing = float(np.diff(truth.stack.positions).mean())
    sharp, depth = truth.sharp.astype(np.float64), truth.depth / spacing
    print("| projection | RMS error, % of the range | correlation | depth error, planes |")
    print("|---|---|---|---|")
    rows = projections(truth.stack)
    planes = truth.stack.planes
    tuned = [
        (planes_error(planes, statistic, window, median, depth), statistic, window, median)
        for statistic in ("mean", "std")
        for window in (5, 9, 15, 21)
        for median in (5, 11, 21, 41)
    ]
    _, statistic, window, median = min(tuned)
    reference = local_z(planes, statistic, window, median)
    name = f"local Z, best for this truth ({statistic}, {window}, {median} px), 1 plane"
    rows[name] = project_planes(planes, reference, 0), reference
    for name, (image, height) in rows.items():
        error = 100 * np.sqrt(np.mean((image - sharp) ** 2)) / np.ptp(sharp)
        correlation = np.corrcoef(image.ravel(), sharp.ravel())[0, 1]
        off = "" if height is None else f"{np.sqrt(np.mean((height - depth) ** 2)):.2f}"
        print(f"| {name} | {error:.1f} | {correlation:.3f} | {off} |")


def planes_error(
    planes: np.ndarray, statistic: str, window: int, median: int, depth: np.ndarray
) -> float:
    """Return the RMS error of the depth of `local_z`, in planes."""
    reference = local_z(planes, statistic, window, median)
    return float(np.sqrt(np.mean((reference - depth) ** 2)))


def without_truth(path: str) -> None:
    """Print how sharp each projection is, and how its depth differs from ours."""
    rows = projections(read_stack(path))
    ours = rows["napari-dff, mean of a slab of one plane"][1]
    print("| projection | mean squared Laplacian | depth differs by > 1 plane |")
    print("|---|---|---|")
    for name, (image, height) in rows.items():
        detail = cv2.Laplacian(cv2.GaussianBlur(image.astype(np.float64), (0, 0), 1), cv2.CV_64F)
        off = "" if height is None else f"{np.mean(np.abs(height - ours) > 1):.0%}"
        print(f"| {name} | {np.mean(detail**2):.2f} | {off} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", help="a stack without truth")
    chosen = parser.parse_args()
    without_truth(chosen.stack) if chosen.stack else with_truth()
