# SPDX-License-Identifier: GPL-3.0-or-later
"""The occupancy grid's kernel for CPUs, compiled by numba."""

from __future__ import annotations

import numba as nb
import numpy as np

from .marching_cpu import _contract, _index

RELAX = np.float32(0.02)


@nb.njit(fastmath=True, cache=True)
def observe(points, density, contracted, most, solid):  # type: ignore[no-untyped-def]
    """Takes densities [N] seen at points [N, 3] into ``solid`` [G, G, G]: down at once, up slowly, ``most`` at most.

    One thread, in order: the result does not depend on chance.
    """
    resolution = solid.shape[0]
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        if contracted:
            x, y, z = _contract(x, y, z)
        ix, iy, iz = _index(x, resolution), _index(y, resolution), _index(z, resolution)
        known = solid[ix, iy, iz]
        found = min(density[i], most)
        solid[ix, iy, iz] = found if found < known else known + RELAX * (found - known)
