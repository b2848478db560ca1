# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import Delaunay
from torch import Tensor

from backend.rendering.rasteriser import (
    Fragments,
    interpolate,
    interpolate_reference,
    pixel_middle,
    rasterise,
    rasterise_reference,
)
from backend.rendering.viewpoints import View, project, rays

from .meshes import AROUND, SCENES, WITHIN, ball, blob, scene, soup, view, whatever_the_threads

every_scene = pytest.mark.parametrize("name", SCENES)


def places(height: int, width: int) -> Tensor:
    """Directions [H, W, 3] of pixels' middles, float64."""
    y, x = torch.meshgrid(
        -pixel_middle(torch.arange(height), height), pixel_middle(torch.arange(width), width), indexing="ij"
    )
    return torch.stack([x, y, torch.ones_like(x)], -1)


def first_hits(vertices: Tensor, faces: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each ray [R, 3] meets first of all faces: its index or -1, distance, and barycentric coordinates [R, 3]."""
    a, b, c = vertices.double()[faces.long()].unbind(1)
    count = len(direction), len(faces), 3
    columns = [-direction[:, None].expand(count), (b - a).expand(count), (c - a).expand(count)]
    t, v, w = torch.linalg.solve(torch.stack(columns, -1), (origin[:, None] - a)[..., None])[..., 0].unbind(-1)
    weights = torch.stack([1 - v - w, v, w], -1)
    distance, face = torch.where((weights.amin(-1) >= 0) & (t > 1e-3), t, torch.inf).min(1)
    return torch.where(distance.isfinite(), face, -1), distance, weights[torch.arange(len(face)), face]


@pytest.mark.parametrize("seen_from", [*AROUND, WITHIN])
@pytest.mark.parametrize("shape", ["soup", "ball"])
def test_every_pixel_shows_what_its_ray_meets_first(seen_from: View, shape: str) -> None:
    vertices, faces = soup(50, seed=3) if shape == "soup" else ball(2)
    size = 24
    seen = rasterise(project(vertices, [seen_from]), faces, size, size, cull=False)
    origins, directions = (x.double() for x in rays([seen_from], size, torch.zeros(3)))
    face, distance, weights = first_hits(vertices, faces, origins, directions)
    ahead = -directions @ torch.from_numpy(seen_from.pose[:3, 2].copy())
    hit = face >= 0
    # directions are rounded: at grazing angles that is seen, and a few pass an edge on the other side
    agree = seen.face.flatten() == face
    assert agree.double().mean() > 0.995 and hit.double().mean() > 0.05
    both = hit & agree
    torch.testing.assert_close(seen.depth.flatten()[both].double(), (distance * ahead)[both], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(seen.barycentric.view(-1, 3)[both].double(), weights[both], rtol=0, atol=5e-4)
    empty = ~hit & agree
    assert not seen.depth.flatten()[empty].any() and not seen.barycentric.view(-1, 3)[empty].any()


@every_scene
def test_the_kernel_sees_exactly_what_the_definition_does(name: str) -> None:
    positions, faces, height, width, cull = scene(name)
    found = rasterise(positions, faces, height, width, cull=cull)
    expected = rasterise_reference(positions.double(), faces, height, width, cull=cull)
    assert torch.equal(found.face, expected.face)
    assert found.face.dtype == torch.int32 and found.depth.dtype == torch.float32
    torch.testing.assert_close(found.barycentric.double(), expected.barycentric, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.depth.double(), expected.depth, rtol=1e-6, atol=1e-6)


@every_scene
def test_the_definition_is_nearly_as_exact_in_single_precision(name: str) -> None:
    positions, faces, height, width, cull = scene(name)
    found = rasterise_reference(positions, faces, height, width, cull=cull)
    expected = rasterise_reference(positions.double(), faces, height, width, cull=cull)
    assert torch.equal(found.face, expected.face) and found.barycentric.dtype == torch.float32
    away = (found.barycentric.double() - expected.barycentric).abs().flatten()
    assert away.numel() == 0 or away.quantile(0.99) < 1e-4


def test_scenes_are_worth_looking_at() -> None:
    for name in SCENES:
        positions, faces, height, width, cull = scene(name)
        face = rasterise(positions, faces, height, width, cull=cull).face
        covered = float((face >= 0).double().mean())
        assert covered == 0 if name.startswith("no") else covered > 0.1, name
        deep = positions[0][faces[face[0][face[0] >= 0].long()].long()][..., 2]
        assert ("within" in name) == bool((deep < 0).any()), f"{name}: whether faces that are seen reach behind the eye"


def coverage(positions: Tensor, faces: Tensor, size: int) -> Tensor:
    """int [size, size]: by how many faces pixels are covered, each drawn alone."""
    alone = [(rasterise(positions[None], one[None], size, size).face[0] >= 0).int() for one in faces]
    return torch.stack(alone).sum(0)


def test_pixels_on_edges_and_corners_belong_to_one_face() -> None:
    """Of a square whose corners, sides and diagonals all pass through pixels' middles, cut in triangles both ways."""
    size, start, count = 16, 3, 9
    middle = pixel_middle(torch.arange(size), size)[start : start + count].float()
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    positions = torch.stack([x, y, torch.ones_like(x)], -1).view(-1, 3)
    faces = []
    for i in range(0, count - 2, 2):
        for j in range(0, count - 2, 2):
            a, b, c, d = (count * (i + di) + j + dj for di, dj in ((0, 0), (0, 2), (2, 2), (2, 0)))
            faces += [(a, b, c), (a, c, d)] if (i + j) % 4 else [(a, b, d), (b, c, d)]
    covered = coverage(positions, torch.tensor(faces, dtype=torch.int32), size)
    assert covered.max() == 1
    assert covered.sum() == (count - 1) ** 2  # of the border, two of the four sides belong to it


@pytest.mark.parametrize("seed", range(3))
def test_a_plane_in_perspective_has_neither_holes_nor_double_hits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    around = np.stack(np.meshgrid((-30, 30), (-30, 30)), -1).reshape(-1, 2)
    flat = np.concatenate([around, rng.uniform(-3, 3, (60, 2))])
    faces = torch.from_numpy(Delaunay(flat).simplices)
    vertices = torch.from_numpy(np.column_stack([flat, np.zeros(len(flat))])).float()
    corners = vertices[faces]
    upwards = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0
    faces = torch.where(upwards[:, None], faces, faces.flip(1)).int()
    covered = coverage(project(vertices, [view(rng.uniform(0, 360), 55, 2.0)])[0], faces, 48)
    assert (covered == 1).all()


def test_a_floor_is_as_deep_as_perspective_has_it_up_to_behind_the_eye() -> None:
    """The eye stands 1 above a floor that reaches from behind it to far away: y = -1 / depth, and x / depth."""
    far, wide, size = 500.0, 1000.0, 32
    corners = torch.tensor([[-wide, -1.0, -far], [wide, -1.0, -far], [wide, -1.0, far], [-wide, -1.0, far]])
    seen = rasterise(corners[None], torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32), size, size)
    x, y, _ = places(size, size).unbind(-1)
    below = y < -1 / far
    assert torch.equal(seen.face[0] >= 0, below)
    torch.testing.assert_close(seen.depth[0][below].double(), -1 / y[below], rtol=1e-5, atol=0)
    across = interpolate(corners[:, :1], torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32), seen)
    torch.testing.assert_close(across[0, below][:, 0].double(), (-x / y)[below], rtol=1e-4, atol=1e-3)


