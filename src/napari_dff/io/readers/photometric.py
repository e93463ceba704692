"""Convert the pixels of a TIFF to light by its PhotometricInterpretation (TIFF 6.0, section 3)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tifffile

from napari_dff.io.readers.axes import StackError

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR = 0, 1, 2, 3, 5, 6
JPEG_COMPRESSIONS = (6, 7, 34892, 33007)  # tifffile decodes their YCbCr to RGB
LUMA_COEFFICIENTS = (299, 1000, 587, 1000, 114, 1000)  # defaults of TIFF 6.0
REFERENCE_BLACK_WHITE = (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)
PALETTE_UNIT = 257  # the colours of a palette have 16 bits: 255 · 257 = 65535


class Conversion(NamedTuple):
    """How stored pixels become grey levels or red, green and blue."""

    convert: Callable[[np.ndarray], np.ndarray]  # (…, Y, X[, S]) → (…, Y, X[, 3])
    dtype: np.dtype[Any]  # of the result
    samples: int  # of the result: 1 is (…, Y, X), 3 is (…, Y, X, 3)


def find_conversion(name: str, page: tifffile.TiffPage) -> Conversion | None:
    """Return how to convert the pixels of a page; None if they are grey or RGB already.

    StackError for colours that are not converted; `name` is of the file, for the message.
    """
    kind = int(page.photometric) if page.photometric is not None else BLACK_IS_ZERO
    dtype = np.dtype(page.dtype or "uint8").newbyteorder("=")
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8 * dtype.itemsize
    if kind in (BLACK_IS_ZERO, RGB):
        return None
    if kind == WHITE_IS_ZERO and dtype.kind in "ui":
        highest = dtype.type(2**bits - 1 if dtype.kind == "u" else -1)
        return Conversion(lambda pixels: highest - pixels, dtype, page.samplesperpixel)
    if kind == PALETTE and dtype.kind == "u" and page.colormap is not None:
        return _palette_conversion(np.asarray(page.colormap), page.samplesperpixel > 1)
    if kind == SEPARATED and dtype.kind == "u" and _is_cmyk(page):
        return Conversion(lambda pixels: cmyk_to_rgb(pixels, 2**bits - 1), dtype, 3)
    if kind == YCBCR and int(page.compression) in JPEG_COMPRESSIONS:
        return None
    subsampling = page.tags.valueof(530, default=(2, 2))
    if kind == YCBCR and dtype == np.uint8 and tuple(subsampling) == (1, 1):
        luma = _ratios(page.tags.valueof(529, default=LUMA_COEFFICIENTS))
        levels = _ratios(page.tags.valueof(532, default=REFERENCE_BLACK_WHITE))
        return Conversion(lambda pixels: ycbcr_to_rgb(pixels, luma, levels), dtype, 3)
    colours = getattr(page.photometric, "name", str(kind))
    raise StackError(
        f"{name} stores its pixels as {colours} in {dtype}, which is not converted to colours: "
        "save it as grey or RGB"
    )


def cmyk_warning(name: str) -> str:
    """Return the message that the colour profile of inks is not used."""
    problem = f"{name} has CMYK colours, converted to RGB without their colour profile"
    return f"{problem}: save it as RGB if colours matter"


def cmyk_to_rgb(pixels: np.ndarray, highest: int) -> np.ndarray:
    """Return RGB of (…, 4) inks, cyan, magenta, yellow and black; `highest` is full ink."""
    light = highest - pixels[..., :4].astype(np.float64)
    return np.rint(light[..., :3] * light[..., 3:] / highest).astype(pixels.dtype)


def ycbcr_to_rgb(pixels: np.ndarray, luma: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return RGB of (…, 3) luminance and chrominance (TIFF 6.0, section 21).

    `luma` are the shares of red, green and blue in the luminance; `levels` are the codes of black
    and white of Y, Cb and Cr.
    """
    low, high = levels[::2], levels[1::2]
    codes = (pixels[..., :3] - low) / (high - low) * (255.0, 127.0, 127.0)
    y, cb, cr = np.moveaxis(codes, -1, 0)
    red = y + cr * (2 - 2 * luma[0])
    blue = y + cb * (2 - 2 * luma[2])
    green = (y - luma[0] * red - luma[2] * blue) / luma[1]
    rgb = np.stack([red, green, blue], axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(pixels.dtype)


def _palette_conversion(colours: np.ndarray, has_alpha: bool) -> Conversion:
    """Return the conversion by a (3, N) table of colours: to grey if all are grey.

    With alpha, (…, Y, X, 2), it is to colour in any case.
    """
    is_8_bit = not (colours % PALETTE_UNIT).any() or not (colours % 256).any()
    if is_8_bit:
        colours = (colours >> 8).astype(np.uint8)
    is_grey = not has_alpha and bool((colours == colours[:1]).all())
    table = colours[0] if is_grey else np.ascontiguousarray(colours.T)
    if has_alpha:
        return Conversion(lambda pixels: table[pixels[..., 0]], table.dtype, 3)
    return Conversion(lambda pixels: table[pixels], table.dtype, 1 if is_grey else 3)


def _is_cmyk(page: tifffile.TiffPage) -> bool:
    """Return whether inks are cyan, magenta, yellow and black (InkSet 1, the default)."""
    return page.samplesperpixel >= 4 and page.tags.valueof(332, default=1) == 1


def _ratios(values: Any) -> np.ndarray:
    """Return numerators over denominators, as TIFF stores fractions."""
    pairs = np.asarray(values, dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0] / pairs[:, 1]
