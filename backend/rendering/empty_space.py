# SPDX-License-Identifier: GPL-3.0-or-later
"""The empty blocks of an occupancy grid, level upon level, as in an octree: rays leave the largest at once (Lin et al.,
"Magic3D", 2023, §4.1).

One look into a table tells how large the block around a free cell is. The smallest that it tells from single cells have
4³: half the size saves few steps, and a table of eight times as many takes longer to make and to look into.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2
"""Logarithm to base 2 of the cells a side of the smallest blocks."""


def free_blocks(occupied: Tensor) -> Tensor:
    """uint8 [B, B, B], B = ⌈G / 4⌉: the largest empty block around each of the smallest, by the logarithm to base 2 of
    its cells a side; 0 where not even the smallest is empty.

    occupied: bool [G, G, G]. Blocks of 2ⁿ cells begin at multiples of 2ⁿ and may reach beyond the grid.
    """
    for _ in range(BLOCK):
        occupied = _halved(occupied)
    return _largest(occupied, BLOCK)


def _largest(occupied: Tensor, level: int) -> Tensor:
    """Of the blocks of this level and all above it."""
    free = torch.where(occupied, 0, level).to(torch.uint8)
    if len(free) == 1:
        return free
    above = _largest(_halved(occupied), level + 1)
    for axis in range(3):
        above = above.repeat_interleave(2, axis).narrow(axis, 0, len(free))
    return torch.maximum(free, above)


def _halved(occupied: Tensor) -> Tensor:
    """Whether anything is in each 2³ of them."""
    if len(occupied) % 2:
        occupied = torch.nn.functional.pad(occupied, (0, 1) * 3)
    occupied = occupied[::2] | occupied[1::2]
    occupied = occupied[:, ::2] | occupied[:, 1::2]
    return occupied[:, :, ::2] | occupied[:, :, 1::2]
