# SPDX-License-Identifier: GPL-3.0-or-later
"""Multi-resolution hash encoding (Müller et al., "Instant Neural Graphics Primitives", 2022, §3), 4 features a level.

``encode_reference`` is the definition in plain torch. The kernels for CPUs (numba) and CUDA (Warp) compute the same
and are tested against it; any other device uses it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FEATURES = 4
PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class Levels:
    """The grids: ``resolutions`` int32 [L] in cells a side; rows ``offsets[l]`` to ``offsets[l + 1]`` of the table are
    level l's (int64 [L + 1]); ``hashed`` bool [L]: too many corners for the rows, so that corners share them."""

    resolutions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    hashed: NDArray[np.bool_]

    @property
    def channels(self) -> int:
        """Length of the encoding of a point."""
        return FEATURES * len(self.resolutions)


def levels(count: int = 8, coarsest: int = 16, finest: int = 512, log2_rows: int = 17) -> Levels:
    """Resolutions in geometric progression (eq. 2 and 3), each with at most 2^log2_rows rows."""
    growth = (finest / coarsest) ** (1 / max(count - 1, 1))
    resolutions = np.floor(coarsest * growth ** np.arange(count) + 1e-6).astype(np.int32)
    corners = (resolutions.astype(np.int64) + 1) ** 3
    rows = np.minimum(corners, 2**log2_rows)
    return Levels(resolutions, np.concatenate([[0], np.cumsum(rows)]).astype(np.int64), corners > rows)


def encode_reference(points: Tensor, table: Tensor, grid: Levels) -> Tensor:
    """points [N, 3] in [0, 1], table [E, 4] -> [N, 4 L]: per level, the features of the cell's corners, trilinear.

    A corner's row is its place in x-fastest order while the corners fit, else the xor of its coordinates times
    ``PRIMES``, modulo the rows (eq. 4). Differentiable in the table.
    """
    corners = torch.tensor([(i & 1, i >> 1 & 1, i >> 2) for i in range(8)], device=points.device)
    encoded = []
    for level, resolution in enumerate(grid.resolutions.tolist()):
        base, rows = int(grid.offsets[level]), int(grid.offsets[level + 1] - grid.offsets[level])
        scaled = points * resolution
        low = scaled.long().clamp(0, resolution - 1)
        place = (scaled - low)[:, None]
        x, y, z = (low[:, None] + corners).unbind(-1)
        if grid.hashed[level]:
            # Coordinates stay below 2^10 and the primes below 2^32: the product fits 64 bits, the mask makes it 32.
            row = (x * PRIMES[0] ^ (y * PRIMES[1] & 0xFFFFFFFF) ^ (z * PRIMES[2] & 0xFFFFFFFF)) % rows
        else:
            row = x + (resolution + 1) * (y + (resolution + 1) * z)
        weights = torch.where(corners.bool(), place, 1 - place).prod(-1)
        features = table.index_select(0, (base + row).reshape(-1)).view(len(points), 8, FEATURES)
        encoded.append((weights[..., None] * features).sum(1))
    return torch.cat(encoded, 1)


class HashGrid(nn.Module):
    """The trainable table. Its gradient is added straight to ``table.grad`` by kernels that touch only rows in use."""

    def __init__(self, grid: Levels) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.empty(int(grid.offsets[-1]), FEATURES).uniform_(-1e-4, 1e-4))

    def forward(self, points: Tensor, known: Tensor | None = None) -> Tensor:
        """points [N, 3] in [0, 1] -> [N, 4 L], float32. ``known``: the values, where they were computed before."""
        if points.device.type not in ("cpu", "cuda"):
            return encode_reference(points, self.table, self.grid)
        encoded: Tensor = _Encode.apply(points.contiguous(), self.table, self.grid, known)  # type: ignore[no-untyped-call]
        return encoded


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, grid: Levels, known: Tensor | None) -> Tensor:
        ctx.points, ctx.table, ctx.grid = points, table, grid
        if known is not None:
            return known
        out = torch.empty(len(points), grid.channels, device=points.device)
        if points.is_cuda:
            from . import hash_grid_cuda

            hash_grid_cuda.forward(points, table.detach(), grid, out)
        else:
            from . import hash_grid_cpu

            hash_grid_cpu.forward(
                points.detach().numpy(),
                table.detach().numpy(),
                grid.resolutions,
                grid.offsets,
                grid.hashed,
                out.numpy(),
            )
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None, None]:
        points, table, grid = ctx.points, ctx.table, ctx.grid
        if table.grad is None:
            table.grad = torch.zeros_like(table)
        if points.is_cuda:
            from . import hash_grid_cuda

            hash_grid_cuda.backward(points, grads[0].contiguous(), grid, table.grad)
        else:
            from . import hash_grid_cpu

            hash_grid_cpu.backward(
                points.detach().numpy(),
                grads[0].contiguous().numpy(),
                grid.resolutions,
                grid.offsets,
                grid.hashed,
                table.grad.numpy(),
            )
        return None, None, None, None
