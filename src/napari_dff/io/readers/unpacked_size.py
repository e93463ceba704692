"""Size of a compressed chunk of Zarr after decoding, known before it is decoded.

A file of some megabytes can unpack to gigabytes. The headers of Blosc, LZ4 and Zstandard hold the
size, which their decoders do not exceed. DEFLATE holds none that is reliable: a chunk is unpacked
piece by piece, and counted, where its ratio of at most 1032 allows much.
"""

import itertools
import math
import zlib
from pathlib import Path
from typing import Any

from napari_dff.io.readers.axes import StackError

MAX_RATIO = 4  # of the decoded bytes to those of the pixels of a chunk: filters may widen them
SMALL_BYTES = 256 << 20  # that a chunk may unpack to without being counted
DEFLATE_RATIO = 1032  # at most, of unpacked to packed
PIECE_BYTES = 1 << 20
ZSTD_BLOCK_BYTES = 128 << 10  # at most


class CheckedChunks:
    """A Zarr array in a local folder; StackError if a chunk that is read unpacks to too much."""

    def __init__(self, folder: Path, array: Any, file: str) -> None:
        self._folder, self._array, self._file = folder, array, file
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        coders = () if array.shards else array.compressors
        self._coder = _name(coders[-1]) if coders else ""
        self._pixel_bytes = math.prod(array.chunks) * array.dtype.itemsize
        self._checked: set[Path] = set()

    def __getitem__(self, index: tuple[Any, ...]) -> Any:
        if self._coder:
            self._check(index)
        return self._array[index]

    def _check(self, index: tuple[Any, ...]) -> None:
        spans = []
        for part, size, chunk in zip(index, self.shape, self._array.chunks, strict=False):
            places = range(size)[part]
            ends = (places, places) if isinstance(places, int) else (places[0], places[-1])
            spans.append(range(min(ends) // chunk, max(ends) // chunk + 1))
        for at in itertools.product(*spans):
            path = self._folder / self._array.metadata.encode_chunk_key(at)
            if path not in self._checked and path.is_file():
                limit = MAX_RATIO * self._pixel_bytes + PIECE_BYTES
                if unpacked_bytes(path, self._coder, limit) > limit:
                    raise StackError(
                        f"{self._file} is damaged: its chunk {path.name} unpacks to more than "
                        f"{MAX_RATIO} times the {self._pixel_bytes} bytes of its pixels"
                    )
            self._checked.add(path)


def unpacked_bytes(path: Path, coder: str, limit: int) -> int:
    """Return the size of a chunk after decoding, 0 if unknown; above `limit`, any such number."""
    packed = path.stat().st_size
    if coder in ("gzip", "zlib"):
        if DEFLATE_RATIO * packed <= max(limit, SMALL_BYTES):
            return 0
        return _count_deflate(path, limit)
    if coder == "zstd":
        return _count_zstd(path.read_bytes())
    with path.open("rb") as file:
        header = file.read(16)
    if coder == "blosc":
        return int.from_bytes(header[4:8], "little")
    return int.from_bytes(header[:4], "little") if coder == "lz4" else 0


def _name(coder: Any) -> str:
    """Return the name of a coder of Zarr 2 or 3, without the prefix of numcodecs."""
    name = getattr(coder, "codec_id", "") or coder.to_dict().get("name", "")
    return str(name).removeprefix("numcodecs.")


def _count_deflate(path: Path, limit: int) -> int:
    """Count the unpacked bytes of gzip or zlib, until they exceed `limit`."""
    total, decoder = 0, zlib.decompressobj(47)  # either of the two
    with path.open("rb") as file:
        data = file.read(PIECE_BYTES)
        while data and total <= limit:
            total += len(decoder.decompress(data, PIECE_BYTES))
            data = decoder.unconsumed_tail
            if decoder.eof:  # gzip may have several members
                data, decoder = decoder.unused_data, zlib.decompressobj(47)
            data = data or file.read(PIECE_BYTES)
    return total


def _count_zstd(data: bytes) -> int:
    """Return the content size of the first frame, or else an upper limit from its blocks."""
    if len(data) < 6:
        return 0
    flags = data[4]
    is_single = flags >> 5 & 1
    start = 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
    width = (is_single, 2, 4, 8)[flags >> 6]
    if width:
        return int.from_bytes(data[start : start + width], "little") + 256 * (width == 2)
    total, is_last = 0, False
    while not is_last and start + 3 <= len(data):
        header = int.from_bytes(data[start : start + 3], "little")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        total += size if kind < 2 else ZSTD_BLOCK_BYTES
        start += 3 + (1 if kind == 1 else size)
    return total
