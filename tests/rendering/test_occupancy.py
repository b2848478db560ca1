# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.rendering.contraction import contract
from backend.rendering.empty_space import free_blocks
from backend.rendering.marching import DARK
from backend.rendering.occupancy import DECAY, OPAQUE_ENOUGH, OccupancyGrid
from backend.rendering.occupancy_cpu import RELAX

G = 16
STEP = 0.05


def grid(allowed: Tensor | None = None, contracted: bool = False) -> OccupancyGrid:
    return OccupancyGrid(torch.ones(G, G, G, dtype=torch.bool) if allowed is None else allowed, STEP, contracted)


def ball(points: Tensor, radius: float = 0.4, density: float = 50.0) -> Tensor:
    inside: Tensor = points.norm(dim=-1) < radius
    return density * inside.float()


def cells_of(points: Tensor) -> Tensor:
    return ((points + 1) * (G / 2)).long().clamp(0, G - 1)


def corners() -> tuple[Tensor, Tensor]:
    """Nearest and furthest distance [G, G, G] of each cell from the origin."""
    edges = torch.linspace(-1, 1, G + 1)
    near = torch.where(edges[:-1] * edges[1:] < 0, 0.0, torch.minimum(edges[:-1].abs(), edges[1:].abs()))
    far = torch.maximum(edges[:-1].abs(), edges[1:].abs())
    both = [torch.stack(torch.meshgrid(x, x, x, indexing="ij")).norm(dim=0) for x in (near, far)]
    return both[0], both[1]


def updated(occupancy: OccupancyGrid, times: int, seed: int = 0, radius: float = 0.4) -> OccupancyGrid:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(times):
        occupancy.update(lambda points: ball(points, radius), 4 * G**3, 1.0, generator)
    return occupancy


def test_cells_with_density_stay_and_empty_ones_go() -> None:
    occupancy = grid()
    assert occupancy.occupied.all()
    updated(occupancy, 30)
    near, far = corners()
    assert occupancy.occupied[far < 0.4].all()
    assert not occupancy.occupied[near > 0.4].any()


def test_what_moves_is_followed() -> None:
    """An object that appears in cells thought empty is found; where it was, the cells go."""
    occupancy = updated(updated(grid(), 30), 60, radius=0.8)
    near, far = corners()
    assert occupancy.occupied[far < 0.8].all() and not occupancy.occupied[near > 0.8].any()
    updated(occupancy, 60, radius=0.2)
    assert not occupancy.occupied[near > 0.2].any()


