"""A picture as it is laid over a surface."""

from __future__ import annotations

import numpy as np

from napari_dff.surface.region import check_values

STRETCH = (0.2, 99.8)  # percentiles of a picture that become black and white


def texture(picture: np.ndarray) -> np.ndarray:
    """Any integer or float picture, (Y, X) or (Y, X, 3), in 8 bits, all channels stretched alike.

    Raises
    ------
    ValueError
        For another shape, or what is no picture.
    """
    check_values("texture", picture)
    if not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)) or not picture.size:
        raise ValueError(f"texture must have axes (Y, X) or (Y, X, 3), got shape {picture.shape}")
    values = np.nan_to_num(picture.astype(np.float32))
    black, white = np.percentile(values, STRETCH)
    stretched = (values - np.float32(black)) * np.float32(255 / max(white - black, 1e-12))
    return np.clip(np.rint(stretched), 0, 255).astype(np.uint8)
