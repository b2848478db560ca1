# SPDX-License-Identifier: GPL-3.0-or-later
"""All of space in a cube (Barron et al., "Mip-NeRF 360", 2022, eq. 10, with the maximum norm as nerfstudio has it)."""

from __future__ import annotations

import torch
from torch import Tensor


def contract(points: Tensor) -> Tensor:
    """Box coordinates [N, 3] -> [-1, 1]^3. The box itself, [-1, 1]^3, is halved; what lies outside goes around it.

    With m the greatest absolute coordinate: x / 2 where m <= 1, else (2 - 1/m) (x/m) / 2.
    """
    m = points.abs().amax(-1, keepdim=True).clamp_min(1.0)
    return points * ((2 - 1 / m) / m * 0.5)


def uncontract(points: Tensor) -> Tensor:
    """The inverse of ``contract`` on the open cube (-1, 1)^3; infinity on its border."""
    m = 2 * points.abs().amax(-1, keepdim=True)
    return torch.where(m <= 1, 2 * points, 2 * points / (m * (2 - m)))
