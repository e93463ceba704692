"""Which planes the depth of a pixel makes likely: see `multiscale`."""

from __future__ import annotations

from math import ceil, floor
from typing import Any

import numpy as np

from napari_dff.runtime.jit import exact_kernel
from napari_dff.runtime.windows import Window

DEPTH_SIGMA_PLANES = 0.55  # s: of the planes around a depth that is exactly known
SIGMA_FACTOR = 0.5  # f: on the uncertainty of the depth
MAX_SIGMA_PLANES = 1e4  # where a pixel is never in focus
MIN_LOG_PRIOR = np.float32(-7)  # planes less likely than its exponential are left out
RIM_PRIOR = np.float32(1e-6)  # ε: of such planes where another plane has no data
PART_PX = 64  # of a row that are left out together
PRIOR_MARGIN_PX = 4  # around a block, of influence on its prior at the fine levels


class DepthPrior:
    """p = exp(-(k - d)² / 2 (s² + f² σ²)) of each plane k, and the blocks where it is above 0.

    `index` and `sigma`, (Y, X) float32, are the depth d and its uncertainty σ in planes. Where not
    all planes have data, by `plane_mask` (Z, Y, X), all are at least `RIM_PRIOR` likely.
    """

    def __init__(
        self,
        index: np.ndarray,
        sigma: np.ndarray,
        plane_mask: np.ndarray | None,
        blocks: list[Window],
    ) -> None:
        error = SIGMA_FACTOR * np.minimum(sigma, MAX_SIGMA_PLANES)
        self._index, self._blocks = index, blocks
        self._factor = (-0.5 / (DEPTH_SIGMA_PLANES**2 + error**2)).astype(np.float32)
        self._is_rim: Any = None if plane_mask is None else ~plane_mask.all(axis=0)
        reach = np.sqrt(MIN_LOG_PRIOR / self._factor)
        if self._is_rim is not None:
            reach[self._is_rim] = MAX_SIGMA_PLANES
        around = [block.expand(PRIOR_MARGIN_PX, index.shape).slices for block in blocks]
        self._first = [float((index[part] - reach[part]).min()) - 0.01 for part in around]
        self._last = [float((index[part] + reach[part]).max()) + 0.01 for part in around]

    def is_likely(self, k: int, block: int) -> bool:
        """Return whether the prior of plane `k` may be above 0 in a block, or next to it."""
        return self._first[block] <= k <= self._last[block]

    def likely_planes(self, count: int) -> tuple[int, int]:
        """Return the first of `count` planes that may be likely in any block, and the end."""
        first, last = min(self._first), max(self._last)
        return max(0, ceil(first)), min(count, floor(last) + 1)

    def of_plane(self, k: int) -> np.ndarray:
        """Return p of plane `k`, (Y, X) float32."""
        prior = np.zeros(self._index.shape, np.float32)
        for i, block in enumerate(self._blocks):
            if not self.is_likely(k, i):
                continue
            part = prior[block.slices]
            _fill_prior(self._index[block.slices], self._factor[block.slices], k, part)
            if self._is_rim is not None:
                part[self._is_rim[block.slices]] += RIM_PRIOR
        return prior


@exact_kernel
def _fill_prior(index, factor, k, prior):  # type: ignore[no-untyped-def]
    """Write exp(`factor` (`index` - k)²) to `prior`, all (Y, X) float32, where it is likely."""
    plane, width = np.float32(k), prior.shape[1]
    logarithms = np.empty(width, np.float32)
    for y in range(len(prior)):
        indices, factors = index[y], factor[y]
        for x in range(len(logarithms)):
            distance = indices[x] - plane
            logarithms[x] = factors[x] * (distance * distance)
        for start in range(0, width, PART_PX):
            part, out = logarithms[start : start + PART_PX], prior[y, start : start + PART_PX]
            highest = part[0]
            for x in range(len(part)):
                highest = part[x] if part[x] > highest else highest
            if highest < MIN_LOG_PRIOR:
                continue
            for x in range(len(part)):
                if part[x] >= MIN_LOG_PRIOR:  # denormal numbers are slow
                    out[x] = np.exp(part[x])
