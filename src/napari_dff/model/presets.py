"""Recipes for kinds of samples."""

from typing import NamedTuple

from napari_dff.model.recipe import Recipe


class Preset(NamedTuple):
    """A recipe for a kind of sample.

    Attributes
    ----------
    title : str
        The kind of sample, as the form in napari calls it.
    sentence : str
        When to choose it, and what it sets.
    recipe : Recipe
    """

    title: str
    sentence: str
    recipe: Recipe


PRESETS = {
    "automatic": Preset(
        "Automatic",
        "For any sample: planes are aligned, and windows are chosen from texture and noise.",
        Recipe(),
    ),
    "reflected_light": Preset(
        "Reflected light / rough metal",
        "Opaque and textured: windows of one width, so that relief is resolved equally everywhere.",
        Recipe(motion="similarity", aggregation="balanced"),
    ),
    "fluorescence": Preset(
        "Fluorescence sheet",
        "On a stage that holds its place: no alignment. Brightness is kept, as each part is bright "
        "in its own plane. Smoother depth, low noise in the sharp image.",
        Recipe(registration="none", exposure="keep", smoothness=2.0, fusion="noise_aware"),
    ),
    "bright_field": Preset(
        "Bright-field slide",
        "Thin and sparse: wider windows reach farther around cells and particles.",
        Recipe(window=15),
    ),
    "macro": Preset(
        "Macro photograph",
        "On a rail or hand-held: planes are aligned, and the rim that focus breathing leaves is "
        "cropped.",
        Recipe(crop="common"),
    ),
}
"""Recipes for kinds of samples, by the names that ``--recipe`` and `read_recipe` take."""
