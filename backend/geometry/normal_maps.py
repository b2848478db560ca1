# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mesh loses with its triangles, as normals in a picture (Cohen et al. 1998, "Appearance-preserving
simplification"; Cignoni et al. 1998, "A general method for preserving attribute values on simplified meshes").
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from . import charts, triangle_tree
from .mesh import Mesh, unit, vertex_normals
from .tangent_frames import tangents

REACH = 0.1  # of the diagonal: how far before and behind the mesh the fine one is looked for
FLAT = (128, 128, 255)  # the mesh's own normal


def bake(mesh: Mesh, fine: Mesh, size: int) -> Generator[float, None, NDArray[np.uint8]]:
    """Tangent-space normal map of ``fine`` for a mesh with ``uvs`` that lies about where it does, uint8
    [size, size, 3], first row at the top: (normal + 1) / 2 in red along growing u, green along growing v ("OpenGL", as
    Blender and glTF have it) and blue outwards. Yields the share done, several times a second.

    Each texel shows the smooth normal of the point that the fine mesh has along the mesh's own smooth normal, in the
    frame that it will be read in (``tangent_frames``), and ``FLAT`` where there is none. Seams as ``charts.picture``.
    """
    normals = vertex_normals(mesh).astype(np.float64)
    along_u, row = tangents(mesh, normals)
    wanted = vertex_normals(fine).astype(np.float64)
    tree = triangle_tree.grown(fine)
    reach = REACH * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))

    def seen(face: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
        corners, shares = mesh.faces[face], weights.astype(np.float64)[:, :, None]
        points = (mesh.vertices[corners] * shares).sum(axis=1)
        normal = (normals[corners] * shares).sum(axis=1)
        tangent = (along_u[row[face][:, None], corners] * shares).sum(axis=1)
        bitangent = np.cross(normal, tangent) * np.where(row[face], -1.0, 1.0)[:, None]
        face, places = triangle_tree.met(tree, points, unit(normal), reach)
        met = face >= 0
        there = (wanted[fine.faces[face[met]]] * places[met][:, :, None]).sum(axis=1)
        shown = np.tile(np.array(FLAT, np.uint8), (len(face), 1))
        shown[met] = encoded(within(there, tangent[met], bitangent[met], normal[met]))
        return shown

    return charts.picture(mesh, size, seen)


def within(
    directions: NDArray[np.float64],
    tangents: NDArray[np.float64],
    bitangents: NDArray[np.float64],
    normals: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Directions [N, 3] as unit vectors [N, 3] in frames that need be neither orthogonal nor normalised, such that the
    sum of the frame's vectors by these shares is along the direction. What looks inwards is laid flat."""
    across = np.cross(bitangents, normals), np.cross(normals, tangents), np.cross(tangents, bitangents)
    handed = np.sign(np.einsum("ni,ni->n", tangents, across[0]))
    shares = np.stack([handed * np.einsum("ni,ni->n", directions, axis) for axis in across], axis=1)
    shares[:, 2] = np.maximum(shares[:, 2], 0.0)
    return unit(shares)


def encoded(normals: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Unit vectors [N, 3] as a normal map shows them, uint8 [N, 3]. That of length 0 is shown as ``FLAT``."""
    bytes_: NDArray[np.uint8] = np.rint((normals + 1.0) * 127.5).astype(np.uint8)
    bytes_[~normals.any(axis=1)] = FLAT
    return bytes_
