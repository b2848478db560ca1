# SPDX-License-Identifier: GPL-3.0-or-later
"""The radiance field of Instant-NGP (Müller et al. 2022, §5.4): a hash grid and two small MLPs."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hash_grid import HashGrid, Levels
from .spherical_harmonics import TERMS, spherical_harmonics

HIDDEN = 64
FEATURES = 16


class HashField(nn.Module):
    """Density and colour at points of [-1, 1]^3.

    Density: encoding -> 64 -> 16, the first of which is the logarithm of the density. Colour: those 16 and the
    spherical harmonics of the direction -> 64 -> 64 -> RGB. No biases, ReLU between. ``dtype`` is what the MLPs compute
    in; weights and everything else are float32.
    """

    def __init__(self, grid: Levels, shift: float = 0.0) -> None:
        """``shift`` is added to the logarithm of the density: how full space is before training."""
        super().__init__()
        self.grid = HashGrid(grid)
        widths = [
            (grid.channels, HIDDEN),
            (HIDDEN, FEATURES),
            (FEATURES + TERMS, HIDDEN),
            (HIDDEN, HIDDEN),
            (HIDDEN, 3),
        ]
        self.weights = nn.ParameterList([_he(*width) for width in widths])
        self.shift = shift
        self.dtype = torch.float32

    def encode(self, points: Tensor, known: Tensor | None = None) -> Tensor:
        """points [N, 3] in [-1, 1] -> [N, C]; ``known``: the values, where they were computed before."""
        encoded: Tensor = self.grid((points + 1) * 0.5, known)
        return encoded

    def density(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Encodings [N, C] -> density [N], float32, per unit of the box, and geometry features [N, 16]."""
        features = self._linear(1, F.relu(self._linear(0, encoded.to(self.dtype))))
        density: Tensor = _TruncatedExp.apply(features[:, 0].float() + self.shift)  # type: ignore[no-untyped-call]
        return density, features

    def colour(self, features: Tensor, directions: Tensor, rays: Tensor | None = None) -> Tensor:
        """Geometry features [N, 16] and unit directions [N, 3] -> sRGB [N, 3] in [0, 1], float32.

        With ``rays`` int64 [N], directions are those of rays [R, 3] and sample i is of ray ``rays[i]``.
        """
        harmonics = spherical_harmonics(directions).to(self.dtype)
        if rays is not None:
            harmonics = harmonics.index_select(0, rays)
        hidden = F.relu(self._linear(2, torch.cat([features, harmonics], 1)))
        colour: Tensor = torch.sigmoid(self._linear(4, F.relu(self._linear(3, hidden))).float())
        return colour

    def forward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """points, unit directions [N, 3] -> density [N], sRGB [N, 3]."""
        density, features = self.density(self.encode(points))
        return density, self.colour(features, directions)

    def _linear(self, index: int, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[index].to(self.dtype))


def _he(inputs: int, outputs: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(outputs, inputs).uniform_(-1, 1) * math.sqrt(6 / inputs))


class _TruncatedExp(torch.autograd.Function):
    """exp, with a gradient that neither vanishes nor explodes (Müller et al., reference implementation)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.exp(x.clamp(-15.0, 12.0))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        gradient: Tensor = grads[0] * y
        return gradient
