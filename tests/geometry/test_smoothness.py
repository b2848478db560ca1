# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from backend.geometry import mesh as meshes
from backend.geometry.marching_tetrahedra import Surface, march
from backend.geometry.smoothness import laplacian, neighbours, normal_consistency, sign_changes
from backend.geometry.tetrahedra import lattice

from .solids import MIDDLE, ball, mesh, waves

OCTAHEDRON = (
    torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=torch.float64),
    torch.tensor([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]),
)
TETRAHEDRON = (
    torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64),
    torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]]),
)


def of(made: trimesh.Trimesh) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.array(made.vertices)), torch.from_numpy(np.array(made.faces))


def crosses_of(vertices: Tensor, faces: Tensor) -> Tensor:
    a, b, c = vertices[faces].unbind(1)
    found: Tensor = torch.linalg.cross(b - a, c - a)
    return found


def some_surface() -> tuple[Tensor, Tensor]:
    grid = lattice(8)
    made = march(ball(grid.vertices) + 0.1 * waves(grid.vertices, 0), grid.vertices, grid)
    return made.vertices.double(), made.faces


def test_neighbours_are_the_two_faces_at_each_edge() -> None:
    _, faces = some_surface()
    found = {tuple(sorted(pair)) for pair in neighbours(faces).tolist()}
    sets = [set(face) for face in faces.tolist()]
    expected = {(i, j) for i in range(len(sets)) for j in range(i) if len(sets[i] & sets[j]) == 2}
    assert {(j, i) for i, j in expected} == found and len(neighbours(faces)) == len(expected) == 3 * len(faces) // 2


@pytest.mark.parametrize(
    ("vertices", "faces", "expected"),
    [
        (*TETRAHEDRON, 4 / 3),
        (*OCTAHEDRON, 2 / 3),
        (*of(trimesh.creation.icosahedron()), 1 - math.sqrt(5) / 3),
        (*of(trimesh.creation.box()), 2 / 3),
        # n² squares a side: 18 n² edges, 12 n of them at right angles; those within planes are 0
        (*of(trimesh.creation.box().subdivide().subdivide()), 2 / (3 * 4)),
    ],
    ids=["tetrahedron", "octahedron", "icosahedron", "cube", "cube of many faces"],
)
def test_normal_consistency_of_known_solids(vertices: Tensor, faces: Tensor, expected: float) -> None:
    assert float(normal_consistency(vertices, faces)) == pytest.approx(expected, rel=1e-9)
    assert float(normal_consistency(7 * vertices - 3, faces)) == pytest.approx(expected, rel=1e-9)


def test_edges_count_as_the_smaller_of_their_faces() -> None:
    vertices, faces = some_surface()
    corners = vertices.numpy()[faces.numpy()]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(crosses, axis=1)
    total, weight = 0.0, 0.0
    for i, j in neighbours(faces).tolist():
        cosine = crosses[i] @ crosses[j] / (areas[i] * areas[j])
        total, weight = total + min(areas[i], areas[j]) * (1 - cosine), weight + min(areas[i], areas[j])
    assert float(normal_consistency(vertices, faces)) == pytest.approx(total / weight, rel=1e-9)


@pytest.mark.parametrize("height", [0.0, 1e-20, 1e-9, 1e-4])
def test_slivers_have_no_large_gradients(height: float) -> None:
    """One edge of the octahedron is cut in two, by a vertex that is almost or fully on the line between its ends."""
    middle = (OCTAHEDRON[0][0] + OCTAHEDRON[0][2]) / 2 + height * torch.tensor([0, 0, 1.0])
    vertices = torch.cat([OCTAHEDRON[0], middle[None]]).requires_grad_()
    faces = torch.cat([torch.tensor([[0, 6, 4], [6, 2, 4], [0, 2, 6]]), OCTAHEDRON[1][1:]])
    value = normal_consistency(vertices, faces)
    (grad,) = torch.autograd.grad(value, vertices)
    assert float(grad.norm(dim=1).max()) < 3 and bool(grad.any())


