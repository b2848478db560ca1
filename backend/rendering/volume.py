# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume rendering of packed samples (Max 1995; Mildenhall et al., "NeRF", 2020, eq. 3).

``composite_reference`` is the definition in plain torch; the kernels for CPUs (numba) and CUDA (Warp) do the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .marching import Samples

OPAQUE = 1e-3
"""Samples behind a transmittance below this are not looked at."""
CLEAR = 1e-4
"""Nor are those that stop less light than this."""


class Composited(NamedTuple):
    """Per ray: rgb [R, 3] and opacity [R], premultiplied, in the colours' own space; depth [R], opacity-weighted."""

    rgb: Tensor
    opacity: Tensor
    depth: Tensor


def composite_reference(density: Tensor, colour: Tensor, samples: Samples) -> Composited:
    """density [N], colour [N, 3]: with alpha = 1 - exp(-density dt), each ray's sum of T alpha (colour, 1, t)."""
    count = len(samples.offsets) - 1
    transmittance, alpha = _light(density, samples)
    weights = transmittance * alpha
    values = torch.cat([colour, torch.ones_like(weights)[:, None], samples.t[:, None]], 1)
    sums = values.new_zeros(count, 5).index_add(0, samples.rays, weights[:, None] * values)
    return Composited(sums[:, :3], sums[:, 3], sums[:, 4])


def visible_reference(density: Tensor, samples: Samples) -> Tensor:
    """bool [N]: samples that light still reaches and that stop some of it, which alone are worth a colour."""
    transmittance, alpha = _light(density, samples)
    return (transmittance > OPAQUE) & (alpha > CLEAR)


def _light(density: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    """Per sample, the part of the ray's light that reaches it, and of that the part it stops."""
    optical = density * samples.dt
    gathered = torch.cat([optical.new_zeros(1), optical.cumsum(0)])
    before = gathered[:-1] - gathered[samples.offsets[:-1]][samples.rays]
    return torch.exp(-before), -torch.expm1(-optical)


def composite(density: Tensor, colour: Tensor, samples: Samples) -> Composited:
    """See ``composite_reference``. Differentiable in density and colour, which are float32."""
    if density.device.type not in ("cpu", "cuda"):
        return composite_reference(density, colour, samples)
    return Composited(*_Composite.apply(density.contiguous(), colour.contiguous(), samples))  # type: ignore[no-untyped-call]


def visible(density: Tensor, samples: Samples) -> Tensor:
    """See ``visible_reference``. Not differentiable."""
    density = density.detach()
    if density.is_cuda:
        from . import volume_cuda

        return volume_cuda.visible(density, samples, OPAQUE, CLEAR)
    if density.device.type != "cpu":
        return visible_reference(density, samples)
    from . import volume_cpu

    keep = torch.empty(len(density), dtype=torch.bool)
    volume_cpu.visible(
        density.numpy(),
        samples.dt.numpy(),
        samples.offsets.numpy(),
        np.float32(OPAQUE),
        np.float32(CLEAR),
        keep.numpy(),
    )
    return keep


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, colour: Tensor, samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
        count, device = len(samples.offsets) - 1, density.device
        rgb, opacity, depth = (torch.empty(shape, device=device) for shape in ((count, 3), (count,), (count,)))
        weights = torch.empty_like(density)
        density, colour = density.detach(), colour.detach()
        if density.is_cuda:
            from . import volume_cuda

            volume_cuda.forward(density, colour, samples, rgb, opacity, depth, weights)
        else:
            from . import volume_cpu

            arrays = (density, colour, samples.t, samples.dt, samples.offsets, rgb, opacity, depth, weights)
            volume_cpu.forward(*(array.numpy() for array in arrays))
        ctx.colour, ctx.samples, ctx.weights = colour, samples, weights
        return rgb, opacity, depth

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        colour, samples, weights = ctx.colour, ctx.samples, ctx.weights
        grad_density, grad_colour = torch.empty_like(weights), torch.empty_like(colour)
        rgb, opacity, depth = (grad.contiguous() for grad in grads)
        if colour.is_cuda:
            from . import volume_cuda

            volume_cuda.backward(colour, samples, weights, rgb, opacity, depth, grad_density, grad_colour)
        else:
            from . import volume_cpu

            known = (colour, samples.t, samples.dt, samples.offsets, weights)
            arrays = (*known, rgb, opacity, depth, grad_density, grad_colour)
            volume_cpu.backward(*(array.numpy() for array in arrays))
        return grad_density, grad_colour, None
