# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume rendering with samples where they count (Mildenhall et al., "NeRF", 2020, §4 and §5.2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .volume import Composited

STRATIFIED = 64
IMPORTANCE = 128
FLOOR = 1e-5
"""Added to every weight before sampling, as in the paper's code: rays that meet nothing are sampled evenly."""

Radiance = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Points and unit directions [R, S, 3] -> density [R, S] >= 0, colour [R, S, 3]."""


def box_interval(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (near, far) [R] at which rays [R, 3] enter and leave [-1, 1]^3; near is 0 for origins within it.

    All are finite; far <= near where a ray misses.
    """
    tiny = 1e-12  # keeps rays along a face's plane from 0 / 0
    directions = torch.where(directions.abs() < tiny, tiny, directions)
    sides = torch.stack([(-1 - origins) / directions, (1 - origins) / directions])
    return sides.amin(0).amax(-1).clamp_min(0.0), sides.amax(0).amin(-1)


def stratified(
    near: Tensor, far: Tensor, count: int, generator: torch.Generator | None = None, disparity: bool = False
) -> Tensor:
    """One distance in each of ``count`` equal parts of every [near, far]: [R] each -> ascending [R, count] (eq. 2).

    Uniform within its part, or the part's middle without a generator. ``disparity``: parts equal in 1 / t; near > 0.
    """
    places = torch.arange(count, device=near.device) + _uniform(len(near), count, generator, near)
    s = places / count
    near, far = near[:, None], far[:, None]
    return 1 / ((1 - s) / near + s / far) if disparity else near + (far - near) * s


@torch.no_grad()
def importance(edges: Tensor, weights: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """``count`` distances from the piecewise-constant density that has ``weights`` [R, B] between ``edges`` [R, B + 1].

    Inverse transform sampling (§5.2), without gradient: [R, count]. Independent draws, or the quantiles in the middle
    of ``count`` equal shares without a generator, which ascend.
    """
    weights = weights + FLOOR
    shares = (weights / weights.sum(-1, keepdim=True)).cumsum(-1)
    u = _uniform(len(weights), count, generator, weights)
    if generator is None:
        u = (torch.arange(count, device=u.device) + u) / count
    part = torch.searchsorted(shares[:, :-1].contiguous(), u, right=True)
    shares = torch.cat([torch.zeros_like(shares[:, :1]), shares], -1)
    low, high = shares.gather(-1, part), shares.gather(-1, part + 1)
    # Rounding may leave parts without a share, and the last share short of 1.
    place = ((u - low) / (high - low).clamp_min(torch.finfo(u.dtype).tiny)).clamp(0, 1)
    return torch.lerp(edges.gather(-1, part), edges.gather(-1, part + 1), place)


def composite(density: Tensor, colour: Tensor, t: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """density [R, S], colour [R, S, 3] at ascending t [R, S] -> rgb [R, 3], opacity [R], depth [R], weights [R, S].

    Eq. 3. Each sample stands for the way to the next one, the last for the way to ``far`` [R]. Colour and depth are
    sums over what is met, not divided by the opacity.
    """
    ends = torch.cat([t[:, 1:], far[:, None]], -1)
    optical = density * (ends - t).clamp_min(0.0)
    before = torch.cat([torch.zeros_like(optical[:, :1]), optical[:, :-1].cumsum(-1)], -1)
    weights = torch.exp(-before) * -torch.expm1(-optical)
    return (weights[..., None] * colour).sum(-2), weights.sum(-1), (weights * t).sum(-1), weights


def render(
    coarse: Radiance,
    fine: Radiance,
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    *,
    counts: tuple[int, int] = (STRATIFIED, IMPORTANCE),
    disparity: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Composited, Composited]:
    """Rays [R, 3], unit directions, between near and far [R] through the coarse field and through the fine one.

    ``coarse`` is asked at ``counts[0]`` >= 3 stratified samples, ``fine`` at these and ``counts[1]`` more where the
    coarse one's light comes from. A generator, on the device of the rays, makes the samples random, as training has
    them. Rays with far <= near are asked for nowhere and stay empty.
    """
    hit = far > near
    origins, directions, near, far = origins[hit], directions[hit], near[hit], far[hit]

    def ask(field: Radiance, t: Tensor) -> tuple[Composited, Tensor]:
        points = torch.addcmul(origins[:, None], t[..., None], directions[:, None])
        density, colour = field(points, directions[:, None].expand_as(points))
        *sums, weights = composite(density, colour, t, far)
        whole = (x.new_zeros(len(hit), *x.shape[1:]).index_put((hit,), x) for x in sums)
        return Composited(*whole), weights

    t = stratified(near, far, counts[0], generator, disparity)
    first, weights = ask(coarse, t)
    middles = (t[:, 1:] + t[:, :-1]) / 2
    more = importance(middles, weights[:, 1:-1], counts[1], generator)
    second, _ = ask(fine, torch.cat([t, more], -1).sort(-1).values)
    return first, second


def _uniform(rays: int, count: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """[rays, count] in [0, 1): random, or 1/2 without a generator."""
    if generator is None:
        return torch.full((rays, count), 0.5, device=like.device, dtype=like.dtype)
    return torch.rand(rays, count, generator=generator, device=like.device, dtype=like.dtype)
