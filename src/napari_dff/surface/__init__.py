"""Metrology on height maps: levelling, roughness, profiles, steps, volumes, meshes."""

from napari_dff.runtime.deprecation import deprecated_names
from napari_dff.surface.levelling import LEVELLINGS, LevelledHeights, Levelling, level
from napari_dff.surface.mesh import Mesh, mesh, texture
from napari_dff.surface.profile import Profile, profile
from napari_dff.surface.quantity import Quantity
from napari_dff.surface.roughness import SurfalizeMissing, further_parameters, roughness
from napari_dff.surface.shape import step_height, volume

__all__ = [
    "LEVELLINGS",
    "LevelledHeights",
    "Levelling",
    "Mesh",
    "Profile",
    "Quantity",
    "SurfalizeMissing",
    "further_parameters",
    "level",
    "mesh",
    "profile",
    "roughness",
    "step_height",
    "texture",
    "volume",
]

__getattr__ = deprecated_names(globals(), __name__)
