# SPDX-License-Identifier: GPL-3.0-or-later
"""What all rasterisers for CPUs do with triangles in homogeneous coordinates (Olano and Greer, "Triangle Scan
Conversion using 2D Homogeneous Coordinates", 1997), compiled by numba."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True)
def cross(a, b):  # type: ignore[no-untyped-def]
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@nb.njit(cache=True)
def corner(corners, i):  # type: ignore[no-untyped-def]
    """Row i of [V, 3] in double precision, in which the product of two single ones is exact."""
    return np.float64(corners[i, 0]), np.float64(corners[i, 1]), np.float64(corners[i, 2])


@nb.njit(cache=True)
def extent(low, high, count):  # type: ignore[no-untyped-def]
    """First and one past the last sample whose middle lies in [low, high], within the picture."""
    first = np.ceil(max(low, 0.0) - 0.5 - 1e-6)
    last = np.floor(min(high, float(count)) - 0.5 + 1e-6)
    return max(int(first), 0), min(int(last) + 1, count)
