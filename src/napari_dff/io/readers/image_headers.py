"""Sizes in the headers of compressed images, read before their pixels are decoded."""

import math
import struct

JPEG2000_SIZE = b"\xff\x4f\xff\x51"  # start of the codestream, followed by its size and precision
JPEGXL_BITS = 9, 13, 18, 30
JPEGXL_RATIOS = (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1)  # width to height
JPEGXR_SIZES = 0xBC80, 0xBC81  # tags of width and height
JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers before height and width


def count_pixels(data: bytes) -> int:
    """Return height × width of JPEG, JPEG 2000, XL or XR, PNG, WebP or LERC; 0 of others."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg_pixels(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack_from(">II", data, 16)
            return int(width * height)
        if data[8:12] == b"WEBP":
            return _webp_pixels(data)
        if data[:2] == b"\xff\x0a" or data[4:8] == b"JXL ":
            return _jpegxl_pixels(data)
        if data[:6] == b"Lerc2 ":
            at = 14 if data[6] >= 3 else 10  # a checksum since version 3
            height, width = struct.unpack_from("<II", data, at)
            return int(height * width)
        if data[:3] == b"II\xbc":
            return _jpegxr_pixels(data)
        start = data.find(JPEG2000_SIZE)
        if start >= 0:
            right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
            return max(0, right - left) * max(0, bottom - top)
    except (struct.error, IndexError):  # cut short: the decoder raises an error
        pass
    return 0


def _jpeg_pixels(data: bytes) -> int:
    at = 2
    while data[at + 1] not in JPEG_SIZES:
        is_fill, has_length = data[at + 1] == 0xFF, not 0xD0 <= data[at + 1] <= 0xD8
        (length,) = struct.unpack_from(">H", data, at + 2) if has_length else (0,)
        at += 1 if is_fill else 2 + length
    height, width = struct.unpack_from(">HH", data, at + 5)
    return int(height * width)


def _webp_pixels(data: bytes) -> int:
    kind = data[12:16]
    if kind == b"VP8X":
        sizes = [int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27)]
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        sizes = [(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1]
    else:
        sizes = [each & 0x3FFF for each in struct.unpack_from("<HH", data, 26)]
    return sizes[0] * sizes[1]


def _jpegxl_pixels(data: bytes) -> int:
    """Return height × width of the SizeHeader of ISO/IEC 18181-1, whose lowest bits come first."""
    if data[:2] != b"\xff\x0a":  # in boxes
        box, first_part = data.find(b"jxlc"), data.find(b"jxlp")
        data = data[box + 4 :] if box >= 0 else data[first_part + 8 :]
    bits, at = int.from_bytes(data[2:16], "little"), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return bits >> at - count & ((1 << count) - 1)

    def read_size(is_small: int) -> int:
        return 8 * (read(5) + 1) if is_small else 1 + read(JPEGXL_BITS[read(2)])

    is_small = read(1)
    height = read_size(is_small)
    ratio = read(3)
    if ratio == 0:
        return height * read_size(is_small)
    numerator, denominator = JPEGXL_RATIOS[ratio - 1]
    return height * (height * numerator // denominator)


def _jpegxr_pixels(data: bytes) -> int:
    """Return height × width of the directory of ISO/IEC 29199-2, which is like that of TIFF."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    tags = (struct.unpack_from("<HHII", data, start + 2 + 12 * i) for i in range(count))
    sizes = {tag: value for tag, _, _, value in tags if tag in JPEGXR_SIZES}
    return math.prod(sizes.get(tag, 0) for tag in JPEGXR_SIZES)
