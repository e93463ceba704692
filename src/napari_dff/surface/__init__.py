"""Metrology on height maps: levelling, filters, roughness, steps, volumes, comparison, meshes."""

from napari_dff.runtime.deprecation import deprecated_names
from napari_dff.surface.comparison import Comparison, ComparisonError, compare
from napari_dff.surface.filters import scale_limited_surface
from napari_dff.surface.levelling import LEVELLINGS, LevelledHeights, Levelling, level
from napari_dff.surface.mesh import Mesh, mesh, texture
from napari_dff.surface.profile import Profile, profile
from napari_dff.surface.profile_parameters import profile_parameters, scale_limited_profile
from napari_dff.surface.quantity import Quantity
from napari_dff.surface.repeats import Repeats, repeats
from napari_dff.surface.roughness import SurfalizeMissing, further_parameters, roughness
from napari_dff.surface.shape import step_height, volume

__all__ = [
    "LEVELLINGS",
    "Comparison",
    "ComparisonError",
    "LevelledHeights",
    "Levelling",
    "Mesh",
    "Profile",
    "Quantity",
    "Repeats",
    "SurfalizeMissing",
    "compare",
    "further_parameters",
    "level",
    "mesh",
    "profile",
    "profile_parameters",
    "repeats",
    "roughness",
    "scale_limited_profile",
    "scale_limited_surface",
    "step_height",
    "texture",
    "volume",
]

__getattr__ = deprecated_names(globals(), __name__)
