# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from backend.geometry.tetrahedra import FREEDOM, TetGrid, around, crossed, deformed, lattice, reach, sided

OUTWARD = [[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]]  # faces of a positive tetrahedron


def volumes(vertices: Tensor, tetrahedra: Tensor) -> Tensor:
    corners = vertices.double()[tetrahedra.long()]
    found: Tensor = torch.linalg.det(corners[:, 1:] - corners[:, :1]) / 6
    return found


def single_faces(tetrahedra: Tensor) -> Tensor:
    """Faces [N, 3] that only one tetrahedron has. Fails where two have the same face the same way round."""
    faces = tetrahedra.long()[:, OUTWARD].view(-1, 3)
    ordered = torch.stack([faces.roll(-turn, 1) for turn in range(3)], 1)
    ordered = ordered[torch.arange(len(faces)), faces.argmin(1)]  # the smallest first, the same cycle
    assert len(torch.unique(ordered, dim=0)) == len(faces)
    _, index, count = torch.unique(faces.sort(1).values, dim=0, return_inverse=True, return_counts=True)
    assert count.max() == 2
    return faces[count[index] == 1]


@pytest.mark.parametrize("resolution", [4, 6, 14])
def test_tetrahedra_are_positive_alike_and_fill_the_cube(resolution: int) -> None:
    grid = lattice(resolution)
    n = resolution // 2
    assert len(grid.vertices) == n**3 + (n + 1) ** 3 and len(grid.tetrahedra) == 12 * n**3
    assert len(torch.unique(grid.vertices, dim=0)) == len(grid.vertices)
    assert grid.vertices.abs().max() == 1
    each = volumes(grid.vertices, grid.tetrahedra)
    torch.testing.assert_close(each, torch.full_like(each, (2 / n) ** 3 / 12), rtol=1e-5, atol=0)
    assert float(each.sum()) == pytest.approx(8, rel=1e-6)


@pytest.mark.parametrize("resolution", [4, 6, 14])
def test_tetrahedra_share_whole_faces_except_on_the_cubes_own(resolution: int) -> None:
    grid = lattice(resolution)
    corners = grid.vertices.double()[single_faces(grid.tetrahedra)]
    flat = (corners.abs() == 1) & (corners == corners[:, :1])
    assert bool(flat.all(1).any(1).all())
    crosses = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert float(crosses.norm(dim=1).sum() / 2) == pytest.approx(24, rel=1e-6)
    assert bool(((crosses * corners.mean(1)).sum(1) > 0).all())


