# SPDX-License-Identifier: GPL-3.0-or-later
"""Analytic density fields and colours that the geometry tests measure against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from backend.geometry.mesh import Mesh
from backend.geometry.surface import extract

LOWER = (-1.0, -1.0, -1.0)


def grid(resolution: int) -> tuple[NDArray[np.float64], float]:
    """Sample points [R, R, R, 3] of the box and their spacing."""
    axis = np.linspace(-1, 1, resolution)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1), float(axis[1] - axis[0])


def soft(distance: NDArray[np.float64], inside: float, width: float) -> NDArray[np.float64]:
    """Density that falls from ``inside`` to 0 over a few ``width`` around signed distance 0."""
    return np.asarray(inside / (1 + np.exp(np.clip(distance / width, -60, 60))))


def noise(resolution: int, sigma: float, seed: int = 0) -> NDArray[np.float64]:
    """Smooth noise of mean 0 and deviation 1."""
    values = gaussian_filter(np.random.default_rng(seed).standard_normal((resolution,) * 3), sigma)
    return np.asarray((values - values.mean()) / values.std())


def sphere(radius: float = 0.6, resolution: int = 48, centre: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    """A sphere by way of its density field, exactly ``radius`` where the density is 10."""
    points, spacing = grid(resolution)
    distance = np.linalg.norm(points - centre, axis=-1) - radius
    return extract(10.0 * np.exp(-distance / spacing), 10.0, LOWER, spacing)


def bumpy(resolution: int = 64) -> Mesh:
    """A closed surface with handles and dents, that decimation has to work for."""
    points, spacing = grid(resolution)
    x, y, z = np.moveaxis(5.5 * points, -1, 0)
    gyroid = np.abs(np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)) - 0.5
    distance = np.maximum(np.linalg.norm(points, axis=-1) - 0.8, gyroid / 5.5)
    return extract(soft(distance, 20.0, spacing), 10.0, LOWER, spacing)


def colour(points: NDArray[np.float32], normals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Smooth sRGB colours in [0.2, 0.8] that depend on place and, in blue, on the normal."""
    waves = 0.5 + 0.3 * np.sin(4.0 * points.astype(np.float64) + np.array([0.0, 1.0, 0.0]))
    waves[:, 2] = 0.5 + 0.3 * normals[:, 2]
    return np.asarray(waves)
