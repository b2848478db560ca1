# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from backend.rendering.antialiasing import (
    adjacency,
    antialias,
    antialias_reference,
    silhouettes,
    silhouettes_reference,
)
from backend.rendering.rasteriser import Fragments, interpolate, pixel_middle, rasterise
from backend.rendering.viewpoints import project

from .meshes import AROUND, SCENES, ball, blob, scene, soup, view, whatever_the_threads

every_scene = pytest.mark.parametrize("name", SCENES)


def painted(fragments: Fragments, faces: Tensor, vertices: int, channels: int = 4, seed: int = 0) -> Tensor:
    """Random colours of vertices, alpha last."""
    values = torch.rand(vertices, channels, generator=torch.Generator().manual_seed(seed))
    values[:, -1] = 1.0
    return interpolate(values, faces, fragments)


def alpha(positions: Tensor, faces: Tensor, size: int, *, cull: bool = True) -> Tensor:
    """Antialiased coverage [B, size, size]."""
    seen = rasterise(positions, faces, size, size, cull=cull)
    covered = (seen.face >= 0).float()[..., None]
    return antialias(covered, seen, positions, faces, adjacency(faces))[..., 0]


@pytest.mark.parametrize("name", ["ball", "open", "soup", "three at an edge", "none"])
def test_adjacency_is_that_of_brute_force(name: str) -> None:
    faces = {
        "ball": ball(1)[1],
        "open": ball(2)[1][torch.randperm(320, generator=torch.Generator().manual_seed(0))[:200]],
        "soup": soup(5)[1],
        "three at an edge": torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4], [4, 1, 5]], dtype=torch.int32),
        "none": torch.zeros(0, 3, dtype=torch.int32),
    }[name]
    expected = torch.full_like(faces, -1)
    for f, face in enumerate(faces.tolist()):
        for k in range(3):
            edge = {face[(k + 1) % 3], face[(k + 2) % 3]}
            others = [g for g, other in enumerate(faces.tolist()) if g != f and edge <= set(other)]
            if len(others) == 1:
                expected[f, k] = others[0]
    found = adjacency(faces)
    assert found.dtype == torch.int32 and torch.equal(found, expected)


@pytest.mark.parametrize("size", [16, 25])
@pytest.mark.parametrize("slant", [0.0, 0.3, -0.85])
@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_moving_edge_changes_the_mean_by_what_it_sweeps_over(
    size: int, slant: float, upright: bool, mirrored: bool
) -> None:
    """Of a square that reaches beyond three sides of the picture, whatever the depths of its corners."""
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    depth = torch.tensor([0.7, 3.0, 1.1, 5.0])[:, None]
    for place in torch.linspace(-0.13, 0.12, 14).tolist():
        edge = torch.tensor(place, requires_grad=True)
        far = torch.tensor(-3.0)
        corners = [(far, -3.0), (edge - 3 * slant, -3.0), (edge + 3 * slant, 3.0), (far, 3.0)]
        x, y = (torch.stack([torch.as_tensor(c[axis]) for c in corners]) for axis in range(2))
        x, y = (-x, y) if mirrored else (x, y)
        x, y = (x, y) if upright else (y, x)
        positions = torch.stack([x, y, torch.ones(4)], 1) * depth
        mean = alpha(positions[None], faces, size, cull=False).mean()
        torch.autograd.backward(mean)
        assert mean.item() == pytest.approx((place + 1) / 2, abs=1e-6)
        assert edge.grad is not None and float(edge.grad) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("subdivisions", [3, 4, 5])
