# SPDX-License-Identifier: GPL-3.0-or-later
"""What turns a raw iso-surface into a mesh one wants to have: no floaters, no inner shells, fewer triangles, no holes.

All take a mesh without texture and give a new one; colours are best computed after the last of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import fast_simplification
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array

from ..errors import Gen3DError
from .mesh import Mesh, components, face_areas, half_edges, is_watertight, select, signed_volumes, weld


def clean(mesh: Mesh) -> Mesh:
    """Equal vertices welded; faces that are a point, a line, a copy or the back of another face dropped."""
    first, place = weld(mesh.vertices)
    colors = None if mesh.colors is None else mesh.colors[first]
    faces = place[mesh.faces].astype(np.int32)
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    lowest = faces.argmin(axis=1)[:, None]
    turned = np.take_along_axis(faces, (lowest + np.arange(3)) % 3, axis=1)  # same cycle, smallest index first
    _, once = np.unique(turned, axis=0, return_index=True)
    faces = faces[np.sort(once)]
    _, group, count = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True)
    welded = Mesh(mesh.vertices[first], faces, colors)
    return select(welded, np.asarray(count[group.ravel()] == 1))


def remove_floaters(mesh: Mesh, share: float) -> Mesh:
    """Without the connected parts whose area is less than ``share`` of the largest part's; 0 keeps all."""
    if share <= 0 or not len(mesh.faces):
        return mesh
    part = components(mesh)
    areas = np.bincount(part, face_areas(mesh))
    return select(mesh, (areas >= share * areas.max())[part])


def remove_inside(mesh: Mesh, eyes: NDArray[np.floating] | None = None) -> Mesh:
    """Without what no eye outside can see: walls of closed cavities, and whatever floats inside these.

    A cavity's wall is a part that is inside out, for outside of the solid is inside the cavity. A cavity with one of
    ``eyes`` [N, 3] (the cameras, in box coordinates) in it stays: it is the room the pictures were taken in.
    For closed surfaces that do not cross each other, as iso-surfaces are.
    """
    part = components(mesh)
    count = int(part.max(initial=-1)) + 1
    volumes = np.bincount(part, signed_volumes(mesh), count)
    part_of_vertex = np.full(len(mesh.vertices), count)
    part_of_vertex[mesh.faces] = part[:, None]
    low, high = np.full((count + 1, 3), np.inf), np.full((count + 1, 3), -np.inf)
    np.minimum.at(low, part_of_vertex, mesh.vertices)
    np.maximum.at(high, part_of_vertex, mesh.vertices)
    hidden = volumes < 0
    for cavity in np.flatnonzero(hidden):
        wall = select(mesh, part == cavity)
        if eyes is not None and (winding_numbers(wall, eyes) < -0.5).any():
            hidden[cavity] = False
            continue
        nested = (volumes > 0) & (low >= low[cavity]).all(axis=1)[:count] & (high <= high[cavity]).all(axis=1)[:count]
        for i in np.flatnonzero(nested & ~hidden):
            points = mesh.vertices[part_of_vertex == i]
            extremes = points[np.concatenate([points.argmin(axis=0), points.argmax(axis=0)])]
            hidden[i] = bool((winding_numbers(wall, extremes) < -0.5).all())
    return select(mesh, ~hidden[part])


