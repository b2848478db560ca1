# SPDX-License-Identifier: GPL-3.0-or-later
"""The field that words are made into: a network behind an occupancy grid, and a cube that follows what is in it.

The cube has a side of 2, as in Jain et al., "Dream Fields", 2022 (App. C). It may move within a box of SPAN times its
size; box coordinates, [-1, 1]^3, are those of rays, samples and the occupancy grid. Colours are sRGB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fields.hash_grid import levels
from ..fields.solid_field import ResidualMlp, SolidGrid
from ..rendering.marching import Path, Samples, march
from ..rendering.occupancy import OccupancyGrid
from ..rendering.segments import in_segments
from ..rendering.shading import normals
from ..rendering.volume import Composited, composite, visible

SPAN = 1.5
UNIT = 1 / SPAN
"""Of the cube, in box coordinates."""
WIDTH = 0.2
MOST = 12.0  # of what is exponentiated
DIFFERENCE = 0.5  # of those that normals are made of, in steps along rays
UNBOUNDED = math.sqrt(3) * SPAN
"""Radius of a sphere around the whole box, in half sides."""
DEVIATION = 1 / math.sqrt(12)
"""Of a place that is anywhere in a step or a pixel, in its widths."""


@dataclass(frozen=True)
class DreamShape:
    """What fixes a field; JSON-ready. network: "grid" or "mlp", of so many ``blocks``; steps: samples along the cube's
    diagonal; air and blob: what is added to the density before its softplus, or ``exponential``, everywhere and, as a
    Gaussian of WIDTH half sides, in the middle (Poole et al. 2022, App. A.2); density: what comes out of that is
    multiplied by; bound: radius in half sides of the sphere that takes the place of the cube; 0: none does; UNBOUNDED:
    neither is there; most: samples of a ray; facing: it tells normals, too; soft: by how many half sides its density is
    blurred where a surface is looked for, against the roughness that few iterations leave."""

    network: str = "grid"
    blocks: int = 4
    steps: int = 96
    resolution: int = 72
    air: float = -1.0
    blob: float = 2.0
    density: float = 4.0
    exponential: bool = False
    bound: float = 0.0
    finest: int = 96
    levels: int = 4
    log2_rows: int = 18
    most: int = 2**31 - 1
    facing: bool = False
    soft: float = 0.0

    @property
    def path(self) -> Path:
        return Path(2 * math.sqrt(3) * UNIT / self.steps, most=self.most)


def solid_grid(shape: DreamShape) -> SolidGrid:
    """The untrained hash grid of a field of that shape."""
    grid = levels(shape.levels, round(12 * SPAN), round(shape.finest * SPAN), shape.log2_rows)
    return SolidGrid(grid, facing=shape.facing)


class DreamField(nn.Module):
    """origin: [3], the middle of the cube."""

    origin: Tensor

    def __init__(self, shape: DreamShape) -> None:
        super().__init__()
        self.shape = shape
        self.network: SolidGrid | ResidualMlp = (
            solid_grid(shape) if shape.network == "grid" else ResidualMlp(blocks=shape.blocks)
        )
        self.occupancy = OccupancyGrid(torch.ones((shape.resolution,) * 3, dtype=torch.bool), shape.path.step, False)
        self.register_buffer("origin", torch.zeros(3))

    @property
    def softness(self) -> float:
        """In box units."""
        return self.shape.soft * UNIT

    def look(self, points: Tensor, directions: Tensor, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        """Density [N] per unit of the box, nil outside of the cube, and colour [N, 3] of Gaussians."""
        raw = self.network.raw(points, directions, along, across).float()
        blob = (
            self.shape.blob * torch.exp(-0.5 * (points.norm(dim=1) / (WIDTH * UNIT)) ** 2) if self.shape.blob else 0.0
        )
        away = points - self.origin
        inside = away.norm(dim=1) <= self.shape.bound * UNIT if self.shape.bound else away.abs().amax(1) <= UNIT
        raw_density = raw[:, 0] + self.shape.air + blob
        active = raw_density.clamp(max=MOST).exp() if self.shape.exponential else F.softplus(raw_density)
        return self.shape.density * SPAN * active * inside, torch.sigmoid(raw[:, 1:])

    def density(self, points: Tensor) -> Tensor:
        """[N, 3] -> [N], per unit of the box."""
        return self.at(points)[0]

    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """[N, 3] -> [N, 3], the same from every direction."""
        return self.at(points)[1]

    def normal(self, points: Tensor) -> Tensor:
        """[N, 3] -> unit vectors [N, 3] out of the surface: what the grid tells of them, or which way density falls."""
        if self.shape.facing:
            assert isinstance(self.network, SolidGrid)
            return self.network.normal(points)
        return normals(self.density, points, DIFFERENCE * self.shape.path.step)

    def region(self) -> Tensor:
        """bool [G, G, G]: cells that hold something, and those around them."""
        return self.occupancy.near()

    def walk(self, origins: Tensor, directions: Tensor, shifts: Tensor) -> Samples:
        """Samples where something may be."""
        grid = self.occupancy
        return march(origins, directions, shifts, grid.occupied, self.shape.path, free=grid.free)

    def seen(self, origins: Tensor, directions: Tensor, samples: Samples, pixel: float = 0.0) -> tuple[Tensor, Tensor]:
        """Density and colour at samples; ``pixel``: the width of a pixel at distance 1."""
        points, across = samples.points(origins, directions), samples.t * pixel * DEVIATION
        return self.look(points, directions[samples.rays], samples.dt * DEVIATION, across)

    def lit(self, origins: Tensor, directions: Tensor, samples: Samples, pixel: float = 0.0) -> Samples:
        """Those samples that are neither hidden nor clear: the others have no gradient, and are most."""
        with torch.no_grad():
            return samples.kept(visible(self.seen(origins, directions, samples, pixel)[0], samples))

    @torch.no_grad()
    def render(self, origins: Tensor, directions: Tensor, pixel: float = 0.0) -> Composited:
        """What rays [R, 3] see."""
        samples = self.walk(origins, directions, torch.full((len(origins),), 0.5, device=origins.device))
        return in_segments(samples, lambda some: composite(*self.seen(origins, directions, some, pixel), some), origins)

    @torch.no_grad()
    def follow(self, points: Tensor, mass: Tensor, keep: float) -> None:
        """Moves the cube towards the centre of ``mass`` [N] at ``points`` [N, 3], as a moving average that keeps this
        share of where it was (§4.4), and no farther than it stays in the box."""
        total = mass.sum()
        if total > 0:
            centre = (mass[:, None] * points).sum(0) / total
            self.origin.lerp_(centre, 1 - keep).clamp_(UNIT - 1, 1 - UNIT)

    def at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density [N] and colour [N, 3] at points [N, 3], seen as wide as a step is long."""
        width = torch.full_like(points[:, 0], self.shape.path.step * DEVIATION)
        return self.look(points, F.normalize(torch.ones_like(points), dim=1), width, width)
