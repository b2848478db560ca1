# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np

from backend.geometry import mesh as meshes
from backend.geometry import transfer
from backend.geometry.cleanup import decimate
from backend.geometry.mesh import Mesh
from backend.geometry.texture import paint

from .shapes import bumpy, colour


def test_on_the_mesh_itself_its_colours_are_interpolated() -> None:
    """Also on faces of very different sizes."""
    random = np.random.default_rng(0)
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [1.001, 0, 0], [1.001, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]], np.int32)
    plate = Mesh(corners, faces, random.integers(0, 256, (6, 3)).astype(np.uint8))
    for mesh in (plate, paint(decimate(bumpy(), 2000), colour)):
        assert mesh.colors is not None
        points, face, weights = meshes.sample(mesh, 2000, random)
        expected = np.einsum("nk,nkc->nc", weights, mesh.colors[mesh.faces[face]] / 255)
        found = transfer.colours_of(mesh)(points.astype(np.float32), np.zeros((2000, 3), np.float32))
        away = np.abs(found - expected).max(axis=1)
        assert np.quantile(away, 0.9) < 1e-6
        assert np.quantile(away, 0.999) < 0.03, "where the nearest face was not among those looked at"


def test_fewer_faces_keep_the_colours() -> None:
    fine = paint(bumpy(), colour)
    coarse = decimate(fine, 3000)
    found = transfer.colours_of(fine)(coarse.vertices, meshes.vertex_normals(coarse))
    truth = colour(coarse.vertices, meshes.vertex_normals(coarse))
    assert np.abs(found - truth)[:, :2].mean() < 0.01
    assert np.abs(found - truth)[:, :2].max() < 0.08
