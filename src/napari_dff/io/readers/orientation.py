"""Turn pixels upright by the orientation that EXIF and TIFF store (TIFF 6.0, tag 274)."""

from typing import Any

ORIENTATION_TAG = 274
TURNS = {  # whether rows and columns are exchanged; whether rows, then columns are reversed
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def turn(pixels: Any, orientation: int) -> Any:
    """Return (Y, X, …) pixels upright."""
    is_exchanged, flip_rows, flip_columns = TURNS.get(orientation, TURNS[1])
    if is_exchanged:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def turned_shape(shape: tuple[int, ...], orientation: int) -> tuple[int, ...]:
    """Return the shape of `turn` of pixels of this shape."""
    is_exchanged = TURNS.get(orientation, TURNS[1])[0]
    return (shape[1], shape[0], *shape[2:]) if is_exchanged else shape
