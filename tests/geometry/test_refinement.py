# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.geometry import mesh as meshes
from backend.geometry.marching_tetrahedra import march
from backend.geometry.refinement import refined
from backend.geometry.tetrahedra import TetGrid, around, crossed, deformed, lattice, sided

from .solids import ball, mesh, torus, waves
from .test_tetrahedra import single_faces, volumes


def random_raw(grid: TetGrid, seed: int, size: float = 1.0) -> Tensor:
    return size * torch.randn(grid.vertices.shape, generator=torch.Generator().manual_seed(seed))


def centres(grid: TetGrid) -> set[tuple[int, ...]]:
    """The middles of the tetrahedra, in parts fine enough to tell any two apart."""
    return set(map(tuple, (grid.vertices[grid.tetrahedra].mean(1) * 256).round().int().tolist()))


@pytest.mark.parametrize("seed", range(3))
def test_the_surface_is_the_same_with_four_times_the_faces(seed: int) -> None:
    grid = lattice(16)
    positions = deformed(grid, random_raw(grid, seed))
    sdf = waves(positions, seed, pitch=3)
    finer, finer_sdf, finer_positions = refined(grid, sdf, positions)
    torch.testing.assert_close(finer.vertices, finer_positions)
    one, two = mesh(march(sdf, positions, grid)), mesh(march(finer_sdf, finer_positions, finer))
    assert meshes.is_watertight(two)
    inner = [np.abs(made.vertices[made.faces]).max(axis=(1, 2)) < 0.7 for made in (one, two)]
    assert 3 < inner[1].sum() / inner[0].sum() < 5
    # at the border, values are bent outwards before they are interpolated
    assert meshes.area(two) == pytest.approx(meshes.area(one), rel=1e-4)
    assert meshes.volume(two) == pytest.approx(meshes.volume(one), rel=1e-4)


def test_refined_tetrahedra_fill_the_ones_around_the_surface_and_share_whole_faces() -> None:
    grid = lattice(12)
    sdf = torus(grid.vertices)
    finer, _, _ = refined(grid, sdf, grid.vertices)
    _, kept = around(crossed(sided(sdf, grid), grid)[0], grid)
    assert len(finer.tetrahedra) == 8 * len(kept)
    each = volumes(finer.vertices, finer.tetrahedra)
    whole = float(volumes(grid.vertices, kept).mean())
    torch.testing.assert_close(each, torch.full_like(each, whole / 8), rtol=1e-4, atol=0)
    border = single_faces(finer.tetrahedra)
    assert len(border) == 4 * len(single_faces(kept))
    assert bool((finer.side[border] != 0).all()) and bool((finer.reach[border] == 0).all())
    assert len(torch.unique(finer.vertices, dim=0)) == len(finer.vertices)


def test_they_are_those_of_a_lattice_of_twice_the_resolution() -> None:
    grid, fine = lattice(16), lattice(32)
    finer, _, _ = refined(grid, ball(grid.vertices, 0.5), grid.vertices)
    assert len(centres(finer)) == len(finer.tetrahedra) and centres(finer) <= centres(fine)
    inner = (finer.side[finer.tetrahedra.long()] == 0).all(1)
    free = finer.reach[finer.tetrahedra[inner].long()]
    torch.testing.assert_close(free, torch.full_like(free, float(grid.reach.max()) / 2), rtol=1e-4, atol=0)
    finest, _, _ = refined(finer, ball(finer.vertices, 0.5), finer.vertices)
    assert centres(finest) <= centres(lattice(64))


def test_vertices_at_the_border_keep_their_side_whatever_their_value() -> None:
    grid = lattice(12)
    finer, sdf, positions = refined(grid, ball(grid.vertices, 0.6), grid.vertices)
    inner, outer = finer.side < 0, finer.side > 0
    assert bool((sdf[inner] < 0).all()) and bool((sdf[outer] > 0).all()) and int(inner.sum()) > 20
    for seed in range(4):
        values = torch.randn(len(sdf), generator=torch.Generator().manual_seed(seed))
        values[::7] = 0.0
        made = mesh(march(values, deformed(finer, random_raw(finer, seed, 2)), finer))
        assert meshes.is_watertight(made)
    sizes = []
    for value in (1.0, -1.0):  # none, or all, of what is free: still a ball, at one border or at the other
        made = mesh(march(torch.full_like(sdf, value), positions, finer))
        assert meshes.is_watertight(made) and len(np.unique(meshes.components(made))) == 1
        sizes.append(meshes.volume(made))
    whole = meshes.volume(mesh(march(sdf, positions, finer)))
    assert 0 < sizes[0] < 0.5 * whole and 1.5 * whole < sizes[1] < 8


def test_no_deformation_turns_a_refined_tetrahedron_over() -> None:
    grid = lattice(12)
    for seed in range(3):
        positions = deformed(grid, random_raw(grid, seed, 1e3))
        grid, _, _ = refined(grid, ball(positions), positions)
        for more in range(5):
            extreme = deformed(grid, random_raw(grid, more, 1e4))
            assert float(volumes(extreme, grid.tetrahedra).min()) > 0


def test_where_there_is_no_surface_nothing_is_left() -> None:
    grid = lattice(6)
    finer, sdf, positions = refined(grid, torch.ones(len(grid.vertices)), grid.vertices)
    assert [len(part) for part in (*vars(finer).values(), sdf, positions)] == [0] * 6
    assert len(march(sdf, positions, finer).faces) == 0


def test_shapes_can_be_told_four_times_as_well() -> None:
    grid = lattice(20)
    finer, _, _ = refined(grid, torus(grid.vertices), grid.vertices)
    errors = []
    for each in (grid, finer):
        made = march(torus(each.vertices), each.vertices, each)
        errors.append(float(torus(made.vertices[made.faces.long()].mean(1)).abs().mean()))
    assert 3.2 < errors[0] / errors[1] < 4.8


def test_gradients_reach_the_coarse_values() -> None:
    grid = lattice(4)
    raw = random_raw(grid, 0).double()
    positions = grid.vertices + grid.reach[:, None] * torch.tanh(raw)
    sdf = ball(positions, 0.55)

    def through(sdf: Tensor, positions: Tensor) -> Tensor:
        finer, values, places = refined(grid, sdf, positions)
        return (march(values, places, finer).vertices * torch.tensor([1.0, 2.0, -1.5])).sin().sum()

    assert torch.autograd.gradcheck(through, (sdf.requires_grad_(), positions.requires_grad_()))
