# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays and packed samples that the tests of marching and compositing share."""

from __future__ import annotations

import torch
from torch import Tensor

from backend.rendering.marching import Samples

# Samples per ray.
COUNTS: dict[str, list[int]] = {
    "no rays": [],
    "no samples": [0, 0, 0],
    "one sample": [1],
    "some without": [0, 3, 0, 0, 17, 1, 0],
    "long": [400, 0, 1000],
    "many": [(7 * i * i) % 23 for i in range(300)],
}


def towards_box(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Origins inside and outside of the box and unit directions [R, 3]; most hit it, some miss, some are on an axis."""
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=generator) * 1.5
    directions = torch.rand(count, 3, generator=generator) * 2 - 1 - origins
    directions[::11] = torch.randn(len(directions[::11]), 3, generator=generator)
    directions[::5, 0] = 0.0
    directions[::10, 2] = 0.0
    return origins, torch.nn.functional.normalize(directions, dim=-1)


def packed(counts: list[int], seed: int = 0) -> Samples:
    """Samples of rays with so many of them each, front to back, of various lengths."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64)
    offsets[1:] = torch.tensor(counts, dtype=torch.int64).cumsum(0)
    total = int(offsets[-1])
    dt = torch.rand(total, generator=generator) * 0.1 + 1e-3
    rays = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    ends = torch.cat([torch.zeros(1), dt.cumsum(0)])
    return Samples(rays, ends[:-1] - ends[offsets[:-1]][rays] + 0.5, dt, offsets)


def lit(samples: Samples, seed: int = 0) -> tuple[Tensor, Tensor]:
    """density [N] from clear to opaque, with zeros, and colour [N, 3]."""
    generator = torch.Generator().manual_seed(seed)
    density = 10 ** (4 * torch.rand(len(samples), generator=generator) - 2)
    density[torch.rand(len(samples), generator=generator) < 0.2] = 0.0
    return density, torch.rand(len(samples), 3, generator=generator)


def double(samples: Samples) -> Samples:
    """The same in double precision, for references."""
    return Samples(samples.rays, samples.t.double(), samples.dt.double(), samples.offsets)
