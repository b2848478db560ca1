# SPDX-License-Identifier: GPL-3.0-or-later
"""How far two objects' surfaces lie apart, both as they stand in the scene: nothing is aligned."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree
from numpy.typing import NDArray

POINTS = 4000
RAYS = 48


def surface_distance(original: bpy.types.Object, result: bpy.types.Object) -> dict[str, float]:
    """Two-sided nearest distances between the surfaces, in shares of the original's bounding-box diagonal.

    "median" and "mean" are over points spread evenly on both surfaces and measured to the other one; of the original
    only those points count that can be seen from outside at all (its parts stick in one another).
    """
    one, other = _Surface(original), _Surface(result)
    points = one.sample(POINTS)
    visible = points[[one.can_be_seen(point) for point in points]]
    there = other.distances(visible) / one.diagonal
    back = one.distances(other.sample(POINTS)) / one.diagonal
    both = np.concatenate((there, back))
    return {
        "median": float(np.median(both)),
        "mean": float(both.mean()),
        "original to result": float(np.median(there)),
        "result to original": float(np.median(back)),
        "diagonal": one.diagonal,
    }


class _Surface:
    """World-space triangles of an object, with a tree to find the nearest."""

    def __init__(self, item: bpy.types.Object) -> None:
        mesh = item.data
        mesh.calc_loop_triangles()
        local = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", local)
        faces = np.empty(3 * len(mesh.loop_triangles), np.int32)
        mesh.loop_triangles.foreach_get("vertices", faces)
        matrix = np.array(item.matrix_world, np.float64)
        self.vertices = local.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
        self.faces = faces.reshape(-1, 3)
        self.diagonal = float(np.linalg.norm(np.ptp(self.vertices, axis=0)))
        self.tree = BVHTree.FromPolygons(self.vertices.tolist(), self.faces.tolist())

    def sample(self, count: int) -> NDArray[np.float64]:
        """Points [count, 3], evenly spread over the area."""
        random = np.random.default_rng(0)
        corners = self.vertices[self.faces]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        chosen = corners[random.choice(len(corners), count, p=areas / areas.sum())]
        u, v = np.sqrt(random.random((count, 1))), random.random((count, 1))
        return (1.0 - u) * chosen[:, 0] + u * (1.0 - v) * chosen[:, 1] + u * v * chosen[:, 2]

    def distances(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([self.tree.find_nearest(Vector(point))[3] for point in points])

    def can_be_seen(self, point: NDArray[np.float64]) -> bool:
        """Whether some straight line leads from the point to the outside."""
        ways = np.random.default_rng(1).normal(size=(RAYS, 3))
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        return any(
            self.tree.ray_cast(Vector(point + 1e-4 * self.diagonal * way), Vector(way))[0] is None for way in ways
        )