@every_scene
def test_positions_interpolated_are_where_pixels_look(name: str) -> None:
    """Perspective, whatever the triangle: Σ b_k v_k lies in the pixel's direction, as deep as is said."""
    positions, faces, height, width, cull = scene(name)
    seen = rasterise(positions, faces, height, width, cull=cull)
    expected = places(height, width) * seen.depth[..., None].double()
    torch.testing.assert_close(interpolate(positions, faces, seen).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen.barycentric.sum(-1), (seen.face >= 0).float())
    assert seen.barycentric.min() >= 0 if seen.barycentric.numel() else True


def test_the_nearest_is_seen_whatever_the_order_of_faces() -> None:
    vertices, faces = soup(200, seed=5)
    positions = project(vertices, AROUND)
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))
    one, two = (rasterise(positions, f, 48, 48, cull=False) for f in (faces, faces[order]))
    assert torch.equal(torch.where(two.face < 0, -1, order[two.face.long()]), one.face.long())
    assert torch.equal(one.depth, two.depth) and torch.equal(one.barycentric, two.barycentric)


def test_of_equally_deep_faces_the_first_is_seen() -> None:
    positions, faces, height, width, _ = scene("blob")
    twice = rasterise(positions, torch.cat([faces, faces]), height, width)
    assert torch.equal(twice.face, rasterise(positions, faces, height, width).face)
    assert torch.equal(twice.face, rasterise_reference(positions, torch.cat([faces, faces]), height, width).face)


