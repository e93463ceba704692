"""The command project of the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from napari_dff.cli import options
from napari_dff.cli.output import progress_bar, report, show
from napari_dff.model.slab import SlabMethod, SlabProjection

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from napari_dff.io.image_metadata import ImageMetadata
    from napari_dff.model.acquisition import Acquisition
    from napari_dff.model.result import FocusOffset
    from napari_dff.pipeline.tile import DepthReader
    from napari_dff.runtime.progress import Progress
    from napari_dff.runtime.windows import Window

SUFFIXES = (".ome.tif", ".ome.zarr")


def project(
    stack: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], options.metavar("STACK", "(required)")
    ],
    *,
    depth_from: Path,
    out: Path,
    slab: Annotated[tuple[float, float] | None, options.metavar("FLOAT FLOAT")] = None,
    offsets: Annotated[tuple[float, ...], options.metavar("FLOAT [FLOAT ...]")] = (),
    method: SlabMethod = "maximum",
    focus_offset: Annotated[str, options.metavar("auto|FLOAT")] = "0",
    reading: tyro.conf.OmitArgPrefixes[options.ReadingOptions] = options.DEFAULT_READING,
    overwrite: bool = False,
    log: tyro.conf.OmitArgPrefixes[options.LogOptions] = options.DEFAULT_LOG,
) -> None:
    """Project a stack along a surface, from one offset to another, at all times and channels.

    The depth is that of an earlier run on this stack, or on another one of the same field. Planes
    are moved by the transforms of that run. Values between planes are interpolated.

    Parameters
    ----------
    stack
        What run reads: a folder with one image per plane, TIFF, OME-TIFF, OME-Zarr, …
    depth_from
        Folder of the run whose depth map and transforms are used.
    out
        File for the projection, .ome.tif or .ome.zarr; of several positions, the name of each is
        added.
    slab
        Where the slab begins and ends: offsets from the depth in the unit of the positions. By
        default one distance of planes on either side.
    offsets
        Offset of each of several parallel slabs, rising; they become the axis Z.
    method
        How the values in the slab are joined.
    focus_offset
        How much higher these channels are in focus than the one of the depth, in the unit of the
        positions: a number for all of them, or auto to estimate it for each one.
    reading
        How to read the planes.
    overwrite
        Replace an existing file.
    log
        What the command reports.
    """
    from napari_dff.io import folder_names

    projection, focus = SlabProjection(slab, offsets, method), options.parse_offset(focus_offset)
    if not out.name.endswith(SUFFIXES):
        raise ValueError(f"out must end in {' or '.join(SUFFIXES)}, got {out.name!r}")
    acquisitions = reading.read(stack)
    names = folder_names([acquisition.name for acquisition in acquisitions])
    suffix = next(each for each in SUFFIXES if out.name.endswith(each))
    base = out.name.removesuffix(suffix)
    for acquisition, name in zip(acquisitions, names, strict=True):
        path = out.with_name(f"{base}_{name}{suffix}" if name else out.name)
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists: write elsewhere, or add --overwrite")
        position = depth_from / name  # of a run of several positions
        folder = position if name and position.is_dir() else depth_from
        bar = progress_bar(log.quiet)
        sentence, details = _project(acquisition, folder, path, projection, focus, bar)
        if sentence:
            report(f"{path}: {sentence}")
        if not log.quiet:
            show(*details)
            count = f"{len(offsets)} slabs" if len(offsets) > 1 else "a slab"
            show(f"{path}: {method} of {count} along the depth of {folder}")


def _project(
    acquisition: "Acquisition",
    folder: Path,
    path: Path,
    projection: SlabProjection,
    focus_offset: float | str,
    progress: "Progress",
) -> tuple[str, list[str]]:
    """Write the projection of all times and channels.

    Returns a sentence on clipped slabs, and sentences on focus offsets.
    """
    import numpy as np

    from napari_dff.fusion.slab import describe_clipping, iterate_tiles
    from napari_dff.io import DepthFiles, read_recipe
    from napari_dff.io.atomic import write_file
    from napari_dff.io.file_checks import check_not_input, check_space
    from napari_dff.io.writers.result_files import RESULT_NAMES
    from napari_dff.io.writers.tiff import OmeTiffWriter
    from napari_dff.io.writers.zarr_store import OmeZarrWriter
    from napari_dff.model.recipe import Recipe
    from napari_dff.pipeline.channel_offsets import channel_offsets, describe_offsets
    from napari_dff.pipeline.tile import AlignedStack
    from napari_dff.registration import LazyAlignedStack
    from napari_dff.runtime.lazy import as_plane_file

    files = DepthFiles(folder, acquisition)
    check_not_input([path.parent], [path.name], acquisition.files)
    results = [folder / name for name in RESULT_NAMES]
    check_not_input([path.parent], [path.name], results, "depth_from")
    transforms = np.broadcast_to(files.transforms, (*acquisition.positions.shape, 3, 3))
    recipe = read_recipe(folder / "recipe.json") if focus_offset == "auto" else Recipe()
    metadata = _metadata(acquisition, projection, folder, focus_offset)
    shifts: tuple[FocusOffset, ...] = ()
    check_space(path.parent, metadata.nbytes)
    writer = OmeZarrWriter if path.suffix == ".zarr" else OmeTiffWriter
    clipped, count = 0, len(acquisition.channels)
    with write_file(path) as new:
        file: Any = writer(new, metadata)
        for index, located in acquisition.iterate(progress):
            z, read = acquisition.positions[index[0]], files.at(index)
            stacks = (acquisition.channel_stack(index, c) for c in range(count))
            planes = (as_plane_file(each.planes, located) for each in stacks)
            channels = [LazyAlignedStack(each, transforms[index[0]]) for each in planes]
            stack = AlignedStack(channels[0], z, tuple(channels[1:]), known_depth=read)
            shifts = shifts or channel_offsets(stack, recipe, focus_offset, acquisition, located)
            for channel, aligned in enumerate(channels):
                read_depth = _depth_reader(read, shifts[channel].value)
                tiles = iterate_tiles(aligned, read_depth, z, projection, located)
                for window, images, outside in tiles:
                    clipped += outside
                    for k, image in enumerate(images):
                        place = {"T": index[0], "C": channel, "Z": k}
                        at = tuple(n for axis, n in place.items() if axis in metadata.axes)
                        file.write(image, window, at)
        file.finish()
    pixels = acquisition.times * count * int(np.prod(acquisition.data.shape[3:5]))
    sentence = describe_clipping(clipped, pixels)
    return sentence, describe_offsets(shifts, acquisition)


def _depth_reader(read: "DepthReader", offset: float) -> "Callable[[Window], np.ndarray]":
    """Return a function that reads windows of the depth, and adds an offset."""
    return lambda window: read(window).depth + offset


def _metadata(
    acquisition: "Acquisition", projection: SlabProjection, folder: Path, focus_offset: float | str
) -> "ImageMetadata":
    """Return the metadata of the file: axes T, C and Z only if longer than 1."""
    from dataclasses import asdict

    import numpy as np

    import napari_dff
    from napari_dff.fusion.slab import projection_dtype
    from napari_dff.io.image_metadata import ImageMetadata
    from napari_dff.io.records import describe_planes

    times, channels, _, *plane = acquisition.data.shape
    sizes = dict(zip("TCZYXS", (times, channels, len(projection.offsets), *plane), strict=False))
    sizes = {axis: n for axis, n in sizes.items() if n > 1 or axis in "YX"}
    record = {
        "napari_dff": napari_dff.__version__,
        "projection": asdict(projection),
        "depth_from": folder.name,
        "focus_offset": focus_offset,
        "input": describe_planes(acquisition),
    }
    return ImageMetadata(
        "".join(sizes),
        tuple(sizes.values()),
        projection_dtype(acquisition.data.dtype, projection.method),
        acquisition.pixel_size,
        acquisition.unit,
        positions=np.array(projection.offsets) if "Z" in sizes else None,
        channels=acquisition.channels,
        record=record,
        has_pixel_size=acquisition.has_pixel_size,
        time_increment=acquisition.time_increment,
    )
