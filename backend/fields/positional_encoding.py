# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinates as sines and cosines of growing frequency (Mildenhall et al., "NeRF", 2020, eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor


def positional_encoding(x: Tensor, bands: int) -> Tensor:
    """[..., 3] -> [..., 3 + 6 bands]: x, sin(x), cos(x), sin(2x), cos(2x), ... up to the frequency 2^(bands - 1).

    The paper's text has sin(2^k π x) and leaves x itself out; the code its figures were made with has neither π nor
    that omission. This follows the code: with π, two points 2 apart, such as opposite faces of [-1, 1]^3, would share
    all their sines and cosines.
    """
    frequencies = torch.exp2(torch.arange(bands, device=x.device, dtype=x.dtype))
    angles = x[..., None, :] * frequencies[:, None]
    return torch.cat([x, torch.stack([angles.sin(), angles.cos()], -2).flatten(-3)], -1)
