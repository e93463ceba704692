"""Single images: their header, with what the camera wrote, and their pixels."""

import importlib
import importlib.util
import io
import math
import mmap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.ExifTags import TAGS

from napari_dff.io.readers import axes as source_axes
from napari_dff.io.readers.axes import StackError, as_stack_error
from napari_dff.io.readers.image_headers import JPEG2000_SIZE
from napari_dff.io.readers.orientation import ORIENTATION_TAG, TURNS, turn
from napari_dff.io.readers.photometric import SEPARATED, cmyk_warning, find_conversion
from napari_dff.io.readers.regular_files import check_regular
from napari_dff.io.readers.tiff import TIFF_SUFFIXES
from napari_dff.io.readers.tiff_opening import open_tiff
from napari_dff.io.readers.tiff_series import check_codec
from napari_dff.io.readers.unpacked_size import DEFLATE_RATIO

PILLOW_FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "WEBP", "GIF")
PILLOW_SUFFIXES = {".jpg", ".jpeg", ".jp2", ".j2k", ".png", ".bmp", ".webp", ".gif"}
RAW_SUFFIXES = {
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"),
    *(".3fr", ".iiq", ".rwl"),
}
# Tags of the camera that are kept; those with serial numbers and places are not.
EXIF_NAMES = (
    *("Make", "Model", "LensMake", "LensModel", "Software", "Artist", "Copyright"),
    *("DateTimeOriginal", "SubsecTimeOriginal", "OffsetTimeOriginal", "ExposureTime", "FNumber"),
    *("ISOSpeedRatings", "FocalLength", "FocalLengthIn35mmFilm", "ExposureBiasValue"),
    *("WhiteBalance", "ColorSpace", "SubjectDistance", "DigitalZoomRatio"),
)
EXIF_TAG = 34665
MODES_TO_CONVERT = {"1": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
COLOURS_OF_PNG = {2: 3, 4: 1, 6: 3}  # colour type: RGB, grey and alpha, RGBA
PILLOW_LIMIT_LOCK = threading.Lock()


class Photo(NamedTuple):
    """Header of a single image."""

    shape: tuple[int, ...]  # (Y, X) or (Y, X, 3), as stored: before it is turned
    dtype: np.dtype[Any]
    orientation: int = 1  # of EXIF
    exif: Mapping[str, Any] = {}
    icc_profile: bytes = b""
    is_result: bool = False  # written by a run of napari-dff

    @property
    def kind(self) -> str:
        """Size and type, for messages."""
        return f"{' × '.join(map(str, self.shape))} {self.dtype}"

    @property
    def capture_time(self) -> str:
        """When it was taken, for sorting; "" if unknown."""
        time = str(self.exif.get("DateTimeOriginal", ""))
        fraction = str(self.exif.get("SubsecTimeOriginal", "")).strip()
        return f"{time}.{fraction}" if time.strip(": 0") else ""


def read_header(path: Path, messages: list[str]) -> Photo:
    """Return the header of an image; StackError if the file holds several.

    The second picture of a Multi-Picture file is a preview and is ignored.
    """
    check_regular(path)
    suffix = path.suffix.lower()
    with as_stack_error(f"{path.name} can't be read as an image"):
        if suffix in TIFF_SUFFIXES:
            return _tiff_header(path, messages)
        if suffix in RAW_SUFFIXES:
            return _raw_header(path)
        with open_image(path) as image:
            pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            _check_single(path, pages)
            exif = _pillow_exif(image)
            profile = image.info.get("icc_profile") or b""
            if image.mode == "CMYK" and profile:
                messages.append(cmyk_warning(path.name))
                profile = b""
            if colours := _count_16_bit_colours(image, path):
                shape = (image.height, image.width, 3)[: 2 + colours // 3]
                dtype = np.dtype(np.uint16)
            else:
                pixel = as_array(Image.new(pixel_mode(image), (1, 1)))
                shape, dtype = (image.height, image.width, *pixel.shape[2:]), pixel.dtype
            return Photo(shape, dtype, _orientation(exif), _exif_record(exif), profile)


def read_pixels(path: Path, orientation: int) -> np.ndarray:
    """Return the pixels of an image, turned; grey (Y, X) or colour (Y, X, 3)."""
    suffix = path.suffix.lower()
    with as_stack_error(f"{path.name} can't be read as an image"):
        if suffix in TIFF_SUFFIXES:
            pixels = _tiff_pixels(path)
        elif suffix in RAW_SUFFIXES:
            pixels = _raw_pixels(path)
        else:
            source_axes.check_memory(path.name, (path.stat().st_size,), np.dtype(np.uint8))
            content = path.read_bytes()  # limits reads to the size of the file
            with open_image(path, content) as image:
                colours = _count_16_bit_colours(image, path)
                image.load()  # raises an error for a damaged file, which cv2 may not
                pixels = _decode_16_bit(path, content, colours) if colours else as_array(image)
        return turn(pixels, orientation)


def open_image(path: Path, content: bytes | None = None) -> Image.Image:
    """Open an image by its content, whatever its suffix; only the header is read.

    StackError if its pixels do not fit into memory. The limit of pillow, of 179 megapixels, does
    not hold.
    """
    with PILLOW_LIMIT_LOCK:  # it is of the process
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            file = path if content is None else io.BytesIO(content)
            image = Image.open(file, formats=PILLOW_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    shape = image.height, image.width, len(image.getbands())
    size = path.stat().st_size if content is None else len(content)
    if image.format == "PNG" and image.height * image.width > 8 * DEFLATE_RATIO * size:
        pixels = f"{image.height} × {image.width} pixels"
        raise StackError(f"{path.name} is cut short: {size} bytes cannot hold {pixels}")
    source_axes.check_memory(path.name, shape, np.dtype(np.uint8))
    return image


def pixel_mode(image: Image.Image) -> str:
    """Return the pillow mode to convert to: colours to RGB, 16-bit PNG not to 32 bits."""
    if image.palette is not None:
        return "RGBA" if "transparency" in image.info else image.palette.mode
    if image.mode in MODES_TO_CONVERT:
        return MODES_TO_CONVERT[image.mode]
    return "I;16" if (image.format, image.mode) == ("PNG", "I") else image.mode


def as_array(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image of pillow as grey (Y, X) or colour (Y, X, 3)."""
    pixels = np.asarray(image.convert(pixel_mode(image)))
    return pixels if pixels.ndim == 2 else source_axes.without_alpha(pixels)


def _check_single(path: Path, pages: int) -> None:
    if pages > 1:
        hint = "open it by itself, or use batch for a folder of stacks"
        raise StackError(
            f"frames must be single images, and {path.name} holds {pages} pages: {hint}"
        )


def _tiff_header(path: Path, messages: list[str]) -> Photo:
    with open_tiff(path, messages) as (tif, _):
        series = tif.series[0]
        page = series.keyframe
        check_codec(path.name, page)
        axes, shape, dtype = series.axes, series.shape, np.dtype(series.dtype)
        if axes == "SYX":
            axes, shape = "YXS", (*shape[1:], shape[0])
        if len(shape) > 2 and axes != "YXS":
            pairs = zip(axes, shape, strict=True)
            _check_single(path, math.prod(n for axis, n in pairs if axis not in "YXS"))
        conversion = find_conversion(path.name, page)
        samples = 3 if len(shape) > 2 and shape[2] >= 3 else 1
        if conversion is not None:
            samples, dtype = conversion.samples, conversion.dtype
        exif: dict[int, Any] = {tag.code: tag.value for tag in page.tags}
        camera = exif.get(EXIF_TAG)
        record = _exif_record(exif, camera if isinstance(camera, dict) else {})
        is_result = all(key in page.description for key in ("napari_dff", "recipe", "positions"))
        profile = page.iccprofile or b""
        if profile and page.photometric == SEPARATED:
            messages.append(cmyk_warning(path.name))
            profile = b""
    shape = (*shape[:2], 3) if samples == 3 else tuple(shape[:2])
    return Photo(shape, dtype.newbyteorder("="), _orientation(exif), record, profile, is_result)


def _tiff_pixels(path: Path) -> np.ndarray:
    with open_tiff(path, []) as (tif, _):
        series = tif.series[0]
        conversion = find_conversion(path.name, series.keyframe)
        check_codec(path.name, series.keyframe)
        pixels = series.asarray(maxworkers=1)  # frames are read in parallel, not their strips
        if series.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, 2)
    if conversion is not None:
        pixels = conversion.convert(pixels)
    return pixels if pixels.ndim == 2 else source_axes.without_alpha(pixels)


def _count_16_bit_colours(image: Image.Image, path: Path) -> int:
    """Return 3 for colour, or 1 for grey with alpha, of more than 8 bits; 0 for other images.

    Pillow reduces these to 8 bits.
    """
    if image.format == "PNG":
        with path.open("rb") as file:
            header = file.read(26)
        return COLOURS_OF_PNG.get(header[25], 0) if header[24] == 16 else 0
    bands = len(image.getbands())
    if image.format == "JPEG2000" and bands > 1:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            start = view.find(JPEG2000_SIZE)
            if start >= 0 and (view[start + 42] & 0x7F) + 1 > 8:
                return 3 if bands > 2 else 1
    return 0


def _decode_16_bit(path: Path, content: bytes, colours: int) -> np.ndarray:
    """Decode an image whose colours have more than 8 bits: (Y, X, 3), or grey without its alpha."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise StackError(f"{path.name} has 16-bit colours that can't be decoded: save it as TIFF")
    if pixels.ndim == 2 or colours == 1:
        return pixels if pixels.ndim == 2 else pixels[..., 0]
    return np.ascontiguousarray(pixels[..., 2::-1])


def _raw_header(path: Path) -> Photo:
    with _open_raw(path) as raw:
        sizes = raw.sizes
        size = (sizes.width, sizes.height) if sizes.flip in (5, 6) else (sizes.height, sizes.width)
    return Photo((*size, 3), np.dtype(np.uint16))


def _raw_pixels(path: Path) -> np.ndarray:
    """Return a raw photograph in 16-bit sRGB, with the white balance of the camera, upright."""
    options = {"output_bps": 16, "no_auto_bright": True, "use_camera_wb": True}
    with _open_raw(path) as raw:
        pixels: np.ndarray = raw.postprocess(**options)
    return pixels


def _open_raw(path: Path) -> Any:
    if importlib.util.find_spec("rawpy") is None:
        problem = f"{path.name} is a raw photograph, for which rawpy is needed"
        raise StackError(f"{problem}: pip install 'napari-dff[raw]', or save the frames as TIFF")
    return importlib.import_module("rawpy").imread(str(path))


def _pillow_exif(image: Image.Image) -> Image.Exif | dict[int, Any]:
    """Return EXIF from the header; not from after the pixels, as some PNG have it."""
    if image.format == "PNG" and "exif" not in image.info:
        return {}
    return image.getexif()


def _orientation(exif: Mapping[int, Any]) -> int:
    value = exif.get(ORIENTATION_TAG, 1)
    return int(value) if value in TURNS else 1


def _exif_record(
    exif: Image.Exif | Mapping[int, Any], camera: Mapping[Any, Any] | None = None
) -> dict[str, Any]:
    """Return the values of `EXIF_NAMES` by name, as JSON has them."""
    tags: dict[Any, Any] = dict(exif)
    tags |= exif.get_ifd(EXIF_TAG) if isinstance(exif, Image.Exif) else camera or {}
    by_name = {TAGS.get(tag, tag): value for tag, value in tags.items()}  # tifffile gives names
    by_name.setdefault("ISOSpeedRatings", by_name.get("PhotographicSensitivity"))
    values = {name: _json_value(by_name.get(name)) for name in EXIF_NAMES}
    return {name: value for name, value in values.items() if value is not None}


def _json_value(value: Any) -> str | float | None:
    """Return a value of EXIF as text or number."""
    if isinstance(value, str):
        return value.strip("\0 ") or None
    if isinstance(value, tuple) and len(value) == 2 and value[1]:  # a fraction, of tifffile
        value = value[0] / value[1]
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None
