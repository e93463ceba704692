"""Compressed pixels whose size after decoding is limited.

A file of some megabytes can unpack to gigabytes. The headers of Blosc, LZ4 and Zstandard hold the
size, which their decoders do not exceed. DEFLATE, bzip2 and LZMA hold none that is reliable: they
are unpacked here, up to the limit.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any

MAX_RATIO = 4  # of the unpacked bytes to those of the pixels: filters may widen them
SPARE_BYTES = 1 << 20  # in addition, for what small chunks are padded with
DEFLATE_RATIO = 1032  # at most, of unpacked to packed
ZSTD_BLOCK_BYTES = 128 << 10  # at most
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

UNPACKERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {  # by the name of the codec
    "gzip": lambda settings: zlib.decompressobj(47),  # either of the two
    "zlib": lambda settings: zlib.decompressobj(47),
    "bz2": lambda settings: bz2.BZ2Decompressor(),
    "lzma": lambda settings: lzma.LZMADecompressor(
        format=settings.get("format", lzma.FORMAT_XZ), filters=settings.get("filters")
    ),
}


def unpack(
    name: str,  # of the codec, as in numcodecs
    data: Any,  # bytes-like
    pixel_bytes: int,  # of the pixels that the data hold
    settings: Mapping[str, Any],  # of the codec
) -> bytes | None:
    """Return the unpacked bytes of DEFLATE, bzip2 or LZMA; None of others, whose size is checked.

    Raises
    ------
    ValueError
        If the data unpack to more than `MAX_RATIO` times the bytes of their pixels, or are cut
        short.
    """
    limit = MAX_RATIO * pixel_bytes + SPARE_BYTES
    if name in UNPACKERS:
        unpacked = _unpack_up_to(limit, lambda: UNPACKERS[name](settings), data)
        size = len(unpacked)
    else:
        unpacked, size = None, SIZES[name](memoryview(data).cast("B")) if name in SIZES else 0
    if size > limit:
        raise ValueError(
            f"a chunk unpacks to more than {MAX_RATIO} times the {pixel_bytes} bytes of its pixels"
        )
    return unpacked


def _unpack_up_to(limit: int, make_unpacker: Callable[[], Any], data: Any) -> bytes:
    """Return the unpacked bytes of all members of a stream, cut where they exceed `limit`."""
    parts, total = [], 0
    while len(data) and total <= limit:
        unpacker = make_unpacker()
        parts.append(unpacker.decompress(data, limit + 1 - total))
        total += len(parts[-1])
        if not unpacker.eof and total <= limit:
            raise ValueError("a chunk is cut short")
        data = unpacker.unused_data.lstrip(b"\0")  # padding
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _blosc_size(data: memoryview) -> int:
    return int.from_bytes(data[4:8], "little")


def _lz4_size(data: memoryview) -> int:
    return int.from_bytes(data[:4], "little")


def _zstd_size(data: memoryview) -> int:
    """Return the sum of the content sizes of all frames, or an upper limit from their blocks.

    A content size counts only if each frame has one: otherwise the decoder does not use it.
    """
    contents, blocks, start = 0, 0, 0
    has_contents = True
    while start + 6 <= len(data):
        if data[start : start + 4] != ZSTD_MAGIC:  # a frame that is skipped
            start += 8 + int.from_bytes(data[start + 4 : start + 8], "little")
            continue
        flags = data[start + 4]
        is_single = flags >> 5 & 1
        start += 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
        width = (is_single, 2, 4, 8)[flags >> 6]
        contents += int.from_bytes(data[start : start + width], "little") + 256 * (width == 2)
        has_contents &= width > 0
        start, frame_blocks = _zstd_blocks(data, start + width)
        start += 4 * (flags >> 2 & 1)  # the checksum
        blocks += frame_blocks
    return contents if has_contents else blocks


def _zstd_blocks(data: memoryview, start: int) -> tuple[int, int]:
    """Return where the blocks of a frame end, and at most how many bytes they unpack to."""
    total, is_last = 0, False
    while not is_last and start + 3 <= len(data):
        header = int.from_bytes(data[start : start + 3], "little")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        total += size if kind < 2 else ZSTD_BLOCK_BYTES
        start += 3 + (1 if kind == 1 else size)
    return start, total


SIZES: dict[str, Callable[[memoryview], int]] = {
    "blosc": _blosc_size,
    "lz4": _lz4_size,
    "zstd": _zstd_size,
}
