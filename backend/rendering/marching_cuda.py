# SPDX-License-Identifier: GPL-3.0-or-later
"""Ray marching through an occupancy grid on CUDA, compiled by NVIDIA Warp; ``marching.march_reference`` says what it
does.

One thread a ray, twice: to count its samples and then to write them, packed. Both are the same kernel in strict
arithmetic, without fused multiply-add, so that they take the same steps, and the same as the kernel for CPUs; the
second ends with the last sample.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from ..fields.warp_launch import launch
from .empty_space import BLOCK
from .marching import DARK, HAIR, Path, Samples

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

FAR = wp.constant(wp.float32(1e30))
SOLID_ENOUGH = wp.constant(wp.float32(DARK))
ROUNDING = wp.constant(wp.float32(HAIR))
SMALLEST = wp.constant(wp.int32(BLOCK))
RAYS_A_BLOCK = 64  # a few thousand rays, the size of a training step, so spread over all of a device's processors


@wp.func
@no_type_check
def _contract(x: wp.vec3):
    """Box coordinates -> [-1, 1], by the contraction of ``contraction.contract``."""
    m = wp.max(wp.abs(x[0]), wp.max(wp.abs(x[1]), wp.abs(x[2])))
    s = 0.5
    if m > 1.0:
        s = (2.0 - 1.0 / m) / m * 0.5
    return x * s


@wp.func
@no_type_check
def _index(x: wp.float32, resolution: wp.int32):
    i = wp.int32((x + 1.0) * 0.5 * wp.float32(resolution))
    return wp.clamp(i, 0, resolution - 1)


@wp.func
@no_type_check
def _inverse(d: wp.float32):
    if wp.abs(d) < 1e-12:
        return 0.0
    return 1.0 / d


@wp.func
@no_type_check
def _exit(x: wp.float32, inverse: wp.float32, i: wp.int32, level: wp.int32, width: wp.float32, hair: wp.float32):
    """Distance along the ray until one coordinate leaves, but for a hair, the block of 2^level cells that cell i is in.
    inverse: of the direction, 0 if it never does."""
    if inverse == 0.0:
        return FAR
    if inverse > 0.0:
        return (wp.float32(((i >> level) + 1) << level) * width - 1.0 - hair - x) * inverse
    return (wp.float32((i >> level) << level) * width - 1.0 + hair - x) * inverse


@wp.kernel
@no_type_check
def _walk(
    origins: wp.array2d[wp.float32],
    directions: wp.array2d[wp.float32],
    shifts: wp.array[wp.float32],
    near: wp.float32,
    far: wp.float32,
    occupied: wp.array3d[wp.bool],
    solid: wp.array3d[wp.float32],
    free: wp.array3d[wp.uint8],
    step: wp.float32,
    cone: wp.float32,
    contracted: wp.bool,
    most: wp.int64,
    writing: wp.bool,
    offsets: wp.array[wp.int64],
    rays: wp.array[wp.int64],
    ts: wp.array[wp.float32],
    dts: wp.array[wp.float32],
):
    """The number of ray r's samples, in offsets[r + 1]; or, if ``writing``, the samples, from offsets[r] on."""
    r = wp.tid()
    resolution = occupied.shape[0]
    o = wp.vec3(origins[r, 0], origins[r, 1], origins[r, 2])
    d = wp.vec3(directions[r, 0], directions[r, 1], directions[r, 2])
    width = 2.0 / wp.float32(resolution)
    inverse = wp.vec3(_inverse(d[0]), _inverse(d[1]), _inverse(d[2]))
    t0 = near
    t1 = far
    if not contracted:
        for axis in range(3):
            if wp.abs(d[axis]) >= 1e-12:
                a = (-1.0 - o[axis]) / d[axis]
                b = (1.0 - o[axis]) / d[axis]
                t0 = wp.max(t0, wp.min(a, b))
                t1 = wp.min(t1, wp.max(a, b))
            elif wp.abs(o[axis]) > 1.0:
                t1 = -FAR
    first = offsets[r]
    room = most
    if writing:
        room = offsets[r + 1] - first
    uniform = t1 * cone <= step
    skipping = uniform and not contracted and free.shape[0] > 0
    start = t0 + shifts[r] * wp.max(step, t0 * cone)
    t = start
    steps = wp.float32(0.0)
    count = wp.int64(0)
    passed = wp.float32(0.0)
    while t < t1 and passed <= SOLID_ENOUGH and count < room:
        dt = wp.max(step, t * cone)
        x = o + t * d
        if contracted:
            x = _contract(x)
        ix = _index(x[0], resolution)
        iy = _index(x[1], resolution)
        iz = _index(x[2], resolution)
        ahead = wp.float32(1.0)
        if occupied[ix, iy, iz]:
            if writing:
                rays[first + count] = wp.int64(r)
                ts[first + count] = t
                dts[first + count] = dt
            count += wp.int64(1)
            if solid.shape[0] > 0:
                passed += solid[ix, iy, iz] * dt
        elif not contracted:
            level = wp.int32(0)
            if skipping:
                level = wp.int32(free[ix >> SMALLEST, iy >> SMALLEST, iz >> SMALLEST])
            hair = ROUNDING * (t + 6.0)
            leave = wp.min(
                _exit(x[0], inverse[0], ix, level, width, hair),
                wp.min(
                    _exit(x[1], inverse[1], iy, level, width, hair), _exit(x[2], inverse[2], iz, level, width, hair)
                ),
            )
            # Whole steps only, so that the samples of a ray keep their spacing across empty cells.
            ahead = wp.max(1.0, wp.ceil(leave / dt))
        if uniform:
            steps += ahead
            t = start + steps * step
        else:
            t += ahead * dt
    if not writing:
        offsets[r + 1] = count


def march(
    origins: Tensor,
    directions: Tensor,
    shifts: Tensor,
    occupied: Tensor,
    path: Path,
    solid: Tensor | None = None,
    free: Tensor | None = None,
) -> Samples:
    """See ``marching.march``. Waits for the device once, for the number of samples."""
    count, device = len(origins), origins.device
    if solid is None:
        solid = torch.empty((0, 0, 0), device=device)
    if free is None:
        free = torch.empty((0, 0, 0), dtype=torch.uint8, device=device)
    rays, limits = (origins, directions, shifts), (path.near, path.far)
    how = (*rays, *limits, occupied, solid, free, path.step, path.growth, path.contracted, path.most)
    offsets = torch.zeros(count + 1, dtype=torch.int64, device=device)
    whole, real = torch.empty(0, dtype=torch.int64, device=device), torch.empty(0, device=device)
    launch(_walk, count, *how, False, offsets, whole, real, real, block=RAYS_A_BLOCK)
    offsets.cumsum_(0)
    total = int(offsets[-1])
    owners, t, dt = whole.new_empty(total), real.new_empty(total), real.new_empty(total)
    launch(_walk, count, *how, True, offsets, owners, t, dt, block=RAYS_A_BLOCK)
    return Samples(owners, t, dt, offsets)
