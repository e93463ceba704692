"""Units in which napari draws layers: uncalibrated beside calibrated ones, and drawings."""

from collections.abc import Sequence
from functools import partial
from weakref import WeakSet

import numpy as np
import pint
from napari.layers import Layer
from napari.viewer import Viewer

from napari_dff.model.units import EXPONENTS
from napari_dff.widgets.app.geometry import unit_ratios
from napari_dff.widgets.app.layer_data import LayerData
from napari_dff.widgets.app.layers import NOMINAL, units_of
from napari_dff.widgets.app.versions import edit_count, set_edit_count

ABOVE_UNIT = 1 + 1e-6  # of nominal units: napari draws in the smallest unit, a calibrated one
PIXEL = "pixel"
_followed: WeakSet[Viewer] = WeakSet()


def follow_units(viewer: Viewer) -> None:
    """Call `reconcile_units` whenever a layer is added to a viewer or removed from it."""
    if viewer not in _followed:
        _followed.add(viewer)
        reconcile = partial(reconcile_units, viewer)
        viewer.layers.events.inserted.connect(reconcile)
        viewer.layers.events.removed.connect(reconcile)
    reconcile_units(viewer)


def reconcile_units(viewer: Viewer, _: object = None, *, opened: Sequence[LayerData] = ()) -> None:
    """Give layers in pixels a nominal unit of length if others are calibrated, else "pixel".

    napari draws layers with their units only if all of these are lengths, and warns at every new
    layer otherwise. A pixel is drawn as one of the smallest unit of the others. The name of a
    nominal unit begins with "uncalibrated", and `units_of` still returns "pixel". `opened` are
    layers that are about to be added: their units are set before napari draws them.
    """
    names = {unit for layer in viewer.layers for unit in units_of(layer)[-3:]}
    names.update(unit for _, look, _ in opened for unit in look["units"][-3:])
    lengths = sorted(names & EXPONENTS.keys(), key=EXPONENTS.__getitem__)
    drawn = _nominal_unit(lengths[0]) if lengths else PIXEL
    for _, look, _ in opened:
        look["units"] = _drawn_units(look["units"], drawn)
    for layer in viewer.layers:
        own = tuple(map(str, layer.units))
        units = _drawn_units((*own[:-3], *units_of(layer)[-3:]), drawn)
        if units != own:
            count = edit_count(layer)
            layer.units = units
            set_edit_count(layer, count)


def _drawn_units(units: Sequence[str], drawn: str) -> tuple[str, ...]:
    """Return units with another one for the pixels along Z, Y and X."""
    return (*units[:-3], *(drawn if unit == PIXEL else unit for unit in units[-3:]))


def _nominal_unit(unit: str) -> str:
    """Return the name of the nominal unit that is as long as a unit of length."""
    registry = pint.get_application_registry()  # type: ignore[no-untyped-call]
    name = f"{NOMINAL}{unit}"
    if name not in registry:
        registry.define(f"{name} = {ABOVE_UNIT} {unit}")
    return name


def draw_in_view_units(viewer: Viewer, layer: Layer) -> None:
    """Express the place of a layer in the units of the view, so that the mouse draws in it.

    napari takes positions of the mouse for positions in the units of the layer.
    """
    units = viewer.layers.units
    if units is None:
        return
    units = units[-layer.ndim :]
    ratios = unit_ratios(layer.units, units, layer.ndim)
    if (ratios == 1).all():
        return
    affine = layer.affine.affine_matrix.copy()
    affine[:-1, :-1] *= ratios[:, np.newaxis] / ratios
    affine[:-1, -1] *= ratios
    layer.scale, layer.translate = layer.scale * ratios, layer.translate * ratios
    layer.affine, layer.units = affine, units
