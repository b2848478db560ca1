# SPDX-License-Identifier: GPL-3.0-or-later
"""From where a thing that is being made from words is looked at: cameras drawn at random around the origin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .orbit import bearing, look_at, orbit, view_words

Range = tuple[float, float]
ALL_AROUND: Range = (-180.0, 180.0)


@dataclass(frozen=True)
class Viewpoints:
    """How they are drawn. Ranges are uniform: angles in degrees, ``distance`` from the origin, ``focal`` length in
    widths of the picture. Three more make the camera unsteady: how far each coordinate of the eye is moved at most
    (``shaken``), and the standard deviations of what it looks at and of its upward direction."""

    azimuth: Range = ALL_AROUND
    elevation: Range = (30.0, 30.0)
    distance: Range = (4.0, 4.0)
    focal: Range = (1.2, 1.2)
    shaken: float = 0.0
    target: float = 0.0
    up: float = 0.0


DREAM_FIELDS = Viewpoints()
"""Jain et al. 2022, §4.1 and App. C: only the azimuth is drawn; elevation and focal length may be, too."""
DREAM_FUSION = Viewpoints(
    elevation=(-10.0, 90.0), distance=(1.0, 1.5), focal=(0.7, 1.35), shaken=0.1, target=0.2, up=0.02
)
"""Poole et al. 2022, §3.2 and App. A.2."""


@dataclass(frozen=True)
class View:
    """pose: camera to world [4, 4]; azimuth and elevation are those before it was shaken."""

    pose: NDArray[np.float64]
    focal: float
    azimuth: float
    elevation: float

    @property
    def distance(self) -> float:
        """Of the camera from the origin."""
        return float(np.linalg.norm(self.pose[:3, 3]))

    @property
    def words(self) -> str:
        """What a prompt says of it."""
        return view_words(self.azimuth, self.elevation)

    @property
    def bearing(self) -> str:
        """The same, for the embedded prior, and exactly."""
        return bearing(self.azimuth, self.elevation)


def draw(how: Viewpoints, count: int, rng: np.random.Generator) -> list[View]:
    """That many, their azimuths spread evenly around a common random turn, so that each step sees all sides."""
    turn, span = rng.random(), how.azimuth[1] - how.azimuth[0]
    views = []
    for index in range(count):
        azimuth = how.azimuth[0] + span * ((index + turn) / count % 1.0)
        elevation, focal = rng.uniform(*how.elevation), rng.uniform(*how.focal)
        pose = orbit(azimuth, elevation, rng.uniform(*how.distance))
        if how.shaken or how.target or how.up:
            eye = pose[:3, 3] + rng.uniform(-how.shaken, how.shaken, 3)
            pose = look_at(eye, rng.normal(0, how.target, 3), pose[:3, 1] + rng.normal(0, how.up, 3))
        views.append(View(pose, focal, azimuth, elevation))
    return views


def rays(views: list[View], size: int, origin: Tensor, unit: float = 1.0) -> tuple[Tensor, Tensor]:
    """Origins and unit directions [B S S, 3] through all pixels of square pictures, row by row, view by view.

    The world's unit is ``unit`` of the rays' space, and its origin lies at ``origin`` [3] there.
    """
    device = origin.device
    place = (torch.arange(size, device=device) + 0.5) / size - 0.5
    y, x = torch.meshgrid(place, place, indexing="ij")
    origins, directions = [], []
    for view in views:
        pose = torch.from_numpy(view.pose).float().to(device)
        local = torch.stack([x, -y, torch.full_like(x, -view.focal)], -1).view(-1, 3)
        directions.append(torch.nn.functional.normalize(local @ pose[:3, :3].T, dim=1))
        origins.append((origin + unit * pose[:3, 3]).expand(size * size, 3))
    return torch.cat(origins), torch.cat(directions)


def project(vertices: Tensor, views: list[View]) -> Tensor:
    """World [V, 3] -> [B, V, 3], homogeneous coordinates of views' square pictures, as ``rasteriser`` takes them.

    What is seen by the ray of a pixel is seen at that pixel. Differentiable in vertices.
    """
    seen = []
    for view in views:
        pose = torch.from_numpy(view.pose).to(vertices)
        x, y, z = ((vertices - pose[:3, 3]) @ pose[:3, :3]).unbind(-1)
        seen.append(torch.stack([2 * view.focal * x, 2 * view.focal * y, -z], -1))
    return torch.stack(seen)
