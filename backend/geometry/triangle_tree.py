# SPDX-License-Identifier: GPL-3.0-or-later
"""Where lines meet a mesh: a hierarchy of bounding boxes over its triangles.

The triangles are put in the order of their middles along a Morton curve (Lauterbach et al. 2009, "Fast BVH construction
on GPUs"), and the boxes of every few, of pairs of these, and so on, form a complete binary tree, which needs no
pointers. Within a leaf: Möller and Trumbore 1997, "Fast, minimum storage ray/triangle intersection".
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from .mesh import Mesh

LEAF = 4  # triangles
CURVE = 10  # bits of the Morton curve in each direction
DEPTH = 64  # of the stack, which holds a node for each level
TINY = 1e-30  # what a line is taken to move along an axis where it moves less
EDGE = 1e-6  # share of a triangle by which it is larger: no line passes between two that share an edge

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class TriangleTree:
    """Triangles float32 [F, 3, 3] in the order of the curve, the ``face`` [F] of the mesh that each is, and boxes,
    float32 [2 L, 3] from ``low`` to ``high``: 1 is the root, those in i are 2 i and 2 i + 1, leaves begin at L."""

    triangles: NDArray[np.float32]
    face: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


def grown(mesh: Mesh) -> TriangleTree:
    """The tree of a mesh."""
    order = np.argsort(_morton(mesh), kind="stable")
    triangles = mesh.vertices[mesh.faces[order]].astype(np.float32)
    leaves = 1 << max(-(-len(order) // LEAF) - 1, 0).bit_length()
    low, high = np.full((leaves * LEAF, 3), np.inf, np.float32), np.full((leaves * LEAF, 3), -np.inf, np.float32)
    low[: len(order)], high[: len(order)] = triangles.min(axis=1), triangles.max(axis=1)
    lows, highs = [low.reshape(leaves, LEAF, 3).min(axis=1)], [high.reshape(leaves, LEAF, 3).max(axis=1)]
    while len(lows[-1]) > 1:
        lows.append(lows[-1].reshape(-1, 2, 3).min(axis=1))
        highs.append(highs[-1].reshape(-1, 2, 3).max(axis=1))
    unused = np.zeros((1, 3), np.float32)
    boxes = (np.concatenate([unused, *reversed(levels)]) for levels in (lows, highs))
    return TriangleTree(triangles, order.astype(np.int32), *boxes)


def met(
    tree: TriangleTree, points: NDArray[np.float64], directions: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Where lines through points [N, 3] along unit directions [N, 3] meet the mesh nearest to the point, before or
    behind it, at ``reach`` at most: the face [N], -1 where there is none, and barycentric coordinates in it [N, 3].

    Only faces whose front looks in the direction count: of a thin wall one meets this side, and never the other.
    """
    found, weights = _met(tree.triangles, tree.low, tree.high, points, directions, reach)
    return np.append(tree.face, np.int32(-1))[found], weights


def _morton(mesh: Mesh) -> NDArray[np.int64]:
    """Place of every face along the curve [F]."""
    middles = mesh.vertices[mesh.faces].mean(axis=1)
    if not len(middles):
        return np.zeros(0, np.int64)
    low = middles.min(axis=0)
    side = max(float(np.ptp(middles, axis=0).max()), 1e-30)
    cells = ((middles - low) * ((2**CURVE - 1) / side)).astype(np.int64)
    code = np.zeros(len(cells), np.int64)
    for bit in range(CURVE):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code


@nb.njit(parallel=True, cache=True, error_model="numpy")
def _met(
    triangles: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    points: NDArray[np.float64],
    directions: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """See ``met``; faces in the order of the tree."""
    face = np.full(len(points), -1, np.int32)
    weights = np.zeros((len(points), 3))
    leaves = len(low) // 2
    for n in nb.prange(len(points)):
        point = (points[n, 0], points[n, 1], points[n, 2])
        way = (directions[n, 0], directions[n, 1], directions[n, 2])
        per = (_inverse(way[0]), _inverse(way[1]), _inverse(way[2]))
        nearest = reach
        stack, gaps = np.empty(DEPTH, np.int64), np.empty(DEPTH)
        stack[0], gaps[0], held = 1, 0.0, 1
        while held:
            held -= 1
            node = stack[held]
            if gaps[held] > nearest:
                continue
            if node >= leaves:
                first = (node - leaves) * LEAF
                for f in range(first, min(first + LEAF, len(triangles))):
                    away, v, w = _crossed(triangles, f, point, way)
                    if abs(away) <= nearest:
                        nearest, face[n] = abs(away), f
                        weights[n, 0], weights[n, 1], weights[n, 2] = 1.0 - v - w, v, w
                continue
            left, right = _away(low, high, 2 * node, point, per), _away(low, high, 2 * node + 1, point, per)
            far = 2 * node + (left < right)
            stack[held], gaps[held] = far, max(left, right)
            stack[held + 1], gaps[held + 1] = far ^ 1, min(left, right)  # the nearer one is taken first
            held += 2
    return face, weights


@nb.njit(cache=True)
def _inverse(way: float) -> float:
    return 1.0 / way if abs(way) > TINY else 1.0 / TINY


@nb.njit(cache=True)
def _away(low: NDArray[np.float32], high: NDArray[np.float32], node: int, point: Vector, per: Vector) -> float:
    """How far along a line, before or behind the point, a box is; infinitely far where the line passes it by.
    ``per``: one by the line's direction."""
    start, end = -np.inf, np.inf
    for i in range(3):
        a, b = (low[node, i] - point[i]) * per[i], (high[node, i] - point[i]) * per[i]
        if per[i] < 0.0:  # not the lesser first: empty boxes, whose low is above their high, are passed by
            a, b = b, a
        start, end = max(start, a), min(end, b)
    return max(start, -end, 0.0) if start <= end else np.inf


@nb.njit(cache=True, error_model="numpy")
def _crossed(triangles: NDArray[np.float32], f: int, point: Vector, way: Vector) -> tuple[float, float, float]:
    """How far along a line a triangle is, infinitely where it is not met or from behind; and where in it that is."""
    ax, ay, az = float(triangles[f, 0, 0]), float(triangles[f, 0, 1]), float(triangles[f, 0, 2])
    bx, by, bz = triangles[f, 1, 0] - ax, triangles[f, 1, 1] - ay, triangles[f, 1, 2] - az
    cx, cy, cz = triangles[f, 2, 0] - ax, triangles[f, 2, 1] - ay, triangles[f, 2, 2] - az
    nx, ny, nz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
    facing = nx * way[0] + ny * way[1] + nz * way[2]
    if not facing > 0.0:
        return np.inf, 0.0, 0.0
    px, py, pz = point[0] - ax, point[1] - ay, point[2] - az
    qx, qy, qz = py * way[2] - pz * way[1], pz * way[0] - px * way[2], px * way[1] - py * way[0]
    v = -(cx * qx + cy * qy + cz * qz) / facing
    w = (bx * qx + by * qy + bz * qz) / facing
    if v < -EDGE or w < -EDGE or v + w > 1.0 + EDGE:
        return np.inf, 0.0, 0.0
    return -(nx * px + ny * py + nz * pz) / facing, v, w
