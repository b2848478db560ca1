# SPDX-License-Identifier: GPL-3.0-or-later
"""The hash grid's kernels for CUDA, compiled by NVIDIA Warp. ``hash_grid.encode_reference`` says what they compute.

One thread a point and level, level by level, so that threads which run at the same time read the same level's table
(Müller et al. 2022, §4). A row's four features are read, written and added to as one 16-byte word.
"""

from __future__ import annotations

import functools
from typing import no_type_check

import numpy as np
import torch
import warp as wp
from torch import Tensor

from .hash_grid import PRIMES, Levels
from .warp_launch import launch

wp.set_module_options({"enable_backward": False})

PRIME_Y = wp.constant(wp.uint32(PRIMES[1]))
PRIME_Z = wp.constant(wp.uint32(PRIMES[2]))


@wp.func_native(  # type: ignore[untyped-decorator]
    """
#if defined(__CUDA_ARCH__)
    const float4 v = reinterpret_cast<const float4*>(rows.data)[row];
    return wp::vec_t<4, wp::float32>(v.x, v.y, v.z, v.w);
#else
    const float* v = rows.data + 4 * wp::int64(row);
    return wp::vec_t<4, wp::float32>(v[0], v[1], v[2], v[3]);
#endif
"""
)
def _read(rows: wp.array2d[wp.float32], row: wp.int32) -> wp.vec4: ...


@wp.func_native(  # type: ignore[untyped-decorator]
    """
#if defined(__CUDA_ARCH__)
    reinterpret_cast<float4*>(rows.data)[row] = make_float4(value[0], value[1], value[2], value[3]);
#else
    for (int k = 0; k < 4; ++k)
        rows.data[4 * wp::int64(row) + k] = value[k];
#endif
"""
)
def _write(rows: wp.array2d[wp.float32], row: wp.int32, value: wp.vec4) -> None: ...


# Adding four numbers in one atomic operation takes compute capability 9.0.
@wp.func_native(  # type: ignore[untyped-decorator]
    """
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    atomicAdd(reinterpret_cast<float4*>(rows.data) + row, make_float4(value[0], value[1], value[2], value[3]));
#else
    for (int k = 0; k < 4; ++k)
        wp::atomic_add(rows.data + 4 * wp::int64(row) + k, value[k]);
#endif
"""
)
def _add(rows: wp.array2d[wp.float32], row: wp.int32, value: wp.vec4) -> None: ...


@wp.func
@no_type_check
def _cell(p: wp.float32, resolution: wp.int32):
    """Lower corner of the cell that holds coordinate p in [0, 1], and the place within the cell."""
    x = p * wp.float32(resolution)
    i = wp.clamp(wp.int32(x), 0, resolution - 1)
    return i, x - wp.float32(i)


@wp.func
@no_type_check
def _row(x: wp.int32, y: wp.int32, z: wp.int32, resolution: wp.int32, rows: wp.int32, hashed: wp.int32):
    if hashed != 0:
        h = wp.uint32(x) ^ (wp.uint32(y) * PRIME_Y) ^ (wp.uint32(z) * PRIME_Z)
        return wp.int32(h & wp.uint32(rows - 1))
    return x + (resolution + 1) * (y + (resolution + 1) * z)


@wp.func
@no_type_check
def _side(place: wp.float32, upper: wp.int32):
    """Weight of a cell's lower or upper side at a place within it."""
    if upper != 0:
        return place
    return 1.0 - place


@wp.kernel
@no_type_check
def _forward(
    points: wp.array2d[wp.float32],
    table: wp.array2d[wp.float32],
    levels: wp.array2d[wp.int32],
    out: wp.array2d[wp.float32],
):
    level, i = wp.tid()
    resolution, base = wp.int32(levels[level, 0]), wp.int32(levels[level, 1])  # without the cast, read at every use
    rows, hashed = wp.int32(levels[level, 2]), wp.int32(levels[level, 3])
    x, fx = _cell(points[i, 0], resolution)
    y, fy = _cell(points[i, 1], resolution)
    z, fz = _cell(points[i, 2], resolution)
    total = wp.vec4()
    for corner in range(8):
        cx, cy, cz = corner & 1, corner >> 1 & 1, corner >> 2
        weight = _side(fx, cx) * _side(fy, cy) * _side(fz, cz)
        total += weight * _read(table, base + _row(x + cx, y + cy, z + cz, resolution, rows, hashed))
    _write(out, i * levels.shape[0] + level, total)


@wp.kernel
@no_type_check
def _backward(
    points: wp.array2d[wp.float32],
    grad_out: wp.array2d[wp.float32],
    levels: wp.array2d[wp.int32],
    grad_table: wp.array2d[wp.float32],
):
    level, i = wp.tid()
    resolution, base = wp.int32(levels[level, 0]), wp.int32(levels[level, 1])  # without the cast, read at every use
    rows, hashed = wp.int32(levels[level, 2]), wp.int32(levels[level, 3])
    x, fx = _cell(points[i, 0], resolution)
    y, fy = _cell(points[i, 1], resolution)
    z, fz = _cell(points[i, 2], resolution)
    grad = _read(grad_out, i * levels.shape[0] + level)
    for corner in range(8):
        cx, cy, cz = corner & 1, corner >> 1 & 1, corner >> 2
        weight = _side(fx, cx) * _side(fy, cy) * _side(fz, cz)
        _add(grad_table, base + _row(x + cx, y + cy, z + cz, resolution, rows, hashed), weight * grad)


def forward(points: Tensor, table: Tensor, grid: Levels, out: Tensor) -> None:
    """points [N, 3] in [0, 1], table [E, 4] -> out [N, 4 L], all float32; table and out contiguous."""
    levels = _levels_on(grid, points.device)
    launch(_forward, (len(levels), len(points)), points, table, levels, out)


def backward(points: Tensor, grad_out: Tensor, grid: Levels, grad_table: Tensor) -> None:
    """Adds d loss / d table to grad_table [E, 4], given grad_out [N, 4 L], both contiguous.

    The order of the additions, and so the last digits, differ from call to call.
    """
    levels = _levels_on(grid, points.device)
    launch(_backward, (len(levels), len(points)), points, grad_out, levels, grad_table)


def _levels_on(grid: Levels, device: torch.device) -> Tensor:
    """int32 [L, 4]: resolution, first row, rows and whether corners share them."""
    rows = np.diff(grid.offsets)
    table = np.stack([grid.resolutions, grid.offsets[:-1], rows, grid.hashed], 1).astype(np.int32)
    return _on_device(table.tobytes(), device)


@functools.lru_cache(maxsize=16)
def _on_device(table: bytes, device: torch.device) -> Tensor:
    """Sent once: a copy in every call would wait for the device, and could not be recorded in a CUDA graph."""
    return torch.frombuffer(bytearray(table), dtype=torch.int32).view(-1, 4).to(device)
