"""Names and modules of version 0.1 work, and warn."""

import importlib
import sys

import pytest

import napari_dff
from napari_dff import Recipe
from napari_dff.runtime.deprecation import PACKAGE, RENAMED_MODULES, RENAMED_NAMES

PLACES = {
    "alignment_advice": "quality",
    "Before": "refinement",
    "Levelled": "surface",
    "motion_of": "quality",
    "Moved": "registration",
    "region_of": "region",
}


@pytest.mark.parametrize("old", RENAMED_MODULES)
def test_a_renamed_module_is_imported_by_its_old_name_with_a_warning(old, monkeypatch):
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.{old}", raising=False)
    with pytest.warns(DeprecationWarning, match=f"use {PACKAGE}.{RENAMED_MODULES[old]}"):
        module = importlib.import_module(f"{PACKAGE}.{old}")
    new = importlib.import_module(f"{PACKAGE}.{RENAMED_MODULES[old]}")
    public = [name for name in vars(new) if not name.startswith("_")]
    assert all(getattr(module, name) is getattr(new, name) for name in public)
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.{old}")


@pytest.mark.filterwarnings("ignore:napari_dff:DeprecationWarning")
@pytest.mark.parametrize("old", RENAMED_NAMES)
def test_a_renamed_name_is_found_by_its_old_name_with_a_warning(old):
    module = importlib.import_module(f"{PACKAGE}.{PLACES[old]}")
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated, use {RENAMED_NAMES[old]}"):
        found = getattr(module, old)
    assert found is getattr(module, RENAMED_NAMES[old])


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = napari_dff.refinement.nonsense
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("napari_dff.nonsense")


@pytest.mark.parametrize(
    "read", [lambda f: Recipe(fusion=f), lambda f: Recipe.from_dict({"fusion": f})]
)
def test_the_former_fusion_pyramid_is_read_as_multiscale_with_a_warning(read):
    with pytest.warns(DeprecationWarning, match="fusion pyramid is deprecated, use multiscale"):
        assert read("pyramid") == Recipe(fusion="multiscale")
