# SPDX-License-Identifier: GPL-3.0-or-later
"""The triangle mesh every geometry step takes and gives, and the pure functions on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Colour = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.floating]]
"""Points [N, 3] (box coordinates) and unit outward normals [N, 3] to sRGB colours in [0, 1], [N, 3].

A field whose colour depends on the direction is best asked for the direction of sight ``-normal``.
"""


@dataclass(frozen=True)
class Mesh:
    """Triangles in box coordinates.

    vertices: float32 [V, 3]; faces: int32 [F, 3], counter-clockwise seen from outside; colors: uint8 [V, 3] sRGB;
    uvs: float32 [V, 2], origin bottom-left; texture: uint8 [H, W, 3] sRGB, first row at the top (v = 1); normal_map:
    uint8 [H, W, 3] beside a texture, of directions in the frames of ``tangent_frames``.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors: NDArray[np.uint8] | None = None
    uvs: NDArray[np.float32] | None = None
    texture: NDArray[np.uint8] | None = None
    normal_map: NDArray[np.uint8] | None = None


def face_crosses(mesh: Mesh) -> NDArray[np.float64]:
    """Cross product of two edges of every face, [F, 3]: along the outward normal, twice the area long."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]].astype(np.float64) for i in range(3))
    crosses: NDArray[np.float64] = np.cross(b - a, c - a).astype(np.float64, copy=False)
    return crosses


def face_areas(mesh: Mesh) -> NDArray[np.float64]:
    """Area of every face, [F]."""
    areas: NDArray[np.float64] = 0.5 * np.linalg.norm(face_crosses(mesh), axis=1)
    return areas


def area(mesh: Mesh) -> float:
    """Surface area."""
    return float(face_areas(mesh).sum())


def signed_volumes(mesh: Mesh) -> NDArray[np.float64]:
    """Signed volume of the tetrahedron of each face and the origin, [F]; over a closed mesh they sum to its volume."""
    a = mesh.vertices[mesh.faces[:, 0]].astype(np.float64)
    volumes: NDArray[np.float64] = np.einsum("fi,fi->f", a, face_crosses(mesh)) / 6.0
    return volumes


def volume(mesh: Mesh) -> float:
    """Enclosed volume of a closed mesh; negative if it is inside out."""
    return float(signed_volumes(mesh).sum())


def weld(vertices: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Vertices at exactly the same place made one: (index of one vertex per place [P], place of every vertex [V]).

    Texture seams double vertices; what must not see the seams (normals, topology, OBJ positions) welds them first.
    """
    bits = np.ascontiguousarray(vertices + np.float32(0.0)).view(np.uint32)  # + 0 turns -0 into 0
    order = np.lexsort(bits.T)
    new = np.ones(len(order), dtype=bool)
    new[1:] = (bits[order[1:]] != bits[order[:-1]]).any(axis=1)
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.cumsum(new) - 1
    return order[new], place


def vertex_normals(mesh: Mesh) -> NDArray[np.float32]:
    """Unit normals [V, 3]: means of the faces around each place, by the angles of their corners there (Thürmer and
    Wüthrich 1998), as Blender shades a smooth mesh; the same on both sides of a seam."""
    _, place = weld(mesh.vertices)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    facing = unit(face_crosses(mesh))
    sums = np.zeros((int(place.max(initial=-1)) + 1, 3))
    for k in range(3):
        a, b = corners[:, (k + 1) % 3] - corners[:, k], corners[:, (k + 2) % 3] - corners[:, k]
        add_at(sums, place[mesh.faces[:, k]], facing * angles(a, b)[:, None])
    sums[~sums.any(axis=1)] = (0.0, 0.0, 1.0)
    return unit(sums)[place].astype(np.float32)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors [..., 3] at length one; those that have none stay."""
    scaled: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300)
    return scaled


def angles(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles [N] between vectors [N, 3] and [N, 3], in radians; exact for small ones, 0 where a vector is."""
    found: NDArray[np.float64] = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.einsum("ni,ni->n", a, b))
    return found


def add_at(sums: NDArray[np.float64], rows: NDArray[np.integer], values: NDArray[np.float64]) -> None:
    """Adds values [N, 3] to the ``rows`` [N] of sums [M, 3], each as often as it is named."""
    for i in range(3):
        sums[:, i] += np.bincount(rows, values[:, i], len(sums))


def components(mesh: Mesh) -> NDArray[np.int32]:
    """Label of the connected part each face belongs to, [F]; faces are connected where they share a vertex."""
    a, b = mesh.faces[:, [0, 1]].ravel(), mesh.faces[:, [1, 2]].ravel()
    count = len(mesh.vertices)
    graph = coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, dense = np.unique(labels[mesh.faces[:, 0]], return_inverse=True)
    return dense.astype(np.int32)


def half_edges(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Directed edges [3F, 2]; those of face f are rows 3f, 3f + 1, 3f + 2."""
    return faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge lies between exactly two faces that agree on which side is outside."""
    edges = half_edges(mesh.faces).astype(np.int64)
    forward = np.sort(edges[:, 0] * len(mesh.vertices) + edges[:, 1])
    backward = np.sort(edges[:, 1] * len(mesh.vertices) + edges[:, 0])
    return bool((forward == backward).all() and (forward[1:] != forward[:-1]).all())


def select(mesh: Mesh, keep: NDArray[np.bool_]) -> Mesh:
    """The mesh with only the faces marked in ``keep`` [F], and only the vertices these use."""
    faces = mesh.faces[keep]
    used = np.zeros(len(mesh.vertices), dtype=bool)
    used[faces] = True
    index = (np.cumsum(used) - 1).astype(np.int32)
    return replace(
        mesh,
        vertices=mesh.vertices[used],
        faces=index[faces],
        colors=None if mesh.colors is None else mesh.colors[used],
        uvs=None if mesh.uvs is None else mesh.uvs[used],
    )


def sample(
    mesh: Mesh, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Points spread evenly over the surface [N, 3], the face of each [N] and its barycentric coordinates [N, 3]."""
    areas = face_areas(mesh)
    face = rng.choice(len(areas), size=count, p=areas / areas.sum())
    root, v = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - v), root * v], axis=1)
    return np.einsum("nk,nkd->nd", weights, mesh.vertices[mesh.faces[face]].astype(np.float64)), face, weights
