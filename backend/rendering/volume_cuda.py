# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume rendering of packed samples on CUDA, compiled by NVIDIA Warp; ``volume.composite_reference`` says what it
does. One thread a ray: no two threads write the same place, so that there are no atomics and no chance."""

from __future__ import annotations

from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from ..fields.warp_launch import launch
from .marching import Samples

wp.set_module_options({"enable_backward": False})

RAYS_A_BLOCK = 64  # a few thousand rays, the size of a training step, so spread over all of a device's processors


@wp.kernel
@no_type_check
def _visible(
    density: wp.array[wp.float32],
    dts: wp.array[wp.float32],
    offsets: wp.array[wp.int64],
    opaque: wp.float32,
    clear: wp.float32,
    keep: wp.array[wp.bool],
):
    r = wp.tid()
    transmittance = wp.float32(1.0)
    i = wp.int64(offsets[r])
    stop = wp.int64(offsets[r + 1])
    while i < stop:
        alpha = 1.0 - wp.exp(-density[i] * dts[i])
        keep[i] = transmittance > opaque and alpha > clear
        transmittance *= 1.0 - alpha
        i += wp.int64(1)


@wp.kernel
@no_type_check
def _forward(
    density: wp.array[wp.float32],
    colour: wp.array2d[wp.float32],
    ts: wp.array[wp.float32],
    dts: wp.array[wp.float32],
    offsets: wp.array[wp.int64],
    rgb: wp.array2d[wp.float32],
    opacity: wp.array[wp.float32],
    depth: wp.array[wp.float32],
    weights: wp.array[wp.float32],
):
    r = wp.tid()
    transmittance = wp.float32(1.0)
    total = wp.float32(0.0)
    far = wp.float32(0.0)
    seen = wp.vec3()
    i = wp.int64(offsets[r])
    stop = wp.int64(offsets[r + 1])
    while i < stop:
        alpha = 1.0 - wp.exp(-density[i] * dts[i])
        w = transmittance * alpha
        transmittance *= 1.0 - alpha
        weights[i] = w
        seen += w * wp.vec3(colour[i, 0], colour[i, 1], colour[i, 2])
        total += w
        far += w * ts[i]
        i += wp.int64(1)
    rgb[r, 0] = seen[0]
    rgb[r, 1] = seen[1]
    rgb[r, 2] = seen[2]
    opacity[r] = total
    depth[r] = far


@wp.kernel
@no_type_check
def _backward(
    colour: wp.array2d[wp.float32],
    ts: wp.array[wp.float32],
    dts: wp.array[wp.float32],
    offsets: wp.array[wp.int64],
    weights: wp.array[wp.float32],
    grad_rgb: wp.array2d[wp.float32],
    grad_opacity: wp.array[wp.float32],
    grad_depth: wp.array[wp.float32],
    grad_density: wp.array[wp.float32],
    grad_colour: wp.array2d[wp.float32],
):
    """The formula is explained in the kernel for CPUs."""
    r = wp.tid()
    first = wp.int64(offsets[r])
    stop = wp.int64(offsets[r + 1])
    given = wp.vec3(grad_rgb[r, 0], grad_rgb[r, 1], grad_rgb[r, 2])
    transmittance = wp.float32(1.0)
    i = first
    while i < stop:
        transmittance -= weights[i]
        i += wp.int64(1)
    behind = wp.float32(0.0)
    while i > first:
        i -= wp.int64(1)
        w = wp.float32(weights[i])
        g = wp.dot(given, wp.vec3(colour[i, 0], colour[i, 1], colour[i, 2])) + grad_opacity[r] + grad_depth[r] * ts[i]
        grad_density[i] = dts[i] * (wp.max(transmittance, 0.0) * g - behind)
        grad_colour[i, 0] = w * given[0]
        grad_colour[i, 1] = w * given[1]
        grad_colour[i, 2] = w * given[2]
        behind += w * g
        transmittance += w


def visible(density: Tensor, samples: Samples, opaque: float, clear: float) -> Tensor:
    """bool [N]: samples that light still reaches (``opaque``) and that stop some of it (``clear``)."""
    keep = torch.empty(len(density), dtype=torch.bool, device=density.device)
    rays = len(samples.offsets) - 1
    launch(_visible, rays, density, samples.dt, samples.offsets, opaque, clear, keep, block=RAYS_A_BLOCK)
    return keep


def forward(
    density: Tensor, colour: Tensor, samples: Samples, rgb: Tensor, opacity: Tensor, depth: Tensor, weights: Tensor
) -> None:
    """density [N], colour [N, 3] -> rgb [R, 3], opacity, depth [R], weights [N]."""
    given, found = (density, colour, samples.t, samples.dt, samples.offsets), (rgb, opacity, depth, weights)
    launch(_forward, len(rgb), *given, *found, block=RAYS_A_BLOCK)


def backward(
    colour: Tensor,
    samples: Samples,
    weights: Tensor,
    grad_rgb: Tensor,
    grad_opacity: Tensor,
    grad_depth: Tensor,
    grad_density: Tensor,
    grad_colour: Tensor,
) -> None:
    """Gradients of density [N] and colour [N, 3] from those of rgb [R, 3], opacity [R] and depth [R]."""
    known = (colour, samples.t, samples.dt, samples.offsets, weights)
    grads = (grad_rgb, grad_opacity, grad_depth, grad_density, grad_colour)
    launch(_backward, len(grad_rgb), *known, *grads, block=RAYS_A_BLOCK)