def test_the_area_of_a_ball_and_its_growth_are_those_of_a_disc(subdivisions: int) -> None:
    """Also where the last of the surface that is seen at a pixel's middle lies faces before the silhouette."""
    size, distance, focal = 128, 2.0, 1.2
    vertices, faces = ball(subdivisions)
    vertices /= float(vertices[faces.long()].mean(1).norm(dim=1).mean() + 1) / 2  # corners without, faces within
    radius = torch.tensor(0.6, requires_grad=True)
    area = alpha(project(radius * vertices, [view(40, 25, distance, focal)]), faces, size).mean()
    torch.autograd.backward(area)
    seen = focal * 0.6 / math.sqrt(distance**2 - 0.6**2)
    growth = 2 * math.pi * seen * focal * distance**2 / (distance**2 - 0.6**2) ** 1.5
    assert area.item() == pytest.approx(math.pi * seen**2, rel=2e-3)
    assert radius.grad is not None and float(radius.grad) == pytest.approx(growth, rel=0.02)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_moves_takes_the_centre_of_its_picture_with_it(axis: int) -> None:
    vertices, faces = blob(4)
    shift = torch.zeros((), requires_grad=True)
    positions = project(vertices, [view(20, 10, 3.0)])
    way = torch.eye(3)[axis]
    covered = alpha(positions + shift * positions[..., 2:] * way, faces, 96)[0]
    place = (pixel_middle(torch.arange(96), 96) * (1, -1)[axis]).float()
    torch.autograd.backward((covered * (place[:, None] if axis else place)).sum())
    assert shift.grad is not None and float(shift.grad) == pytest.approx(covered.sum().item(), rel=0.03)


def test_pictures_are_nearer_to_those_of_many_samples() -> None:
    """Also where one thing is before the other."""
    (near, faces), (far, more) = ball(4, 0.3, (0.2, -1.0, 0.1)), blob(4)
    vertices, faces = torch.cat([near, far]), torch.cat([faces, more + len(near)])
    colours = torch.cat([torch.tensor([1.0, 0.2, 0.1, 1.0]).expand(len(near), 4), torch.ones(len(far), 4)])
    positions, size, samples = project(vertices, [view(0, 0, 4.0)]), 48, 16

    def picture(size: int) -> tuple[Tensor, Fragments]:
        seen = rasterise(positions, faces, size, size)
        return interpolate(colours, faces, seen), seen

    truth = torch.nn.functional.avg_pool2d(picture(size * samples)[0].permute(0, 3, 1, 2), samples).permute(0, 2, 3, 1)
    plain, seen = picture(size)
    smooth = antialias(plain, seen, positions, faces, adjacency(faces))
    red = (plain[0, ..., 1] - 0.2).abs() < 1e-6
    within = red[1:-1, 1:-1] & ~red[1:-1, 2:] & (plain[0, 1:-1, 2:, 3] > 0)
    assert within.sum() > 10, "a silhouette before a surface"
    before, after = (plain - truth).abs(), (smooth - truth).abs()
    assert after.sum() < 0.35 * before.sum() and after.max() < 0.6 * before.max()
    assert after[0, 1:-1, 1:-1][within].sum() < 0.4 * before[0, 1:-1, 1:-1][within].sum()


def test_a_picture_of_one_colour_stays_as_it_is() -> None:
    positions, faces, height, width, _ = scene("blob")
    seen = rasterise(positions, faces, height, width)
    plain = torch.full((*seen.face.shape, 3), 0.37)
    assert torch.equal(antialias(plain, seen, positions, faces, adjacency(faces)), plain)


def test_faces_that_go_on_are_not_parted() -> None:
    """Of a smooth surface that fills the picture, each pixel sees another face, and none is blended."""
    vertices, faces = ball(5)
    positions = project(vertices, [view(10, 20, 2.0, 1.8)])
    seen = rasterise(positions, faces, 48, 48)
    plain = painted(seen, faces, len(vertices))
    assert (seen.face >= 0).all() and len(set(seen.face.flatten().tolist())) > 250
    assert torch.equal(antialias(plain, seen, positions, faces, adjacency(faces)), plain)


@pytest.mark.parametrize("turned", [False, True])
def test_nor_are_those_between_which_faces_without_area_lie(turned: bool) -> None:
    """A surface that is cut, and the cut closed by triangles of which two corners each are at the same place."""
    across, along = torch.meshgrid(torch.tensor([-3.0, 0.21, 0.21, 3.0]), torch.linspace(-3, 3, 12), indexing="ij")
    depth = 2 + torch.sin(3 * across + 1) * torch.sin(2 * along)
    vertices = torch.stack([across * depth, along * depth, depth], -1).view(-1, 3)
    faces = []
    for column in range(3):
        for row in range(11):
            a, b = 12 * column + row, 12 * (column + 1) + row
            faces += [(a, b, b + 1), (a, b + 1, a + 1)]
    positions = vertices[None, :, [1, 0, 2]] if turned else vertices[None]
    triangles = torch.tensor(faces, dtype=torch.int32)
    seen = rasterise(positions, triangles, 40, 40, cull=False)
    plain = torch.rand(*seen.face.shape, 3, generator=torch.Generator().manual_seed(0))
    assert (seen.face >= 0).all() and (adjacency(triangles) >= 0).double().mean() > 0.8
    assert torch.equal(antialias(plain, seen, positions, triangles, adjacency(triangles)), plain)
    expected = silhouettes_reference(seen, positions, triangles, adjacency(triangles))
    assert (expected < 0).all()


