# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backend.geometry.cleanup import decimate
from backend.geometry.mesh import Mesh, vertex_normals
from backend.geometry.tangent_frames import tangents

from .shading import mikktspace
from .shapes import bumpy, sphere

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, 3.0, -2.0])
def test_on_a_plane_the_tangent_is_where_u_grows(angle: float, mirrored: bool) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to_uv = (np.diag([-1.0, 1.0]) if mirrored else np.eye(2)) @ turn  # u and v of a place on the square
    mesh = Mesh(SQUARE, FACES, uvs=(0.3 * SQUARE[:, :2] @ to_uv.T).astype(np.float32))
    found, row = tangents(mesh, vertex_normals(mesh))
    assert (row == int(mirrored)).all()
    np.testing.assert_allclose(found[int(mirrored)], [[*to_uv[0], 0.0]] * 4, atol=1e-6)
    bitangent = np.cross([0, 0, 1], found[int(mirrored)]) * (-1 if mirrored else 1)
    np.testing.assert_allclose(bitangent, [[*to_uv[1], 0.0]] * 4, atol=1e-6)


def test_on_a_globe_it_points_east() -> None:
    ball = sphere(0.6, 40)
    x, y, z = ball.vertices.astype(float).T
    away = np.linalg.norm(ball.vertices, axis=1)
    uvs = np.stack([np.arctan2(y, x) / (2 * np.pi), np.arcsin(z / away) / np.pi], axis=1)
    globe = replace(ball, uvs=uvs.astype(np.float32))
    normals = vertex_normals(globe)
    found, row = tangents(globe, normals)
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-9)
    np.testing.assert_allclose(np.einsum("rvi,vi->rv", found, normals), 0, atol=1e-6)
    inland = (np.abs(z) < 0.4) & (x > 0)  # neither near a pole nor near where u begins again
    east = np.stack([-y, x, 0 * z], axis=1)[inland] / np.hypot(x, y)[inland][:, None]
    assert (row[inland[globe.faces].all(axis=1)] == 0).all()
    assert (np.einsum("vi,vi->v", found[0][inland], east) > 0.99).all()


def test_they_are_those_of_mikktspace() -> None:
    """On a mesh in all turns, whose UVs are folded, tear, and vanish here and there."""
    mesh = decimate(bumpy(32), 700)
    rng = np.random.default_rng(0)
    corners = rng.permutation(np.repeat(np.arange(len(mesh.vertices)), 2))[: 2 * len(mesh.vertices)]
    copies = np.concatenate([np.arange(len(mesh.vertices)), corners]).astype(np.int32)
    of_vertex = [np.flatnonzero(copies == vertex) for vertex in range(len(mesh.vertices))]
    faces = np.array([[rng.choice(of_vertex[vertex]) for vertex in face] for face in mesh.faces], np.int32)
    plane = mesh.vertices @ rng.normal(size=(3, 2))
    uvs = plane[copies] + np.round(rng.random((len(copies), 1)))  # copies at the same place of the picture are one
    uvs[faces[:20, 1]] = uvs[faces[:20, 0]]
    torn = Mesh(mesh.vertices[copies], faces, uvs=uvs.astype(np.float32))
    normals = vertex_normals(torn)
    found, row = tangents(torn, normals)
    expected, signs = mikktspace(torn, normals)
    assert torn.uvs is not None
    whole = (torn.uvs[torn.faces[:, 0]] != torn.uvs[torn.faces[:, 1]]).any(axis=1)
    np.testing.assert_array_equal(row[whole], signs[whole] < 0)
    assert 0.2 < row.mean() < 0.8 and len(np.unique(np.c_[torn.vertices, torn.uvs], axis=0)) < len(torn.vertices)
    told = (np.linalg.norm(expected, axis=2) > 0) & whole[:, None]
    assert told.mean() > 0.9
    np.testing.assert_allclose(found[row[:, None], torn.faces][told], expected[told], atol=1e-5)


def test_where_u_grows_nowhere_there_is_still_a_frame() -> None:
    flat = Mesh(SQUARE, FACES, uvs=np.zeros((4, 2), np.float32))
    found, row = tangents(flat, vertex_normals(flat))
    assert (row == 0).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1)
    np.testing.assert_allclose(found[..., 2], 0, atol=1e-12)


def test_a_face_that_is_a_line_in_the_picture_goes_with_its_neighbours() -> None:
    for side in (1.0, -1.0):
        uvs = (SQUARE[:, :2] * [side, 1.0]).astype(np.float32)
        mesh = Mesh(SQUARE, np.concatenate([FACES, [[0, 2, 2]]]).astype(np.int32), uvs=uvs)
        assert (tangents(mesh, vertex_normals(mesh))[1] == (side < 0)).all()
