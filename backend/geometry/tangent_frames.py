# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames that a normal map is read in: what Blender and glTF viewers derive from a smooth mesh and its UVs.

Beside the smooth normal stands MikkTSpace's tangent (Mikkelsen 2008, "Simulation of Wrinkled Surfaces Revisited"),
which glTF 2.0 (3.7.2.1) asks for where a file has none: along growing u, perpendicular to the normal. Within a face
both are interpolated and not normalised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .mesh import Mesh, add_at, angles, unit, weld


def tangents(mesh: Mesh, normals: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Unit tangents [2, V, 3] at the vertices of a mesh with ``uvs`` and unit ``normals`` [V, 3], and the row of these
    that each face takes [F]: 0, or 1 where the UVs mirror it. The bitangent is normal x tangent, and its opposite in 1.

    Where two parts of one chart touch in nothing but a vertex, they share its tangent, which MikkTSpace's do not.
    """
    assert mesh.uvs is not None
    _, place = weld(np.concatenate([mesh.vertices, mesh.uvs], axis=1))
    corners, uvs = mesh.vertices[mesh.faces].astype(np.float64), mesh.uvs[mesh.faces].astype(np.float64)
    (_, x1, x2), (_, s1, s2) = (np.moveaxis(values - values[:, :1], 1, 0) for values in (corners, uvs))
    area = s1[:, 0] * s2[:, 1] - s1[:, 1] * s2[:, 0]
    along_u = np.sign(area)[:, None] * (s2[:, 1:] * x1 - s1[:, 1:] * x2)
    row = (area < 0).astype(np.intp)
    count = int(place.max(initial=-1)) + 1
    sums = np.zeros((2 * count, 3))
    for k in range(3):
        normal = normals[mesh.faces[:, k]].astype(np.float64)
        to_next, to_last = (_flattened(corners[:, (k + i) % 3] - corners[:, k], normal) for i in (1, 2))
        shares = angles(to_next, to_last)[:, None] * unit(_flattened(along_u, normal))
        add_at(sums, row * count + place[mesh.faces[:, k]], shares)
    made = sums.reshape(2, count, 3)[:, place]
    lost: NDArray[np.bool_] = (made == 0).all(axis=2)
    row[(area == 0) & (lost[0] & ~lost[1])[mesh.faces[:, 0]]] = 1  # a line in the picture goes with its neighbours
    across = np.eye(3)[np.abs(normals).argmin(axis=1)]  # no face says where u grows: any direction in the plane
    made = np.where(lost[:, :, None], _flattened(across, normals.astype(np.float64)), made)
    return unit(made), row


def _flattened(vectors: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors [N, 3] without what they have along unit normals [N, 3]."""
    flat: NDArray[np.float64] = vectors - normals * np.einsum("ni,ni->n", vectors, normals)[:, None]
    return flat
