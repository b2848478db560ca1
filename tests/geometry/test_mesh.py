# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np

from backend.geometry import mesh as meshes
from backend.geometry.mesh import Mesh

from .shapes import sphere

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
CUBE = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]],
    np.int32,
)  # fmt: skip


def test_normals_do_not_ask_how_a_face_is_cut_into_triangles() -> None:
    """The corners of a cube look along its diagonals, however many triangles of each side meet there; also on seams."""
    truth = CORNERS / np.sqrt(3)
    np.testing.assert_allclose(meshes.vertex_normals(Mesh(CORNERS, CUBE)), truth, atol=1e-6)
    apart = Mesh(CORNERS[CUBE.ravel()], np.arange(36, dtype=np.int32).reshape(12, 3))
    np.testing.assert_allclose(meshes.vertex_normals(apart), truth[CUBE.ravel()], atol=1e-6)


def test_normals_of_a_sphere_look_away_from_its_middle() -> None:
    ball = sphere(0.6, 48)
    outward = ball.vertices / np.linalg.norm(ball.vertices, axis=1, keepdims=True)
    away = np.degrees(np.arccos(np.einsum("ni,ni->n", meshes.vertex_normals(ball), outward).clip(-1, 1)))
    assert away.mean() < 0.8 and away.max() < 2.5


def test_what_has_no_area_has_no_say() -> None:
    """A needle and a point on a flat square; a vertex that has nothing else looks up."""
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0, 0], [9, 9, 9]], np.float32)
    faces = np.array([[0, 3, 1], [1, 3, 2], [0, 4, 1], [5, 5, 5]], np.int32)
    normals = meshes.vertex_normals(Mesh(square, faces))
    np.testing.assert_array_equal(normals[:4], [[0, 0, -1]] * 4)
    np.testing.assert_array_equal(normals[4:], [[0, 0, 1]] * 2)


def test_angles_are_exact_also_where_they_are_small() -> None:
    for angle in (0.0, 1e-9, 1e-4, 0.5, 1.5, 3.0, np.pi - 1e-9):
        turned = np.array([[2 * np.cos(angle), 2 * np.sin(angle), 0.0]])
        np.testing.assert_allclose(meshes.angles(np.array([[3.0, 0.0, 0.0]]), turned), angle, rtol=1e-7, atol=0)
    assert meshes.angles(np.zeros((1, 3)), np.ones((1, 3))) == 0
