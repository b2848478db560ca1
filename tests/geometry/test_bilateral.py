# SPDX-License-Identifier: GPL-3.0-or-later
"""Scattered points of shapes whose surfaces are known, before and after."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from backend.geometry.bilateral import filtered

SCATTER = 0.008


def cube(rng: np.random.Generator, count: int = 4000) -> NDArray[np.float32]:
    points = rng.uniform(-0.5, 0.5, (count, 3))
    points[np.arange(count), rng.integers(0, 3, count)] = rng.choice((-0.5, 0.5), count)
    return points.astype(np.float32)


def off_cube(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distances [N] to the surface of the unit cube."""
    beyond = np.abs(points).astype(np.float64) - 0.5
    away: NDArray[np.float64] = np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.maximum(-beyond.max(1), 0)
    return away


def test_scatter_shrinks_and_edges_stay() -> None:
    rng = np.random.default_rng(0)
    clean = cube(rng)
    noisy = (clean + rng.normal(0, SCATTER, clean.shape)).astype(np.float32)
    found = filtered(noisy)
    faces = np.sort(np.abs(clean), axis=1)[:, 1] < 0.4
    assert off_cube(found[faces]).mean() < 0.4 * off_cube(noisy[faces]).mean()
    assert off_cube(found[~faces]).mean() < 0.8 * off_cube(noisy[~faces]).mean()
    corners = np.sort(np.abs(clean), axis=1)[:, 1] > 0.48
    assert np.abs(np.sort(np.abs(found[corners]), axis=1)[:, 1:] - 0.5).mean() < 2 * SCATTER


def test_a_round_thing_keeps_its_size() -> None:
    rng = np.random.default_rng(1)
    clean = rng.normal(size=(3000, 3))
    clean *= 0.4 / np.linalg.norm(clean, axis=1, keepdims=True)
    found = filtered((clean + rng.normal(0, SCATTER, clean.shape)).astype(np.float32))
    radii = np.linalg.norm(found, axis=1)
    assert radii.mean() == pytest.approx(0.4, abs=0.004) and radii.std() < 0.5 * SCATTER


def test_it_turns_and_grows_with_the_points() -> None:
    rng = np.random.default_rng(2)
    noisy = cube(rng, 800) + rng.normal(0, SCATTER, (800, 3)).astype(np.float32)
    turn = Rotation.from_euler("xyz", (0.3, 1.1, -0.4)).as_matrix()
    there = filtered((3 * noisy @ turn.T + 0.2).astype(np.float32))
    np.testing.assert_allclose(there, 3 * filtered(noisy) @ turn.T + 0.2, atol=2e-4)


def test_points_that_coincide_stay_finite() -> None:
    same = np.zeros((60, 3), np.float32)
    assert np.isfinite(filtered(same)).all()
    assert np.isfinite(filtered(np.repeat(cube(np.random.default_rng(3), 40), 3, axis=0))).all()
