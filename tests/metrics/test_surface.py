# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from backend.geometry.mesh import Mesh
from backend.metrics.surface import distances, surface_distance
from tests.geometry.shapes import sphere


def test_concentric_spheres_are_their_radii_apart() -> None:
    found = surface_distance(sphere(0.6, 40), sphere(0.5, 40), 3000)
    for values in (found.forward, found.backward):
        np.testing.assert_allclose(values, 0.1, atol=0.003)
    assert found.median == pytest.approx(0.1, abs=0.002)
    assert found.chamfer == pytest.approx(0.1, abs=0.002)
    assert found.largest == pytest.approx(0.1, abs=0.003)


def test_a_surface_is_no_distance_from_itself() -> None:
    mesh = sphere(0.6, 24)
    found = surface_distance(mesh, mesh, 3000)
    assert np.quantile(found.forward, 0.99) < 1e-6
    assert found.largest < np.sqrt(4 * np.pi * 0.6**2 / 100_000)


def test_a_missing_half_shows_in_one_direction_only() -> None:
    whole = sphere(0.6, 32)
    half = Mesh(whole.vertices, whole.faces[whole.vertices[whole.faces][:, :, 2].min(axis=1) > 0])
    found = surface_distance(whole, half, 4000)
    assert np.quantile(found.backward, 0.99) < 1e-6
    assert np.quantile(found.forward, 0.99) > 0.5


def test_points_to_one_triangle_by_closed_form() -> None:
    """Above the inside, beside an edge, beyond a corner; and a triangle without area."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32)
    mesh = Mesh(corners, np.array([[0, 1, 2]], dtype=np.int32))
    points = np.array([[0.2, 0.2, 0.7], [0.5, -3, 0], [-3, -4, 0], [1, 1, 0], [0.25, 0.25, 0]])
    expected = [0.7, 3, 5, np.sqrt(0.5), 0]
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(distances(points, mesh, rng=rng), expected, atol=1e-7)
    needle = Mesh(corners, np.array([[0, 1, 2], [0, 1, 1]], dtype=np.int32))
    np.testing.assert_allclose(distances(points, needle, rng=rng), expected, atol=1e-7)
