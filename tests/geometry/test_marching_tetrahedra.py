# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.geometry import mesh as meshes
from backend.geometry.marching_tetrahedra import Surface, march
from backend.geometry.tetrahedra import TetGrid, deformed, lattice

from .solids import TURN, ball, box, mesh, torus, waves


def two_balls(points: Tensor) -> Tensor:
    return torch.minimum(*(ball(points, 0.35, torch.tensor([x, 0.02, 0.01])) for x in (-0.45, 0.47)))


def shell(points: Tensor) -> Tensor:
    return (ball(points, 0.55)).abs() - 0.2


SOLIDS: dict[str, tuple[Callable[[Tensor], Tensor], int, int]] = {
    "ball": (ball, 1, 2),
    "torus": (torus, 1, 0),
    "two balls": (two_balls, 2, 4),
    "shell": (shell, 2, 4),
    "box": (box, 1, 2),
}
"""With the number of parts of the surface, and its Euler characteristic."""


def check(surface: Surface, grid: TetGrid, sdf: Tensor) -> None:
    """What holds of any surface: closed and turned outwards at every edge, one vertex on each crossed edge of the grid,
    all in use, no index twice in a face."""
    made = mesh(surface)
    assert meshes.is_watertight(made)
    assert bool(torch.isfinite(surface.vertices).all())
    faces = surface.faces
    assert bool((faces != faces.roll(1, 1)).all())
    assert torch.equal(torch.unique(faces), torch.arange(len(surface.vertices), dtype=torch.int32))
    inside = (sdf < 0) & (grid.side == 0) | (grid.side < 0)
    pairs = torch.cat([grid.tetrahedra[:, [i, j]].long() for i, j in combinations(range(4), 2)])
    pairs = torch.unique(pairs[inside[pairs[:, 0]] != inside[pairs[:, 1]]].sort(1).values, dim=0)
    assert torch.equal(torch.unique(surface.edges.sort(1).values, dim=0), pairs) and len(surface.edges) == len(pairs)
    assert bool(inside[surface.edges[:, 0]].all())


