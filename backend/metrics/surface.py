# SPDX-License-Identifier: GPL-3.0-or-later
"""How far apart two surfaces are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.mesh import Mesh, sample

NEIGHBOURS = 8


@dataclass(frozen=True)
class SurfaceDistance:
    """Distances of points on each surface to the other, in the meshes' units.

    forward: from points of the first to the second, [N]; backward: from points of the second to the first, [N].
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]

    @property
    def median(self) -> float:
        """Median of both directions together."""
        return float(np.median(np.concatenate([self.forward, self.backward])))

    @property
    def chamfer(self) -> float:
        """Mean of the two mean distances."""
        return float((self.forward.mean() + self.backward.mean()) / 2)

    @property
    def largest(self) -> float:
        """Hausdorff distance of the sampled points."""
        return float(max(self.forward.max(), self.backward.max()))


def surface_distance(a: Mesh, b: Mesh, samples: int = 20_000, seed: int = 0) -> SurfaceDistance:
    """Distances between surfaces ``a`` and ``b``, each sampled evenly by area at ``samples`` points."""
    rng = np.random.default_rng(seed)
    return SurfaceDistance(
        distances(sample(a, samples, rng)[0], b, rng=rng), distances(sample(b, samples, rng)[0], a, rng=rng)
    )


def distances(points: NDArray[np.floating], mesh: Mesh, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Distance of each point [N, 3] to the surface, [N].

    Exact to the faces on which the nearest of many surface samples lie; so never too small, and too large by less
    than the spacing of these samples in the rare case that a still nearer face holds none.
    """
    cloud, face, _ = sample(mesh, max(100_000, len(mesh.faces)), rng)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    cloud = np.concatenate([cloud, corners.mean(axis=1)])
    face = np.concatenate([face, np.arange(len(corners))])
    found, near = cKDTree(cloud).query(points, k=NEIGHBOURS)
    nearest: NDArray[np.float64] = found[:, 0].copy()
    for k in range(NEIGHBOURS):
        np.minimum(nearest, _to_triangles(np.asarray(points, dtype=np.float64), corners[face[near[:, k]]]), out=nearest)
    return nearest


def _to_triangles(points: NDArray[np.float64], triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of point i [N, 3] to triangle i [N, 3, 3]: to its plane if the foot lies inside, else to its edges."""
    nearest = np.full(len(points), np.inf)
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    inside = np.einsum("ni,ni->n", normal, normal) > 0
    for i in range(3):
        start, side = triangles[:, i], triangles[:, (i + 1) % 3] - triangles[:, i]
        offset = points - start
        t = np.einsum("ni,ni->n", offset, side) / np.maximum(np.einsum("ni,ni->n", side, side), 1e-300)
        nearest = np.minimum(nearest, np.linalg.norm(offset - np.clip(t, 0, 1)[:, None] * side, axis=1))
        inside &= np.einsum("ni,ni->n", np.cross(side, offset), normal) >= 0
    height = np.abs(np.einsum("ni,ni->n", points - triangles[:, 0], normal))
    plane = height / np.maximum(np.linalg.norm(normal, axis=1), 1e-300)
    return np.where(inside, np.minimum(nearest, plane), nearest)
