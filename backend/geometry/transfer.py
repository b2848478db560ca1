# SPDX-License-Identifier: GPL-3.0-or-later
"""The colours of one mesh for the surface of another that lies about where it does, such as itself with fewer faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .mesh import Colour, Mesh, sample

SAMPLES = 4  # for each face, spread evenly over the surface: large faces are known by many places
CANDIDATES = 8  # faces that are looked at for each point

_triangles: Any = trimesh.triangles  # says nothing of its types


def colours_of(mesh: Mesh) -> Colour:
    """The vertex colours of a mesh, interpolated at its point nearest to where a colour is wanted.

    The nearest face is looked for among those whose middles or samples are nearest, which now and then
    gives a neighbour of it: of points on the mesh, one in a hundred is off by more than a 255th.
    """
    assert mesh.colors is not None
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    shades = mesh.colors[mesh.faces] / 255.0
    spread, owner, _ = sample(mesh, SAMPLES * len(mesh.faces), np.random.default_rng(0))
    owners = np.concatenate((np.arange(len(mesh.faces)), owner))
    tree = cKDTree(np.concatenate((corners.mean(axis=1), spread)))

    def colour(points: NDArray[np.float32], _normals: NDArray[np.float32]) -> NDArray[np.float64]:
        wanted = points.astype(np.float64)
        faces = owners[tree.query(wanted, k=CANDIDATES)[1]]
        repeated = np.repeat(wanted, CANDIDATES, axis=0)
        near = _triangles.closest_point(corners[faces.ravel()], repeated)
        away = np.linalg.norm(near - repeated, axis=1).reshape(faces.shape)
        best = away.argmin(axis=1)
        chosen = faces[np.arange(len(wanted)), best]
        places = near.reshape(*faces.shape, 3)[np.arange(len(wanted)), best]
        weights = _triangles.points_to_barycentric(corners[chosen], places)
        weights = np.clip(np.nan_to_num(weights, nan=1.0), 0.0, 1.0)
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
        mixed: NDArray[np.float64] = np.einsum("nk,nkc->nc", weights, shades[chosen])
        return mixed

    return colour
