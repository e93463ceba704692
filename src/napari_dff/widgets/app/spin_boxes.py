"""Fields for numbers, some of which may be left to be chosen automatically."""

from typing import Any

from magicgui.widgets import FloatSpinBox, SpinBox
from magicgui.widgets.bases import ValueWidget

from napari_dff.model.checks import AUTO, Range


class AutomaticMixin:
    """A spin box whose lowest position means "auto", and shows the value that was chosen."""

    def get_value(self) -> Any:
        """Return the number, or "auto"."""
        return self._number_or_auto(super().get_value())  # type: ignore[misc]

    def set_value(self, value: Any) -> None:
        """Show a number, or "auto"."""
        super().set_value(self.min if value == AUTO else value)  # type: ignore[misc, attr-defined]

    def _on_value_change(self, value: Any = None) -> None:
        super()._on_value_change(self._number_or_auto(value))  # type: ignore[misc]

    def _number_or_auto(self, number: float) -> Any:
        lowest = self.min + self.step  # type: ignore[attr-defined]
        return AUTO if number < lowest - 1e-9 else number

    def show_chosen(self, number: float | None) -> None:
        """Show the number that was chosen; None: not yet."""
        text = "automatic" if number is None else f"automatic: {number:g}"
        if self.native.specialValueText() != text:  # type: ignore[attr-defined]
            self.native.setSpecialValueText(text)  # type: ignore[attr-defined]


class AutomaticFloatSpinBox(AutomaticMixin, FloatSpinBox):
    """A field for a float or "auto"."""


class AutomaticSpinBox(AutomaticMixin, FloatSpinBox):
    """A field for an integer or "auto"; magicgui's field for integers shows no text instead."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.native.setDecimals(0)

    def _number_or_auto(self, number: float) -> Any:
        value = super()._number_or_auto(number)
        return value if value == AUTO else round(value)


def spin_box(label: str, value: Any, limits: Range, tooltip: str) -> ValueWidget[Any]:
    """Return a field for a number within limits, an integer if they are integers."""
    is_float, (low, high, step, has_auto) = isinstance(limits.low, float), limits
    options: dict[str, Any] = {"label": label, "max": high, "step": step, "tooltip": tooltip}
    if not has_auto:
        kind: type[Any] = FloatSpinBox if is_float else SpinBox
        return kind(value=value, min=low, **options)
    automatic: type[Any] = AutomaticFloatSpinBox if is_float else AutomaticSpinBox
    widget: Any = automatic(min=low - step, **options)
    widget.value = value
    widget.show_chosen(None)
    return widget
