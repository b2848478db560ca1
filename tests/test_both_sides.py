# SPDX-License-Identifier: GPL-3.0-or-later
"""What one side writes, the other reads: captured datasets to the backend, meshes to the add-on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backend import driver
from backend.data.posed_images import load
from backend.geometry import export
from backend.geometry.mesh import Mesh
from blender_gen3d.capturing import camera_model, dialects, picture_files
from blender_gen3d.results import glb

BOX_TO_WORLD = np.array([[0.0, -2.0, 0.0, 5.0], [2.0, 0.0, 0.0, -3.0], [0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 1.0]])


def capture(folder: Path, dialect: str, lens: camera_model.Intrinsics, mask: bool) -> list[dialects.View]:
    """A dataset of noise, written as Blender's capture writes it."""
    center, random = np.array((4.0, -2.0, 7.0)), np.random.default_rng(0)
    ways = camera_model.sphere_directions(12)
    views = []
    for index, split in enumerate(camera_model.split(len(ways), 0.2, 0.25)):
        files = dialects.file_names(dialect, split, index)
        kept = {role: path for role, path in files.items() if role == "image" or (mask and role == "mask")}
        for role, path in kept.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shape = (lens.height, lens.width, 4) if role == "image" else (lens.height, lens.width)
            pixels = random.integers(0, 256, shape).astype(np.uint8)
            picture_files.write_png(folder / path, pixels if role == "image" else 255 * (pixels > 127).astype(np.uint8))
        views.append(dialects.View(split, kept, lens, camera_model.look_at(center + 3.0 * ways[index], center)))
    dialects.write(folder, dialects.transforms(dialect, views, center, 1.0))
    return views


@pytest.mark.parametrize("dialect", ["nerfstudio", "instant-ngp", "nerf-synthetic"])
def test_the_backend_reads_every_captured_dialect(dialect: str, tmp_path: Path) -> None:
    plain = {} if dialect == "nerf-synthetic" else {"shift_x": 0.1, "shift_y": -0.05, "pixel_aspect_y": 1.5}
    lens = camera_model.intrinsics(40, 30, lens=35.0, **plain)  # type: ignore[arg-type]
    views = capture(tmp_path, dialect, lens, mask=dialect == "nerfstudio")
    read = load(tmp_path)
    assert not read.notes
    assert read.has_alpha
    assert len(read.names) == len(views)
    split_of = {int(index): name for name, members in read.splits.items() for index in members}
    remaining = list(views)
    for index, pose in enumerate(read.camera_to_world):
        view = min(remaining, key=lambda view, pose=pose: float(np.abs(view.camera_to_world - pose).sum()))  # type: ignore[misc]
        remaining.remove(view)
        np.testing.assert_allclose(pose, view.camera_to_world, atol=1e-9)
        assert split_of[index] == view.split
        found = read.intrinsics[index]
        np.testing.assert_allclose((found.fl_x, found.fl_y, found.cx, found.cy), lens[2:], rtol=1e-9)
        assert (found.width, found.height) == lens[:2]
        assert (read.masks[index] is not None) == (dialect == "nerfstudio")
        assert "image" in view.files


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_are_plain_png(dtype: type, channels: int, tmp_path: Path) -> None:
    from PIL import Image

    shape = (7, 5) if channels == 1 else (7, 5, channels)
    pixels: NDArray[np.uint8] = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    picture_files.write_png(tmp_path / "x.png", pixels)
    read = np.array(Image.open(tmp_path / "x.png"))
    if dtype is np.uint16 and channels > 1:  # Pillow keeps the high bytes of these
        pixels = (pixels >> 8).astype(np.uint8)
    np.testing.assert_array_equal(read, pixels)


def test_the_addon_reads_the_backends_previews(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    data = driver.png(pixels)
    np.testing.assert_array_equal(picture_files.read_plain_png(data), pixels)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(data))), pixels)
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "other.png")
    for wrong in (data[:-30], data[:20], b"", b"x" * 100, (tmp_path / "other.png").read_bytes()):
        with pytest.raises(ValueError, match="a picture is"):
            picture_files.read_plain_png(wrong)


@pytest.mark.parametrize("kind", ["coloured", "textured", "mapped"])
def test_the_addon_reads_the_backends_mesh(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    vertices = random.uniform(-1, 1, (30, 3)).astype(np.float32)
    faces = random.permuted(np.tile(np.arange(30), (20, 1)), axis=1)[:, :3].astype(np.int32)
    colors = random.integers(0, 256, (30, 3)).astype(np.uint8)
    uvs = random.uniform(0, 1, (30, 2)).astype(np.float32)
    picture, normals = random.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    mesh = Mesh(vertices, faces, colors)
    if kind != "coloured":
        mesh = Mesh(vertices, faces, None, uvs, picture, normals if kind == "mapped" else None)
    export.write_all(mesh, BOX_TO_WORLD, tmp_path)
    read = glb.read_glb(tmp_path / "mesh.glb")
    np.testing.assert_array_equal(read.positions, vertices)
    np.testing.assert_array_equal(read.faces, faces)
    assert read.normal_map == (export.png(normals) if kind == "mapped" else None)
    if kind != "coloured":
        assert read.uvs is not None
        assert read.texture == export.png(picture)
        np.testing.assert_allclose(read.uvs, uvs * (1, -1) + (0, 1), atol=1e-6)  # glTF's origin is the top left
    else:
        assert read.colors is not None
        np.testing.assert_array_equal(np.round(255 * export.linear_to_srgb(read.colors[:, :3])), colors)
        assert (read.colors[:, 3] == 1.0).all()
