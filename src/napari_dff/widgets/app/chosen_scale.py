"""The sigma and window that a run of a stack chooses, computed once for its previews."""

from collections.abc import Hashable
from dataclasses import replace

from napari_dff.model.recipe import FocusScale, Recipe
from napari_dff.model.stack import FocalStack
from napari_dff.pipeline.preview import with_chosen_scale


class ChosenScale:
    """Replaces "auto" in recipes, and keeps the values of the last stack."""

    def __init__(self) -> None:
        self._last: tuple[Hashable, FocusScale] | None = None

    def exact_recipe(self, recipe: Recipe, stack: FocalStack, content: Hashable) -> Recipe:
        """Return the recipe with numbers; `content` identifies the planes of the stack."""
        key = content, recipe.operator, recipe.sigma, recipe.window
        if self._last is None or self._last[0] != key:
            self._last = key, with_chosen_scale(recipe, stack).scale
        return replace(recipe, **self._last[1]._asdict())