@every_scene
def test_the_kernel_finds_exactly_the_edges_of_the_definition(name: str) -> None:
    positions, faces, height, width, cull = scene(name)
    seen = rasterise(positions, faces, height, width, cull=cull)
    adjacent = adjacency(faces)
    found = silhouettes(seen, positions, faces, adjacent)
    assert torch.equal(found, silhouettes_reference(seen, positions, faces, adjacent))
    assert (found >= 0).sum() > 20 or name in ("within a ball", "nothing in sight", "no faces")


@every_scene
@pytest.mark.parametrize("channels", [1, 4])
def test_the_kernel_blends_and_gives_gradients_as_the_definition_does(name: str, channels: int) -> None:
    positions, faces, height, width, cull = scene(name)
    seen = rasterise(positions, faces, height, width, cull=cull)
    colour = painted(seen, faces, positions.shape[1], channels)
    given = torch.randn(colour.shape, generator=torch.Generator().manual_seed(1))
    ours = [x.clone().requires_grad_() for x in (colour, positions)]
    exact = [x.double().requires_grad_() for x in (colour, positions)]
    found = antialias(ours[0], seen, ours[1], faces, adjacency(faces))
    expected = antialias_reference(exact[0], seen, exact[1], faces, adjacency(faces))
    torch.autograd.backward(found, given)
    torch.autograd.backward(expected, given.double())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    for one, other in zip(ours, exact, strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    for name in ("blob", "both sides of a soup"):
        positions, faces, _, _, cull = scene(name)
        positions = positions[:1]
        seen = rasterise(positions, faces, 9, 10, cull=cull)
        adjacent = adjacency(faces)
        at = silhouettes_reference(seen, positions, faces, adjacent)
        used = torch.tensor(sorted(set(faces[(at[at >= 0] // 3).long()].flatten().tolist())))
        assert len(used) > 10
        colour = painted(seen, faces, positions.shape[1], 2).double().requires_grad_()

        def blended(
            colour: Tensor,
            some: Tensor,
            positions: Tensor = positions,
            used: Tensor = used,
            seen: Fragments = seen,
            faces: Tensor = faces,
            adjacent: Tensor = adjacent,
        ) -> Tensor:
            moved = positions.double().index_copy(1, used, some)
            return antialias_reference(colour, seen, moved, faces, adjacent)

        some = positions.double()[:, used].requires_grad_()
        assert torch.autograd.gradcheck(blended, (colour, some), eps=1e-7, atol=1e-5, fast_mode=True)


def test_the_number_of_threads_does_not_matter() -> None:
    def everything() -> list[Tensor]:
        positions, faces, height, width, cull = scene("blob")
        seen = rasterise(positions, faces, height, width, cull=cull)
        positions.requires_grad_()
        colour = painted(seen, faces, positions.shape[1]).requires_grad_()
        smooth = antialias(colour, seen, positions, faces, adjacency(faces))
        torch.autograd.backward(smooth.square().sum())
        assert positions.grad is not None and colour.grad is not None
        return [smooth.detach(), positions.grad, colour.grad]

    assert whatever_the_threads(everything)


def test_what_does_not_fit_is_refused() -> None:
    positions, faces, height, width, _ = scene("blob")
    seen, adjacent = rasterise(positions, faces, height, width), adjacency(faces)
    colour = torch.zeros(len(AROUND), height, width, 3)
    with pytest.raises(ValueError, match="colours"):
        antialias(colour[:, 1:], seen, positions, faces, adjacent)
    with pytest.raises(ValueError, match="faces"):
        antialias(colour, seen, positions, faces, adjacent[1:])
    with pytest.raises(IndexError):
        antialias(colour, seen, positions[:, 1:], faces, adjacent)
