# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface between the inside and the outside of a tetrahedral grid, differentiable (Doi and Koide, "An Efficient
Method of Triangulating Equi-Valued Surfaces by Using Tetrahedral Cells", 1991; Shen et al., "Deep Marching Tetrahedra",
2021, §3.1)."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import NamedTuple

import torch
from torch import Tensor

from .tetrahedra import TetGrid, crossed, sided

EVEN = [p for p in permutations(range(4)) if sum(i > j for i, j in combinations(p, 2)) % 2 == 0]
INSIDE_FIRST = torch.tensor([min(EVEN, key=lambda p: [not code >> i & 1 for i in p]) for code in range(16)])
"""By a mask of the vertices that are inside: the order of a tetrahedron's vertices in which those are the first ones,
and which leaves its orientation."""
ONE, TWO, THREE = [0, 1, 0, 2, 0, 3], [0, 2, 0, 3, 1, 3, 1, 2], [0, 3, 1, 3, 2, 3]
"""With so many inside: pairs of vertices between which the surface passes, counter-clockwise seen from outside."""


class Surface(NamedTuple):
    """vertices: [M, 3], in the order of ``edges``; faces: int32 [F, 3], counter-clockwise seen from outside; edges:
    int64 [M, 2], the two vertices of the grid between which each vertex lies, the one inside first."""

    vertices: Tensor
    faces: Tensor
    edges: Tensor


def march(sdf: Tensor, positions: Tensor, grid: TetGrid) -> Surface:
    """The surface where ``sdf`` [V], interpolated along the edges of the grid, is 0.

    Inside is where sdf is less than 0, outside where it is 0 or more, both finite; at the border the grid decides
    (``side``). positions: [V, 3], of the grid's vertices, in any units. Differentiable in sdf and positions.

    Closed, whatever the values: each edge lies between two faces that agree on the outside. Each crossed edge of the
    grid has one vertex. No face has a vertex twice; where sdf is 0 at a vertex of the grid, several vertices lie there,
    and faces between them have no area. Where all values have one sign, there are no vertices and no faces.
    """
    sdf = sided(sdf, grid)
    found, marks = crossed(sdf.detach(), grid)
    codes = (marks << torch.arange(4, dtype=torch.uint8, device=marks.device)).sum(1)
    found = found.gather(1, INSIDE_FIRST.to(found.device)[codes])
    count = marks.sum(1)
    triangles = torch.cat([found[count == 1][:, ONE], found[count == 3][:, THREE]])
    ends = torch.cat([triangles.view(-1, 2), found[count == 2][:, TWO].view(-1, 2)])
    keys, index = torch.unique(ends[:, 0] * len(sdf) + ends[:, 1], return_inverse=True)
    inside, outside = keys // len(sdf), keys % len(sdf)
    share = sdf[inside] / (sdf[inside] - sdf[outside])
    vertices = torch.lerp(positions[inside], positions[outside], share[:, None])
    triangles, squares = index[: 3 * len(triangles)].view(-1, 3), index[3 * len(triangles) :].view(-1, 4)
    faces = torch.cat([triangles, _halves(squares, vertices.detach())])
    return Surface(vertices, faces.int(), torch.stack([inside, outside], 1))


def _halves(squares: Tensor, vertices: Tensor) -> Tensor:
    """Two triangles for each of the quadrilaterals [Q, 4], cut along the shorter diagonal: fewer are slivers."""
    a, b, c, d = vertices[squares].unbind(1)
    turn = (b - d).norm(dim=1) < (a - c).norm(dim=1)
    squares = torch.where(turn[:, None], squares.roll(1, 1), squares)
    return squares[:, [0, 1, 2, 0, 2, 3]].view(-1, 3)
