# SPDX-License-Identifier: GPL-3.0-or-later
"""Where generated things stand: upright on the ground, several in a row. No bpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GAP = 0.25  # between neighbours, as a share of the longest side on the ground

Array = NDArray[np.float64]


def stand(positions: NDArray[np.float32], box_to_world: Array) -> tuple[NDArray[np.float32], Array]:
    """World positions [V, 3] less the middle of their foot, and that point [3]: the box's middle, at its lowest z."""
    world = positions.astype(np.float64) @ box_to_world[:3, :3].T + box_to_world[:3, 3]
    low, high = world.min(axis=0), world.max(axis=0)
    foot = np.array(((low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0, low[2]))
    return (world - foot).astype(np.float32), foot


def row(sizes: Sequence[NDArray[np.floating]]) -> tuple[Array, Array]:
    """Offsets [N, 3] along +X, the first 0, for things of these sizes [3]; and the way [3] to a second row behind."""
    ground = np.array(sizes, np.float64)[:, :2]
    gap = GAP * ground.max()
    offsets = np.zeros((len(ground), 3))
    offsets[1:, 0] = np.cumsum((ground[:-1, 0] + ground[1:, 0]) / 2.0 + gap)
    return offsets, np.array((0.0, ground[:, 1].max() + gap, 0.0))


def move(by: Array) -> Array:
    """The matrix [4, 4] of a translation."""
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return matrix