def test_tetrahedra_inside_have_angles_of_60_and_90_degrees() -> None:
    grid = lattice(8)
    inner = (grid.vertices.abs().amax(1) < 1)[grid.tetrahedra.long()].all(1)
    corners = grid.vertices.double()[grid.tetrahedra[inner].long()]
    crosses = [torch.linalg.cross(corners[:, j] - corners[:, i], corners[:, k] - corners[:, i]) for i, j, k in OUTWARD]
    normals = [cross / cross.norm(dim=1, keepdim=True) for cross in crosses]
    cosines = torch.stack([-(a * b).sum(1) for a, b in itertools.combinations(normals, 2)], 1).sort(1).values
    expected = torch.tensor([0, 0, 0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(cosines, expected.expand_as(cosines), atol=1e-6, rtol=0)


def test_the_border_is_outside_and_stays() -> None:
    grid = lattice(6)
    border = grid.vertices.abs().amax(1) == 1
    assert bool((grid.side == border).all()) and bool(((grid.reach == 0) == border).all())
    moved = deformed(grid, torch.full_like(grid.vertices, 3.0))
    assert torch.equal(moved[border], grid.vertices[border])


@pytest.mark.parametrize("resolution", [0, 2, 7, -4])
def test_other_resolutions_are_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"even and at least 4, not {resolution}"):
        lattice(resolution)


@pytest.mark.parametrize("seed", range(5))
def test_no_deformation_turns_a_tetrahedron_over(seed: int) -> None:
    grid, generator = lattice(10), torch.Generator().manual_seed(seed)
    whole = float(volumes(grid.vertices, grid.tetrahedra).min())
    least = math.inf
    for _ in range(20):
        raw = 1e4 * torch.randn(grid.vertices.shape, generator=generator)
        least = min(least, float(volumes(deformed(grid, raw), grid.tetrahedra).min()))
    assert 0 < least < 0.01 * whole  # and some come near to it


def test_half_a_layer_is_as_far_as_vertices_may_go() -> None:
    grid = lattice(12)
    one = grid.tetrahedra[(grid.side[grid.tetrahedra.long()] == 0).all(1)][:1].long()
    assert float(grid.reach[one].min()) == pytest.approx(FREEDOM / 12)
    ends, others = one[0, :2], one[0, 2:]
    raw = torch.zeros_like(grid.vertices)
    raw[ends] = 1e4 * torch.sign(grid.vertices[others].mean(0) - grid.vertices[ends].mean(0))
    raw[others] = -raw[ends]  # the two long edges towards each other
    moved = deformed(grid, raw)
    assert float(volumes(moved, one)) > 0
    assert float(volumes(grid.vertices + (moved - grid.vertices) * 1.01 / FREEDOM, one)) < 0


def test_deformation_is_in_reaches_where_it_is_small() -> None:
    grid = lattice(6)
    raw = 1e-3 * torch.randn(grid.vertices.shape, generator=torch.Generator().manual_seed(0))
    expected = raw * grid.reach[:, None]
    torch.testing.assert_close(deformed(grid, raw) - grid.vertices, expected, atol=1e-7, rtol=1e-3)


def random_tetrahedra(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randn(8 * count, 4, 3, generator=generator, dtype=torch.float64)
    corners = corners[torch.linalg.det(corners[:, 1:] - corners[:, :1]).abs() > 2][:count]  # no slivers
    turned = torch.linalg.det(corners[:, 1:] - corners[:, :1]) < 0
    return torch.where(turned[:, None, None], corners[:, [1, 0, 2, 3]], corners)


def test_reach_is_half_the_least_width_of_any_direction() -> None:
    """Widths along very many directions are never less than said, and come near to it."""
    corners = random_tetrahedra(60, 0)
    assert len(corners) == 60
    found = reach(corners.view(-1, 3), torch.arange(240).view(-1, 4)).view(-1, 4) / FREEDOM
    assert bool((found == found[:, :1]).all())
    directions = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    directions /= directions.abs().sum(1, keepdim=True)
    for tetrahedron, said in zip(corners, found[:, 0], strict=True):
        along = directions @ tetrahedron.T
        least = float((along.amax(1) - along.amin(1)).min()) / 2
        assert float(said) <= least * (1 + 1e-9)
        assert float(said) > 0.97 * least


def test_reach_of_a_vertex_is_that_of_the_narrowest_of_its_tetrahedra() -> None:
    corners = random_tetrahedra(2, 5)
    one, two = corners[0], corners[1]
    vertices = torch.cat([one, two[1:] - two[0] + one[0]])
    found = reach(vertices, torch.tensor([[0, 1, 2, 3], [0, 4, 5, 6]]))
    alone = [reach(vertices[i], torch.arange(4)[None])[0] for i in ([0, 1, 2, 3], [0, 4, 5, 6])]
    expected = [min(alone), *[alone[0]] * 3, *[alone[1]] * 3]
    torch.testing.assert_close(found, torch.stack(expected))


def test_reach_of_the_lattice_is_half_a_layer() -> None:
    grid = lattice(10)
    inner = (grid.side[grid.tetrahedra.long()] == 0).all(1)
    found = reach(grid.vertices, grid.tetrahedra[inner])
    known = found.isfinite()
    torch.testing.assert_close(found[known], grid.reach[known], rtol=1e-5, atol=0)


def test_values_at_the_border_are_turned_outside_and_no_others() -> None:
    grid = lattice(4)
    values = torch.randn(len(grid.vertices), generator=torch.Generator().manual_seed(0))
    values[0] = 0.0  # at the border
    found = sided(values, grid)
    border = grid.side == 1
    assert torch.equal(found[~border], values[~border])
    assert bool((found[border] > 0).all())
    torch.testing.assert_close(found[border], values[border].abs())
    inwards = TetGrid(grid.vertices, grid.tetrahedra, -grid.side, grid.reach)
    torch.testing.assert_close(sided(values, inwards)[border], -values[border].abs())
    assert bool((sided(values, inwards)[border] < 0).all())


def test_crossed_tetrahedra_and_those_around_them() -> None:
    grid = lattice(4)
    values = torch.randn(len(grid.vertices), generator=torch.Generator().manual_seed(3)) + 1.2
    found, marks = crossed(values, grid)
    rows = grid.tetrahedra.tolist()
    inside = [value < 0 for value in values.tolist()]
    expected = [row for row in rows if len({inside[i] for i in row}) == 2]
    assert 0 < len(expected) < len(rows) and found.tolist() == expected
    assert marks.tolist() == [[int(inside[i]) for i in row] for row in expected]
    near, ring = around(found, grid)
    touched = {i for row in expected for i in row}
    assert set(near.nonzero()[:, 0].tolist()) == touched
    assert ring.tolist() == [row for row in rows if touched & set(row)]
