# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes and clouds come out of files as they went in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh as typeless

from backend.errors import Gen3DError
from backend.geometry import export, reading
from backend.geometry.mesh import Mesh

trimesh: Any = typeless
WORLD = np.array([[0, -2, 0, 1], [2, 0, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]], dtype=np.float64)


@pytest.fixture
def mesh() -> Mesh:
    """Eight triangles, no two vertices at one place, every brightness of every channel."""
    rng = np.random.default_rng(0)
    colours = rng.permuted(np.tile(np.arange(256, dtype=np.uint8), (3, 1)), axis=1)[:, :240].T
    return Mesh(
        rng.normal(size=(240, 3)).astype(np.float32), np.arange(240, dtype=np.int32).reshape(-1, 3), colours.copy()
    )


@pytest.mark.parametrize("suffix", ["ply", "glb"])
def test_what_was_exported(mesh: Mesh, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"thing é.{suffix}"
    path.write_bytes({"ply": export.ply, "glb": export.glb}[suffix](mesh, WORLD))
    (found,) = reading.read(path)
    assert found.colors is not None and mesh.colors is not None
    corners = export.to_world(mesh, WORLD)[mesh.faces.ravel()]
    np.testing.assert_allclose(found.vertices[found.faces.ravel()], corners, atol=1e-5)
    assert np.array_equal(found.colors[found.faces.ravel()], mesh.colors[mesh.faces.ravel()])
    path.write_bytes({"ply": export.ply, "glb": export.glb}[suffix](replace(mesh, colors=None), WORLD))
    (bare,) = reading.read(path)
    assert np.array_equal(bare.faces, found.faces)


def test_a_texture_becomes_colours_of_vertices(tmp_path: Path) -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]], dtype=np.float32)
    texture = np.zeros((64, 64, 3), dtype=np.uint8)
    texture[:32, :32], texture[:32, 32:], texture[32:, :32], texture[32:, 32:] = (
        (250, 10, 20), (20, 200, 30), (90, 90, 90), (10, 20, 240),
    )  # fmt: skip
    uvs = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    (tmp_path / "a.glb").write_bytes(export.glb(Mesh(corners, faces, None, uvs, texture), np.eye(4)))
    (found,) = reading.read(tmp_path / "a.glb")
    assert found.colors is not None
    np.testing.assert_allclose(found.vertices, corners, atol=1e-6)
    assert found.colors.tolist() == [[90, 90, 90], [10, 20, 240], [20, 200, 30], [250, 10, 20]]


def test_a_scene_is_put_together(tmp_path: Path) -> None:
    """Y up in the file, Z up here; and what is moved there is moved here."""
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=trimesh.transformations.translation_matrix([0, 5, 0]))
    scene.add_geometry(trimesh.creation.icosphere(1), transform=trimesh.transformations.translation_matrix([2, 0, 3]))
    scene.export(tmp_path / "b.glb")
    (found,) = reading.read(tmp_path / "b.glb")
    assert len(found.faces) == 12 + 80
    np.testing.assert_allclose(found.vertices.min(0), (-0.5, -4, -1), atol=1e-5)
    np.testing.assert_allclose(found.vertices.max(0), (3, 0.5, 5.5), atol=1e-5)


def test_clouds(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    points, colours = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 256, (50, 3), dtype=np.uint8)
    r, g, b = (colours / 255).T
    trimesh.PointCloud(points, colours).export(tmp_path / "coloured.ply")
    np.savez(tmp_path / "point-e.npz", coords=points, R=r, G=g, B=b)
    np.savez_compressed(tmp_path / "batch.npz", arr_0=np.concatenate([points, colours / 255], 1)[None])
    for name in ("coloured.ply", "point-e.npz", "batch.npz"):
        (found,) = reading.read(tmp_path / name)
        assert found.colors is not None and found.faces.shape == (0, 3)
        np.testing.assert_allclose(found.vertices, points, atol=1e-6)
        assert np.array_equal(found.colors, colours)
    trimesh.PointCloud(points).export(tmp_path / "bare.ply")
    np.savez(tmp_path / "bare.npz", coords=points)
    np.savez(tmp_path / "published.npz", arr_0=np.stack([points, -points]))
    (ply,), (npz,), both = (reading.read(tmp_path / name) for name in ("bare.ply", "bare.npz", "published.npz"))
    assert ply.colors is npz.colors is both[0].colors is None
    np.testing.assert_allclose(ply.vertices, npz.vertices, atol=1e-6)
    assert len(both) == 2 and np.array_equal(both[1].vertices, -points)


def test_what_cannot_be_read(mesh: Mesh, tmp_path: Path) -> None:
    nothing = np.empty((0, 3))
    np.savez(tmp_path / "code.npz", coords=np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "odd.npz", other=nothing)
    np.savez(tmp_path / "flat.npz", coords=np.zeros((5, 2)))
    np.savez(tmp_path / "empty.npz", coords=nothing)
    np.savez(tmp_path / "nan.npz", coords=np.array([[0, np.nan, 0]]))
    (tmp_path / "cut.glb").write_bytes(export.glb(mesh, WORLD)[:-500])
    (tmp_path / "cut.ply").write_bytes(export.ply(mesh, WORLD)[:-500])
    (tmp_path / "noise.ply").write_bytes(b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\n")
    (tmp_path / "none.glb").write_bytes(b"")
    (tmp_path / "words.txt").write_text("points")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(Gen3DError) as error:
            reading.read(path)
        assert str(path) in error.value.cause and error.value.field == "results"
    with pytest.raises(Gen3DError, match="absent"):
        reading.read(tmp_path / "absent.ply")
