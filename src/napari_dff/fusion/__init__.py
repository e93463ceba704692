"""The all-in-focus image."""

from napari_dff.fusion.fuse import all_in_focus

__all__ = ["all_in_focus"]