def test_cells_that_are_not_allowed_never_hold_anything() -> None:
    allowed = torch.zeros(G, G, G, dtype=torch.bool)
    allowed[: G // 2] = True
    occupancy = grid(allowed)
    assert torch.equal(occupancy.occupied, allowed)
    updated(occupancy, 10)
    _, far = corners()
    assert not occupancy.occupied[~allowed].any()
    assert occupancy.occupied[allowed & (far < 0.4)].all()


def test_where_nothing_is_allowed_nothing_happens() -> None:
    occupancy = grid(torch.zeros(G, G, G, dtype=torch.bool))
    asked: list[int] = []
    occupancy.update(lambda points: asked.append(len(points)) or ball(points), 100, 1.0, torch.Generator())  # type: ignore[func-returns-value]
    assert asked == [0] and not occupancy.occupied.any()


def test_thin_haze_is_kept_while_there_is_nothing_thicker() -> None:
    """The limit is the mean, where that is less than a hundredth of the light."""
    haze = 0.1 * OPAQUE_ENOUGH / STEP
    occupancy, generator = grid(), torch.Generator().manual_seed(0)
    for _ in range(60):
        occupancy.update(lambda points: haze * (1.0 + (points[:, 0] > 0)), 4 * G**3, 1.0, generator)
    assert occupancy.occupied[G // 2 :].all() and not occupancy.occupied[: G // 2].any()


def test_only_what_was_looked_at_fades() -> None:
    occupancy = grid()
    before = occupancy.optical.clone()
    seen: list[Tensor] = []

    def empty(points: Tensor) -> Tensor:
        seen.append(cells_of(points))
        return torch.zeros(len(points))

    occupancy.update(empty, 50, 0.01, torch.Generator().manual_seed(0))
    looked = torch.zeros(G, G, G, dtype=torch.bool)
    looked[tuple(seen[0].T)] = True
    assert 0 < looked.sum() <= len(seen[0])
    after = occupancy.optical.view(G, G, G)
    torch.testing.assert_close(after[looked], before.view(G, G, G)[looked] * DECAY)
    assert torch.equal(after[~looked], before.view(G, G, G)[~looked])


def test_the_densest_of_a_cells_points_counts_whichever_comes_last() -> None:
    """One cell, looked at many times: the running maximum is that of all its points."""
    allowed = torch.zeros(G, G, G, dtype=torch.bool)
    allowed[3, 4, 5] = True
    occupancy = grid(allowed)
    found: list[Tensor] = []

    def noise(points: Tensor) -> Tensor:
        found.append(torch.rand(len(points), generator=torch.Generator().manual_seed(1)))
        return found[-1]

    occupancy.update(noise, 200, 5.0, torch.Generator().manual_seed(0))
    assert len(found[0]) == 205
    assert occupancy.optical.view(G, G, G)[3, 4, 5] == pytest.approx(float(found[0].max()) * STEP)


def test_updates_are_the_same_for_the_same_generator() -> None:
    first, second, other = (updated(grid(), 3, seed) for seed in (5, 5, 6))
    assert torch.equal(first.optical, second.optical) and torch.equal(first.occupied, second.occupied)
    assert not torch.equal(first.optical, other.optical)


def test_contracted_cells_are_asked_where_they_are() -> None:
    """Every point lies, contracted, in a cell that may be asked; far cells count by the longer steps there."""
    allowed = torch.zeros(G, G, G, dtype=torch.bool)
    allowed[15, 8, 8] = allowed[8, 8, 8] = True
    occupancy = grid(allowed, contracted=True)

    def thin(points: Tensor) -> Tensor:
        assert allowed[tuple(cells_of(contract(points)).T)].all()
        assert torch.isfinite(points).all() and points.abs().amax() > 3
        return torch.full((len(points),), 1.0)

    occupancy.update(thin, 100, 10.0, torch.Generator().manual_seed(0))
    optical = occupancy.optical.view(G, G, G)
    assert optical[8, 8, 8] == pytest.approx(STEP) and optical[15, 8, 8] > 4 * STEP


def test_near_is_one_cell_more_on_every_side() -> None:
    occupancy = grid()
    occupancy.occupied.fill_(False)
    for cell in ((0, 5, 15), (8, 8, 8)):
        occupancy.occupied[cell] = True
    expected = torch.zeros(G, G, G, dtype=torch.bool)
    expected[0:2, 4:7, 14:16] = True
    expected[7:10, 7:10, 7:10] = True
    assert torch.equal(occupancy.near(), expected)
    twice = torch.zeros(G, G, G, dtype=torch.bool)
    twice[0:3, 3:8, 13:16] = True
    twice[6:11, 6:11, 6:11] = True
    assert torch.equal(occupancy.near(2), twice)


@pytest.mark.parametrize("contracted", [False, True])
def test_solid_goes_down_at_once_and_up_slowly(contracted: bool) -> None:
    occupancy = grid(contracted=contracted)
    point = torch.tensor([[0.3, -0.6, 0.9]])
    cell = tuple(cells_of(contract(point) if contracted else point)[0].tolist())
    most, value = DARK / 3 / STEP, 0.0
    for density in (10.0, 10.0, 1e9, 1e9, 2.0, 30.0, 0.0, 5.0):
        occupancy.observe(point, torch.tensor([density]))
        seen = min(density, most)
        value = seen if seen < value else value + float(RELAX) * (seen - value)
        assert float(occupancy.solid[cell]) == pytest.approx(value, rel=1e-5)
    others = occupancy.solid.clone()
    others[cell] = 0
    assert not others.any()


def test_no_cell_alone_hides_what_is_behind_it() -> None:
    occupancy, point = grid(), torch.tensor([[0.01, 0.01, 0.01]])
    for _ in range(600):
        occupancy.observe(point, torch.tensor([1e12]))
    assert float(occupancy.solid.max()) == pytest.approx(DARK / 3 / STEP, rel=1e-3)


def test_points_are_taken_in_their_order() -> None:
    points = torch.tensor([[0.1, 0.1, 0.1]]).repeat(3, 1)
    up, down = grid(), grid()
    up.observe(points, torch.tensor([4.0, 1.0, 9.0]))
    down.observe(points, torch.tensor([9.0, 1.0, 0.0]))
    assert float(down.solid.max()) == 0.0
    assert float(up.solid.max()) == pytest.approx(0.08 + 0.02 * 0.92 + 0.02 * (9 - 0.08 - 0.02 * 0.92), rel=1e-5)


def test_the_state_keeps_what_a_finished_field_needs() -> None:
    occupancy = updated(grid(), 5)
    occupancy.observe(torch.zeros(1, 3), torch.tensor([7.0]))
    other = grid()
    other.load_state_dict(occupancy.state_dict())
    assert set(occupancy.state_dict()) == {"occupied", "solid"}
    assert torch.equal(other.occupied, occupancy.occupied) and torch.equal(other.solid, occupancy.solid)
    assert np.count_nonzero(other.solid) == 1


def test_free_blocks_follow_what_is_occupied() -> None:
    occupancy, before = grid(), grid().free
    assert before is not None and not before.any()
    updated(occupancy, 30)
    assert occupancy.free is not None and occupancy.free.any() and not occupancy.free.all()
    assert torch.equal(occupancy.free, free_blocks(occupancy.occupied))
    scene = torch.nn.Sequential(grid())
    scene.load_state_dict({f"0.{name}": value for name, value in occupancy.state_dict().items()})
    assert isinstance(scene[0].free, Tensor) and torch.equal(scene[0].free, occupancy.free)


def test_contracted_space_has_no_free_blocks() -> None:
    occupancy, other = updated(grid(contracted=True), 1), grid(contracted=True)
    other.load_state_dict(occupancy.state_dict())
    assert occupancy.free is None and other.free is None
