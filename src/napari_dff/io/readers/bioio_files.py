"""Files of microscopes, through bioio if it is installed."""

import contextlib
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from napari_dff.io.readers.axes import Source, StackError, reason
from napari_dff.io.readers.calibration import Length, make_calibration

BIOIO_PLUGINS = {".czi": "bioio-czi", ".nd2": "bioio-nd2", ".lif": "bioio-lif", ".dv": "bioio-dv"}
FALLBACK_PLUGIN = "bioio-bioformats"


def bioio_sources(path: Path) -> list[Source]:
    """Return every scene of a file that a plugin of bioio reads, as lazy sources."""
    plugin = BIOIO_PLUGINS.get(path.suffix.lower(), FALLBACK_PLUGIN)
    if importlib.util.find_spec("bioio") is None:
        raise StackError(f"{path.suffix} files need bioio: pip install bioio {plugin}")
    try:
        image = _open_image(path, importlib.import_module("bioio"))
        return [_source(path, image, scene) for scene in image.scenes]
    except Exception as error:  # each plugin raises its own types
        message = reason(error).partition(". ")[0]
        need = f"for which {path.suffix} files need {plugin}"
        raise StackError(f"{path.name} can't be read by bioio, {need}: {message}") from error


def _open_image(path: Path, bioio: Any) -> Any:
    try:
        # One chunk per plane, else most plugins read all planes for one. "A": bioio-czi's name for
        # samples; in other chunks it returns the first sample three times (3.0.1).
        return bioio.BioImage(path, chunk_dims="YXSA")
    except TypeError:  # a plugin without this argument
        return bioio.BioImage(path)


def _source(path: Path, image: Any, scene: str) -> Source:
    image.set_scene(scene)
    axes = "TCZYXS" if "S" in image.dims.order else "TCZYX"
    data = image.get_image_dask_data(axes)
    if axes[-1] == "S" and type(image.reader).__module__.startswith("bioio_czi"):
        data = data[..., ::-1]  # samples are blue, green, red
    sizes = image.physical_pixel_sizes
    lengths = (Length(size or None, "µm") for size in (sizes.Z, sizes.Y, sizes.X))
    names = tuple(map(str, image.channel_names or ()))
    calibration = make_calibration(*lengths)
    with contextlib.suppress(Exception):  # a plugin without it, or without its unit
        calibration = calibration.with_time_increment(image.time_interval.total_seconds(), "s")
    return Source(data, tuple(axes), path.name, scene, names, calibration)
