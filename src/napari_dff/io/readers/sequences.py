"""Image sequences in one file: animated WebP, PNG and GIF, and videos of a focus sweep."""

from pathlib import Path

import cv2
import numpy as np
from PIL import ImageSequence

from napari_dff.io.readers.axes import Source, StackError, as_stack_error, check_memory
from napari_dff.io.readers.photos import as_array, open_image

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
SIZES_DIFFER = "has no frames of one size: save its frames as images"
HIGH_BIT_FORMATS = (10, 12, 14, 16)  # last byte of the code of a pixel format


def animation_source(path: Path) -> Source:
    """Return the frames of an animated image as planes, decoded at once.

    StackError for a single image; the second picture of a Multi-Picture file is a preview.
    """
    with as_stack_error(f"{path.name} can't be read as an image"), open_image(path) as image:
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if count == 1:
            hint = "give the folder with one image per plane"
            raise StackError(f"{path.name} is a single image: {hint}")
        check_memory(path.name, (count, image.height, image.width, 4), np.dtype(np.uint8))
        first = as_array(image)
        data = np.empty((count, *first.shape), first.dtype)  # a list would need as much besides
        for i, frame in enumerate(ImageSequence.Iterator(image)):
            pixels = as_array(frame)
            if pixels.shape != first.shape:
                raise StackError(f"{path.name} {SIZES_DIFFER}")
            data[i] = pixels
    return Source(data, ("", "Y", "X", "S")[: data.ndim], path.name)


def video_source(path: Path) -> Source:
    """Return the frames of a video as planes, decoded at once; grey if all colours are equal."""
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise StackError(f"{path.name} can't be read as a video: save its frames as images")
        pixel_format = int(video.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT))
        if pixel_format >> 24 in HIGH_BIT_FORMATS:
            hint = "which would be lost: save its frames as 16-bit TIFF"
            raise StackError(f"{path.name} has {pixel_format >> 24} bits per sample, {hint}")
        size = [int(video.get(n)) for n in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)]
        count = max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 1)
        check_memory(path.name, (2 * count, *size, 3), np.dtype(np.uint8))  # a list, and an array
        frames: list[np.ndarray] = []
        while (frame := video.read()[1]) is not None:
            if len(frames) == count:  # more than the header has
                check_memory(path.name, (3 * count, *size, 3), np.dtype(np.uint8))
                count *= 2
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    finally:
        video.release()
    if all((frame[..., :1] == frame).all() for frame in frames):
        frames = [frame[..., 0] for frame in frames]
    return _source(path, frames)


def _source(path: Path, frames: list[np.ndarray]) -> Source:
    if not frames or len({frame.shape for frame in frames}) > 1:
        raise StackError(f"{path.name} {SIZES_DIFFER}")
    data = np.stack(frames)
    return Source(data, ("", "Y", "X", "S")[: data.ndim], path.name)
