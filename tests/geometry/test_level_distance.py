# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from backend.errors import Gen3DError
from backend.geometry import mesh as meshes
from backend.geometry import surface
from backend.geometry.level_distance import level_distance
from backend.geometry.marching_tetrahedra import march
from backend.geometry.tetrahedra import lattice

from . import shapes
from .solids import ball, mesh, torus, waves

RESOLUTION = 32
LAYER = 2 / RESOLUTION
LONGEST = 2 * LAYER


def soft(distance: Tensor, inside: float, width: float) -> Tensor:
    return inside * torch.sigmoid(-distance / width)


def test_of_a_density_that_falls_exponentially_it_is_the_distance() -> None:
    grid = lattice(RESOLUTION)
    normal = torch.tensor([0.36, 0.48, 0.8])
    plane = grid.vertices @ normal - 0.1
    for distance, tolerance in ((plane, 1e-5), (ball(grid.vertices), 0.1 * LAYER)):
        found = level_distance(7.0 * torch.exp(-distance / LAYER), 7.0, grid)
        near = march(distance, grid.vertices, grid).edges
        near = torch.unique(near)
        near = near[grid.vertices[near].abs().amax(1) < 1 - LONGEST]  # away from where the border closes the surface
        torch.testing.assert_close(found[near], distance[near], atol=tolerance, rtol=0)
        assert int(near.sum()) > 500
        far = distance.abs() > LONGEST
        torch.testing.assert_close(found[far], torch.where(distance < 0, -LONGEST, LONGEST)[far])


@pytest.mark.parametrize("width", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("solid", [ball, torus])
def test_the_surface_is_nearer_to_the_level_set_than_without(width: float, solid) -> None:  # type: ignore[no-untyped-def]
    grid, level = lattice(RESOLUTION), 10.0
    density = soft(solid(grid.vertices), 100.0, width * LAYER)
    where = width * LAYER * math.log(9)

    def away(sdf: Tensor) -> float:
        return float((solid(march(sdf, grid.vertices, grid).vertices) - where).abs().mean()) / LAYER

    found = away(level_distance(density, level, grid))
    assert found < 0.8 * away(-(density / level).clamp(math.exp(-4), math.exp(4)).log())
    assert found < 0.5 * away(level - density)
    assert found < 0.2


def test_the_surface_is_that_of_marching_cubes() -> None:
    grid, level = lattice(RESOLUTION), 10.0
    points, spacing = shapes.grid(129)
    fine = torch.from_numpy(points.reshape(-1, 3)).float()

    def density(places: Tensor) -> Tensor:
        return soft(torus(places), 60.0, 0.8 * LAYER) * torch.exp(0.5 * waves(places, 0, pitch=3))

    cubes = surface.extract(density(fine).view(129, 129, 129).numpy(), level, shapes.LOWER, spacing)
    made = mesh(march(level_distance(density(grid.vertices), level, grid), grid.vertices, grid))
    rng = np.random.default_rng(0)
    one, two = meshes.sample(cubes, 20_000, rng)[0], meshes.sample(made, 20_000, rng)[0]
    apart = [cKDTree(a).query(b)[0].mean() for a, b in ((one, two), (two, one))]
    scatter = cKDTree(one).query(meshes.sample(cubes, 20_000, rng)[0])[0].mean()  # of the same surface
    assert max(apart) < scatter + 0.05 * LAYER


def test_it_changes_by_one_per_length_across_soft_and_sharp_surfaces() -> None:
    grid = lattice(RESOLUTION)
    width = LAYER * (0.2 + 2 * (grid.vertices[:, 0] + 1))
    found = level_distance(20 * torch.sigmoid(-ball(grid.vertices) / width), 10.0, grid)
    made = march(found, grid.vertices, grid)
    apart = (grid.vertices[made.edges[:, 0]] - grid.vertices[made.edges[:, 1]]).norm(dim=1)
    slopes = (found[made.edges[:, 1]] - found[made.edges[:, 0]]) / apart
    assert float(slopes.max()) < 2 and float(slopes.quantile(0.9)) == pytest.approx(1, abs=0.15)


def test_units_do_not_matter() -> None:
    grid = lattice(12)
    density = soft(ball(grid.vertices), 20.0, 0.1)
    found = level_distance(density, 5.0, grid)
    torch.testing.assert_close(level_distance(1000 * density, 5000.0, grid), found, rtol=1e-3, atol=1e-5)


def test_extreme_densities_tell_sides() -> None:
    grid = lattice(16)
    inside = ball(grid.vertices) < 0
    found = level_distance(torch.where(inside, torch.inf, 0.0), 3.0, grid)
    assert bool(((found < 0) == inside).all()) and float(found.abs().max()) <= 4 / 16 * (1 + 1e-6)
    made = mesh(march(found, grid.vertices, grid))
    assert meshes.is_watertight(made)
    assert float(np.median(np.linalg.norm(made.vertices, axis=1))) == pytest.approx(0.6, abs=2 / 16)
    whole = level_distance(torch.full_like(found, 9.0), 3.0, grid)  # closed by the border of the grid
    assert bool((whole < 0).all())


def test_no_surface_and_no_numbers_are_said() -> None:
    grid = lattice(8)
    within = torch.where(grid.side == 0, 0.0, 9.0)
    for density in (torch.zeros(len(within)), within):  # or only at the border, which is outside
        with pytest.raises(Gen3DError, match="No surface lies at density 5"):
            level_distance(density, 5.0, grid)
    density = soft(ball(grid.vertices), 20.0, 0.1)
    for level in (25.0, 0.0, -1.0, math.nan, math.inf):
        with pytest.raises(Gen3DError, match="No surface lies at density"):
            level_distance(density, level, grid)
    density[3] = torch.nan
    with pytest.raises(Gen3DError, match=f"density of 1 of {len(density)} places is not a number"):
        level_distance(density, 5.0, grid)
