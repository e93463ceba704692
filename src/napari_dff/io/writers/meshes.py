"""Write meshes as PLY, OBJ and STL."""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff.io.atomic import write_file
from napari_dff.io.file_checks import check_suffix
from napari_dff.model import checks
from napari_dff.surface import Mesh
from napari_dff.surface import texture as as_texture


def save_mesh(
    path: str | os.PathLike[str],
    mesh: Mesh,
    *,
    texture: np.ndarray | None = None,  # (Y, X[, 3]), of any integer or float type
) -> None:
    """Write a mesh, complete or not at all; `path` ends in ``.ply``, ``.obj`` or ``.stl``.

    Coordinates are x, y, z in the unit of the mesh: x to the right, y upwards (0 in the first row
    of the image, negative below), so that the view from +z is the image. If z increases towards
    the lens, the mesh has the shape of the specimen; otherwise it is mirrored.

    An OBJ refers to the texture, in 8 bits, by an MTL and a PNG of the same name; a PLY stores the
    colour of each vertex; an STL has none.
    """
    path = check_suffix(path, MESH_ENCODERS)
    checks.check_type("mesh", mesh, Mesh)
    image = None if texture is None else as_texture(texture)
    files = MESH_ENCODERS[path.suffix.lower()](path, mesh, image)
    _check_companions(path, files)
    # the last context exits first: files are moved in the order of `files`
    with contextlib.ExitStack() as stack:
        for name, content in reversed(files.items()):
            stack.enter_context(write_file(path.parent / name)).write_bytes(content)


def _check_companions(path: Path, files: Collection[str]) -> None:
    """Raise a FileExistsError if a companion file exists that the existing mesh does not name."""
    paths = [path.with_name(name) for name in files if name != path.name]
    material = path.with_name(next((n for n in files if n.endswith(".mtl")), path.name))
    references = b"".join(each.read_bytes() for each in {path, material} if each.is_file())
    for each in filter(os.path.lexists, paths):
        if not path.is_file() or each.name.encode() not in references:
            problem = f"{each} exists and belongs to no mesh {path.name}"
            raise FileExistsError(f"{problem}: remove it, or give another name")


def _ply(path: Path, mesh: Mesh, image: np.ndarray | None) -> dict[str, bytes]:
    trimesh_mesh = _to_trimesh(mesh)
    if image is not None:
        height, width = image.shape[:2]
        columns = (mesh.texcoords[:, 0] * width).astype(int)
        rows = ((1 - mesh.texcoords[:, 1]) * height).astype(int)
        colours = image[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
        rgb = np.broadcast_to(colours.reshape(len(colours), -1), (len(colours), 3))
        trimesh_mesh.visual.vertex_colors = rgb
    return {path.name: trimesh_mesh.export(file_type="ply")}


def _stl(path: Path, mesh: Mesh, image: np.ndarray | None) -> dict[str, bytes]:
    return {path.name: _to_trimesh(mesh).export(file_type="stl")}


def _obj(path: Path, mesh: Mesh, image: np.ndarray | None) -> dict[str, bytes]:
    """Return PNG and MTL before the OBJ, which refers to them."""
    trimesh_mesh = _to_trimesh(mesh)
    if image is None:
        return {path.name: trimesh_mesh.export(file_type="obj").encode()}
    from PIL import Image
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import SimpleMaterial

    name = "_".join(path.stem.split())  # many readers end a name at a space
    settings = {"image": Image.fromarray(image), "name": name, "diffuse": [255] * 4}  # white
    material = SimpleMaterial(**settings)  # type: ignore[no-untyped-call]
    trimesh_mesh.visual = TextureVisuals(mesh.texcoords, material)  # type: ignore[no-untyped-call]
    text, files = trimesh_mesh.export(file_type="obj", return_texture=True, mtl_name=f"{name}.mtl")
    return {**files, path.name: text.encode()}


MESH_ENCODERS = {".ply": _ply, ".obj": _obj, ".stl": _stl}


def _to_trimesh(mesh: Mesh) -> Any:
    """Convert (z, y, x) to x, y upwards, z: a rotation, so that faces keep their orientation."""
    from trimesh import Trimesh  # takes 0.5 s to import

    return Trimesh(mesh.vertices[:, ::-1] * (1, -1, 1), mesh.faces, process=False)
