# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.geometry import triangle_tree
from backend.geometry.mesh import Mesh, sample, vertex_normals

from .shapes import bumpy


def soup(count: int, seed: int) -> Mesh:
    """Triangles of very different sizes, anywhere in a cube."""
    random = np.random.default_rng(seed)
    middles, sizes = random.uniform(-1, 1, (count, 1, 3)), np.exp(random.uniform(-4, 0.5, (count, 1, 1)))
    corners = middles + sizes * random.normal(size=(count, 3, 3))
    return Mesh(corners.reshape(-1, 3).astype(np.float32), np.arange(3 * count, dtype=np.int32).reshape(-1, 3))


def by_force(
    mesh: Mesh, point: NDArray[np.float64], way: NDArray[np.float64], reach: float
) -> tuple[int, float, NDArray[np.float64]]:
    """The line put to every triangle: one system of equations each."""
    nearest, face, weights = reach, -1, np.zeros(3)
    for f, (a, b, c) in enumerate(mesh.vertices[mesh.faces].astype(np.float64)):
        if np.cross(b - a, c - a) @ way <= 0:
            continue
        away, v, w = np.linalg.solve(np.stack([-way, b - a, c - a], axis=1), point - a)
        if min(v, w, 1 - v - w) >= 0 and abs(away) <= nearest:
            nearest, face, weights = abs(away), f, np.array([1 - v - w, v, w])
    return face, nearest, weights


@pytest.mark.parametrize("count", [1, 3, 5, 64, 300])
def test_the_tree_finds_what_is_found_by_force(count: int) -> None:
    """For any number of triangles, also those that leave leaves empty; along the axes, too."""
    mesh, random = soup(count, count), np.random.default_rng(1)
    points, ways = random.uniform(-1.5, 1.5, (200, 3)), random.normal(size=(200, 3))
    ways[:60] = np.concatenate([np.eye(3), -np.eye(3)])[random.integers(0, 6, 60)]
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    face, weights = triangle_tree.met(triangle_tree.grown(mesh), points, ways, 0.7)
    for point, way, found, at in zip(points, ways, face, weights, strict=True):
        expected, away, shares = by_force(mesh, point, way, 0.7)
        assert found == expected
        if found >= 0:
            np.testing.assert_allclose(at, shares, atol=1e-4)
            place = at @ mesh.vertices[mesh.faces[found]]
            assert np.linalg.norm(place - point) == pytest.approx(away, abs=1e-5)
    assert count < 300 or 50 < (face >= 0).sum() < 190


def test_no_line_passes_between_two_triangles() -> None:
    """Lines through corners, middles of edges and points of a closed surface, from a little inside and outside."""
    mesh = bumpy(40)
    tree, random = triangle_tree.grown(mesh), np.random.default_rng(0)
    a, b = mesh.vertices[mesh.faces[:, 0]].astype(float), mesh.vertices[mesh.faces[:, 1]].astype(float)
    somewhere, face, _ = sample(mesh, 3000, random)
    ways = vertex_normals(mesh).astype(float)
    cases = {
        "corners": (mesh.vertices.astype(float), ways),
        "edges": ((a + b) / 2, ways[mesh.faces[:, :2]].sum(axis=1)),
        "faces": (somewhere, ways[mesh.faces[face]].sum(axis=1)),
    }
    for name, (places, along) in cases.items():
        along = along / np.linalg.norm(along, axis=1, keepdims=True)
        for shift in (-1e-3, 0.0, 1e-3):
            found, weights = triangle_tree.met(tree, places + shift * along, along, 0.01)
            assert (found >= 0).all(), name
            there = np.einsum("nk,nkd->nd", weights, mesh.vertices[mesh.faces[found]].astype(float))
            assert np.linalg.norm(there - places - shift * along, axis=1).max() <= abs(shift) + 1e-5, name


def test_what_is_behind_too_far_or_absent_is_not_met() -> None:
    face = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32), np.array([[0, 1, 2]], np.int32))
    up, points = np.array([[0.0, 0.0, 1.0]]), np.array([[0.2, 0.3, 0.5]])

    def met(mesh: Mesh, way: NDArray[np.float64], reach: float) -> int:
        return int(triangle_tree.met(triangle_tree.grown(mesh), points, way, reach)[0][0])

    assert met(face, up, 0.6) == 0
    assert met(face, up, 0.4) == -1, "too far"
    assert met(face, -up, 0.6) == -1, "its back"
    assert met(Mesh(face.vertices, face.faces[:, ::-1]), up, 0.6) == -1
    assert met(Mesh(face.vertices, face.faces[:0]), up, 9.0) == -1, "no triangles"
    assert met(Mesh(face.vertices * 0, face.faces), up, 9.0) == -1, "no area"
