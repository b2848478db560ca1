# SPDX-License-Identifier: GPL-3.0-or-later
"""A cube filled with tetrahedra, whose vertices may move a little (Shen et al., "Deep Marching Tetrahedra", 2021, §3.1;
Gao et al., "Learning Deformable Tetrahedral Meshes", 2020).

The lattice is body-centred cubic (Labelle and Shewchuk, "Isosurface Stuffing", 2007): the corners and the middles of
cubic cells. Two middles of cells that share a face make a tetrahedron with each of the four edges of that face. All
tetrahedra inside are congruent, with angles of 60 and 90 degrees between their faces, and alike along all three axes.
With as many vertices, six tetrahedra around a diagonal of each cube leave surfaces a quarter farther from what they
show, and five in each cube a third, with more slivers (``benchmarks/tetrahedra.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FREEDOM = 0.98  # of the way to where a tetrahedron could become flat


@dataclass(frozen=True)
class TetGrid:
    """vertices: float32 [V, 3]; tetrahedra: int32 [T, 4], a, b, c, d with (b - a) x (c - a) · (d - a) > 0.

    side: int8 [V], 1 for vertices that are outside and -1 for those that are inside whatever their value, as all at the
    border of the grid are, so that surfaces are closed; 0 for the others. reach: float32 [V], how far each vertex may
    go along each axis, whatever the others do, before a tetrahedron turns over; 0 at the border.
    """

    vertices: Tensor
    tetrahedra: Tensor
    side: Tensor
    reach: Tensor


def lattice(resolution: int, device: torch.device | None = None) -> TetGrid:
    """The cube [-1, 1]³ in tetrahedra, with vertices in ``resolution`` layers and one more along each axis.

    resolution: even, at least 4; half as many cells are along each side, with two vertices and 12 tetrahedra each. At
    the border, the pyramids between faces of the cube and middles of cells are cut in two. The outermost vertices count
    as outside and stay; the others may go half a layer (see ``reach``).

    ValueError for another resolution.
    """
    if resolution < 4 or resolution % 2:
        raise ValueError(f"the resolution of a lattice must be even and at least 4, not {resolution}")
    n = resolution // 2
    corners = torch.arange((n + 1) ** 3, dtype=torch.int32, device=device).view(n + 1, n + 1, n + 1)
    middles = torch.arange(n**3, dtype=torch.int32, device=device).view(n, n, n) + (n + 1) ** 3
    parts: list[tuple[Tensor, ...]] = []
    for axis in range(3):
        turned = [(axis + i) % 3 for i in range(3)]  # no mirror image: the winding stays
        c, m = corners.permute(turned), middles.permute(turned)
        ring = [c[:, :-1, :-1], c[:, 1:, :-1], c[:, 1:, 1:], c[:, :-1, 1:]]  # of each face across the axis
        for i in range(4):
            parts.append((m[:-1], m[1:], ring[i][1:-1], ring[i - 3][1:-1]))
        for i in (0, 2):
            parts.append((m[0], ring[i - 2][0], ring[i - 3][0], ring[i][0]))
            parts.append((m[-1], ring[i - 2][-1], ring[i][-1], ring[i - 3][-1]))
    tetrahedra = torch.cat([torch.stack(part, -1).view(-1, 4) for part in parts])
    axes = torch.linspace(-1, 1, resolution + 1, device=device)
    vertices = torch.cat([torch.cartesian_prod(*[axes[start::2]] * 3) for start in (0, 1)])
    border = vertices.abs().amax(1) == 1
    reach = torch.where(border, 0.0, FREEDOM / resolution)
    return TetGrid(vertices, tetrahedra, border.to(torch.int8), reach)


def deformed(grid: TetGrid, raw: Tensor) -> Tensor:
    """Vertices [V, 3] moved by any ``raw`` [V, 3], in reaches where it is small. No tetrahedron turns over."""
    return grid.vertices + grid.reach[:, None] * torch.tanh(raw)


def reach(vertices: Tensor, tetrahedra: Tensor) -> Tensor:
    """How far each of the vertices [V, 3] of positive tetrahedra [T, 4] may go along each axis, [V].

    Only a flat tetrahedron can turn over, and it is flat if all four vertices are in a plane. With n across the plane,
    none of them came from farther than b |n|₁, where b is how far they went: the width along n was 2 b |n|₁ or less.
    Relative to |n|₁, a tetrahedron is least wide along one of seven directions: across a face, or across two edges that
    do not meet (the faces of its difference body, in which a cube of half side 2 b has to fit). Where n is the product
    of two edges, that width is 6 volumes. So any b < 3 volume / max |n|₁ is safe: in the lattice, half a layer.
    """
    a, b, c, d = (vertices[tetrahedra[:, i]] for i in range(4))
    volumes = (torch.linalg.cross(b - a, c - a) * (d - a)).sum(1)
    longest = torch.zeros_like(volumes)
    pairs = [(b - a, c - a), (b - a, d - a), (c - a, d - a), (c - b, d - b)]
    for u, v in [*pairs, (b - a, d - c), (c - a, d - b), (d - a, c - b)]:
        longest = torch.maximum(longest, torch.linalg.cross(u, v).abs().sum(1))
    free = (FREEDOM / 2 * volumes / longest)[:, None].expand(-1, 4)
    most = torch.full_like(vertices[:, 0], torch.inf)
    return most.scatter_reduce(0, tetrahedra.long().flatten(), free.flatten(), "amin")


def sided(sdf: Tensor, grid: TetGrid) -> Tensor:
    """Values [V] with the sign that the grid asks for. It is only turned around: where a value at the border passes 0,
    the surface does not jump."""
    fixed = grid.side.to(sdf.dtype)
    return torch.where(grid.side == 0, sdf, sdf.abs().clamp_min(1e-12) * fixed)


def crossed(sdf: Tensor, grid: TetGrid) -> tuple[Tensor, Tensor]:
    """Tetrahedra with vertices on both sides, int64 [C, 4], and which of these are inside, uint8 [C, 4]."""
    inside = (sdf < 0).byte()
    marks = inside.index_select(0, grid.tetrahedra.flatten()).view(-1, 4)
    four = marks.view(torch.int32)[:, 0]
    found = ((four != 0) & (four != 0x01010101)).nonzero()[:, 0]
    return grid.tetrahedra[found].long(), marks[found]


def around(tetrahedra: Tensor, grid: TetGrid) -> tuple[Tensor, Tensor]:
    """Which vertices are in ``tetrahedra`` [C, 4], bool [V], and all that have one of them, int64 [K, 4]."""
    near = torch.zeros(len(grid.vertices), dtype=torch.bool, device=tetrahedra.device)
    near[tetrahedra.flatten()] = True
    found = near.index_select(0, grid.tetrahedra.flatten()).view(-1, 4).any(1)
    return near, grid.tetrahedra[found].long()
