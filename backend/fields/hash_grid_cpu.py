# SPDX-License-Identifier: GPL-3.0-or-later
"""The hash grid's kernels for CPUs, compiled by numba. ``hash_grid.encode_reference`` says what they compute.

Points are walked in blocks, level by level, so that one level's table stays in the cache while a block passes.
The backward pass gives each thread whole levels: no two threads ever write the same row, so it needs no atomics and
its sums do not depend on the number of threads. The four features of a row are spelled out because a loop over them
keeps LLVM from holding them in registers (measured: half the speed forward, a third backward).
"""

from __future__ import annotations

import numba as nb
import numpy as np

BLOCK = 2048
ONE = np.float32(1.0)


@nb.njit(inline="always")
def _cell(p, res):  # type: ignore[no-untyped-def]
    """Lower corner of the cell that holds coordinate p in [0, 1], and the place within the cell."""
    x = p * np.float32(res)
    i = min(max(np.int32(x), np.int32(0)), np.int32(res - 1))
    return i, x - np.float32(i)


@nb.njit(inline="always")
def _row(ix, iy, iz, stride, size, hashed):  # type: ignore[no-untyped-def]
    if hashed:
        h = np.uint32(ix) ^ (np.uint32(iy) * np.uint32(2654435761)) ^ (np.uint32(iz) * np.uint32(805459861))
        return np.int64(h & np.uint32(size - 1))
    return np.int64(ix) + np.int64(stride) * (np.int64(iy) + np.int64(stride) * np.int64(iz))


@nb.njit(parallel=True, fastmath=True, cache=True)
def forward(points, table, resolutions, offsets, hashed, out):  # type: ignore[no-untyped-def]
    """points [N, 3] in [0, 1], table [E, 4] -> out [N, L*4], all float32."""
    n = points.shape[0]
    for block in nb.prange((n + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        stop = min(n, start + BLOCK)
        for level in range(resolutions.shape[0]):
            res = resolutions[level]
            base = offsets[level]
            size = offsets[level + 1] - base
            column = level * 4
            for i in range(start, stop):
                ix, fx = _cell(points[i, 0], res)
                iy, fy = _cell(points[i, 1], res)
                iz, fz = _cell(points[i, 2], res)
                a = b = c = d = np.float32(0.0)
                for cz in range(2):
                    wz = fz if cz else ONE - fz
                    for cy in range(2):
                        wy = wz * (fy if cy else ONE - fy)
                        for cx in range(2):
                            w = wy * (fx if cx else ONE - fx)
                            row = base + _row(ix + cx, iy + cy, iz + cz, res + 1, size, hashed[level])
                            a += w * table[row, 0]
                            b += w * table[row, 1]
                            c += w * table[row, 2]
                            d += w * table[row, 3]
                out[i, column] = a
                out[i, column + 1] = b
                out[i, column + 2] = c
                out[i, column + 3] = d


@nb.njit(parallel=True, fastmath=True, cache=True)
def backward(points, grad_out, resolutions, offsets, hashed, grad_table):  # type: ignore[no-untyped-def]
    """Adds d loss / d table to grad_table [E, 4], given grad_out [N, L*4]."""
    n = points.shape[0]
    for level in nb.prange(resolutions.shape[0]):
        res = resolutions[level]
        base = offsets[level]
        size = offsets[level + 1] - base
        column = level * 4
        for i in range(n):
            ix, fx = _cell(points[i, 0], res)
            iy, fy = _cell(points[i, 1], res)
            iz, fz = _cell(points[i, 2], res)
            a = grad_out[i, column]
            b = grad_out[i, column + 1]
            c = grad_out[i, column + 2]
            d = grad_out[i, column + 3]
            for cz in range(2):
                wz = fz if cz else ONE - fz
                for cy in range(2):
                    wy = wz * (fy if cy else ONE - fy)
                    for cx in range(2):
                        w = wy * (fx if cx else ONE - fx)
                        row = base + _row(ix + cx, iy + cy, iz + cz, res + 1, size, hashed[level])
                        grad_table[row, 0] += w * a
                        grad_table[row, 1] += w * b
                        grad_table[row, 2] += w * c
                        grad_table[row, 3] += w * d