def winding_numbers(mesh: Mesh, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """How often the mesh winds around each point, [N]: 1 inside a closed mesh, 0 outside, -1 if it is inside out.

    Sum of the solid angles of the faces (van Oosterom and Strackee 1983; Jacobson et al. 2013, eq. 5).
    """
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    numbers = np.empty(len(points))
    for i, point in enumerate(np.asarray(points, dtype=np.float64)):
        a, b, c = (corners[:, k] - point for k in range(3))
        la, lb, lc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
        dots = [np.einsum("fi,fi->f", v, w) for v, w in ((a, b), (b, c), (c, a))]
        determinant = np.einsum("fi,fi->f", a, np.cross(b, c))
        numbers[i] = np.arctan2(determinant, la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb).sum()
    return numbers / (2 * np.pi)


def smooth(mesh: Mesh, rounds: int = 5, shrink: float = 0.5, swell: float = -0.53) -> Mesh:
    """Small steps smoothed away without shrinking (Taubin 1995, λ|μ: a smoothing, then an unsmoothing step)."""
    a, b = half_edges(mesh.faces).T
    count = len(mesh.vertices)
    graph = coo_array((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(count, count)).tocsr()
    graph.data[:] = 1.0
    mean = diags_array(1.0 / np.maximum(graph.sum(axis=1), 1.0)) @ graph
    vertices = mesh.vertices.astype(np.float64)
    for _ in range(rounds):
        for factor in (shrink, swell):
            vertices += factor * (mean @ vertices - vertices)
    return replace(mesh, vertices=vertices.astype(np.float32))


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """About ``faces`` triangles by quadric edge collapse (Garland and Heckbert 1997); 0 keeps all.

    A watertight mesh stays watertight: where a collapse has glued two sheets along an edge, they are cut apart again.
    """
    if faces <= 0 or len(mesh.faces) <= faces:
        return mesh
    points, triangles = fast_simplification.simplify(
        mesh.vertices.astype(np.float32), np.ascontiguousarray(mesh.faces, dtype=np.int32), target_count=max(faces, 4)
    )
    reduced = clean(Mesh(points.astype(np.float32), triangles.astype(np.int32)))
    return make_watertight(reduced) if is_watertight(mesh) else reduced


def make_watertight(mesh: Mesh) -> Mesh:
    """Every hole closed, every edge between exactly two faces that agree on the outside.

    Faces on an edge that is used twice in the same direction are cut out; the border that remains is a set of closed
    loops, and each is filled with a fan around its middle. Fans use only edges that lacked a face and edges to a new
    vertex, so this cannot fail, however bad the mesh was.

    Raises Gen3DError when nothing is left to close.
    """
    mesh = clean(mesh)
    key = _edge_keys(mesh)
    _, group, count = np.unique(key, return_inverse=True, return_counts=True)
    single = (count[group.ravel()] == 1).reshape(-1, 3).all(axis=1)
    mesh = select(mesh, np.asarray(single))
    if not len(mesh.faces):
        raise Gen3DError(
            "No closed surface can be made: every triangle lies on an edge that several share.",
            "Choose another mesh.level, or leave mesh.watertight off.",
            field="mesh.watertight",
        )
    edges = half_edges(mesh.faces)
    open_edges = edges[~np.isin(edges[:, 1].astype(np.int64) * len(mesh.vertices) + edges[:, 0], _edge_keys(mesh))]
    middles: list[NDArray[np.float32]] = []
    fans: list[NDArray[np.int32]] = []
    for loop in _loops(open_edges[:, ::-1]):
        following = np.roll(loop, -1)
        if len(loop) == 3:
            fans.append(loop[None])
            continue
        fans.append(np.stack([loop, following, np.full_like(loop, len(mesh.vertices) + len(middles))], axis=1))
        middles.append(mesh.vertices[loop].mean(axis=0))
    if not fans:
        return mesh
    vertices = np.concatenate([mesh.vertices, np.array(middles, dtype=np.float32).reshape(-1, 3)])
    return Mesh(vertices, np.concatenate([mesh.faces, *fans]))


def _edge_keys(mesh: Mesh) -> NDArray[np.int64]:
    edges = half_edges(mesh.faces).astype(np.int64)
    return edges[:, 0] * len(mesh.vertices) + edges[:, 1]


def _loops(edges: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    """Directed edges [E, 2], as many into each vertex as out of it, as closed loops that pass no vertex twice."""
    following: dict[int, list[int]] = defaultdict(list)
    for start, end in edges.tolist():
        following[start].append(end)
    loops = []
    for start in list(following):
        path, position = [start], {start: 0}
        while following[path[-1]]:
            vertex = following[path[-1]].pop()
            if vertex in position:
                cut = position[vertex]
                loops.append(np.array(path[cut:], dtype=np.int32))
                for passed in path[cut + 1 :]:
                    del position[passed]
                del path[cut + 1 :]
            else:
                position[vertex] = len(path)
                path.append(vertex)
    return loops
