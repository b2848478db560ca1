# SPDX-License-Identifier: GPL-3.0-or-later
"""Things stand on the ground, in the middle, as large as they are told to be."""

from __future__ import annotations

import numpy as np

from backend.geometry.standing import standing


def test_it_stands_in_the_middle_as_large_as_told() -> None:
    vertices = np.random.default_rng(0).uniform((-3, 1, 5), (2, 2, 9), (100, 3)).astype(np.float32)
    matrix = standing(vertices, 1.8)
    world = vertices @ matrix[:3, :3].T + matrix[:3, 3]
    low, high = world.min(0), world.max(0)
    assert np.allclose(low[2], 0, atol=1e-6) and np.allclose((low + high)[:2], 0, atol=1e-6)
    assert np.isclose((high - low).max(), 1.8)
    assert np.allclose(matrix[:3, :3], matrix[0, 0] * np.eye(3))  # neither turned nor squeezed


def test_a_flat_or_single_thing_can_stand() -> None:
    flat = np.array([[0.1, 0.2, -0.3], [0.1, 0.2, -0.3]], np.float32)
    assert np.isfinite(standing(flat, 1.0)).all()
