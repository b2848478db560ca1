# SPDX-License-Identifier: GPL-3.0-or-later
"""Scattered points of a surface, moved onto it: faces become even, and edges stay.

A bilateral filter (Digne and de Franchis, "The Bilateral Filter for Point Clouds", Image Processing On Line, 2017)
that fits paraboloids instead of planes, so that round things do not shrink (Alexa et al., "Computing and Rendering
Point Set Surfaces", 2003).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

ROUNDS = 3
NEIGHBOURS = 24
SCALE = 8  # distances are in those to the so-manieth neighbour
NEAR = 1.5  # reach of a neighbour's say
LIKE = 0.35  # how differently, as 1 - cosine, it may face
REFITS = 2
STIFF = 0.01  # against paraboloids through scatter

Floats = NDArray[np.float64]


def filtered(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [N, 3], N > NEIGHBOURS: each point moved along its normal, to the surface of those that face alike."""
    moved: Floats = points.astype(np.float64)
    for _ in range(ROUNDS):
        moved = _once(moved)
    return moved.astype(np.float32)


def _once(points: Floats) -> Floats:
    away, index = cKDTree(points).query(points, k=NEIGHBOURS)
    scale = np.maximum(away[:, SCALE, None], 1e-12)
    apart, near = (points[index] - points[:, None]) / scale[..., None], np.exp(-((away / (NEAR * scale)) ** 2))
    frames, weights = _frames(apart, near), near
    for _ in range(REFITS):
        normals = frames[:, :, 0]
        alike = np.abs(np.einsum("na,nka->nk", normals, normals[index]))
        height = np.einsum("na,nka->nk", normals, apart)
        # the other side of a sheet, and what is around an edge, have no say
        weights = near * np.exp(-(((1 - alike) / LIKE) ** 2) - height**2)
        frames = _frames(apart, weights)
    height, u, v = np.einsum("nab,nka->bnk", frames, apart)
    step = np.clip(_level(height, u, v, weights), -1, 1)
    moved: Floats = points + frames[:, :, 0] * step[:, None] * scale
    return moved


def _frames(apart: Floats, weights: Floats) -> Floats:
    """Unit axes [N, 3, 3] as columns, the normal first, of weighted points [N, K, 3]; weights [N, K]."""
    centres = (weights[..., None] * apart).sum(1, keepdims=True) / weights.sum(1)[:, None, None]
    spread = np.einsum("nk,nka,nkb->nab", weights, apart - centres, apart - centres)
    axes: Floats = np.linalg.eigh(spread)[1]
    return axes


def _level(height: Floats, u: Floats, v: Floats, weights: Floats) -> Floats:
    """Heights [N] at u = v = 0 of the paraboloids that fit the points best."""
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)
    weighted = terms * weights[..., None]
    normal = np.swapaxes(weighted, 1, 2) @ terms
    normal += STIFF * np.diag([1e-6, 1e-3, 1e-3, 1, 1, 1]) * weights.sum(1)[:, None, None]
    found: Floats = np.linalg.solve(normal, np.einsum("nkt,nk->nt", weighted, height)[..., None])[:, 0, 0]
    return found
