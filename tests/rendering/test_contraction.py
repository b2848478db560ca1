# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from backend.rendering import marching_cpu
from backend.rendering.contraction import contract, uncontract


def everywhere(count: int = 2000, seed: int = 0) -> Tensor:
    """Points at distances from 1e-3 to 1e5, some on axes, some on the box."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 3, generator=generator)
    points[torch.rand(count, 3, generator=generator) < 0.1] = 0.0
    points *= 10 ** (8 * torch.rand(count, 1, generator=generator) - 3)
    on_box = torch.arange(count) % 10 == 0
    norm = points.abs().amax(1, keepdim=True).clamp_min(1e-9)
    return torch.where(on_box[:, None], points / norm, points)


def test_all_of_space_is_in_the_cube() -> None:
    assert (contract(everywhere().double()).abs() < 1).all()
    assert (contract(torch.tensor([[1e30, -1e30, 0.0]])).abs() <= 1).all()


def test_the_box_is_halved() -> None:
    points = 2 * torch.rand(1000, 3) - 1
    assert torch.equal(contract(points), points / 2)


def test_points_outside_keep_their_direction_and_half_the_inverse_distance_from_the_border() -> None:
    points = everywhere().double()
    points = points[points.abs().amax(1) > 1]
    found = contract(points)
    greatest, distance = points.abs().amax(1), 1 - found.abs().amax(1)
    torch.testing.assert_close(found / found.abs().amax(1, keepdim=True), points / greatest[:, None])
    torch.testing.assert_close(distance, 0.5 / greatest)


def test_uncontract_is_the_inverse_both_ways() -> None:
    points = everywhere().double()
    torch.testing.assert_close(uncontract(contract(points)), points, rtol=1e-9, atol=1e-12)
    inside = 1.998 * torch.rand(1000, 3, dtype=torch.float64) - 0.999
    torch.testing.assert_close(contract(uncontract(inside)), inside)


def test_it_is_continuous_and_smooth_where_the_box_ends() -> None:
    face = torch.rand(500, 3, dtype=torch.float64) * 2 - 1
    face[:, 1] = torch.where(torch.rand(500) < 0.5, -1.0, 1.0).double()
    step = 1e-6
    inner, at, outer = contract(face * (1 - step)), contract(face), contract(face * (1 + step))
    slope_in, slope_out = (at - inner) / step, (outer - at) / step
    torch.testing.assert_close(slope_in, slope_out, rtol=0, atol=1e-5)


def test_it_brings_points_closer() -> None:
    """No two points are further apart afterwards, in the maximum norm."""
    one, other = everywhere(seed=1).double(), everywhere(seed=2).double()
    other[::2] = one[::2] + 1e-3 * torch.randn(1000, 3, dtype=torch.float64)
    before = (one - other).abs().amax(1)
    assert ((contract(one) - contract(other)).abs().amax(1) <= before + 1e-15).all()


def test_the_kernel_contracts_alike() -> None:
    points = everywhere()
    found = np.array([marching_cpu._contract(*point) for point in points.numpy()], np.float32)
    torch.testing.assert_close(torch.from_numpy(found), contract(points), rtol=3e-7, atol=1e-12)
