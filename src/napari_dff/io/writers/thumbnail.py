"""A reduced result, for the preview of its folder."""

from collections.abc import Sequence

import numpy as np

from napari_dff.imaging.images import block_means
from napari_dff.io import records
from napari_dff.model.depth_map import DepthMap
from napari_dff.runtime.windows import Window

THUMBNAIL_WIDTH_PX = 440  # about the width of a map in the preview
BLOCK_MEAN_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")  # supported by cv2.resize


class Thumbnail:
    """A reduced result for the preview, filled window by window.

    Maps are sampled at every `step`-th row and column; `images`, one float32 (Y, X[, 3]) for each
    channel, are averaged over `step` × `step` pixels.
    """

    def __init__(self, shape: tuple[int, int], channels: int, colour: bool) -> None:
        height, width = shape
        self.step = max(1, width // THUMBNAIL_WIDTH_PX, height // (4 * THUMBNAIL_WIDTH_PX))
        small = tuple(-(-size // self.step) for size in shape)
        self.depth_map = DepthMap(
            *(np.zeros(small, records.MAP_DTYPES[n]) for n in DepthMap._fields)
        )
        image_shape = (*small, 3) if colour else small
        self.images = [np.zeros(image_shape, np.float32) for _ in range(channels)]

    def write_window(
        self, window: Window, depth_map: DepthMap, images: Sequence[np.ndarray]
    ) -> None:
        """Reduce and store the pixels of a window."""
        n, (top, bottom, left, right) = self.step, window
        block = slice(-(-top // n), -(-bottom // n)), slice(-(-left // n), -(-right // n))
        # the sampling grid starts at pixel (0, 0) of the plane, not of the window
        aligned = slice(-top % n, None), slice(-left % n, None)
        for small, values in zip(self.depth_map, depth_map, strict=True):
            small[block] = values[aligned][::n, ::n]
        for small, image in zip(self.images, images, strict=True):
            pixels = image[aligned]
            if pixels.size:
                if pixels.dtype.name not in BLOCK_MEAN_DTYPES:
                    pixels = pixels.astype(np.float32)
                small[block] = block_means(pixels, n)