def random_positions(grid: TetGrid, seed: int) -> Tensor:
    return deformed(grid, 2 * torch.randn(grid.vertices.shape, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("name", SOLIDS)
@pytest.mark.parametrize("moved", [False, True])
def test_solids_have_their_topology(name: str, moved: bool) -> None:
    grid = lattice(24)
    positions = random_positions(grid, 0) if moved else grid.vertices
    solid, parts, euler = SOLIDS[name]
    sdf = solid(positions)
    surface = march(sdf, positions, grid)
    check(surface, grid, sdf)
    made = mesh(surface)
    assert len(np.unique(meshes.components(made))) == parts
    assert len(surface.vertices) - len(meshes.half_edges(made.faces)) // 2 + len(surface.faces) == euler
    assert float(solid(surface.vertices).abs().max()) < 2 / 24


def test_solids_have_their_volume_and_area_at_second_order() -> None:
    exact = {
        "ball": (4 / 3 * math.pi * 0.6**3, 4 * math.pi * 0.6**2),
        "torus": (2 * math.pi**2 * 0.55 * 0.22**2, 4 * math.pi**2 * 0.55 * 0.22),
    }
    for name, (volume, area) in exact.items():
        errors = []
        for resolution in (16, 32, 64):
            grid = lattice(resolution)
            made = mesh(march(SOLIDS[name][0](grid.vertices), grid.vertices, grid))
            errors.append([1 - meshes.volume(made) / volume, 1 - meshes.area(made) / area])
        ratios = np.array(errors)[:-1] / np.array(errors)[1:]
        assert (ratios > 3.2).all() and (ratios < 4.8).all()
        assert np.abs(errors[-1]).max() < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_any_smooth_field_gives_a_closed_surface(seed: int) -> None:
    grid = lattice(20)
    sdf = waves(grid.vertices, seed)  # which leaves the grid
    check(march(sdf, random_positions(grid, seed), grid), grid, sdf)


@pytest.mark.parametrize("seed", range(4))
def test_so_does_noise_with_zeros_at_vertices(seed: int) -> None:
    grid = lattice(10)
    sdf = torch.randint(-2, 3, (len(grid.vertices),), generator=torch.Generator().manual_seed(seed)).float()
    surface = march(sdf, grid.vertices, grid)
    check(surface, grid, sdf)
    at_zero = sdf[surface.edges[:, 1]] == 0
    assert at_zero.sum() > 100
    assert torch.equal(surface.vertices[at_zero], grid.vertices[surface.edges[at_zero, 1]])


def test_planes_are_met_exactly() -> None:
    grid = lattice(12)
    normal = torch.tensor([0.36, 0.48, 0.8])
    surface = march(grid.vertices @ normal - 0.111, grid.vertices, grid)
    inner = (grid.side[surface.edges] == 0).all(1)
    heights = surface.vertices[inner] @ normal
    torch.testing.assert_close(heights, torch.full_like(heights, 0.111), atol=1e-6, rtol=0)
    corners = surface.vertices[surface.faces[inner[surface.faces.long()].all(1)].long()]
    crosses = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert bool(((crosses @ normal) > 0).all())  # outwards: where values rise


def test_positions_are_in_any_units() -> None:
    grid = lattice(12)
    sdf = torus(grid.vertices)
    one, other = march(sdf, grid.vertices, grid), march(sdf, 0.5 * grid.vertices + 3, grid)
    torch.testing.assert_close(other.vertices, 0.5 * one.vertices + 3)
    assert torch.equal(other.edges, one.edges)


def test_all_outside_is_nothing_and_all_inside_ends_at_the_border() -> None:
    grid = lattice(8)
    for value in (1.0, 0.0):
        nothing = march(torch.full((len(grid.vertices),), value), grid.vertices, grid)
        assert [tuple(part.shape) for part in nothing] == [(0, 3), (0, 3), (0, 2)]
        assert nothing.faces.dtype == torch.int32
    sdf = -torch.ones(len(grid.vertices))
    full = march(sdf, grid.vertices, grid)
    check(full, grid, sdf)
    assert float(full.vertices.abs().amax(1).min()) >= 1 - 2 / 8 and float(full.vertices.abs().max()) < 1
    assert len(full.vertices) - len(full.faces) / 2 == 2


def test_a_ball_that_leaves_the_grid_is_closed_by_a_wall_in_its_last_layers() -> None:
    grid = lattice(24)
    sdf = ball(grid.vertices, 0.7, torch.tensor([0.7, 0.01, 0.02]))
    surface = march(sdf, grid.vertices, grid)
    check(surface, grid, sdf)
    away = (surface.vertices - torch.tensor([0.7, 0.01, 0.02])).norm(dim=1) - 0.7
    at_wall = surface.vertices[:, 0] > 1 - 2 * 2 / 24
    assert int(at_wall.sum()) > 10 and float(away[~at_wall].abs().max()) < 0.2 * 2 / 24
    assert float(surface.vertices[:, 0].max()) < 1


def test_what_reaches_the_border_does_not_jump() -> None:
    grid = lattice(8)
    for value in (1e-6, -1e-6):
        sdf = ball(grid.vertices, 0.5)
        sdf[grid.side == 1] = value
        sdf[grid.vertices.abs().amax(1) > 0.8] += -0.3 * (grid.side[grid.vertices.abs().amax(1) > 0.8] == 0)
        outermost = march(sdf, grid.vertices, grid).vertices.abs().amax(1)
        assert float(outermost.max()) == pytest.approx(1, abs=1e-4)


def test_four_sided_parts_are_cut_along_the_shorter_diagonal() -> None:
    grid = lattice(10)
    positions = random_positions(grid, 1)
    surface = march(ball(positions), positions, grid)
    corner: dict[tuple[int, int], int] = {}
    for a, b, c in surface.faces.tolist():
        corner |= {(a, b): c, (b, c): a, (c, a): b}
    cut = 0
    for (a, b), c in corner.items():
        if a < b and not set(surface.edges[a].tolist()) & set(surface.edges[b].tolist()):  # across a tetrahedron
            p, q, r, s = surface.vertices[[a, b, c, corner[b, a]]]
            assert float((p - q).norm()) <= float((r - s).norm()) * (1 + 1e-6)
            cut += 1
    assert cut > 50


@pytest.mark.parametrize("which", ["sdf", "positions"])
def test_gradients_are_those_of_finite_differences(which: str) -> None:
    grid = lattice(4)
    positions = random_positions(grid, 2).double()
    sdf = ball(positions, 0.55)
    pull = torch.randn(len(march(sdf, positions, grid).vertices), 3, dtype=torch.float64)

    def through(values: Tensor) -> Tensor:
        surface = march(values, positions, grid) if which == "sdf" else march(sdf, values, grid)
        return (surface.vertices * pull).sin().sum()

    start = sdf if which == "sdf" else positions
    assert torch.autograd.gradcheck(through, start.clone().requires_grad_())


def test_only_ends_of_crossed_edges_have_gradients_and_values_at_the_border_pull_as_they_show() -> None:
    grid = lattice(8)
    sdf = (-torch.ones(len(grid.vertices)) + 0.1 * waves(grid.vertices, 0)).requires_grad_()
    surface = march(sdf, grid.vertices, grid)
    size = surface.vertices.abs().amax(1).sum()
    (grad,) = torch.autograd.grad(size, sdf)
    touched = torch.zeros(len(sdf), dtype=torch.bool)
    touched[surface.edges.flatten()] = True
    assert not bool(grad[~touched].any()) and bool(torch.isfinite(grad).all())
    after = march((sdf - 1e-3 * grad).detach(), grid.vertices, grid).vertices.abs().amax(1).sum()
    assert float(after) < float(size.detach())


def test_gradients_at_zeros_are_numbers() -> None:
    grid = lattice(8)
    sdf = torch.round(ball(grid.vertices) * 8).requires_grad_()
    positions = grid.vertices.clone().requires_grad_()
    march(sdf, positions, grid).vertices.square().sum().backward()  # type: ignore[no-untyped-call]
    assert sdf.grad is not None and positions.grad is not None
    assert bool(torch.isfinite(sdf.grad).all()) and bool(torch.isfinite(positions.grad).all())
    assert bool(sdf.grad.any()) and bool(positions.grad.any())


def spread(surface: Surface, count: int, generator: torch.Generator) -> Tensor:
    """Points [N, 3] of the surface, differentiable."""
    corners = surface.vertices[surface.faces.long()]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).detach().norm(dim=1)
    face = torch.multinomial(areas, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator)
    weights = torch.stack([1 - u.sqrt(), u.sqrt() * (1 - v), u.sqrt() * v], 1)
    return (corners[face] * weights[..., None]).sum(1)


def test_descent_finds_sharp_edges_where_vertices_of_the_grid_may_move() -> None:
    """A box, turned: at its edges tetrahedra that stay cut a corner off, those that may move put their own edges there.

    The loss is what the surface's points and the box's own leave between them.
    """
    grid = lattice(12)
    corners = torch.cartesian_prod(*[torch.linspace(-1, 1, 13)] * 3)
    known = corners[(corners.abs() == 1).any(1)] * torch.tensor([0.5, 0.42, 0.35])
    known = known @ TURN.T
    errors = {}
    for moving in (False, True):
        generator = torch.Generator().manual_seed(0)
        sdf, raw = box(grid.vertices).requires_grad_(), torch.zeros_like(grid.vertices).requires_grad_()
        optimiser = torch.optim.Adam([{"params": [sdf], "lr": 4e-3}, {"params": [raw], "lr": 4e-2 * moving}])
        for _ in range(100):
            points = spread(march(sdf, deformed(grid, raw), grid), 1500, generator)
            nearest = torch.cdist(known, points.detach()).argmin(1)
            loss = box(points).square().mean() + (points[nearest] - known).square().sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        surface = march(sdf.detach(), deformed(grid, raw.detach()), grid)
        check(surface, grid, sdf.detach())
        errors[moving] = float(box(spread(surface, 20_000, generator)).abs().mean())
    before = march(box(grid.vertices), grid.vertices, grid)
    assert errors[False] < float(box(spread(before, 20_000, torch.Generator().manual_seed(1))).abs().mean())
    assert errors[True] < 0.4 * errors[False]
