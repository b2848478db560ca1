# SPDX-License-Identifier: GPL-3.0-or-later
"""Smaller tetrahedra where the surface is (Shen et al., "Deep Marching Tetrahedra", 2021, §3.1, volume subdivision)."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from .tetrahedra import TetGrid, around, crossed, reach, sided

PAIRS = list(combinations(range(4), 2))
EIGHT = [  # a, b, c, d, and the middles of PAIRS: ab, ac, ad, bc, bd, cd
    *[(0, 4, 5, 6), (4, 1, 7, 8), (5, 7, 2, 9), (6, 8, 9, 3)],
    *[(4, 9, 7, 5), (4, 9, 8, 7), (4, 9, 6, 8), (4, 9, 5, 6)],
]
"""Four at the corners, four around the line between the middles of ab and cd: as these are the long edges of the
lattice's tetrahedra, the smaller ones have the same shape, and their long edges in the same places."""


def refined(grid: TetGrid, sdf: Tensor, positions: Tensor) -> tuple[TetGrid, Tensor, Tensor]:
    """Eight for each tetrahedron that the surface passes through or that touches one of these; without the others.

    sdf [V] and positions [V, 3] on ``grid``. Returns the new grid, which begins where ``positions`` are, and sdf and
    positions on it, differentiable in the given ones. The surface is the same. From there it may go as far as the
    refined tetrahedra reach: vertices at their border stay where and on which side they are, so that surfaces are
    closed. Where there is no surface, nothing is left.
    """
    sdf = sided(sdf, grid)
    near, kept = around(crossed(sdf.detach(), grid)[0], grid)
    side = torch.where(near, grid.side, torch.where(sdf < 0, -1, 1)).to(torch.int8)
    count = len(sdf)
    used, index = torch.unique(kept, return_inverse=True)
    low, high = kept[:, PAIRS].sort(-1).values.unbind(-1)
    keys, middle = torch.unique(low * count + high, return_inverse=True)
    a, b = keys // count, keys % count
    tetrahedra = torch.cat([index, len(used) + middle], 1)[:, EIGHT].view(-1, 4).int()
    sdf, positions = (torch.cat([x[used], (x[a] + x[b]) / 2]) for x in (sdf, positions))
    side = torch.cat([side[used], torch.where(side[a] == side[b], side[a], 0)])
    vertices = positions.detach()
    free = torch.where(side == 0, reach(vertices, tetrahedra), 0.0)
    return TetGrid(vertices, tetrahedra, side, free), sdf, positions
