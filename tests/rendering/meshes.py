# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes and views that the tests of the differentiable rasteriser share."""

from __future__ import annotations

import math
from collections.abc import Callable

import numba
import numpy as np
import torch
import trimesh
from torch import Tensor

from backend.rendering.orbit import look_at, orbit
from backend.rendering.viewpoints import View, project

Mesh = tuple[Tensor, Tensor]
"""float32 [V, 3] in the world, int32 [F, 3] counter-clockwise seen from outside."""


def ball(subdivisions: int, radius: float = 1.0, centre: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return torch.tensor(made.vertices + centre).float(), torch.tensor(made.faces).int()


def blob(subdivisions: int) -> Mesh:
    """A ball with bumps, some of which hide behind others."""
    vertices, faces = ball(subdivisions)
    x, y, z = vertices.T
    return vertices * (0.8 + 0.25 * torch.sin(5 * x) * torch.sin(4 * y + 1) * torch.cos(3 * z))[:, None], faces


def soup(count: int, seed: int = 0) -> Mesh:
    """Triangles anywhere in the cube [-1, 1]^3, which pass through one another, seen from either side."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-1, 1, (count, 1, 3)) + rng.normal(0, 0.3, (count, 3, 3))
    return torch.from_numpy(corners.reshape(-1, 3)).float(), torch.arange(3 * count).int().view(-1, 3)


def view(azimuth: float, elevation: float, distance: float, focal: float = 1.2) -> View:
    return View(orbit(azimuth, elevation, distance), focal, azimuth, elevation)


AROUND = [view(25, 30, 4.0), view(200, -60, 3.0, 0.8)]
WITHIN = View(look_at((0.1, 0.2, -0.1), (1.0, 0.5, 0.3)), 0.6, math.nan, math.nan)
"""Stands where there are meshes: some reach behind the eye."""

# Vertices, faces, views, height, width, whether back faces are culled.
SCENES: dict[str, tuple[Mesh, list[View], int, int, bool]] = {
    "blob": (blob(3), AROUND, 40, 40, True),
    "fine blob": (blob(5), AROUND[:1], 64, 64, True),
    "wide picture": (blob(3), AROUND, 24, 57, True),
    "both sides of a soup": (soup(60), AROUND, 32, 32, False),
    "within a soup": (soup(60, seed=1), [WITHIN, *AROUND], 32, 32, False),
    "front faces within a soup": (soup(60, seed=9), [WITHIN], 32, 32, True),
    "within a ball": (ball(0, 0.35), [WITHIN], 16, 16, False),
    "nothing in sight": (ball(1, centre=(50, 0, 0)), AROUND, 8, 8, True),
    "no faces": ((torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32)), AROUND, 8, 8, True),
}


def scene(name: str) -> tuple[Tensor, Tensor, int, int, bool]:
    """Positions [B, V, 3] for the rasteriser, faces, and the last three of a scene."""
    (vertices, faces), views, height, width, cull = SCENES[name]
    return project(vertices, views), faces, height, width, cull


def whatever_the_threads(work: Callable[[], list[Tensor]]) -> bool:
    """Whether work gives the same, to the last bit, twice and with one thread and with all of numba's."""
    before, found = numba.get_num_threads(), []
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            found += [work(), work()]
    finally:
        numba.set_num_threads(before)
    return all(torch.equal(one, other) for some in found[1:] for one, other in zip(found[0], some, strict=True))
