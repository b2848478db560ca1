# SPDX-License-Identifier: GPL-3.0-or-later
"""Sampling and compositing of the paper against closed forms, statistics and the packed renderer; a scene learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from backend.fields.nerf_mlp import NerfMlp
from backend.rendering.hierarchical import box_interval, composite, importance, render, stratified
from backend.rendering.marching import Samples
from backend.rendering.volume import Composited, composite_reference


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rays(count: int, seed: int = 0, spread: float = 0.6) -> tuple[Tensor, Tensor]:
    """From a sphere of radius 3 roughly towards the middle: most meet [-1, 1]^3, some do not."""
    random = generator(seed)
    origins = 3 * torch.nn.functional.normalize(torch.randn(count, 3, generator=random), dim=-1)
    aims = spread * torch.randn(count, 3, generator=random)
    return origins, torch.nn.functional.normalize(aims - origins, dim=-1)


# Where rays cross the box


def test_box_interval_against_many_points_along_each_ray() -> None:
    origins, directions = rays(300, spread=1.0)
    origins[:50] /= 4  # within
    near, far = (x.double() for x in box_interval(origins, directions))
    steps = torch.linspace(0, 6, 6001, dtype=torch.float64)
    inside = ((origins[:, None] + steps[:, None] * directions[:, None]).abs() <= 1).all(-1)
    hit = inside.any(-1)
    assert 50 < hit.sum() < 299
    assert (near >= 0).all() and (near[:50] == 0).all()
    assert ((far - near)[~hit] < 0.003).all() and (far > near)[inside.sum(-1) > 1].all()
    first = steps[inside.int().argmax(-1)]
    last = steps[6000 - inside.flip(-1).int().argmax(-1)]
    torch.testing.assert_close(near[hit], first[hit], atol=0.0011, rtol=0)
    torch.testing.assert_close(far[hit], last[hit], atol=0.0011, rtol=0)


@pytest.mark.parametrize(
    ("origin", "direction", "expected"),
    [
        ((0, 0, 0), (0, 0, 1), (0, 1)),
        ((-2, 0.5, 0), (1, 0, 0), (1, 3)),
        ((2, 0, 0), (1, 0, 0), None),  # behind
        ((-2, 1.5, 0), (1, 0, 0), None),  # past
        ((0, 0, 5), (0, -0.0, -1), (4, 6)),
    ],
)
def test_box_interval_of_rays_along_axes(
    origin: tuple[float, ...], direction: tuple[float, ...], expected: tuple[float, float] | None
) -> None:
    near, far = box_interval(
        torch.tensor([origin], dtype=torch.float32), torch.tensor([direction], dtype=torch.float32)
    )
    assert near.isfinite() and far.isfinite()
    if expected is None:
        assert far <= near
    else:
        assert (near.item(), far.item()) == expected


def test_box_interval_of_rays_in_the_plane_of_a_face_is_a_number() -> None:
    for side in (-1.0, 1.0):
        for found in box_interval(torch.tensor([[side, 0, 3.0]]), torch.tensor([[0.0, 0, -1]])):
            assert found.isfinite().all()


# Samples


@pytest.mark.parametrize("disparity", [False, True])
def test_stratified_has_one_sample_in_each_part(disparity: bool) -> None:
    near, far = torch.tensor([2.0, 0.5]).double(), torch.tensor([6.0, 50.0]).double()
    t = stratified(near, far, 64, generator(), disparity)
    ends = torch.linspace(0, 1, 65, dtype=torch.float64)
    edges = torch.lerp(near[:, None], far[:, None], ends)
    if disparity:
        edges = 1 / torch.lerp(1 / near[:, None], 1 / far[:, None], ends)
    assert (edges[:, :-1] <= t).all() and (t <= edges[:, 1:]).all()
    assert t.diff().std() > 0
    middles = 2 / (1 / edges[:, :-1] + 1 / edges[:, 1:]) if disparity else (edges[:, :-1] + edges[:, 1:]) / 2
    torch.testing.assert_close(stratified(near, far, 64, None, disparity), middles)


def test_stratified_is_uniform_and_repeats_with_its_seed() -> None:
    near, far = torch.zeros(5000), torch.full((5000,), 4.0)
    t = stratified(near, far, 4, generator(1))
    assert torch.equal(t, stratified(near, far, 4, generator(1)))
    places = (t - torch.arange(4)).flatten()
    assert torch.histc(places, 10, 0, 1).sub(2000).abs().max() < 5 * math.sqrt(2000)


def test_importance_follows_the_weights() -> None:
    edges = torch.tensor([[0.0, 1, 3, 3.5, 4, 7], [1.0, 2, 3, 4, 5, 6]])
    weights = torch.tensor([[0.1, 0.4, 0.0, 0.3, 0.2], [0.0, 0.0, 5.0, 0.0, 5.0]])
    count = 100_000
    t = importance(edges, weights, count, generator())
    for row in range(2):
        found = torch.stack([((t[row] >= a) & (t[row] < b)).sum() for a, b in edges[row].unfold(0, 2, 1)]) / count
        expected = weights[row] / weights[row].sum()
        torch.testing.assert_close(found, expected, atol=5 * 0.5 / math.sqrt(count), rtol=0)
    within = t[0][(t[0] >= 1) & (t[0] < 3)]  # evenly within a bin
    assert within.mean().item() == pytest.approx(2.0, abs=0.02)
    assert within.var().item() == pytest.approx(4 / 12, rel=0.02)


def test_importance_without_a_generator_are_quantiles() -> None:
    edges, weights = torch.tensor([[0.0, 1, 3]]).double(), torch.tensor([[0.25, 0.75]]).double()
    expected = torch.tensor([[0.5, 1 + 2 / 6, 2.0, 3 - 2 / 6]]).double()
    torch.testing.assert_close(importance(edges, weights, 4), expected, atol=1e-4, rtol=0)


def test_importance_where_nothing_or_all_but_nothing_was_met() -> None:
    edges = torch.linspace(2, 6, 64).repeat(3, 1)
    weights = torch.zeros(3, 63, requires_grad=True)
    peak = torch.zeros(3, 63).index_fill(1, torch.tensor([40]), 1.0) * torch.tensor([0.0, 1.0, 1e30])[:, None]
    t = importance(edges, weights + peak, 1000, generator())
    assert not t.requires_grad
    assert (t >= 2).all() and (t <= 6).all()
    assert t[0].mean().item() == pytest.approx(4, abs=0.2)
    assert ((t[1:] >= edges[1:, 40:41]) & (t[1:] <= edges[1:, 41:42])).double().mean() > 0.995


def test_importance_keeps_within_its_edges_where_shares_are_rounded() -> None:
    """Half precision has the same rounding as single, only coarser: shares that vanish, and sums that miss 1."""
    random = generator()
    weights = torch.rand(200, 60, generator=random).pow(8) * (torch.rand(200, 60, generator=random) < 0.5)
    weights[:, -5:] = 0
    edges = torch.linspace(0, 60, 61).repeat(200, 1)
    t = importance(edges.to(torch.bfloat16), weights.to(torch.bfloat16), 500, generator()).float()
    assert t.isfinite().all() and (t >= 0).all() and (t <= 60).all()
    only = importance(torch.tensor([[2.0, 3.0]]), torch.zeros(1, 1), 1000, generator())
    assert (only >= 2).all() and (only <= 3).all() and only.var().item() == pytest.approx(1 / 12, rel=0.1)


# Compositing


def test_constant_density_has_its_closed_forms() -> None:
    density, start, far = 0.7, 2.0, 5.0
    t = torch.linspace(start, far, 4001, dtype=torch.float64)[None, :-1]
    colour = torch.tensor([0.2, 0.5, 0.9]).double().expand(1, 4000, 3)
    rgb, opacity, depth, weights = composite(torch.full_like(t, density), colour, t, torch.tensor([far]).double())
    reached = 1 - math.exp(-density * (far - start))
    assert opacity.item() == pytest.approx(reached, rel=1e-12)
    torch.testing.assert_close(rgb, reached * colour[:, 0])
    expected = start + 1 / density - (far + 1 / density) * (1 - reached)  # the integral of t density T(t)
    assert depth.item() == pytest.approx(expected, abs=1e-3)
    torch.testing.assert_close(weights.sum(-1), opacity)
    torch.testing.assert_close(
        weights, -torch.expm1(-density * torch.tensor(3 / 4000)) * torch.exp(-density * (t - start))
    )


def packed(density: Tensor, colour: Tensor, t: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Samples]:
    count, per_ray = t.shape
    dt = torch.cat([t.diff(), (far - t[:, -1])[:, None]], -1)
    offsets = torch.arange(count + 1) * per_ray
    samples = Samples(torch.arange(count).repeat_interleave(per_ray), t.flatten(), dt.flatten(), offsets)
    return density.flatten(), colour.reshape(-1, 3), samples


def test_equals_the_packed_renderer() -> None:
    random = generator()
    t = torch.rand(20, 30, generator=random, dtype=torch.float64).sort(-1).values
    density = 20 * torch.rand(20, 30, generator=random, dtype=torch.float64).square()
    colour = torch.rand(20, 30, 3, generator=random, dtype=torch.float64)
    far = torch.full((20,), 1.1, dtype=torch.float64)
    expected = composite_reference(*packed(density, colour, t, far))
    for found, other in zip(composite(density, colour, t, far)[:3], expected, strict=True):
        torch.testing.assert_close(found, other)


def test_gradient_by_finite_differences() -> None:
    random = generator(2)
    t = torch.rand(3, 5, generator=random, dtype=torch.float64).sort(-1).values
    density = torch.rand(3, 5, generator=random, dtype=torch.float64, requires_grad=True)
    colour = torch.rand(3, 5, 3, generator=random, dtype=torch.float64, requires_grad=True)
    far = torch.ones(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d, c: composite(d, c, t, far), (density, colour))


def test_opaque_samples_and_empty_ways_give_numbers() -> None:
    t = torch.tensor([[1.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    density = torch.tensor([[1e30, 1e30, 1e30], [0.0, 1e8, 3.0]], requires_grad=True)
    rgb, opacity, depth, weights = composite(density, torch.ones(2, 3, 3), t, torch.tensor([2.0, 2.5]))
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1, 0], [0, 1, 0]]))
    (rgb.sum() + opacity.sum() + depth.sum()).backward()  # type: ignore[no-untyped-call]
    assert density.grad is not None and density.grad.isfinite().all()


# The whole


def blob(points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """A soft ball of another colour on every side."""
    density = 40 * torch.sigmoid(12 * (0.6 - points.norm(dim=-1)))
    return density, (0.5 + 0.7 * points).clamp(0, 1)


def test_render_converges_to_the_integral() -> None:
    origins, directions = rays(100)
    limits = box_interval(origins, directions)
    exact, _ = render(blob, blob, origins, directions, *limits, counts=(8000, 1))
    assert (exact.opacity > 0.9).any() and (exact.opacity < 0.1).any()
    for found in render(blob, blob, origins, directions, *limits):
        torch.testing.assert_close(found.rgb, exact.rgb, atol=0.003, rtol=0)
        torch.testing.assert_close(found.opacity, exact.opacity, atol=0.003, rtol=0)
        torch.testing.assert_close(found.depth, exact.depth, atol=0.05, rtol=0)


def test_importance_samples_find_a_surface_within_half_a_coarse_step() -> None:
    """They lie half a step about the first coarse sample behind the surface, which is up to a step away."""

    def solid(points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return 1e6 * (points.norm(dim=-1) < 0.6), points

    origins, directions = (x.double() for x in rays(500, spread=0.2))
    along = -(origins * directions).sum(-1)
    across = 9 - along.square()
    origins, directions, along, across = (x[across < 0.25] for x in (origins, directions, along, across))
    near, far = box_interval(origins, directions)
    coarse, fine = render(solid, solid, origins, directions, near, far)
    late, still_late = (found.depth - (along - (0.36 - across).sqrt()) for found in (coarse, fine))
    step = (far - near) / 64
    assert len(step) > 200 and (late > 0).all() and (late < 1.001 * step).all() and (late > 0.9 * step).any()
    assert (still_late > 0).all() and (still_late < 0.51 * step).all()
    assert still_late.mean() < 0.3 * late.mean()


@pytest.mark.parametrize("seed", [None, 5])
def test_the_fine_field_sees_all_samples_in_order_where_the_coarse_one_is_dense(seed: int | None) -> None:
    seen: list[Tensor] = []

    def wall(points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        torch.testing.assert_close(directions, torch.tensor([0.0, 0, -1]).expand_as(points))
        seen.append(points[..., 2])
        return 1000.0 * (points[..., 2] < 0.25), points.sigmoid()

    origins, directions = torch.tensor([[0.1, 0.2, 3.0]]).repeat(4, 1), torch.tensor([[0.0, 0, -1]]).repeat(4, 1)
    near, far = box_interval(origins, directions)
    render(wall, wall, origins, directions, near, far, generator=None if seed is None else generator(seed))
    coarse, fine = seen
    assert coarse.shape == (4, 64) and fine.shape == (4, 192)
    assert (fine.diff() <= 0).all() and fine.abs().max() <= 1 + 1e-6
    assert torch.isin(coarse, fine).all()
    assert ((fine - 0.25).abs() < 4 / 64).double().mean() > 0.6  # 128 of the 192


@pytest.mark.parametrize("missing", [(1, 3), (0, 1, 2, 3)])
def test_rays_that_miss_are_empty_and_send_no_gradient(missing: tuple[int, ...]) -> None:
    origins, directions = torch.tensor([[0.0, 0, 3]]).repeat(4, 1), torch.tensor([[0.0, 0, -1]]).repeat(4, 1)
    directions[list(missing)] *= -1
    near, far = box_interval(origins, directions)
    torch.manual_seed(0)
    net = NerfMlp(16, 2)
    torch.nn.init.constant_(net.density.bias, 1.0)
    for found in render(net, net, origins, directions, near, far, generator=generator()):
        for value in found:
            assert len(value) == 4 and value.isfinite().all() and not value[list(missing)].any()
        hit = [i for i in range(4) if i not in missing]
        assert (found.opacity[hit] > 0).all()
        net.zero_grad()
        (found.rgb.sum() + found.opacity.sum() + found.depth.sum()).backward(retain_graph=True)  # type: ignore[no-untyped-call]
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert bool(parameter.grad.any()) == bool(hit), name


def test_no_gradient_passes_from_the_fine_field_into_the_coarse_one() -> None:
    torch.manual_seed(0)
    coarse, fine = NerfMlp(8, 2), NerfMlp(8, 2)
    origins, directions = rays(20)
    _, found = render(coarse, fine, origins, directions, *box_interval(origins, directions), generator=generator())
    found.rgb.sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in coarse.parameters())
    assert any(p.grad is not None for p in fine.parameters())


def picture(eye: tuple[float, float, float], side: int = 16) -> tuple[Tensor, Tensor]:
    """Rays of a camera at ``eye`` that looks at the origin and sees 37 degrees."""
    origin = torch.tensor(eye)
    back = origin / origin.norm()
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 0, 1]), back), dim=0)
    up = torch.linalg.cross(back, right)
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) / side * 2 - 1] * 2, indexing="ij")
    directions = (x[..., None] * right - y[..., None] * up) / 3 - back
    return origin.repeat(side * side, 1), torch.nn.functional.normalize(directions.reshape(-1, 3), dim=-1)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Work this small gains nothing from threads, and waits long for each other's where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_learns_a_scene_from_a_few_views(one_thread: None) -> None:
    around = [(3.0, 0, 0.5), (-1.5, 2.6, 0.5), (-1.5, -2.6, 0.5), (0.5, 0.5, 3.0), (0.5, 0, -3)]
    views = [picture(eye) for eye in [*around, (1.8, 2.4, -0.5), (2.0, -2, 1), (-3.0, 0, 0.5)]]
    origins, directions = (torch.cat(parts) for parts in zip(*views, strict=True))
    torch.manual_seed(2)
    coarse, fine = NerfMlp(64, 6), NerfMlp(64, 6)
    for net in (coarse, fine):
        torch.nn.init.constant_(net.density.bias, 0.5)  # a net this small may begin, and stay, empty
    optimiser = torch.optim.Adam([*coarse.parameters(), *fine.parameters()], 2e-3, eps=1e-7)
    random = generator()

    def shown(origins: Tensor, directions: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        limits = box_interval(origins, directions)
        first, second = render(coarse, fine, origins, directions, *limits, counts=(24, 24), generator=generator)
        return over_white(first), over_white(second)

    def truth(origins: Tensor, directions: Tensor) -> Tensor:
        limits = box_interval(origins, directions)
        return over_white(render(blob, blob, origins, directions, *limits, counts=(200, 1))[0])

    target = truth(origins, directions)
    for _ in range(150):
        chosen = torch.randint(len(origins), (64,), generator=random)
        first, second = shown(origins[chosen], directions[chosen], random)
        loss = (first - target[chosen]).square().mean() + (second - target[chosen]).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    held_out = picture((2.0, 2.0, 1.2))
    expected = truth(*held_out)
    with torch.no_grad():
        assert psnr(shown(origins, directions)[1], target) > 25
        assert psnr(shown(*held_out)[1], expected) > psnr(expected.mean(0), expected) + 5


def over_white(found: Composited) -> Tensor:
    return found.rgb + 1 - found.opacity[:, None]


def psnr(found: Tensor, expected: Tensor) -> float:
    return -10 * math.log10((found - expected).square().mean().item())
