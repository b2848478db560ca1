# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples along rays, only where the occupancy grid says that something may be (Müller et al. 2022, App. E.1).

``march_reference`` is the definition in plain Python; the kernels for CPUs (numba) and CUDA (Warp) do the same.

Where all steps are equally long, the kernels put a ray's step k at its start plus k lengths, however it was reached,
and go only as far as is in the free block for certain, whatever is rounded: to HAIR before its far side. All steps
between two that are in a block are in it, too, since rounding keeps their order along each axis. So none in an occupied
cell is jumped over, and the samples are, to the last bit, the same whatever blocks are left at once. Where steps grow,
those across a free cell are as long as its first one, and cells are left one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .contraction import contract


@dataclass(frozen=True)
class Path:
    """How rays are walked, in units of the training box.

    Steps are ``step`` long, or ``cone`` times the distance from the origin where that is more; they begin at ``near``
    and end at ``far``, and within [-1, 1]^3 unless space is ``contracted``. Rays end after ``most`` samples.
    """

    step: float
    cone: float = 0.0
    near: float = 0.0
    far: float = 1e9
    contracted: bool = False
    most: int = 2**31 - 1

    @property
    def growth(self) -> float:
        """``cone``, or what little keeps steps from vanishing in the rounding of large distances."""
        return max(self.cone, 1e-6)


@dataclass(frozen=True)
class Samples:
    """Samples of R rays, packed: those of ray r lie from ``offsets[r]`` to ``offsets[r + 1]``, front to back.

    rays int64 [N]; t, dt float32 [N]: distance of the sample and its length; offsets int64 [R + 1].
    """

    rays: Tensor
    t: Tensor
    dt: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.t)

    def points(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Where the samples are, [N, 3]."""
        return torch.addcmul(origins[self.rays], self.t[:, None], directions[self.rays])

    def kept(self, keep: Tensor) -> Samples:
        """Those with ``keep`` [N] set, packed again."""
        before = torch.zeros(len(keep) + 1, dtype=torch.int64, device=keep.device)
        torch.cumsum(keep, 0, out=before[1:])
        return Samples(self.rays[keep], self.t[keep], self.dt[keep], before[self.offsets])


DARK = 10.0
"""Optical depth of solid cells behind which nothing is seen."""
HAIR = 5e-7
"""What is left of a block to be on the safe side: so much of a place's distance t from the origin, and of 6 more.

It is 2^-24 (8.4 t + 50). In single precision, the places of two steps within the box, the further one at t + 2 √3 at
most, are off by up to 2^-24 (6 t + 17) together; their cells, the block's side and the way to it by less than 2^-24 21.
"""


def march(
    origins: Tensor,
    directions: Tensor,
    shifts: Tensor,
    occupied: Tensor,
    path: Path,
    solid: Tensor | None = None,
    free: Tensor | None = None,
) -> Samples:
    """Samples of rays [R, 3] in box coordinates, unit directions; shifts [R] in [0, 1): the part of the first step
    at which sampling begins; occupied bool [G, G, G] over [-1, 1]^3 (over contracted space, where it is).

    solid: float32 [G, G, G], the least density in each cell; rays end where it has taken all light.
    free: ``empty_space.free_blocks(occupied)``; the samples are the same with it, and sooner found.
    """
    if origins.is_cuda:
        from . import marching_cuda

        return marching_cuda.march(origins, directions, shifts, occupied, path, solid, free)
    if origins.device.type != "cpu":
        device = origins.device
        there = (None if x is None else x.cpu() for x in (solid, free))
        found = march(origins.cpu(), directions.cpu(), shifts.cpu(), occupied.cpu(), path, *there)
        return Samples(*(x.to(device) for x in (found.rays, found.t, found.dt, found.offsets)))
    from . import marching_cpu

    rays = (origins.contiguous().numpy(), directions.contiguous().numpy(), shifts.numpy())
    limits = (np.float32(path.near), np.float32(path.far))
    solids = np.empty((0, 0, 0), np.float32) if solid is None else solid.numpy()
    blocks = np.empty((0, 0, 0), np.uint8) if free is None else free.numpy()
    how = (occupied.numpy(), solids, blocks, np.float32(path.step), np.float32(path.growth), path.contracted)
    counts = torch.empty(len(origins), dtype=torch.int64)
    marching_cpu.count(*rays, *limits, *how, path.most, counts.numpy())
    offsets = torch.zeros(len(origins) + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=offsets[1:])
    total = int(offsets[-1])
    samples = Samples(torch.empty(total, dtype=torch.int64), torch.empty(total), torch.empty(total), offsets)
    marching_cpu.fill(
        *rays, *limits, *how, offsets.numpy(), samples.rays.numpy(), samples.t.numpy(), samples.dt.numpy()
    )
    return samples


def march_reference(
    origins: Tensor, directions: Tensor, shifts: Tensor, occupied: Tensor, path: Path, solid: Tensor | None = None
) -> Samples:
    """The same, ray by ray: steps through free cells are whole steps, and go to the far side of the cell at once."""
    resolution = occupied.shape[0]
    rays, ts, dts, offsets = [], [], [], [0]
    for r, (o, d, shift) in enumerate(zip(origins.double(), directions.double(), shifts.tolist(), strict=True)):
        t, end, moving = path.near, path.far, d != 0
        if not path.contracted:
            sides = torch.stack([(-1 - o) / d, (1 - o) / d])[:, moving].sort(0).values
            t, end = max(t, float(sides[0].max())), min(end, float(sides[1].min()))
            if (o[~moving].abs() > 1).any():
                end = t
        t += shift * max(path.step, t * path.growth)
        passed, left = 0.0, path.most
        while t < end and passed <= DARK and left > 0:
            dt = max(path.step, t * path.growth)
            x = o + t * d
            inside = contract(x[None])[0] if path.contracted else x
            cell = ((inside + 1) * resolution / 2).long().clamp(0, resolution - 1)
            if occupied[tuple(cell)]:
                rays.append(r)
                ts.append(t)
                dts.append(dt)
                left -= 1
                t += dt
                passed += float(solid[tuple(cell)]) * dt if solid is not None else 0.0
            elif path.contracted:
                t += dt
            else:
                leave = (((cell + (d > 0)) * 2 / resolution - 1 - x) / d)[moving].min()
                t += dt * max(1, math.ceil(float(leave) / dt))
        offsets.append(len(rays))
    return Samples(torch.tensor(rays, dtype=torch.int64), torch.tensor(ts), torch.tensor(dts), torch.tensor(offsets))
