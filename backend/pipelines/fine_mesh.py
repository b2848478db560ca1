# SPDX-License-Identifier: GPL-3.0-or-later
"""A thing as a mesh that follows gradients: a grid of tetrahedra around it, and a field of colours (Lin et al.,
"Magic3D", 2023, §4.2; Shen et al., "Deep Marching Tetrahedra", 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..fields.solid_field import SolidGrid
from ..geometry.level_distance import level_distance
from ..geometry.marching_tetrahedra import Surface, march
from ..geometry.mesh import Mesh
from ..geometry.smoothness import vertex_normals
from ..geometry.tetrahedra import deformed, lattice
from ..rendering import viewpoints
from ..rendering.antialiasing import adjacency, antialias
from ..rendering.rasteriser import interpolate, rasterise
from ..rendering.viewpoints import View
from .dream_field import UNIT, DreamField
from .start_shape import Shape

MARGIN = 1.15  # of the cube around the thing, which it may grow into
Lighting = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""albedo, normals and points [N, 3], and the views that see them int64 [N], to colours [N, 3]."""


class FineMesh(nn.Module):
    """All in box coordinates. The lattice fills the cube of half side ``extent`` around ``middle`` [3]; ``distance``
    [V], in its layers, is negative inside, and ``moved`` [V, 3] what its vertices are moved by (``deformed``)."""

    middle: Tensor
    extent: Tensor
    origin: Tensor

    def __init__(self, resolution: int, network: SolidGrid) -> None:
        """network: of which the colours are taken."""
        super().__init__()
        grid = lattice(resolution)
        self.resolution, self.network = resolution, network
        self.distance = nn.Parameter(torch.ones(len(grid.vertices)))
        self.moved = nn.Parameter(torch.zeros(len(grid.vertices), 3))
        self.register_buffer("middle", torch.zeros(3))
        self.register_buffer("extent", torch.ones(()))
        self.register_buffer("origin", torch.zeros(3))
        self.grid = grid
        self.fixed: Surface | None = None  # a shape that stays as it is

    @torch.no_grad()
    def begin(self, field: DreamField, mesh: Mesh, level: float) -> None:
        """Becomes the surface of a field, which ``mesh`` shows without what floats around it or is hidden in it, where
        the density is ``level``. Raises Gen3DError where there is none."""
        device = field.origin.device
        if self.grid.vertices.device != device:
            self.grid = lattice(self.resolution, device)
        low, high = (torch.from_numpy(side).to(device) for side in (mesh.vertices.min(0), mesh.vertices.max(0)))
        self.middle.copy_((low + high) / 2)
        self.extent.copy_(MARGIN * (high - low).max() / 2)
        self.origin.copy_(field.origin)
        self.network.load_state_dict(field.network.state_dict())
        places = self.middle + self.extent * self.grid.vertices
        density = torch.cat([field.density(some) for some in torch.split(places, 2**16)])
        layer = 2 / self.resolution
        distance = level_distance(density, level, self.grid) / layer
        # Farther than a layer from what is shown of it, the field may say what it likes: floaters, and hollows.
        shown = Shape.of(mesh, np.random.default_rng(0))
        inside, nearest = shown.near(places.double().cpu().numpy())
        away = torch.from_numpy(shown.points[nearest]).to(places) - places
        far = away.norm(dim=1) > layer * self.extent
        sides = 2.0 - 4.0 * torch.from_numpy(inside).to(places)
        self.distance.copy_(torch.where(far, sides, distance.clamp(-2, 2)))
        self.moved.zero_()

    def surface(self) -> Surface:
        """The mesh as it is, differentiable."""
        if self.fixed is not None:
            return self.fixed
        return march(self.distance, self.middle + self.extent * deformed(self.grid, self.moved), self.grid)

    def colour(self, points: Tensor) -> Tensor:
        """[N, 3] -> sRGB [N, 3]."""
        return torch.sigmoid(self.network.at(points)[:, 1:])

    def render(self, surface: Surface, views: Sequence[View], size: int, lighting: Lighting | None = None) -> Tensor:
        """What square pictures of views see of it, premultiplied sRGB and opacity [B, S, S, 4]. Without ``lighting``,
        its colours as they are."""
        vertices, faces = surface.vertices, surface.faces
        positions = viewpoints.project((vertices - self.origin) / UNIT, list(views))
        seen = rasterise(positions, faces, size, size)
        hit = seen.face >= 0
        points = interpolate(vertices, faces, seen)[hit]
        colour = self.colour(points)
        if lighting is not None:
            normal = F.normalize(interpolate(vertex_normals(vertices, faces), faces, seen)[hit], dim=1)
            colour = lighting(colour, normal, points, hit.nonzero()[:, 0])
        rgba = torch.cat([colour, torch.ones_like(colour[:, :1])], 1)
        light = rgba.new_zeros(*hit.shape, 4).index_put((hit,), rgba)
        return antialias(light, seen, positions, faces, adjacency(faces))

    def mesh(self) -> Mesh:
        """The surface as it is."""
        with torch.no_grad():
            surface = self.surface()
        return Mesh(surface.vertices.float().cpu().numpy(), surface.faces.cpu().numpy())

    def colours(self, points: NDArray[np.float32], _normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """As ``mesh.Colour`` has them."""
        with torch.no_grad():
            found: NDArray[np.float32] = self.colour(torch.from_numpy(points).to(self.origin)).cpu().numpy()
        return found
