"""Types that the refinement steps share. No numerics: every other module imports this one."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np

from napari_dff.curve.volume import FocusVolume, FocusVolumeView
from napari_dff.model.depth_map import DepthMap
from napari_dff.runtime.progress import Progress
from napari_dff.runtime.windows import Window

NO_HINT, BACKGROUND = -1, -2  # values of a hint image that are not plane indices


class HintField(NamedTuple):
    """Hard and soft constraints on the depth map."""

    target: DepthMap  # of the nearest hint; the earlier result of a pixel that is fixed
    influence: np.ndarray  # (Y, X) float32; 1: gets the target, 0 to 1: soft constraint, 0: none


class PreviousResult(NamedTuple):
    """Result of an earlier call of `refine` that differs in its hints only.

    Attributes
    ----------
    result : DepthMap
    hints : (Y, X) integer array
        The hints of that call.
    """

    result: DepthMap
    hints: np.ndarray


class SharedStatistics(NamedTuple):
    """Statistics of a whole plane that all of its tiles use."""

    slope: float | None  # typical slope, planes per pixel; None: too few pixels are in focus
    guide_range: tuple[float, float]  # grey levels of the guide that become 0 and 1


class RefinementContext(NamedTuple):
    """What every refinement step reads beside the depth map."""

    volume: FocusVolume
    positions: np.ndarray  # (Z,) float64
    guide: np.ndarray  # (Y, X) float32, 0 … 1
    smoothness: float  # weight of the neighbours against the pixel's own focus curve
    hint_field: HintField | None = None
    slope: float | None = None  # typical slope, planes per pixel; None: estimate it
    windows: Sequence[Window] | None = None  # that are solved one by one; None: choose them

    def crop(self, window: Window) -> Self:
        """Return the context of the pixels in `window`."""
        hints = self.hint_field
        if hints is not None:
            influence = np.ascontiguousarray(hints.influence[window.slices])
            hints = HintField(crop_depth_map(hints.target, window), influence)
        guide = np.ascontiguousarray(self.guide[window.slices])
        volume = FocusVolumeView(self.volume, window)
        return self._replace(volume=volume, guide=guide, hint_field=hints, windows=None)


RefinementStep = Callable[[DepthMap, RefinementContext, Progress], DepthMap]


def crop_depth_map(depth_map: DepthMap, window: Window) -> DepthMap:
    """Return the pixels in `window`, contiguous."""
    return DepthMap(*(np.ascontiguousarray(part[window.slices]) for part in depth_map))
