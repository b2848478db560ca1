# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend.rendering.empty_space import BLOCK, free_blocks


def by_hand(occupied: Tensor) -> Tensor:
    """Every block of every level looked at for itself."""
    size, levels = len(occupied), [BLOCK]
    count = -(-size // 2**BLOCK)
    while 2 ** levels[-1] < size:
        levels.append(levels[-1] + 1)
    found = torch.zeros((count,) * 3, dtype=torch.uint8)
    for level in levels:
        side = 2**level
        for corner in torch.cartesian_prod(*[torch.arange(0, size, side)] * 3).tolist():
            cells = tuple(slice(at, at + side) for at in corner)
            if not occupied[cells].any():
                found[tuple(slice(at >> BLOCK, (at + side) >> BLOCK) for at in corner)] = level
    return found


@pytest.mark.parametrize("size", [1, 2, 4, 5, 8, 13, 16, 18, 24])
@pytest.mark.parametrize("few", [1, 3, 20])
def test_each_place_knows_the_largest_empty_block_around_it(size: int, few: int) -> None:
    generator = torch.Generator().manual_seed(size + few)
    occupied = torch.zeros((size,) * 3, dtype=torch.bool)
    for cell in torch.randint(size, (few, 3), generator=generator).tolist():
        occupied[tuple(cell)] = True
    found = free_blocks(occupied)
    assert found.dtype == torch.uint8 and found.is_contiguous()
    assert torch.equal(found, by_hand(occupied))


@pytest.mark.parametrize("size", [1, 3, 4, 17, 32])
def test_one_block_is_all_of_an_empty_grid_and_none_is_in_a_full_one(size: int) -> None:
    empty = torch.zeros((size,) * 3, dtype=torch.bool)
    found = free_blocks(empty)
    assert (found == found.max()).all() and 2 ** int(found.max()) >= size
    assert not free_blocks(~empty).any()


def test_the_grid_itself_is_left_as_it_was() -> None:
    occupied = torch.rand(9, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.01
    before = occupied.clone()
    free_blocks(occupied)
    assert torch.equal(occupied, before)
