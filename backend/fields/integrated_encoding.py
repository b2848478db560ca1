# SPDX-License-Identifier: GPL-3.0-or-later
"""Integrated positional encoding (Barron et al., "Mip-NeRF", 2021, §3.1, eq. 14), along directions that may be any."""

from __future__ import annotations

import torch
from torch import Tensor

BANDS = 8


def integrated_encoding(points: Tensor, directions: Tensor, basis: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """What sine and cosine of a Gaussian's place are on average: the wider it is, the less is left of high bands.

    points [N, 3], the means; directions [N, 3], unit vectors, in which the standard deviation is ``along`` [N], while
    it is ``across`` [N] at right angles to them; basis [M, 3], unit vectors -> [N, 2 M BANDS], band by band.
    """
    places, part = points @ basis.T, (directions @ basis.T) ** 2
    variance = part * along[:, None] ** 2 + (1 - part) * across[:, None] ** 2
    scale = 2.0 ** torch.arange(BANDS, device=points.device)
    angles = (torch.pi * scale[:, None] * places[:, None]).flatten(1)
    damping = torch.exp(-0.5 * (torch.pi * scale[:, None]) ** 2 * variance[:, None]).flatten(1)
    return torch.cat([torch.sin(angles) * damping, torch.cos(angles) * damping], 1)
