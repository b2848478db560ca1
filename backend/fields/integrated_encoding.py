# SPDX-License-Identifier: GPL-3.0-or-later
"""Integrated positional encoding (Barron et al., "Mip-NeRF", 2021, §3.1, eq. 14), along directions that may be any."""

from __future__ import annotations

import torch
from torch import Tensor

BANDS = 8


def integrated_encoding(
    points: Tensor, directions: Tensor, basis: Tensor, along: Tensor, across: Tensor, opened: float = BANDS
) -> Tensor:
    """What sine and cosine of a Gaussian's place are on average: the wider it is, the less is left of high bands.

    points [N, 3], the means; directions [N, 3], unit vectors, in which the standard deviation is ``along`` [N], while
    it is ``across`` [N] at right angles to them; basis [M, 3], unit vectors -> [N, 2 M BANDS], band by band. opened:
    how many bands, the lowest first, are let through; of the next one, a part (Park et al., "Nerfies", 2021, eq. 8).
    """
    places, part = points @ basis.T, (directions @ basis.T) ** 2
    variance = part * along[:, None] ** 2 + (1 - part) * across[:, None] ** 2
    bands = torch.arange(BANDS, device=points.device)
    scale, window = 2.0**bands, 0.5 * (1 - torch.cos(torch.pi * (opened - bands).clamp(0, 1)))
    angles = (torch.pi * scale[:, None] * places[:, None]).flatten(1)
    damping = (window[:, None] * torch.exp(-0.5 * (torch.pi * scale[:, None]) ** 2 * variance[:, None])).flatten(1)
    return torch.cat([torch.sin(angles) * damping, torch.cos(angles) * damping], 1)
