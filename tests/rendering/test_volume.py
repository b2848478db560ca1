# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import numba
import pytest
import torch
from torch import Tensor

from backend.rendering.marching import Samples
from backend.rendering.volume import (
    CLEAR,
    OPAQUE,
    composite,
    composite_reference,
    visible,
    visible_reference,
)

from .rays import COUNTS, double, lit, packed

every_packing = pytest.mark.parametrize("name", COUNTS)


def uniform(length: float, count: int, near: float = 0.5) -> Samples:
    """One ray with samples at the middles of equal pieces."""
    dt = torch.full((count,), length / count)
    t = near + (torch.arange(count) + 0.5) * length / count
    return Samples(torch.zeros(count, dtype=torch.int64), t, dt, torch.tensor([0, count]))


@pytest.mark.parametrize("sigma", [0.0, 1e-3, 0.7, 5.0, 1e4])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_constant_density_stops_light_as_beer_and_lambert_say(sigma: float, count: int) -> None:
    length, near = 2.0, 0.5
    colour = torch.tensor([0.2, 0.5, 1.0])
    found = composite(torch.full((count,), sigma), colour.expand(count, 3), uniform(length, count))
    opacity = -math.expm1(-sigma * length)
    rounding = 1e-6 + 6e-8 * count  # of 1 - exp(-x) in single precision
    assert float(found.opacity) == pytest.approx(opacity, abs=rounding)
    torch.testing.assert_close(found.rgb[0], opacity * colour, rtol=0, atol=rounding)
    if count == 1000 and 0 < sigma * length < 20:
        # The integral of t sigma exp(-sigma (t - near)); the middles of pieces lack dt^2 / 12 of it.
        depth = (near + 1 / sigma) * opacity - length * math.exp(-sigma * length)
        assert float(found.depth) == pytest.approx(depth, abs=1e-4)


def test_what_is_opaque_hides_all_behind_it() -> None:
    samples = uniform(1.0, 4)
    colour = torch.eye(4)[:, :3]
    found = composite(torch.tensor([0.0, 1e6, 1e6, 3.0]), colour, samples)
    torch.testing.assert_close(found.rgb[0], torch.tensor([0.0, 1.0, 0.0]))
    assert float(found.opacity) == 1.0
    assert float(found.depth) == pytest.approx(float(samples.t[1]))


def test_cutting_a_sample_in_two_changes_nothing() -> None:
    dt, sigma = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([1.0, 4.0, 2.0])
    colour = torch.rand(3, 3)
    rays, t = torch.zeros(6, dtype=torch.int64), torch.zeros(6)
    whole = composite(sigma, colour, Samples(rays[:3], t[:3], dt, torch.tensor([0, 3])))
    cut = Samples(rays, t, dt.repeat_interleave(2) / 2, torch.tensor([0, 6]))
    halves = composite(sigma.repeat_interleave(2), colour.repeat_interleave(2, 0), cut)
    torch.testing.assert_close(whole.rgb, halves.rgb)
    torch.testing.assert_close(whole.opacity, halves.opacity)


def test_rays_without_samples_see_nothing() -> None:
    samples = packed(COUNTS["some without"])
    density, colour = lit(samples)
    found = composite(density + 1, colour + 1, samples)
    empty = samples.offsets[1:] == samples.offsets[:-1]
    for values in found:
        assert (values[empty] == 0).all() and (values[~empty] > 0).all()


@every_packing
def test_kernel_agrees_with_the_definition(name: str) -> None:
    samples = packed(COUNTS[name])
    density, colour = lit(samples)
    expected = composite_reference(density.double(), colour.double(), double(samples))
    for found, value in zip(composite(density, colour, samples), expected, strict=True):
        assert found.shape == value.shape and found.dtype == torch.float32
        torch.testing.assert_close(found.double(), value, rtol=1e-5, atol=3e-6)


@every_packing
@pytest.mark.parametrize("outputs", [(0,), (1,), (2,), (0, 1, 2)])
def test_kernel_gives_the_gradients_of_the_definition(name: str, outputs: tuple[int, ...]) -> None:
    samples = packed(COUNTS[name], seed=1)
    gradients = []
    for one, render, of in ((torch.float32, composite, samples), (torch.float64, composite_reference, double(samples))):
        density, colour = (x.to(one).requires_grad_() for x in lit(samples, seed=1))
        values = render(density, colour, of)
        given = [torch.cos(torch.arange(x.numel(), dtype=one).view_as(x)) for x in values]
        sum((values[i] * given[i]).sum() for i in outputs).backward()  # type: ignore[union-attr]
        assert density.grad is not None and colour.grad is not None
        gradients.append((density.grad.double(), colour.grad.double()))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    samples = double(packed([0, 5, 9]))
    density, colour = (x.double().requires_grad_() for x in lit(samples))
    torch.autograd.gradcheck(lambda d, c: tuple(composite_reference(d, c, samples)), (density, colour))


@every_packing
def test_visible_agrees_with_the_definition(name: str) -> None:
    samples = packed(COUNTS[name], seed=2)
    density, _ = lit(samples, seed=2)
    found = visible(density, samples)
    assert found.shape == density.shape and found.dtype == torch.bool
    exact, near = double(samples), 1e-3
    sure = visible_reference(density.double() * (1 - near), exact) == visible_reference(
        density.double() * (1 + near), exact
    )
    assert torch.equal(found[sure], visible_reference(density.double(), exact)[sure])
    assert sure.double().mean() > 0.95 if len(sure) else True


def test_what_is_not_visible_makes_no_difference() -> None:
    samples = packed(COUNTS["many"], seed=3)
    density, colour = lit(samples, seed=3)
    keep = visible(density, samples)
    assert 0.1 < float(keep.double().mean()) < 0.9
    left = composite(density[keep], colour[keep], samples.kept(keep))
    most = OPAQUE + CLEAR * max(COUNTS["many"])
    for found, before in zip(left[:2], composite(density, colour, samples)[:2], strict=True):
        torch.testing.assert_close(found, before, rtol=0, atol=most)


@every_packing
def test_kept_samples_are_those_kept_in_order(name: str) -> None:
    samples = packed(COUNTS[name])
    keep = torch.arange(len(samples)) % 3 != 1
    kept = samples.kept(keep)
    assert torch.equal(kept.t, samples.t[keep]) and torch.equal(kept.dt, samples.dt[keep])
    assert len(kept) == int(keep.sum()) == int(kept.offsets[-1])
    for ray in range(len(samples.offsets) - 1):
        assert (kept.rays[kept.offsets[ray] : kept.offsets[ray + 1]] == ray).all()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("this machine has one core")
    samples = packed(COUNTS["many"])
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            density, colour = (x.requires_grad_() for x in lit(samples))
            values: tuple[Tensor, ...] = composite(density, colour, samples)
            (values[0].sum() + values[1].sum() + values[2].sum()).backward()  # type: ignore[no-untyped-call]
            assert density.grad is not None and colour.grad is not None
            results.append((*values, visible(density, samples), density.grad, colour.grad))
    finally:
        numba.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
