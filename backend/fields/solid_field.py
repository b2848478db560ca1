# SPDX-License-Identifier: GPL-3.0-or-later
"""Density and colour of a thing that looks the same from every side: what guides from words are good for.

Two networks with one interface, ``raw(points, directions, along, across)``: the residual MLP of Jain et al., "Dream
Fields", 2022 (§4.3, App. C) behind an integrated positional encoding, and a hash grid, which is much faster.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hash_grid import HashGrid, Levels
from .integrated_encoding import BANDS, integrated_encoding

OUT = 4  # density and colour, before their activations


class ResidualMlp(nn.Module):
    """About 280,000 weights: blocks of layer norm, a layer of twice the width, Swish, and back. ``opened``: how many
    bands of the encoding it sees."""

    basis: Tensor
    opened: float = BANDS

    def __init__(self, width: int = 128, blocks: int = 4, waves: int = 6) -> None:
        super().__init__()
        self.register_buffer("basis", F.normalize(torch.randn(waves, 3), dim=1))
        self.enter = nn.Linear(2 * BANDS * waves, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.widen = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(blocks))
        self.narrow = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(blocks))
        self.leave = nn.Linear(width, OUT)

    def raw(self, points: Tensor, directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """Gaussians as ``integrated_encoding`` has them, in box coordinates -> [N, 4], without activations."""
        x = self.enter(integrated_encoding(points, directions, self.basis, along, across, self.opened))
        for norm, widen, narrow in zip(self.norms, self.widen, self.narrow, strict=True):
            x = x + narrow(F.silu(widen(norm(x))))
        out: Tensor = self.leave(x)
        return out


class SolidGrid(nn.Module):
    """A hash grid and one hidden layer. How wide a sample is, it does not see. With ``facing``, another hidden layer
    says which way a surface faces (Lin et al., "Magic3D", 2023, §4.1), which is faster than to difference density."""

    def __init__(self, grid: Levels, hidden: int = 32, facing: bool = False) -> None:
        super().__init__()
        self.grid = HashGrid(grid)
        self.hidden = nn.Linear(grid.channels, hidden)
        self.leave = nn.Linear(hidden, OUT)
        nn.init.zeros_(self.leave.bias)
        self.facing = (
            nn.Sequential(nn.Linear(grid.channels, hidden), nn.ReLU(), nn.Linear(hidden, 3)) if facing else None
        )

    def raw(self, points: Tensor, directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """points [N, 3] of [-1, 1]^3 -> [N, 4], without activations."""
        return self.at(points)

    def at(self, points: Tensor) -> Tensor:
        """The same, which needs no more than the points."""
        out: Tensor = self.leave(F.relu(self.hidden(self.grid((points + 1) * 0.5))))
        return out

    def normal(self, points: Tensor) -> Tensor:
        """[N, 3] -> unit vectors [N, 3]; where nothing is told yet, away from the middle."""
        assert self.facing is not None
        return F.normalize(self.facing(self.grid((points + 1) * 0.5)) + points, dim=1)
