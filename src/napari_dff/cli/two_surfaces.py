"""The command two-surfaces of the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from napari_dff.cli import options
from napari_dff.cli.output import progress_bar, show
from napari_dff.model.recipe import Recipe

if TYPE_CHECKING:
    from napari_dff.depth.two_surfaces import TwoSurfaces
    from napari_dff.io.image_metadata import ImageMetadata
    from napari_dff.model.acquisition import Acquisition
    from napari_dff.runtime.progress import Progress

SUFFIXES = (".ome.tif", ".ome.zarr")
CHANNELS = (
    "first depth",
    "first uncertainty",
    "last depth",
    "last uncertainty",
    "thickness",
    "thickness uncertainty",
)


def two_surfaces(
    stack: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], options.metavar("STACK", "(required)")
    ],
    *,
    out: Path,
    refractive_index: float = 1.0,
    focus_channel: Annotated[str, options.metavar("NAME")] = "",
    recipe: Annotated[Path | None, options.metavar("PATH|PRESET")] = None,
    settings: tyro.conf.OmitArgPrefixes[Recipe] = options.DEFAULT_RECIPE,
    reading: tyro.conf.OmitArgPrefixes[options.ReadingOptions] = options.DEFAULT_READING,
    memory: Annotated[str, options.metavar("SIZE")] = "",
    overwrite: bool = False,
    log: tyro.conf.OmitArgPrefixes[options.LogOptions] = options.DEFAULT_LOG,
) -> None:
    """Find the first and the last surface of a transparent sample, and its thickness.

    The file has six channels: the depth of both surfaces, the thickness, and the uncertainty of
    each. Where only one surface is found, both depths are the same, and the thickness is NaN.

    Parameters
    ----------
    stack
        What run reads: a folder with one image per plane, TIFF, OME-TIFF, OME-Zarr, …
    out
        File for the results, .ome.tif or .ome.zarr; of several positions, the name of each is
        added.
    refractive_index
        Of the film, relative to the medium above it; the distance in focus is multiplied by it.
    focus_channel
        Name or number of the channel that is used; required if there are several.
    recipe
        JSON file with settings, or a preset; other options override it.
    settings
        The recipe; overrides --recipe. Refinement, fusion, crop and coherence are not used.
    reading
        How to read the planes.
    memory
        Maximum memory, such as 2GB or 500MB; by default the free memory.
    overwrite
        Replace an existing file.
    log
        What the command reports.
    """
    from napari_dff.depth.two_surfaces import REFRACTIVE_INDEX
    from napari_dff.io import folder_names

    index = REFRACTIVE_INDEX.check("refractive_index", refractive_index)
    if not out.name.endswith(SUFFIXES):
        raise ValueError(f"out must end in {' or '.join(SUFFIXES)}, got {out.name!r}")
    megabytes = options.parse_megabytes(memory) if memory else None
    acquisitions = reading.read(stack)
    names = folder_names([acquisition.name for acquisition in acquisitions])
    suffix = next(each for each in SUFFIXES if out.name.endswith(each))
    for acquisition, name in zip(acquisitions, names, strict=True):
        base = out.name.removesuffix(suffix)
        path = out.with_name(f"{base}_{name}{suffix}" if name else out.name)
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists: write elsewhere, or add --overwrite")
        channel = acquisition.channel(focus_channel or None)
        progress = progress_bar(log.quiet)
        sentence = _write(acquisition, channel, path, settings, index, megabytes, progress)
        if not log.quiet:
            show(f"{path}: {sentence}")


def _write(
    acquisition: "Acquisition",
    channel: int,
    path: Path,
    recipe: Recipe,
    refractive_index: float,
    megabytes: float | None,
    progress: "Progress",
) -> str:
    """Write the surfaces of all times, tile by tile; return share and thickness in a sentence."""
    from dataclasses import replace

    import numpy as np

    from napari_dff.io.atomic import write_file
    from napari_dff.io.file_checks import check_not_input, check_space
    from napari_dff.io.writers.tiff import OmeTiffWriter
    from napari_dff.io.writers.zarr_store import OmeZarrWriter
    from napari_dff.model.units import depth_unit_symbol
    from napari_dff.pipeline import tile
    from napari_dff.pipeline.driver import align_stack
    from napari_dff.pipeline.planning import make_plan
    from napari_dff.pipeline.two_surfaces import two_surfaces_in_tile

    check_not_input([path.parent], [path.name], acquisition.files)
    metadata = _metadata(acquisition, recipe, channel, refractive_index)
    check_space(path.parent, metadata.nbytes)
    writer = OmeZarrWriter if path.suffix == ".zarr" else OmeTiffWriter
    recipe, medians, pixels = replace(recipe, refinement="none"), [], 0
    with write_file(path) as new:
        file: Any = writer(new, metadata)
        for index, located in acquisition.iterate(progress):
            stack = acquisition.channel_stack(index, channel)
            plan = make_plan(stack.planes, recipe, megabytes=megabytes, on_disk=True)
            with plan.limits():
                aligned = align_stack(stack, [], recipe, None, plan, located)
                recipe = tile.with_chosen_scale(recipe, aligned)
                for window in plan.windows:
                    result = two_surfaces_in_tile(
                        aligned, recipe, window, refractive_index, located
                    )
                    for c, image in enumerate(_images(result)):
                        place = (index[0], c) if "T" in metadata.axes else (c,)
                        file.write(image, window, place)
                    values = result.thickness[np.isfinite(result.thickness)]
                    medians += [np.median(values)] if values.size else []
                    pixels += values.size
        file.finish()
    share = pixels / (acquisition.times * np.prod(acquisition.data.shape[3:5]))
    if not medians:
        return "only one surface is found everywhere"
    typical = f"{np.median(medians):.4g} {depth_unit_symbol(acquisition.unit)}"
    return f"two surfaces at {share:.1%} of the pixels, thickness about {typical}"


def _images(result: "TwoSurfaces") -> "tuple[Any, ...]":
    """Return the maps of a result in the order of `CHANNELS`."""
    first, last = result.first, result.last
    surfaces = first.depth, first.uncertainty, last.depth, last.uncertainty
    return (*surfaces, result.thickness, result.uncertainty)


def _metadata(
    acquisition: "Acquisition", recipe: Recipe, channel: int, refractive_index: float
) -> "ImageMetadata":
    """Return the metadata of the file; an axis T only for several times."""
    from dataclasses import asdict

    import numpy as np

    import napari_dff
    from napari_dff.io.image_metadata import ImageMetadata
    from napari_dff.io.records import describe_planes

    times, _, _, *plane = acquisition.data.shape
    sizes = {"T": times, "C": len(CHANNELS), "Y": plane[0], "X": plane[1]}
    sizes = {axis: n for axis, n in sizes.items() if n > 1 or axis != "T"}
    record = {
        "napari_dff": napari_dff.__version__,
        "two_surfaces": {"refractive_index": refractive_index, "focus_channel": channel},
        "recipe": asdict(recipe),
        "input": describe_planes(acquisition),
    }
    return ImageMetadata(
        "".join(sizes),
        tuple(sizes.values()),
        np.dtype(np.float32),
        acquisition.pixel_size,
        acquisition.unit,
        channels=CHANNELS,
        record=record,
        has_pixel_size=acquisition.has_pixel_size,
        time_increment=acquisition.time_increment,
    )
