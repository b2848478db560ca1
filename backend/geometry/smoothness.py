# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a surface smooth while it is trained, and clears away what floats around it.

Vertices are float [M, 3], faces int [F, 3] of a closed mesh. Of nothing, each is 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_EDGES = [0, 1, 1, 2, 2, 0]


def neighbours(faces: Tensor) -> Tensor:
    """The two faces at each edge, int64 [3 F / 2, 2]."""
    low, high = faces[:, HALF_EDGES].long().view(-1, 2).sort(1).values.unbind(1)
    return torch.argsort((low << 32) + high).view(-1, 2) // 3


def normal_consistency(vertices: Tensor, faces: Tensor) -> Tensor:
    """How much neighbouring faces are turned to each other: the mean of 1 - cos over the edges (Lin et al., "Magic3D",
    2023, §4).

    Each edge counts as the smaller of its two faces is large: the direction of a sliver says nothing, and its gradient
    would be the larger, the narrower it is.
    """
    crosses = _crosses(vertices, faces)
    normals, areas = F.normalize(crosses, dim=1), crosses.detach().norm(dim=1)
    one, two = neighbours(faces).unbind(1)
    weights = torch.minimum(areas[one], areas[two])
    turned = 1 - (normals[one] * normals[two]).sum(1)
    return (weights * turned).sum() / weights.sum().clamp_min(1e-30)


def laplacian(vertices: Tensor, faces: Tensor) -> Tensor:
    """Mean over the vertices of the squared distance, along the normal, from the middle of their neighbours.

    The distance across the normal is left out: vertices of marching tetrahedra are unevenly spaced and bound to the
    edges of the grid, and to become evenly spaced, even a smooth ball crumples.
    """
    start, end = faces[:, HALF_EDGES].long().view(-1, 2).unbind(1)  # each edge twice, once from either end
    sums = torch.zeros_like(vertices).index_add(0, start, vertices[end])
    away = sums / torch.bincount(start, minlength=len(vertices))[:, None] - vertices
    return (away * vertex_normals(vertices.detach(), faces)).sum(1).square().sum() / max(len(vertices), 1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [M, 3], the larger faces around a vertex counting more. Differentiable."""
    crosses = _crosses(vertices, faces).repeat_interleave(3, 0)
    return F.normalize(torch.zeros_like(vertices).index_add(0, faces.flatten(), crosses), dim=1)


def sign_changes(sdf: Tensor, edges: Tensor) -> Tensor:
    """How firmly the two ends of crossed edges [M, 2] (``Surface.edges``) are on different sides (Munkberg et al.,
    "Extracting Triangular 3D Models, Materials, and Lighting From Images", 2022): the mean, over the edges, of the
    cross entropies of each value of ``sdf`` [V], as a logit, and the other's sign. As signs differ, that of a value s
    is log(1 + exp |s|).

    A vertex whose neighbours are all on the other side is the first to change it. So floaters vanish that no picture
    tells of, where smoothing leaves them; but as all values near surfaces come down to 0, it has to be faint or brief.
    """
    return F.softplus(sdf[edges].abs()).sum() / max(len(edges), 1)


def _crosses(vertices: Tensor, faces: Tensor) -> Tensor:
    a, b, c = vertices[faces].unbind(1)
    crosses: Tensor = torch.linalg.cross(b - a, c - a)
    return crosses
