"""Depth from focus: a focal stack becomes a calibrated depth map and an all-in-focus image.

The public names are listed in ``__init__.pyi``. Each is imported when it is first used (SPEC 1),
so that importing the package loads no numerical library.
"""

import lazy_loader

from napari_dff.runtime.deprecation import find_renamed_modules

__version__ = "0.1.0"  # the one place: pyproject.toml reads it from here

find_renamed_modules()
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
