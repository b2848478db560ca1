# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed distances [N] of points [N, 3] to solids, negative inside, and what is asked of the surfaces of any."""

from __future__ import annotations

import torch
from torch import Tensor

from backend.geometry.marching_tetrahedra import Surface
from backend.geometry.mesh import Mesh

MIDDLE = torch.tensor([0.013, 0.021, -0.017])
"""Away from the vertices of any grid."""
TURN = torch.linalg.qr(torch.tensor([[0.8, 0.3, -0.5], [-0.2, 0.9, 0.4], [0.6, -0.3, 0.7]]))[0]


def ball(points: Tensor, radius: float = 0.6, middle: Tensor = MIDDLE) -> Tensor:
    found: Tensor = (points - middle.to(points)).norm(dim=1) - radius
    return found


def torus(points: Tensor, radius: float = 0.55, thick: float = 0.22) -> Tensor:
    x, y, z = ((points - MIDDLE.to(points)) @ TURN.to(points)).unbind(1)
    return torch.hypot(torch.hypot(x, y) - radius, z) - thick


def box(points: Tensor, half: tuple[float, float, float] = (0.5, 0.42, 0.35)) -> Tensor:
    """Turned, so that none of its sides is one of a grid's planes."""
    away = (points @ TURN.to(points)).abs() - torch.tensor(half).to(points)
    found: Tensor = (away.clamp_min(0).square().sum(1) + 1e-20).sqrt() + away.amax(1).clamp_max(0)
    return found


def waves(points: Tensor, seed: int, count: int = 12, pitch: float = 5.0) -> Tensor:
    """A smooth random field."""
    generator = torch.Generator().manual_seed(seed)
    turns = pitch * torch.randn(3, count, generator=generator)
    return torch.cos(points @ turns.to(points) + 6.3 * torch.rand(count, generator=generator).to(points)).mean(1)


def mesh(surface: Surface) -> Mesh:
    return Mesh(surface.vertices.detach().float().numpy(), surface.faces.numpy())
