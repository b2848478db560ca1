# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume rendering of packed samples on CPUs, compiled by numba. ``volume.composite_reference`` says what it does."""

from __future__ import annotations

import numba as nb
import numpy as np

ZERO = np.float32(0.0)
ONE = np.float32(1.0)


@nb.njit(parallel=True, fastmath=True, cache=True)
def visible(density, dts, offsets, opaque, clear, keep):  # type: ignore[no-untyped-def]
    """keep [N] bool: samples that light still reaches (``opaque``) and that stop some of it (``clear``)."""
    for r in nb.prange(offsets.shape[0] - 1):
        transmittance = ONE
        for i in range(offsets[r], offsets[r + 1]):
            alpha = ONE - np.exp(-density[i] * dts[i])
            keep[i] = transmittance > opaque and alpha > clear
            transmittance *= ONE - alpha


@nb.njit(parallel=True, fastmath=True, cache=True)
def forward(density, colour, ts, dts, offsets, rgb, opacity, depth, weights):  # type: ignore[no-untyped-def]
    """density [N], colour [N, 3], ts, dts [N], offsets [R+1] -> rgb [R, 3], opacity, depth [R], weights [N]."""
    for r in nb.prange(offsets.shape[0] - 1):
        transmittance = ONE
        red = green = blue = total = far = ZERO
        for i in range(offsets[r], offsets[r + 1]):
            alpha = ONE - np.exp(-density[i] * dts[i])
            w = transmittance * alpha
            transmittance *= ONE - alpha
            weights[i] = w
            red += w * colour[i, 0]
            green += w * colour[i, 1]
            blue += w * colour[i, 2]
            total += w
            far += w * ts[i]
        rgb[r, 0] = red
        rgb[r, 1] = green
        rgb[r, 2] = blue
        opacity[r] = total
        depth[r] = far


@nb.njit(parallel=True, fastmath=True, cache=True)
def backward(  # type: ignore[no-untyped-def]
    colour, ts, dts, offsets, weights, grad_rgb, grad_opacity, grad_depth, grad_density, grad_colour
):
    """Gradients of density [N] and colour [N, 3] from those of rgb [R, 3], opacity [R] and depth [R].

    With g_i = grad_rgb . colour_i + grad_opacity + grad_depth t_i, the loss changes with density i by
    dt_i (T_{i+1} g_i - sum_{j > i} w_j g_j): what the sample adds itself, less what it takes from those behind it.
    """
    for r in nb.prange(offsets.shape[0] - 1):
        behind = ZERO
        transmittance = ONE
        for i in range(offsets[r], offsets[r + 1]):
            transmittance -= weights[i]
        for i in range(offsets[r + 1] - 1, offsets[r] - 1, -1):
            w = weights[i]
            g = (
                grad_rgb[r, 0] * colour[i, 0]
                + grad_rgb[r, 1] * colour[i, 1]
                + grad_rgb[r, 2] * colour[i, 2]
                + grad_opacity[r]
                + grad_depth[r] * ts[i]
            )
            grad_density[i] = dts[i] * (max(transmittance, ZERO) * g - behind)
            for c in range(3):
                grad_colour[i, c] = w * grad_rgb[r, c]
            behind += w * g
            transmittance += w
