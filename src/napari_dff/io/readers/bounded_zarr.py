"""Zarr arrays whose chunks, also those in shards, are refused if they unpack to too much."""

import asyncio
import dataclasses
import math
from typing import Any

import numcodecs.abc  # type: ignore[import-untyped]
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec
from zarr.storage import LocalStore, StorePath, WrapperStore

from napari_dff.io.readers.axes import StackError
from napari_dff.io.readers.unpacked_size import MAX_RATIO, SIZES, SPARE_BYTES, UNPACKERS, unpack
from napari_dff.runtime.file_array import CHANGED, FileState, file_state

MAX_SHARD_CHUNKS = 1_000_000  # whose index is read at once
MAX_INDEX_BYTES = 32  # of a shard, for each chunk in it
LIMITED_CODECS = {*UNPACKERS, *SIZES}  # names; others do not unpack to much more than they read


class BoundedArray:
    """A Zarr array in a local folder.

    Raises
    ------
    ValueError
        If a chunk that is read unpacks to too much.
    StackError
        If the file of a chunk has changed since its state, in `states`, was taken. Files that are
        not there get one when they are read first.
    """

    def __init__(self, array: Any, states: dict[str, FileState] | None = None) -> None:
        self._original, self._states = array, states or {}
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        metadata: Any = array.metadata
        if metadata.zarr_format == 2:
            size = math.prod(array.chunks) * array.dtype.itemsize
            metadata = dataclasses.replace(
                metadata,
                compressor=_limit_codec(metadata.compressor, size),
                filters=[_limit_codec(each, size) for each in metadata.filters or ()] or None,
            )
        else:
            shape = array.shards or array.chunks
            metadata = dataclasses.replace(metadata, codecs=_limit_codecs(metadata.codecs, shape))
        stored, chunk = (math.prod(each) for each in (array.shards or array.chunks, array.chunks))
        index_bytes = MAX_INDEX_BYTES * stored // max(chunk, 1)
        max_bytes = MAX_RATIO * stored * array.dtype.itemsize + index_bytes + SPARE_BYTES
        store = _CheckedStore(array.store_path.store, self._states, max_bytes)
        place = StorePath(store, array.store_path.path)
        self._array: Any = zarr.Array(zarr.AsyncArray(metadata, place))

    def __getitem__(self, index: Any) -> Any:
        return self._array[index]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the original array: shards are pickled without the limits of their codecs."""
        return BoundedArray, (self._original, self._states)


class _CheckedStore(WrapperStore[LocalStore]):
    """A local store of chunks whose files may not be too large, nor change while they are read."""

    def __init__(self, store: LocalStore, states: dict[str, FileState], max_bytes: int) -> None:
        super().__init__(store)
        self._states, self._max_bytes = states, max_bytes

    async def get(self, key: str, *arguments: Any, **settings: Any) -> Any:
        """Return the bytes of a file, or None."""
        path = self._store.root / key
        found_state = await asyncio.to_thread(file_state, path)
        size = found_state[0] if found_state else 0
        if size > self._max_bytes:
            raise ValueError(f"{key} has {size} bytes, more than {MAX_RATIO} times its pixels")
        try:
            return await self._store.get(key, *arguments, **settings)
        finally:
            state = await asyncio.to_thread(file_state, path)
            if state != self._states.setdefault(key, state):
                raise StackError(CHANGED.format(f"{self._store.root.name}/{key}"))


class _BoundedCodec2(numcodecs.abc.Codec):
    """A codec of Zarr 2 that decodes no more than chunks of a given size need."""

    codec_id = "napari_dff.bounded"  # Zarr requires one of the class

    def __init__(self, codec: Any, pixel_bytes: int) -> None:
        self._codec, self._pixel_bytes = codec, pixel_bytes

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Return the unpacked bytes."""
        settings = self._codec.get_config()
        unpacked = unpack(self._codec.codec_id, buf, self._pixel_bytes, settings)
        return self._codec.decode(buf, out) if unpacked is None else unpacked

    def encode(self, buf: Any) -> Any:
        """Return the packed bytes."""
        return self._codec.encode(buf)

    def get_config(self) -> Any:
        """Return the settings of the codec."""
        return self._codec.get_config()


class _BoundedCodec3(BytesBytesCodec):
    """A codec of Zarr 3 that decodes no more than its chunk needs."""

    is_fixed_size = False

    def __init__(self, codec: Any) -> None:
        self._codec, self._name = codec, _codec_name(codec)
        self._settings = codec.to_dict().get("configuration", {})

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        size = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        data = chunk_bytes.as_numpy_array()
        unpacked = await asyncio.to_thread(unpack, self._name, data, size, self._settings)
        if unpacked is None:
            return await self._codec._decode_single(chunk_bytes, chunk_spec)
        return chunk_spec.prototype.buffer.from_bytes(unpacked)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Return the size of the packed bytes, if it is fixed."""
        return int(self._codec.compute_encoded_size(input_byte_length, chunk_spec))

    def to_dict(self) -> Any:
        """Return the name and the settings of the codec."""
        return self._codec.to_dict()


def _codec_name(codec: Any) -> str:
    """Return the name of a codec of Zarr 3, without the prefix of numcodecs."""
    return str(codec.to_dict().get("name", "")).removeprefix("numcodecs.")


def _limit_codec(codec: Any, pixel_bytes: int) -> Any:
    is_limited = getattr(codec, "codec_id", "") in LIMITED_CODECS
    return _BoundedCodec2(codec, pixel_bytes) if is_limited else codec


def _limit_codecs(codecs: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the codecs of a chunk of `shape`, and of the chunks of a shard, with limits."""
    limited: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            count = math.prod(shape) // math.prod(codec.chunk_shape)
            if count > MAX_SHARD_CHUNKS:
                raise StackError(f"a shard has {count} chunks, more than {MAX_SHARD_CHUNKS}")
            inner = _limit_codecs(codec.codecs, codec.chunk_shape)
            limited.append(dataclasses.replace(codec, codecs=inner))
        else:
            is_limited = _codec_name(codec) in LIMITED_CODECS
            limited.append(_BoundedCodec3(codec) if is_limited else codec)
    return tuple(limited)
