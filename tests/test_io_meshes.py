"""What is written is read back: meshes by trimesh, tables by the csv module."""

import csv

import numpy as np
import pytest
import trimesh
from PIL import Image

from napari_dff.io.writers.meshes import save_mesh
from napari_dff.io.writers.tables import write_profile, write_quantities, write_table
from napari_dff.surface import Quantity, mesh, profile

ROWS, COLUMNS = np.indices((20, 30))
DEPTH = (100 + 0.5 * ROWS + 0.1 * (COLUMNS - 12) ** 2).astype(np.float32)
SIZE = (0.5, 0.25)


@pytest.fixture
def made():
    return mesh(DEPTH, SIZE)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl", ".PLY"])
def test_a_mesh_is_read_back(tmp_path, made, suffix):
    path = tmp_path / "new" / f"part{suffix}"
    save_mesh(path, made)
    read = trimesh.load(path, process=False)
    # By corner, because an STL has no vertices of its own.
    corners = made.vertices[made.faces][..., ::-1] * (1, -1, 1)
    np.testing.assert_allclose(read.triangles, corners, atol=1e-5)
    assert (read.face_normals[:, 2] > 0).all()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_obj_has_its_picture_the_right_way_round(tmp_path, made):
    picture = (40 * ROWS + 7 * COLUMNS).astype(np.uint16)
    path = tmp_path / "my part.obj"
    save_mesh(path, made, texture=picture)
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "my part.obj",
        "my_part.mtl",
        "my_part.png",
    ]
    assert "map_Kd my_part.png" in (tmp_path / "my_part.mtl").read_text()
    read = trimesh.load(path, process=False, maintain_order=True)
    np.testing.assert_allclose(read.visual.uv, made.texcoords, atol=1e-6)

    low, high = np.percentile(picture, (0.2, 99.8))
    wanted = np.clip(np.rint((picture - low) / (high - low) * 255), 0, 255)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "my_part.png")), wanted)
    # What trimesh sees at each vertex is what the picture has at the vertex's pixel.
    x, y = (read.vertices[:, :2] / (SIZE[1], -SIZE[0])).round().astype(int).T
    seen = read.visual.to_color().vertex_colors[:, 0]
    np.testing.assert_array_equal(seen, wanted[y, x])


def test_a_ply_has_the_colour_of_every_vertex(tmp_path, made):
    picture = np.stack([ROWS / 19, COLUMNS / 29, 0 * ROWS], axis=-1).astype(np.float32)
    save_mesh(tmp_path / "part.ply", made, texture=picture)
    read = trimesh.load(tmp_path / "part.ply", process=False)
    x, y = (read.vertices[:, :2] / (SIZE[1], -SIZE[0])).round().astype(int).T
    colours = read.visual.vertex_colors[:, :3]
    np.testing.assert_allclose(colours, 255 * picture[y, x], atol=4)  # of the stretch


@pytest.mark.parametrize("texture", [np.full((20, 30), 9, np.uint8), np.full((20, 30, 3), np.nan)])
@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl"])
def test_any_picture_will_do(tmp_path, made, texture, suffix):
    save_mesh(tmp_path / f"part{suffix}", made, texture=texture)
    assert len(trimesh.load(tmp_path / f"part{suffix}", process=False).faces) == len(made.faces)


def test_what_was_there_stays_until_it_is_complete(tmp_path, made, monkeypatch):
    path = tmp_path / "part.obj"
    save_mesh(path, made)
    before = path.read_bytes()

    def full_disk(self, content):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_mesh(path, made, texture=DEPTH)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["part.obj"]


@pytest.mark.parametrize(
    ("name", "texture", "message"),
    [
        ("part.gltf", None, r"path must end in .ply, .obj, .stl, got 'part.gltf'"),
        ("part", None, "got 'part'"),
        ("part.obj", np.zeros((5, 5, 4)), r"picture must have axes .* got shape \(5, 5, 4\)"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, made, name, texture, message):
    with pytest.raises(ValueError, match=message):
        save_mesh(tmp_path / name, made, texture=texture)
    assert not list(tmp_path.iterdir())


# Tables


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_table_is_read_back(tmp_path):
    path = tmp_path / "new" / "table.csv"
    write_table(path, {"a, b": ["é", 'say "x"'], "n": np.array([0.1, np.nan], np.float32)})
    assert read(path) == [["a, b", "n"], ["é", "0.1"], ['say "x"', ""]]
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("columns", [{}, {"a": [1, 2], "b": [1]}])
def test_columns_are_of_one_length(tmp_path, columns):
    with pytest.raises(ValueError, match="columns must be of one length"):
        write_table(tmp_path / "table.csv", columns)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [False, True])
def test_a_profile_is_read_back(tmp_path, given):
    unsure = np.full(DEPTH.shape, 0.25) if given else None
    found = profile(DEPTH, [(3, 4), (3, 10)], SIZE, uncertainty=unsure)
    write_profile(tmp_path / "profile.csv", found, "micrometer")
    header, *rows = read(tmp_path / "profile.csv")
    wanted = ["distance (µm)", "height (µm)", "uncertainty (µm)", "row (pixel)", "column (pixel)"]
    assert header == (wanted if given else wanted[:2] + wanted[3:])
    values = np.array(rows, float)
    np.testing.assert_array_equal(values[:, 0], found.distance)
    np.testing.assert_array_equal(values[:, 1], found.height)
    np.testing.assert_array_equal(values[:, -2:], found.points)


def test_quantities_are_read_back(tmp_path):
    path = tmp_path / "quantities.csv"
    write_quantities(
        path,
        [
            Quantity("Sa", np.float64(1.25), "µm", 0.5, "mean"),
            Quantity("Ssk", np.nan, "", None, ""),
        ],
    )
    assert read(path) == [
        ["name", "value", "unit", "uncertainty", "meaning"],
        ["Sa", "1.25", "µm", "0.5", "mean"],
        ["Ssk", "", "", "", ""],
    ]
