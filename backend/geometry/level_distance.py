# SPDX-License-Identifier: GPL-3.0-or-later
"""From a density field to the distances that a tetrahedral grid begins with (Lin et al., "Magic3D", 2023, §4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import Gen3DError
from .surface import CLIP
from .tetrahedra import TetGrid, around, crossed, sided


@torch.no_grad()
def level_distance(density: Tensor, level: float, grid: TetGrid) -> Tensor:
    """About how far each vertex of the grid is from where ``density`` [V] is ``level``, [V], negative inside.

    That is the logarithm of level / density, clipped as ``surface.extract`` does, divided by how much it changes per
    length: the mean slope in the tetrahedra around the vertex. Farther than their longest edge from the surface, values
    tell only the side. So they change alike across surfaces sharp and soft, and vertices follow gradients alike. What
    is meshed is mostly two to three times as near to the level set as with the logarithm alone. With level - density,
    sharp surfaces would be three to nine times as far off (``benchmarks/tetrahedra.py``).

    Raises Gen3DError where densities are not numbers, or are nowhere above the level within the border of the grid,
    which closes what leaves it.
    """
    wrong = int(torch.isnan(density).sum())
    if wrong:
        raise Gen3DError(
            f"The density of {wrong} of {len(density)} places is not a number.",
            "The field is damaged: train it again, or go back to an earlier checkpoint.",
        )
    logs = -(density / level).clamp(math.exp(-CLIP), math.exp(CLIP)).log()
    found, _ = crossed(sided(logs, grid), grid)
    if not len(found) or not 0 < level < math.inf:
        raise Gen3DError(
            f"No surface lies at density {level:g}: the field's densities run from {float(density.min()):g} to "
            f"{float(density.max()):g}.",
            "Choose a level between them; if the field is empty, train it longer.",
        )
    near, tetrahedra = around(found, grid)
    corners, values = grid.vertices[tetrahedra], logs[tetrahedra]
    edges, changes = corners[:, 1:] - corners[:, :1], values[:, 1:] - values[:, :1]
    slopes = torch.linalg.solve(edges, changes[..., None])[..., 0]
    sums, count = torch.zeros_like(grid.vertices), torch.zeros_like(logs)
    for corner in tetrahedra.unbind(1):
        sums.index_add_(0, corner, slopes)
        count.index_add_(0, corner, torch.ones_like(values[:, 0]))
    slope = (sums / count[:, None]).norm(dim=1)
    limit = float(edges.norm(dim=2).max())
    return torch.where(near, logs / slope.clamp_min(1e-12), torch.where(logs < 0, -limit, limit)).clamp(-limit, limit)
