"""The command line: ``napari-dff run``, ``info`` and ``sample``. Knows no Qt and no napari."""

import argparse
import contextlib
import functools
import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import tyro

from napari_dff.progress import Cancelled
from napari_dff.recipe import Recipe

DEFAULTS = Recipe()
COMPILING = "napari-dff: the first run on this machine compiles its kernels: some 15 seconds"
DESCRIPTION = "Depth from focus: a focal stack becomes a depth map and an all-in-focus image."


def run(
    stack: tyro.conf.Positional[Path],
    *,
    out: Path,
    settings: tyro.conf.OmitArgPrefixes[Recipe] = DEFAULTS,
    recipe: Path | None = None,
    transforms: Path | None = None,
    spacing: tuple[float, ...] = (),
    quiet: bool = False,
) -> None:
    """Align a focal stack, find its depth and write all results.

    Parameters
    ----------
    stack
        Folder with one image a plane, TIFF or OME-TIFF.
    out
        Folder for depth.tif, index.tif, uncertainty.tif, all_in_focus.tif, recipe.json,
        transforms.json and preview.png.
    settings
        The recipe.
    recipe
        JSON file with settings, as a run writes it; flags given beside it win.
    transforms
        transforms.json of another run of the same field: moves the planes as there, aligns nothing.
    spacing
        Distance of planes, or of planes, rows and columns, in µm; overrides the file's.
    quiet
        Show no progress.
    """
    start = time.perf_counter()
    from tqdm import tqdm

    from napari_dff import io
    from napari_dff.compiled import when_compiling
    from napari_dff.pipeline import depth_from_focus

    focal_stack = io.read_stack(stack, spacing=spacing or None)

    def bar(items, /, *, desc):  # type: ignore[no-untyped-def]
        return tqdm(items, desc=f"{desc:<24}", disable=quiet)

    moved = None if transforms is None else io.read_transforms(transforms)
    with when_compiling(lambda: print(COMPILING, file=sys.stderr)):
        result = depth_from_focus(focal_stack, settings, transforms=moved, progress=bar)
    io.save_reconstruction(result, out)
    if not quiet:
        from napari_dff.quality import advice, coverage

        found, seconds = result.refined, time.perf_counter() - start
        covered = coverage(found, len(result.stack.positions))
        print(f"{out}: depth of {found.depth.size:,} pixels in {seconds:.1f} s")
        print(*advice(covered), sep="\n")


def info(stack: tyro.conf.Positional[Path], *, spacing: tuple[float, ...] = ()) -> None:
    """Say what a focal stack is: planes, size, positions, units.

    Parameters
    ----------
    stack
        Folder with one image a plane, TIFF or OME-TIFF.
    spacing
        Distance of planes, or of planes, rows and columns, in µm; overrides the file's.
    """
    from napari_dff import io
    from napari_dff.units import depth_symbol, symbol

    found = io.read_stack(stack, spacing=spacing or None)
    shape, positions = found.planes.shape, found.positions
    colour = ", colour" if len(shape) == 4 else ""
    print(f"planes      {shape[0]} of {shape[1]} × {shape[2]} pixels, {found.planes.dtype}{colour}")
    print(f"positions   {positions[0]:g} to {positions[-1]:g} {depth_symbol(found.unit)}")
    print(f"pixel size  {found.pixel_size[0]:g} × {found.pixel_size[1]:g} {symbol(found.unit)}")
    print(f"memory      {found.planes.nbytes / 1e6:.1f} MB")


def sample(
    name: tyro.conf.Positional[
        Literal["all", "rough_surface", "cell_sheet", "machined_part", "bare_patch"]
    ],
    *,
    out: Path,
    render: bool = False,
) -> None:
    """Write a sample focal stack with its true depth and its true sharp picture.

    Parameters
    ----------
    name
        Which one.
    out
        Folder to write into.
    render
        Render it anew instead of copying the bundled one.
    """
    from napari_dff import io, synthetic

    for each in io.SAMPLES if name == "all" else (name,):
        if render:
            io.write_sample(each, synthetic.SCENES[each](), out)
        else:
            io.copy_sample(each, out)
        print(out / f"{each}.ome.tif")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all went well, 2 with one sentence when the input is to blame."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        commands: dict[str, Callable[..., None]] = {
            "run": functools.partial(run, settings=_named_recipe(words)),
            "info": info,
            "sample": sample,
        }
        tyro.extras.subcommand_cli_from_dict(
            commands, args=words, prog="napari-dff", description=DESCRIPTION
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"napari-dff: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Cancelled):
        print("napari-dff: cancelled, nothing was written", file=sys.stderr)
        return 130
    return 0


def program() -> None:
    """Run as a program: `main`, and out."""
    code = main()
    gc.freeze()  # so that Python doesn't look through all it has loaded on its way out: 0.3 s
    sys.exit(code)


def _named_recipe(words: Sequence[str]) -> Recipe:
    """Recipe of the file after --recipe, which the flags then start from; else the defaults."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--recipe")
    with contextlib.suppress(argparse.ArgumentError):
        path = finder.parse_known_args(words)[0].recipe
        if path is not None:
            from napari_dff.io import read_recipe

            return read_recipe(path)
    return DEFAULTS


if __name__ == "__main__":
    program()
