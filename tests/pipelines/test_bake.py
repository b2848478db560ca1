# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from backend.errors import Gen3DError
from backend.geometry import export, reading
from backend.geometry.mesh import Mesh
from backend.pipelines import bake
from backend.settings import BakeSettings
from tests.data.scene import distance_to_surface
from tests.geometry.shapes import sphere

from .runs import Run, finish


def hue(points: Any) -> np.ndarray[Any, Any]:
    """A colour of every place, sRGB in [0, 1]."""
    return np.asarray(0.5 + 0.4 * points / np.linalg.norm(points, axis=1, keepdims=True))


def painted(path: Path) -> Mesh:
    ball = sphere(0.6, 48)
    ball = replace(ball, colors=np.rint(255 * hue(ball.vertices)).astype(np.uint8))
    path.write_bytes(export.ply(ball, np.eye(4)))
    return ball


def shown(out: Path, files: dict[str, str]) -> Any:
    (mesh,) = trimesh.load_scene(out / files["mesh"]).geometry.values()
    return mesh


def test_vertex_colours_become_a_texture_on_fewer_faces(tmp_path: Path) -> None:
    before = painted(tmp_path / "ball.ply")
    (tmp_path / "out").mkdir()
    told, summary = finish(
        bake.bake(BakeSettings(str(tmp_path / "ball.ply"), faces=600, texture=256), tmp_path / "out")
    )
    assert [one.fraction for one in told] == sorted(one.fraction for one in told)
    assert 400 < summary["mesh"]["faces"] <= 600 < len(before.faces)
    assert summary["box_to_world"] == np.eye(4).tolist()
    mesh = shown(tmp_path / "out", summary["files"])
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.6, atol=0.02)
    image = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    assert image.shape == (256, 256, 3)
    points, face = trimesh.sample.sample_surface(mesh, 3000, seed=0)
    triangles: Any = trimesh.triangles
    weights = triangles.points_to_barycentric(mesh.triangles[face], points)
    uvs = np.einsum("nk,nkd->nd", weights, mesh.visual.uv[mesh.faces[face]])
    seen = image[((1 - uvs[:, 1]) * 256).astype(int).clip(0, 255), (uvs[:, 0] * 256).astype(int).clip(0, 255)] / 255
    assert np.abs(seen - hue(points)).mean() < 0.01
    assert np.abs(seen - hue(points)).max() < 0.08


def test_normals_of_what_the_mesh_was_become_a_map(tmp_path: Path) -> None:
    """Those of a ball are not quite those that its 80 triangles are shaded with."""
    painted(tmp_path / "ball.ply")
    for wanted in (True, False):
        out = tmp_path / str(wanted)
        out.mkdir()
        settings = BakeSettings(str(tmp_path / "ball.ply"), faces=80, texture=128, normal_map=wanted)
        _, summary = finish(bake.bake(settings, out))
        assert ("normal_map" in summary["files"]) == wanted
        assert (shown(out, summary["files"]).visual.material.normalTexture is not None) == wanted
    with Image.open(tmp_path / "True" / "mesh_normals.png") as image:
        normals = np.asarray(image) / 127.5 - 1
    np.testing.assert_allclose(np.linalg.norm(normals, axis=2).mean(), 1, atol=0.02)
    tilt = np.degrees(np.arctan2(np.hypot(normals[..., 0], normals[..., 1]), normals[..., 2]))
    assert 1 < np.median(tilt) < 10 and tilt.max() < 30


def test_a_field_colours_a_mesh_of_its_world(trained: Run, tmp_path: Path) -> None:
    """Another mesh of the same object, without colours of its own, gets those of the training's mesh."""
    (known,) = reading.read(trained.out / "mesh.ply")
    bare = replace(known, colors=None)
    (tmp_path / "bare.ply").write_bytes(export.ply(bare, np.eye(4)))
    (tmp_path / "out").mkdir()
    wanted = BakeSettings(str(tmp_path / "bare.ply"), str(trained.out), faces=1500, texture=256, device="cpu")
    _, summary = finish(bake.bake(wanted, tmp_path / "out"))
    assert summary["box_to_world"] == trained.summary["box_to_world"]
    (again,) = reading.read(tmp_path / "out" / "mesh.ply")
    assert np.median(distance_to_surface(again.vertices.astype(np.float64))) < 0.03
    assert again.colors is not None and known.colors is not None
    nearest = np.array([np.linalg.norm(known.vertices - place, axis=1).argmin() for place in again.vertices])
    assert np.abs(again.colors / 255 - known.colors[nearest] / 255).mean() < 0.06


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "There is no file"),
        (b"ply\nrubbish", "cannot be read"),
        (export.ply(Mesh(np.eye(3, dtype=np.float32), np.zeros((0, 3), np.int32)), np.eye(4)), "without faces"),
        (export.ply(sphere(0.5, 12), np.eye(4)), "has no colours"),
    ],
    ids=["missing", "damaged", "points", "bare"],
)
def test_what_cannot_be_baked_is_said(tmp_path: Path, content: bytes | None, cause: str) -> None:
    if content is not None:
        (tmp_path / "x.ply").write_bytes(content)
    with pytest.raises(Gen3DError, match=cause) as caught:
        finish(bake.bake(BakeSettings(str(tmp_path / "x.ply")), tmp_path))
    assert caught.value.next_step
