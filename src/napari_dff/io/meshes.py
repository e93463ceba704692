"""Meshes to the disk: PLY, OBJ and STL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from napari_dff import checks
from napari_dff.io.atomic import write_file
from napari_dff.surface import Mesh
from napari_dff.surface import texture as as_texture


def save_mesh(
    path: str | os.PathLike[str],
    mesh: Mesh,
    *,
    texture: np.ndarray | None = None,  # (Y, X) or (Y, X, 3)
) -> None:
    """Write a mesh; everything is written beside first and moved in when it is complete.

    Coordinates are x, y, z in the unit of the mesh: x to the right, y upwards (0 in the picture's
    first row, negative below it), so that from +z it looks like the picture. Where z grows towards
    the lens this is the specimen as it is; where z grows away from it, its mirror image.

    Parameters
    ----------
    path : path
        Ends in ``.ply``, ``.obj`` or ``.stl``. Folders are made if missing.
    mesh : Mesh
    texture : (Y, X) or (Y, X, 3) array, optional
        The picture that lies on the mesh: any integer or float, stretched between its 0.2 and 99.8
        percentiles into 8 bits. An OBJ gets it as a PNG, with an MTL, of the same name; a PLY gets
        the colour of every vertex; an STL can't have it.

    Raises
    ------
    ValueError
        For another suffix, or a texture of another shape.
    FileExistsError
        When the material or the texture of an OBJ would replace a file that no OBJ of that name
        refers to.
    OSError
        When it can't be written; nothing is changed then.
    """
    path = Path(path).absolute()
    suffix = path.suffix.lower()
    if suffix not in MESH_ENCODERS:
        raise ValueError(f"path must end in {', '.join(MESH_ENCODERS)}, got {path.name!r}")
    checks.check_type("mesh", mesh, Mesh)
    picture = None if texture is None else as_texture(texture)
    files = MESH_ENCODERS[suffix](path, mesh, picture)
    _check_companions(path, files)
    with contextlib.ExitStack() as moving:  # in the other order: the mesh after what it names
        for name, content in reversed(files.items()):
            moving.enter_context(write_file(path.parent / name)).write_bytes(content)


def _check_companions(path: Path, files: Collection[str]) -> None:
    """FileExistsError where a file beside the mesh exists and is not that of a mesh to replace."""
    present = [name for name in files if name != path.name and os.path.lexists(path.parent / name)]
    material = path.with_name(next((n for n in files if n.endswith(".mtl")), path.name))
    known = b"".join(each.read_bytes() for each in {path, material} if each.is_file())
    for name in present:
        if not path.is_file() or name.encode() not in known:
            raise FileExistsError(
                f"{path.with_name(name)} exists and belongs to no mesh {path.name}: remove it, or "
                "give another name"
            )


def _ply(path: Path, mesh: Mesh, picture: np.ndarray | None) -> dict[str, bytes]:
    solid = _solid(mesh)
    if picture is not None:
        height, width = picture.shape[:2]
        columns = (mesh.texcoords[:, 0] * width).astype(int)
        rows = ((1 - mesh.texcoords[:, 1]) * height).astype(int)
        colours = picture[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
        solid.visual.vertex_colors = np.broadcast_to(
            colours.reshape(len(colours), -1), (len(colours), 3)
        )
    return {path.name: solid.export(file_type="ply")}


def _stl(path: Path, mesh: Mesh, picture: np.ndarray | None) -> dict[str, bytes]:
    return {path.name: _solid(mesh).export(file_type="stl")}


def _obj(path: Path, mesh: Mesh, picture: np.ndarray | None) -> dict[str, bytes]:
    """The OBJ last, so that what it names is there before it."""
    solid = _solid(mesh)
    if picture is None:
        return {path.name: solid.export(file_type="obj").encode()}
    from PIL import Image
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import SimpleMaterial

    name = "_".join(path.stem.split())  # many readers end a name at a blank
    image = Image.fromarray(picture)
    white = [255] * 4
    material = SimpleMaterial(image=image, name=name, diffuse=white)  # type: ignore[no-untyped-call]
    solid.visual = TextureVisuals(mesh.texcoords, material)  # type: ignore[no-untyped-call]
    text, files = solid.export(file_type="obj", return_texture=True, mtl_name=f"{name}.mtl")
    return {**files, path.name: text.encode()}


MESH_ENCODERS: dict[str, Callable[[Path, Mesh, np.ndarray | None], dict[str, bytes]]] = {
    ".ply": _ply,
    ".obj": _obj,
    ".stl": _stl,
}


def _solid(mesh: Mesh) -> Any:
    """As trimesh has it: x, y upwards, z; normals stay what they are."""
    from trimesh import Trimesh  # 0.5 s

    return Trimesh(mesh.vertices[:, ::-1] * (1, -1, 1), mesh.faces, process=False)
