"""Modules and names of version 0.1 that were renamed: they warn, and work until version 1.0."""

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = "napari_dff"
RENAMED_MODULES = {
    "acquisition": "model.acquisition",
    "io.axes": "io.readers.axes",
    "io.meshes": "io.writers.meshes",
    "io.pictures": "io.writers.figure",
    "io.reading": "io",
    "io.tables": "io.writers.tables",
    "io.writing": "io",
    "progress": "runtime.progress",
    "quality": "pipeline.quality",
    "recipe": "model.recipe",
    "region": "pipeline.preview",
    "registration.moved": "registration.lazy_stack",
    "stack": "model.stack",
    "tiles": "runtime.windows",
    "units": "model.units",
}
RENAMED_NAMES = {
    "alignment_advice": "summarize_alignment",
    "Before": "PreviousResult",
    "Levelled": "LevelledHeights",
    "motion_of": "decompose_transforms",
    "Moved": "LazyAlignedStack",
    "region_of": "reconstruct_region",
}


def deprecated_names(namespace: Mapping[str, Any], module: str) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for `module`, which has the names of `namespace` now."""

    def get(name: str) -> Any:
        new = RENAMED_NAMES.get(name, name)
        if new not in namespace:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if new != name:
            _warn(f"{module}.{name}", new)
        return namespace[new]

    return get


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated, use {new}", DeprecationWarning, stacklevel=3)


class _Finder(MetaPathFinder, Loader):
    """Import a renamed module as a proxy for the module that replaces it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = name.partition(".")
        if package != PACKAGE or module not in RENAMED_MODULES:
            return None
        return ModuleSpec(name, self)

    def exec_module(self, module: ModuleType) -> None:
        new = f"{PACKAGE}.{RENAMED_MODULES[module.__name__.partition('.')[2]]}"
        _warn(module.__name__, new)
        namespace = vars(importlib.import_module(new))
        setattr(module, "__getattr__", deprecated_names(namespace, module.__name__))  # noqa: B010


def find_renamed_modules() -> None:
    """Let Python's import system find modules by their old names."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
