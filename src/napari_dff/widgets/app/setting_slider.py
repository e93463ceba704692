"""Sliders in front of the form, each of which sets a scale of settings."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from magicgui.widgets import Slider
from magicgui.widgets.bases import ValueWidget

from napari_dff.model.checks import AUTO


class Scale(NamedTuple):
    """What a slider sets, from its left end to its right end."""

    label: str
    tooltip: str
    fields: tuple[str, ...]  # of `Recipe`
    steps: tuple[tuple[float, ...], ...]  # values of the fields, increasing
    automatic_step: int = 0  # at which the slider stands while a field is "auto"


SCALES = {
    "detail": Scale(
        "detail ↔ noise",
        "Left: fine relief, in stacks with little noise. Right: noise or coarse texture.",
        ("sigma", "window"),
        ((0.5, 3), (0.7, 5), (1.0, 9), (1.2, 13), (1.5, 17), (2.0, 25), (3.0, 41)),
        automatic_step=2,
    ),
    "smoothing": Scale(
        "smoothing",
        "Left: each pixel by itself. Right: depth is smooth across neighbouring pixels.",
        ("smoothness",),
        ((0.0,), (0.1,), (0.25,), (0.5,), (1.0,), (2.0,), (4.0,), (8.0,), (16.0,)),
    ),
}


class SettingSlider:
    """A slider for the settings of a scale, which stay free to have other values."""

    def __init__(self, scale: Scale, settings: Mapping[str, ValueWidget[Any]]) -> None:
        self._scale = scale
        self._settings = [settings[name] for name in scale.fields]
        self._applying = False
        last = len(scale.steps) - 1
        self.widget = Slider(label=scale.label, min=0, max=last, readout=False)
        self.widget.changed.connect(self._apply)
        for setting in self._settings:
            setting.changed.connect(self._show)
        self._show()

    def _apply(self, step: int) -> None:
        self._applying = True
        for setting, value in zip(self._settings, self._scale.steps[step], strict=True):
            setting.value = value
        self._applying = False
        self._show()

    def _show(self, _: Any = None) -> None:
        """Move the slider to the step that is nearest to the settings, on a logarithmic scale."""
        if self._applying:
            return
        values = [setting.value for setting in self._settings]

        def distance(step: int) -> float:
            pairs = zip(values, self._scale.steps[step], strict=True)
            return sum(abs(math.log((value + 0.05) / (other + 0.05))) for value, other in pairs)

        if AUTO in values:
            nearest = self._scale.automatic_step
        else:
            nearest = min(range(len(self._scale.steps)), key=distance)
        with self.widget.changed.blocked():
            self.widget.value = nearest
        named = zip(self._scale.fields, values, strict=True)
        sets = ", ".join(f"{n} {x}" if x == AUTO else f"{n} {x:g}" for n, x in named)
        self.widget.native.setToolTip(f"{self._scale.tooltip}\nRecipe: {sets}")
