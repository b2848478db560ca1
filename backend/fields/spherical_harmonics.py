# SPDX-License-Identifier: GPL-3.0-or-later
"""Real spherical harmonics of a direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TERMS = 16


def spherical_harmonics(directions: Tensor) -> Tensor:
    """Unit directions [N, 3] -> [N, 16]: bands 0 to 3, orthonormal on the sphere, Condon-Shortley phase included."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    a = [math.sqrt(n / math.pi) for n in (1 / 4, 3 / 4, 15 / 4, 5 / 16, 15 / 16)]
    b = [math.sqrt(n / math.pi) for n in (35 / 32, 105 / 4, 21 / 32, 7 / 16, 105 / 16)]
    return torch.stack(
        [
            torch.full_like(x, a[0]),
            -a[1] * y,
            a[1] * z,
            -a[1] * x,
            a[2] * x * y,
            -a[2] * y * z,
            a[3] * (3 * zz - 1),
            -a[2] * x * z,
            a[4] * (xx - yy),
            -b[0] * y * (3 * xx - yy),
            b[1] * x * y * z,
            -b[2] * y * (5 * zz - 1),
            b[3] * z * (5 * zz - 3),
            -b[2] * x * (5 * zz - 1),
            b[4] * z * (xx - yy),
            -b[0] * x * (xx - 3 * yy),
        ],
        -1,
    )
