"""The files of microscopes, through bioio, where the person has installed it."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from napari_dff.io.axes import Source, StackError, reason
from napari_dff.io.calibration import Length, calibration

PLUGINS = {".czi": "bioio-czi", ".nd2": "bioio-nd2", ".lif": "bioio-lif", ".dv": "bioio-dv"}
OTHERS = "bioio-bioformats"


def bioio_sources(path: Path) -> list[Source]:
    """Every scene of a file that a plugin of bioio reads, unread.

    Raises
    ------
    StackError
        Where bioio or the plugin for this kind of file isn't installed, or it can't read the file.
    """
    plugin = PLUGINS.get(path.suffix.lower(), OTHERS)
    if importlib.util.find_spec("bioio") is None:
        raise StackError(f"{path.suffix} files need bioio: pip install bioio {plugin}")
    try:
        image = _opened(path, importlib.import_module("bioio"))
        return [_source(path, image, scene) for scene in image.scenes]
    except Exception as error:  # every plugin has its own
        why = reason(error).partition(". ")[0]
        raise StackError(
            f"{path.name} can't be read by bioio, for which {path.suffix} files need {plugin}: "
            f"{why}"
        ) from error


def _opened(path: Path, bioio: Any) -> Any:
    try:
        # Planes of their own, else most plugins read all of them to give one; "A" is what bioio-czi
        # calls samples, of which it gives the first three times (3.0.1) unless they come together.
        return bioio.BioImage(path, chunk_dims="YXSA")
    except TypeError:  # a plugin that has no choice
        return bioio.BioImage(path)


def _source(path: Path, image: Any, scene: str) -> Source:
    image.set_scene(scene)
    axes = "TCZYXS" if "S" in image.dims.order else "TCZYX"
    data = image.get_image_dask_data(axes)
    if axes[-1] == "S" and type(image.reader).__module__.startswith("bioio_czi"):
        data = data[..., ::-1]  # which gives them as they lie in the file: blue, green, red
    sizes = image.physical_pixel_sizes
    lengths = (Length(size, "µm") if size else None for size in (sizes.Z, sizes.Y, sizes.X))
    names = tuple(map(str, image.channel_names or ()))
    return Source(data, tuple(axes), path.name, scene, names, calibration(*lengths))
