# SPDX-License-Identifier: GPL-3.0-or-later
"""Ray marching through an occupancy grid on CPUs, compiled by numba. ``marching.march_reference`` says what it does.

Every ray is walked twice, first to count its samples and then to write them, so that the samples of all rays lie
packed one behind the other whatever their number. Each ray writes its own stretch: no atomics, same result for any
number of threads. The walk is compiled without fast mathematics, so that both times it takes the same steps, and ends
the second time with its last sample.
"""

from __future__ import annotations

import numba as nb
import numpy as np

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
FAR = np.float32(1e30)
DARK = np.float32(10.0)  # marching.DARK
HAIR = np.float32(5e-7)  # marching.HAIR
BLOCK = np.int32(2)  # empty_space.BLOCK


@nb.njit(inline="always")
def _contract(x, y, z):  # type: ignore[no-untyped-def]
    """Box coordinates -> [-1, 1], by the contraction of ``contraction.contract``."""
    m = max(abs(x), max(abs(y), abs(z)))
    s = np.float32(0.5) if m <= ONE else (np.float32(2.0) - ONE / m) / m * np.float32(0.5)
    return x * s, y * s, z * s


@nb.njit(inline="always")
def _index(x, resolution):  # type: ignore[no-untyped-def]
    i = np.int32((x + ONE) * np.float32(0.5) * np.float32(resolution))
    return min(max(i, np.int32(0)), np.int32(resolution - 1))


@nb.njit(inline="always")
def _slab(o, d, t0, t1):  # type: ignore[no-untyped-def]
    """The part of [t0, t1] in which one coordinate o + t d lies in [-1, 1]."""
    if abs(d) < np.float32(1e-12):
        return (t0, t1) if abs(o) <= ONE else (ONE, ZERO)
    a = (-ONE - o) / d
    b = (ONE - o) / d
    return max(t0, min(a, b)), min(t1, max(a, b))


@nb.njit(inline="always")
def _inverse(d):  # type: ignore[no-untyped-def]
    return ZERO if abs(d) < np.float32(1e-12) else ONE / d


@nb.njit(inline="always")
def _exit(x, inverse, i, level, width, hair):  # type: ignore[no-untyped-def]
    """Distance along the ray until one coordinate leaves, but for a hair, the block of 2^level cells that cell i is in.
    inverse: of the direction, 0 if it never does."""
    if inverse == ZERO:
        return FAR
    if inverse > ZERO:
        return (np.float32(((i >> level) + 1) << level) * width - ONE - hair - x) * inverse
    return (np.float32((i >> level) << level) * width - ONE + hair - x) * inverse


@nb.njit
def _walk(  # type: ignore[no-untyped-def]
    o, d, shift, near, far, occupied, solid, free, step, cone, contracted, most, first, ts, dts
):
    """Samples of one ray. Writes them from index ``first`` on unless it is negative; returns their number."""
    resolution = occupied.shape[0]
    width = np.float32(2.0) / np.float32(resolution)
    inverse_x, inverse_y, inverse_z = _inverse(d[0]), _inverse(d[1]), _inverse(d[2])
    t0, t1 = near, far
    if not contracted:
        t0, t1 = _slab(o[0], d[0], t0, t1)
        t0, t1 = _slab(o[1], d[1], t0, t1)
        t0, t1 = _slab(o[2], d[2], t0, t1)
    uniform = t1 * cone <= step
    skipping = uniform and not contracted and free.shape[0] > 0
    start = t0 + shift * max(step, t0 * cone)
    t, steps = start, ZERO
    count = 0
    passed = ZERO
    while t < t1 and count < most:
        dt = max(step, t * cone)
        x = o[0] + t * d[0]
        y = o[1] + t * d[1]
        z = o[2] + t * d[2]
        if contracted:
            x, y, z = _contract(x, y, z)
        ix = _index(x, resolution)
        iy = _index(y, resolution)
        iz = _index(z, resolution)
        ahead = ONE
        if occupied[ix, iy, iz]:
            if first >= 0:
                ts[first + count] = t
                dts[first + count] = dt
            count += 1
            if solid.shape[0] > 0:
                passed += solid[ix, iy, iz] * dt
                if passed > DARK:
                    break
        elif not contracted:
            level = np.int32(free[ix >> BLOCK, iy >> BLOCK, iz >> BLOCK]) if skipping else np.int32(0)
            hair = HAIR * (t + np.float32(6.0))
            leave = min(
                _exit(x, inverse_x, ix, level, width, hair),
                min(_exit(y, inverse_y, iy, level, width, hair), _exit(z, inverse_z, iz, level, width, hair)),
            )
            # Whole steps only, so that the samples of a ray keep their spacing across empty cells.
            ahead = max(ONE, np.ceil(leave / dt))
        if uniform:
            steps += ahead
            t = start + steps * step
        else:
            t += ahead * dt
    return count


@nb.njit(parallel=True, cache=True)
def count(  # type: ignore[no-untyped-def]
    origins, directions, shifts, near, far, occupied, solid, free, step, cone, contracted, most, counts
):
    """counts [R] int64: samples of each ray."""
    none = np.empty(0, np.float32)
    how = (occupied, solid, free, step, cone, contracted)
    for r in nb.prange(origins.shape[0]):
        counts[r] = _walk(origins[r], directions[r], shifts[r], near, far, *how, most, -1, none, none)


@nb.njit(parallel=True, cache=True)
def fill(  # type: ignore[no-untyped-def]
    origins, directions, shifts, near, far, occupied, solid, free, step, cone, contracted, offsets, rays, ts, dts
):
    """rays int64, ts and dts float32 [offsets[-1]]: the samples themselves."""
    how = (occupied, solid, free, step, cone, contracted)
    for r in nb.prange(origins.shape[0]):
        first = offsets[r]
        rays[first : offsets[r + 1]] = r
        _walk(origins[r], directions[r], shifts[r], near, far, *how, offsets[r + 1] - first, first, ts, dts)
