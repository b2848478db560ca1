# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from backend.rendering.marching import Samples
from backend.rendering.volume import CLEAR, OPAQUE, Composited, composite, composite_reference, visible

from ..fields.warp_modules import compiled, every_architecture, needs_cuda
from .rays import COUNTS, double, lit, packed

pytest.importorskip("warp", reason="NVIDIA Warp is not made for this system")

from backend.rendering import volume_cuda

every_packing = pytest.mark.parametrize("name", COUNTS)


def forward(density: Tensor, colour: Tensor, samples: Samples) -> tuple[Composited, Tensor]:
    """What rays see, and the weights of the samples."""
    count = len(samples.offsets) - 1
    found = Composited(*(torch.full((count, *more), torch.nan) for more in ((3,), (), ())))
    weights = torch.full_like(density, torch.nan)
    volume_cuda.forward(density, colour, samples, found.rgb, found.opacity, found.depth, weights)
    return found, weights


@every_packing
def test_kernel_on_the_cpu_agrees_with_the_definition(name: str) -> None:
    samples = packed(COUNTS[name])
    density, colour = lit(samples)
    found = forward(density, colour, samples)[0]
    expected = composite_reference(density.double(), colour.double(), double(samples))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=3e-6)


@every_packing
def test_kernel_on_the_cpu_gives_the_gradients_of_the_definition(name: str) -> None:
    samples = packed(COUNTS[name], seed=1)
    density, colour = lit(samples, seed=1)
    found, weights = forward(density, colour, samples)
    given = Composited(*(torch.randn_like(x) for x in found))
    grads = torch.empty_like(density), torch.empty_like(colour)
    volume_cuda.backward(colour, samples, weights, given.rgb, given.opacity, given.depth, grads[0], grads[1])

    exact = [x.double().requires_grad_() for x in (density, colour)]
    values = composite_reference(exact[0], exact[1], double(samples))
    torch.autograd.backward(tuple(values), tuple(x.double() for x in given))
    for one, other in zip(grads, exact, strict=True):
        assert other.grad is not None
        torch.testing.assert_close(one.double(), other.grad, rtol=1e-4, atol=2e-6)


@every_packing
def test_kernel_on_the_cpu_sees_the_same_samples(name: str) -> None:
    samples = packed(COUNTS[name], seed=2)
    density, _ = lit(samples, seed=2)
    found = volume_cuda.visible(density, samples, OPAQUE, CLEAR)
    assert torch.equal(found, visible(density, samples))


@every_architecture
def test_it_compiles_for_gpus_that_are_not_here(capability: int, tmp_path: Path) -> None:
    code, assembly = compiled(volume_cuda, capability, tmp_path)
    assert code[:4] == b"\x7fELF"
    assert "atom." not in assembly  # one thread a ray


@needs_cuda
@every_packing
def test_a_cuda_device_gives_the_same(name: str) -> None:
    samples = packed(COUNTS[name], seed=3)
    there = Samples(samples.rays.cuda(), samples.t.cuda(), samples.dt.cuda(), samples.offsets.cuda())
    here = [x.requires_grad_() for x in lit(samples, seed=3)]
    far = [x.detach().cuda().requires_grad_() for x in here]
    expected, found = composite(here[0], here[1], samples), composite(far[0], far[1], there)
    given = tuple(torch.randn_like(x) for x in expected)
    torch.autograd.backward(tuple(expected), given)
    torch.autograd.backward(tuple(found), tuple(x.cuda() for x in given))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-5, atol=3e-6)
    for one, other in zip(far, here, strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad.cpu(), other.grad, rtol=1e-4, atol=3e-6)
    agree = visible(far[0], there).cpu() == visible(here[0], samples)
    assert agree.double().mean() > 0.99 if len(samples) else True