def test_laplacian_of_known_solids() -> None:
    assert float(laplacian(*OCTAHEDRON)) == pytest.approx(1)  # the other four are around the middle
    assert float(laplacian(*TETRAHEDRON)) == pytest.approx(16 / 9 * 3)  # the others' middle is opposite, a third as far
    assert float(laplacian(3 * OCTAHEDRON[0] + 5, OCTAHEDRON[1])) == pytest.approx(9)


def test_laplacian_is_that_of_sets_of_neighbours_along_the_normal() -> None:
    vertices, faces = some_surface()
    around: list[set[int]] = [set() for _ in vertices]
    normals = torch.zeros_like(vertices)
    for face, cross in zip(faces.tolist(), crosses_of(vertices, faces.long()), strict=True):
        for i in face:
            around[i] |= set(face) - {i}
            normals[i] += cross
    away = torch.stack([vertices[list(near)].mean(0) - vertices[i] for i, near in enumerate(around)])
    expected = ((away * normals).sum(1) / normals.norm(dim=1)).square().mean()
    torch.testing.assert_close(laplacian(vertices, faces), expected)


def test_what_is_flat_has_none_wherever_its_vertices_are() -> None:
    vertices, faces = of(trimesh.creation.box().subdivide().subdivide())
    expected = float(laplacian(vertices, faces))
    within = (vertices.abs() == 0.5).sum(1) == 1
    move = 0.05 * torch.randn(vertices.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = vertices + torch.where(within[:, None] & (vertices.abs() < 0.5), move, 0)
    inner = ~(~within)[faces].any(1)  # of the faces whose vertices are all within a side
    start = moved.clone().requires_grad_()
    (grad,) = torch.autograd.grad(laplacian(start, faces), start)
    surrounded = within.clone()
    surrounded[faces[~inner].flatten()] = False
    assert expected > 0 and int(surrounded.sum()) == 6
    assert float(grad[surrounded].abs().max()) < 1e-12


def turned(vertices: Tensor, held: Tensor) -> float:
    """The normal consistency of the octahedron, weighted as that of ``held``."""
    pairs = neighbours(OCTAHEDRON[1])
    weights = crosses_of(held, OCTAHEDRON[1]).norm(dim=1)[pairs].amin(1)
    crosses = crosses_of(vertices, OCTAHEDRON[1])
    normals = (crosses / crosses.norm(dim=1, keepdim=True))[pairs]
    return float(((1 - (normals[:, 0] * normals[:, 1]).sum(1)) * weights).sum() / weights.sum())


def raised(vertices: Tensor, held: Tensor) -> float:
    """The Laplacian of the octahedron, along the normals of ``held``."""
    normals = torch.zeros_like(held)
    for i in range(3):
        normals.index_add_(0, OCTAHEDRON[1][:, i], crosses_of(held, OCTAHEDRON[1]))
    opposite = vertices[[1, 0, 3, 2, 5, 4]]  # the one of the others that is no neighbour
    away = (vertices.sum(0) - vertices - opposite) / 4 - vertices
    return float(((away * normals).sum(1) / normals.norm(dim=1)).square().mean())


@pytest.mark.parametrize(("loss", "by_hand"), [(normal_consistency, turned), (laplacian, raised)])
def test_gradients_are_those_of_finite_differences(loss, by_hand) -> None:  # type: ignore[no-untyped-def]
    noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vertices = (OCTAHEDRON[0] + 0.1 * noise).requires_grad_()
    held = vertices.detach()  # what the weights and normals are of
    (grad,) = torch.autograd.grad(loss(vertices, OCTAHEDRON[1]), vertices)
    for i, axis in ((0, 0), (2, 1), (5, 0)):
        step = torch.zeros_like(noise)
        step[i, axis] = 1e-6
        ends = [by_hand(held + sign * step, held) for sign in (1, -1)]
        assert float(grad[i, axis]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-9)


def away_from_ball(made: Surface) -> float:
    """Mean of 1 - cos between normals of faces and those of the ball, weighted by area."""
    crosses = crosses_of(made.vertices.detach(), made.faces.long())
    outwards = made.vertices.detach()[made.faces.long()].mean(1) - MIDDLE
    cosines = (crosses * outwards).sum(1) / outwards.norm(dim=1)
    return float(1 - cosines.sum() / crosses.norm(dim=1).sum())


def descended(loss: Callable[[Tensor, Tensor], Tensor], noise: float) -> list[float]:
    """How rough a ball with noise in its distances is, before each of some steps."""
    grid, rough = lattice(16), []
    each = torch.randn(len(grid.vertices), generator=torch.Generator().manual_seed(0))
    sdf = (ball(grid.vertices) + noise * each).requires_grad_()
    optimiser = torch.optim.Adam([sdf], lr=1e-3)
    for _ in range(30):
        made = march(sdf, grid.vertices, grid)
        rough.append(away_from_ball(made))
        optimiser.zero_grad()
        loss(made.vertices, made.faces).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return rough


@pytest.mark.parametrize("loss", [normal_consistency, laplacian])
def test_descent_makes_the_rough_smooth_and_keeps_the_smooth(loss) -> None:  # type: ignore[no-untyped-def]
    rough, smooth = descended(loss, 0.02), descended(loss, 0.0)
    assert rough[-1] < 0.7 * rough[0]
    assert max(smooth) < 0.5 * rough[0]


def test_sign_changes_are_cross_entropies_with_the_other_ends_sign() -> None:
    grid = lattice(8)
    sdf = waves(grid.vertices, 1)
    edges = march(sdf, grid.vertices, grid).edges
    one, two = sdf[edges].unbind(1)
    inner = one.sign() != two.sign()  # at the border, signs may be alike
    assert int(inner.sum()) > 100
    expected = binary_cross_entropy_with_logits(one[inner], (two[inner] > 0).float())
    expected += binary_cross_entropy_with_logits(two[inner], (one[inner] > 0).float())
    assert float(sign_changes(sdf, edges[inner])) == pytest.approx(float(expected), rel=1e-5)


def test_sign_changes_clear_away_floaters_which_nothing_else_tells_of() -> None:
    grid = lattice(20)
    layer = 2 / 20
    start = ball(grid.vertices, 0.5).clamp(-2 * layer, 2 * layer)
    far = ((ball(grid.vertices, 0.5) > 3 * layer) & (grid.side == 0)).nonzero()[::40, 0]
    start[far] = -layer
    whole = meshes.volume(mesh(march(ball(grid.vertices, 0.5), grid.vertices, grid)))
    left = {}
    for weight in (0.0, 1e-4):
        sdf = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([sdf], lr=layer / 40)
        for _ in range(60):
            made = march(sdf, grid.vertices, grid)
            seen = ball(made.vertices, 0.5)[ball(made.vertices.detach(), 0.5) < 1.5 * layer]
            optimiser.zero_grad()
            (seen.square().mean() + weight * sign_changes(sdf, made.edges)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        surface = mesh(march(sdf.detach(), grid.vertices, grid))
        left[weight] = len(np.unique(meshes.components(surface)))
    assert left[0.0] > 10 and left[1e-4] == 1
    assert meshes.volume(surface) == pytest.approx(whole, rel=0.02)


def test_of_nothing_each_is_0() -> None:
    vertices, faces, edges = torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32), torch.zeros(0, 2).long()
    vertices.requires_grad_()
    total = normal_consistency(vertices, faces) + laplacian(vertices, faces) + sign_changes(torch.ones(5), edges)
    total.backward()  # type: ignore[no-untyped-call]
    assert float(total.detach()) == 0
