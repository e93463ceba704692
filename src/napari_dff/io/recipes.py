"""Recipes in files: those of runs, and the presets that a user has saved under a name."""

import difflib
import os
import re
from pathlib import Path

import platformdirs

import napari_dff
from napari_dff.io.atomic import write_file
from napari_dff.io.records import read_json, recipe_record, write_json
from napari_dff.model.checks import as_path, check_choice, check_type
from napari_dff.model.presets import PRESETS
from napari_dff.model.recipe import Recipe

PRESET_NAME = re.compile(r"[\w()+,.=-][\w ()+,.=-]{0,60}")  # also the name of a file


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Return the recipe in a JSON file, or a preset by its name.

    Parameters
    ----------
    path : path or str
        File that a run or *Save settings…* has written, or the name of a preset: a key of
        ``PRESETS`` (``automatic``, ``reflected_light``, ``fluorescence``, ``bright_field``,
        ``macro``), or one that was saved in napari. A file of that name comes first.

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        If the file is not a recipe, or if there is neither a file nor a preset of that name.
    OSError
        If the file cannot be read.
    """
    path = as_path("path", path)
    name = os.fspath(path)
    if not os.path.lexists(path) and Path(name).name == name:
        if name in PRESETS:
            return PRESETS[name].recipe
        if name in own_presets():
            path = _preset_path(name)
        elif not Path(name).suffix:
            names = [*PRESETS, *own_presets()]
            similar = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {similar[0]!r}?" if similar else ""
            choices = ", ".join(names)
            raise ValueError(f"recipe must be a file or one of {choices}, got {name!r}{hint}")
    settings = read_json(path, "a recipe")
    version = str(settings.pop("napari_dff", ""))
    try:
        return Recipe.from_dict(settings)
    except ValueError as error:
        newer = f"; it is from the newer version {version}" if _is_newer(version) else ""
        raise ValueError(f"{path}: {error}{newer}") from error


def write_recipe(path: str | os.PathLike[str], recipe: Recipe) -> None:
    """Write a recipe as JSON, for `read_recipe`; an existing file stays until it is complete."""
    with write_file(as_path("path", path)) as new:
        write_json(new, recipe_record(recipe), indent=2)


def own_presets() -> list[str]:
    """Return the names of the presets that the user has saved."""
    return sorted(path.stem for path in _preset_folder().glob("*.json"))


def save_preset(name: str, recipe: Recipe) -> Path:
    """Save a recipe under a name, in the user's folder for settings; return its file."""
    check_type("name", name, str)
    check_type("recipe", recipe, Recipe)
    name = name.strip()
    if name in PRESETS or not PRESET_NAME.fullmatch(name):
        raise ValueError(
            "name of a preset must be letters, digits and spaces, and none of "
            f"{', '.join(PRESETS)}, got {name!r}"
        )
    path = _preset_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_recipe(path, recipe)
    return path


def delete_preset(name: str) -> None:
    """Delete a preset that the user has saved."""
    check_choice("name", name, own_presets())
    _preset_path(name).unlink()


def _preset_folder() -> Path:
    return platformdirs.user_config_path("napari-dff", appauthor=False) / "presets"


def _preset_path(name: str) -> Path:
    return _preset_folder() / f"{name}.json"


def _is_newer(version: str) -> bool:
    versions = version, napari_dff.__version__
    other, installed = ([int(n) for n in re.findall(r"[0-9]{1,9}", v)[:3]] for v in versions)
    return other > installed