def test_back_faces_are_culled_where_that_is_wanted() -> None:
    vertices, faces = blob(3)
    positions = project(vertices, AROUND)
    front, both = (rasterise(positions, faces, 40, 40, cull=cull) for cull in (True, False))
    assert torch.equal(front.face, both.face), "of a closed mesh none is seen from outside"
    inside_out = faces[:, [0, 2, 1]]
    back = rasterise(positions, inside_out, 40, 40)
    assert torch.equal(back.face >= 0, front.face >= 0) and (back.depth >= front.depth).all()
    assert (back.depth[back.face >= 0] > front.depth[front.face >= 0]).double().mean() > 0.99
    assert torch.equal(rasterise(positions, inside_out, 40, 40, cull=False).face, both.face)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("axis", range(3))
def test_vertices_that_are_nowhere_spoil_only_their_faces(bad: float, axis: int) -> None:
    positions, faces, height, width, _ = scene("blob")
    expected = rasterise(positions, faces, height, width)
    victim = int(faces[int(expected.face.max()), 0])
    spoilt = (faces == victim).any(1)
    broken = positions.clone()
    broken[:, victim, axis] = bad
    for found in (rasterise(broken, faces, height, width), rasterise_reference(broken, faces, height, width)):
        whole = (expected.face >= 0) & ~spoilt[expected.face.clamp(min=0).long()]
        assert not spoilt[found.face[found.face >= 0].long()].any()
        assert torch.equal(found.face[whole], expected.face[whole])
        assert found.depth.isfinite().all() and found.barycentric.isfinite().all()


