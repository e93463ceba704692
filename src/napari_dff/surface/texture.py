"""Texture image of a surface."""

from __future__ import annotations

import numpy as np

from napari_dff.surface.region import check_values

PERCENTILES = (0.2, 99.8)  # of the image values that are mapped to black and white


def texture(picture: np.ndarray) -> np.ndarray:
    """Convert an image, (Y, X) or (Y, X, 3), to 8 bits with one contrast stretch for all channels.

    Raises
    ------
    ValueError
        For an array of another shape or type.
    """
    check_values("texture", picture)
    if not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)) or not picture.size:
        raise ValueError(f"texture must have axes (Y, X) or (Y, X, 3), got shape {picture.shape}")
    values = np.nan_to_num(picture.astype(np.float32))
    black, white = np.percentile(values, PERCENTILES)
    stretched = (values - np.float32(black)) * np.float32(255 / max(white - black, 1e-12))
    return np.clip(np.rint(stretched), 0, 255).astype(np.uint8)
