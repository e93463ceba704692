"""OME-Zarr 0.4, in Zarr's format 2, which every program that knows OME-Zarr opens.

Zarr and the models of OME-Zarr take half a second to load, and only who writes it needs them.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from napari_dff.io.pixels import Pixels
from napari_dff.windows import Window

SIDE = 512  # pixels, of a chunk
KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
RGB = ("FF0000", "00FF00", "0000FF")
COLOURS = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF")  # as napari gives them


class GrowingZarr:
    """An OME-Zarr image of one resolution, compressed, that is filled window by window.

    Colour becomes three channels, since OME-Zarr knows no other.
    """

    def __init__(self, path: Path, pixels: Pixels) -> None:
        import zarr
        from numcodecs import Blosc  # type: ignore[import-untyped]

        self._pixels, self._lock = pixels, Lock()
        axes, shape = _axes(pixels)
        spatial = [min(size, SIDE) for size in shape[-2:]]
        self._group = zarr.create_group(path, zarr_format=2, attributes=_attributes(path, pixels))
        self._array: Any = self._group.create_array(
            "0",
            shape=shape,
            dtype=pixels.dtype,
            chunks=(*(1 for _ in axes[:-2]), *spatial),
            compressors=Blosc("zstd", clevel=1, shuffle=Blosc.SHUFFLE),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )

    def put(self, values: np.ndarray, window: Window, where: tuple[int, ...]) -> None:
        """Write a window of one plane."""
        if self._pixels.colour:
            values = np.moveaxis(values, -1, 0)
        with self._lock:  # windows may share a chunk
            self._array[self._index(window, where)] = values

    def get(self, window: Window, where: tuple[int, ...]) -> np.ndarray:
        """Read a window of one plane."""
        with self._lock:
            values = np.asarray(self._array[self._index(window, where)])
        return np.moveaxis(values, 0, -1) if self._pixels.colour else values

    def shown(self, limits: list[tuple[float, float]]) -> None:
        """Say between which values each channel is best shown."""
        self._group.attrs.update(_shown(self._pixels, limits))

    def _index(self, window: Window, where: tuple[int, ...]) -> tuple[int | slice, ...]:
        index: dict[str, int | slice] = dict(zip(self._pixels.axes, where, strict=False))
        if self._pixels.colour:
            first = 3 * (where[self._pixels.axes.index("C")] if "C" in index else 0)
            index["C"] = slice(first, first + 3)
        return (*(index[a] for a in "TCZ" if a in index), *window.slices)


def _axes(pixels: Pixels) -> tuple[str, tuple[int, ...]]:
    """Axes and shape as OME-Zarr wants them: t, c, z, y, x."""
    sizes = dict(zip(pixels.axes, pixels.shape, strict=True))
    sizes["C"] = sizes.get("C", 1) * sizes.pop("S", 1)
    axes = "".join(a for a in "TCZYX" if a in pixels.axes or (a == "C" and pixels.colour))
    return axes.lower(), tuple(sizes[a] for a in axes)


def _attributes(path: Path, pixels: Pixels) -> dict[str, Any]:
    from ome_zarr_models.v04.image import ImageAttrs

    axes, _ = _axes(pixels)
    steps = dict(zip("yx", pixels.pixel_size, strict=True))
    if pixels.positions:
        steps["z"] = abs(float(np.diff(pixels.positions).mean()))
    described: list[dict[str, str]] = [{"name": a, "type": KINDS[a]} for a in axes]
    if pixels.unit != "pixel":
        described = [a | ({"unit": pixels.unit} if a["type"] == "space" else {}) for a in described]
    moves: list[dict[str, Any]] = [
        {"type": "scale", "scale": [float(steps.get(a, 1.0)) for a in axes]}
    ]
    if pixels.positions:
        first = [pixels.positions[0] if a == "z" else 0.0 for a in axes]
        moves.append({"type": "translation", "translation": first})
    attributes: dict[str, Any] = {
        "multiscales": [
            {
                "version": "0.4",
                "name": path.name.removesuffix(".zarr").removesuffix(".ome"),
                "axes": described,
                "datasets": [{"path": "0", "coordinateTransformations": moves}],
            }
        ]
    }
    if "c" in axes:
        count = max(1, len(pixels.channels))
        kind = pixels.dtype
        ends = (np.iinfo(kind).min, np.iinfo(kind).max) if kind.kind in "ui" else (0.0, 1.0)
        attributes |= _shown(pixels, [ends] * count)
    ImageAttrs.model_validate(attributes)
    record = dict(pixels.record or {})
    if pixels.positions:
        record["positions"] = list(pixels.positions)
    return attributes | ({"napari-dff": record} if record else {})


def _shown(pixels: Pixels, limits: list[tuple[float, float]]) -> dict[str, Any]:
    """Names, colours and limits of the channels, as OMERO has them; nothing where there are none.

    Red, green and blue of one picture have its limits in common.
    """
    if not (pixels.colour or "C" in pixels.axes):
        return {}
    names = pixels.channels or ("",)
    ends = np.iinfo(pixels.dtype) if pixels.dtype.kind in "ui" else None
    channels = []
    for name, colour, (low, high) in zip(names, itertools.cycle(COLOURS), limits, strict=False):
        window = {
            "min": float(low if ends is None else ends.min),
            "max": float(high if ends is None else ends.max),
            "start": float(low),
            "end": float(high),
        }
        if pixels.colour:
            labels = [f"{name} {primary}".strip() for primary in ("red", "green", "blue")]
            looks = zip(labels, RGB, strict=True)
        else:
            looks = zip([name], [colour], strict=True)
        channels += [
            {"label": label, "color": look, "window": window, "active": True}
            for label, look in looks
        ]
    return {"omero": {"version": "0.4", "channels": channels}}
