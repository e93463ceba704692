"""The command repeats of the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from napari_dff.cli import options
from napari_dff.cli.output import show

if TYPE_CHECKING:
    from napari_dff.io.readers.measured_heights import MeasuredHeights

MAPS = (".x3p", ".sdf", ".sur")


def repeats(
    results: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], options.metavar("RESULT [RESULT ...]", "(required)")
    ],
    *,
    s_filter: Annotated[float | None, options.metavar("FLOAT")] = None,
    out: Annotated[tuple[Path, ...], options.metavar("PATH [PATH ...]")] = (),
    overwrite: bool = False,
    log: tyro.conf.OmitArgPrefixes[options.LogOptions] = options.DEFAULT_LOG,
) -> None:
    """Print measurement noise and flatness from repeated measurements of one field.

    By ISO 25178-700. The noise is compared with the uncertainty that each single stack foretold.
    Drift in z, tilt, y and x is subtracted.

    Parameters
    ----------
    results
        Folders of runs on stacks of the same field, or files .x3p, .sdf or .sur, at least two. Each
        time of a run counts as one.
    s_filter
        Nesting index of the filter before the flatness, in the unit of the results.
    out
        File for the numbers, .csv, and for the mean height map, .x3p, .sdf or .sur.
    overwrite
        Replace existing files.
    log
        What the command reports.
    """
    from napari_dff.io import read_heights
    from napari_dff.io.file_checks import check_not_input
    from napari_dff.io.writers.height_maps import write_height_map
    from napari_dff.io.writers.tables import write_quantities
    from napari_dff.surface import repeats

    for path in out:
        if path.suffix.lower() not in (".csv", *MAPS):
            raise ValueError(f"out must end in .csv, {', '.join(MAPS)}, got {path.name!r}")
        check_not_input([path.parent], [path.name], results, "the results")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists: write elsewhere, or add --overwrite")
    maps = [each for result in results for each in read_heights(result)]
    size, unit = _calibration(maps)
    uncertainties = [each.uncertainty for each in maps if each.uncertainty is not None]
    result = repeats(
        [each.heights for each in maps],
        size,
        unit,
        uncertainties=uncertainties if len(uncertainties) == len(maps) else (),
        s_filter=s_filter,
    )
    for name, value, symbol, error, meaning in result.quantities:
        number = f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"
        show(f"{name:<20}{f'{number} {symbol}':<24}{meaning}")
    for path in out:
        if path.suffix.lower() == ".csv":
            write_quantities(path, result.quantities)
        else:
            write_height_map(path, result.mean, size, unit)


def _calibration(maps: "list[MeasuredHeights]") -> tuple[tuple[float, float], str]:
    """Return pixel size and unit of all maps; ValueError if they differ."""
    import numpy as np

    if not maps:
        raise ValueError("no result is given: name the folders of at least two runs")
    first = maps[0]
    for each in maps:
        if each.unit != first.unit or not np.allclose(each.pixel_size, first.pixel_size):
            sizes = (f"{m.pixel_size[0]:g} × {m.pixel_size[1]:g} {m.unit}" for m in (first, each))
            raise ValueError(
                f"results must have one pixel size and unit, got {' and '.join(sizes)}"
            )
    return first.pixel_size, first.unit