def given_for(seen: Fragments, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gradients of barycentric coordinates and depth."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(seen.barycentric.shape, generator=generator), torch.randn(seen.depth.shape, generator=generator)


@every_scene
def test_the_kernel_gives_the_gradients_of_the_definition(name: str) -> None:
    positions, faces, height, width, cull = scene(name)
    ours, exact = positions.clone().requires_grad_(), positions.double().requires_grad_()
    found = rasterise(ours, faces, height, width, cull=cull)
    expected = rasterise_reference(exact, faces, height, width, cull=cull)
    given = given_for(found)
    torch.autograd.backward(found[1:], given)
    torch.autograd.backward(expected[1:], tuple(x.double() for x in given))
    assert ours.grad is not None and exact.grad is not None
    scale = exact.grad.abs().amax(-1, keepdim=True) if exact.grad.numel() else exact.grad
    assert ((ours.grad.double() - exact.grad).abs() <= 1e-4 * scale + 1e-4).all()
    assert exact.grad.any() or not (found.face >= 0).any()


def test_gradients_of_barycentric_coordinates_and_depth_are_those_of_finite_differences() -> None:
    for name in ("both sides of a soup", "within a soup"):
        positions, faces, _, _, cull = scene(name)

        def seen(x: Tensor, faces: Tensor = faces, cull: bool = cull) -> tuple[Tensor, ...]:
            return tuple(rasterise_reference(x, faces, 7, 9, cull=cull)[1:])

        assert torch.autograd.gradcheck(
            seen, positions[:1].double().requires_grad_(), eps=1e-7, atol=1e-5, fast_mode=True
        )


def test_gradients_of_interpolation_are_those_of_finite_differences() -> None:
    positions, faces, _, _, _ = scene("both sides of a soup")
    seen = rasterise_reference(positions.double(), faces, 5, 6, cull=False)
    weights = seen.barycentric.requires_grad_()
    values = torch.randn(positions.shape[1], 2, dtype=torch.float64, requires_grad=True)

    def shown(values: Tensor, weights: Tensor) -> Tensor:
        return interpolate_reference(values, faces, seen._replace(barycentric=weights))

    assert torch.autograd.gradcheck(shown, (values, weights))


@every_scene
@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("by_view", [False, True])
def test_interpolation_is_that_of_the_definition(name: str, channels: int, by_view: bool) -> None:
    positions, faces, height, width, cull = scene(name)
    seen = rasterise(positions, faces, height, width, cull=cull)
    generator = torch.Generator().manual_seed(channels)
    shape = (*(positions.shape[:2] if by_view else positions.shape[1:2]), channels)
    values = torch.randn(shape, generator=generator, requires_grad=True)
    weights = seen.barycentric.clone().requires_grad_()
    found = interpolate(values, faces, seen._replace(barycentric=weights))
    given = torch.randn(found.shape, generator=generator)
    torch.autograd.backward(found, given)
    exact = [x.detach().double().requires_grad_() for x in (values, weights)]
    expected = interpolate_reference(exact[0], faces, seen._replace(barycentric=exact[1]))
    torch.autograd.backward(expected, given.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for one, other in zip((values, weights), exact, strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=2e-5)


def test_the_loss_of_a_picture_changes_with_vertices_as_its_gradient_says() -> None:
    """Colours inside of a plane that fills the picture, and moves: finite differences of the kernels themselves."""
    generator = torch.Generator().manual_seed(3)
    side = torch.linspace(-3, 3, 6)
    y, x = torch.meshgrid(side, side, indexing="ij")
    vertices = torch.stack([x, y, 0.3 * torch.randn(x.shape, generator=generator)], -1).view(-1, 3).double()
    quads = [(6 * i + j, 6 * i + j + 1, 6 * i + j + 7, 6 * i + j + 6) for i in range(5) for j in range(5)]
    faces = torch.tensor([(a, b, c) for a, b, c, _ in quads] + [(a, c, d) for a, _, c, d in quads], dtype=torch.int32)
    colours = torch.rand(36, 3, generator=generator)
    target = torch.rand(1, 64, 64, 3, generator=generator)
    camera = view(20, 75, 2.5)

    def loss(vertices: Tensor) -> Tensor:
        seen = rasterise(project(vertices.float(), [camera]), faces, 64, 64)
        assert (seen.face >= 0).all()
        return (interpolate(colours, faces, seen).double() - target).square().sum()

    moving = vertices.clone().requires_grad_()
    torch.autograd.backward(loss(moving))
    assert moving.grad is not None
    for seed in range(5):
        way = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(seed)).double()
        step = 2e-3
        change = (loss(vertices + step * way) - loss(vertices - step * way)) / (2 * step)
        assert float((moving.grad * way).sum()) == pytest.approx(
            float(change), rel=0.02, abs=0.02 * float(moving.grad.norm())
        )


def test_the_number_of_threads_does_not_matter() -> None:
    def everything() -> list[Tensor]:
        positions, faces, height, width, cull = scene("blob")
        positions.requires_grad_()
        values = torch.arange(positions.shape[1] * 3.0).view(-1, 3).sin().requires_grad_()
        seen = rasterise(positions, faces, height, width, cull=cull)
        torch.autograd.backward(interpolate(values, faces, seen).square().sum())
        assert positions.grad is not None and values.grad is not None
        return [*seen, positions.grad, values.grad]

    assert whatever_the_threads(everything)


def test_what_does_not_fit_is_refused() -> None:
    positions, faces, height, width, _ = scene("blob")
    seen = rasterise(positions, faces, height, width)
    with pytest.raises(IndexError):
        rasterise(positions[:, :-1], faces, height, width)
    with pytest.raises(IndexError):
        rasterise(positions, faces - 1, height, width)
    with pytest.raises(IndexError):
        interpolate(torch.zeros(positions.shape[1] - 1, 3), faces, seen)
    with pytest.raises(ValueError, match="3 sets of attributes for 2 views"):
        interpolate(torch.zeros(3, positions.shape[1], 3), faces, seen)
