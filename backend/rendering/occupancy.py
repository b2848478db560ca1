# SPDX-License-Identifier: GPL-3.0-or-later
"""Where anything is (Müller et al., "Instant Neural Graphics Primitives", 2022, App. E.2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .contraction import uncontract
from .empty_space import free_blocks
from .marching import DARK

OPAQUE_ENOUGH = 0.01
DECAY = 0.7


class OccupancyGrid(nn.Module):
    """A running maximum of the density in G³ cells over [-1, 1]^3, or over contracted space.

    ``solid`` float32 [G, G, G]: about the least density in each cell.
    ``occupied`` bool [G, G, G], order x, y, z: cells in which a step stops more than 1 % of the light, or more than the
    mean cell does. Cells outside ``allowed`` never are.
    ``free``: ``free_blocks(occupied)``, made anew by ``update`` and when a state is loaded; None in contracted space,
    where rays are bent.
    """

    occupied: Tensor
    solid: Tensor
    optical: Tensor
    allowed: Tensor
    free: Tensor | None

    def __init__(self, allowed: Tensor, step: float, contracted: bool) -> None:
        super().__init__()
        self.resolution = allowed.shape[0]
        self.contracted = contracted
        self.step = step
        self.register_buffer("occupied", allowed.clone())
        self.register_buffer("solid", torch.zeros_like(allowed, dtype=torch.float32))
        self.register_buffer("free", None if contracted else free_blocks(allowed), persistent=False)
        self.register_load_state_dict_post_hook(OccupancyGrid._find_free)  # type: ignore[no-untyped-call]
        # The rest matters only while training.
        self.register_buffer("allowed", allowed.reshape(-1).nonzero()[:, 0], persistent=False)
        self.register_buffer("optical", 1.3 * OPAQUE_ENOUGH * allowed.reshape(-1).float(), persistent=False)

    def observe(self, points: Tensor, density: Tensor) -> None:
        """Learns from densities [N] found at points [N, 3], box coordinates, which cells are solid throughout.

        On the CPU only, where it saves half the samples of an object; elsewhere samples are cheaper than this.
        """
        if points.device.type == "cpu":
            from . import occupancy_cpu

            most = np.float32(DARK / 3 / self.step)  # so that no single cell hides what is behind it
            occupancy_cpu.observe(points.numpy(), density.numpy(), self.contracted, most, self.solid.numpy())

    def update(
        self, density: Callable[[Tensor], Tensor], samples: int, share: float, generator: torch.Generator
    ) -> None:
        """Looks at ``samples`` occupied cells and a ``share`` of all allowed ones, each at a random point.

        density: box coordinates [N, 3] -> [N], per unit of the box.
        """
        occupied = self.occupied.view(-1).nonzero()[:, 0]
        cells = torch.cat(
            [_some(self.allowed, int(share * len(self.allowed)), generator), _some(occupied, samples, generator)]
        )
        points = self._points(cells, generator)
        # Steps grow with the distance from the middle of the scene, and so does what stops the light in one of them.
        stretch = points.abs().amax(1).clamp_min(1.0)
        found = density(points) * self.step * stretch
        # A cell may have been drawn twice; neither line depends on which of its points comes last.
        self.optical[cells] = self.optical[cells] * DECAY
        self.optical.scatter_reduce_(0, cells, found, "amax")
        limit = self.optical[self.allowed].mean().clamp_max(OPAQUE_ENOUGH)
        self.occupied.copy_((self.optical > limit).view(self.occupied.shape))
        self._find_free()

    def near(self, cells: int = 1) -> Tensor:
        """``occupied``, grown by that many cells."""
        grown = self.occupied[None, None].float()
        return torch.nn.functional.max_pool3d(grown, 2 * cells + 1, 1, cells)[0, 0] > 0

    def _find_free(self, *_: object) -> None:
        if self.free is not None:
            self.free.copy_(free_blocks(self.occupied))

    def _points(self, cells: Tensor, generator: torch.Generator) -> Tensor:
        g = self.resolution
        corner = torch.stack([cells // (g * g), cells // g % g, cells % g], 1)
        shift = torch.rand(corner.shape, generator=generator, device=cells.device)
        points = (corner + shift) * (2 / g) - 1
        return uncontract(points.clamp(-0.999, 0.999)) if self.contracted else points


def _some(cells: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if not len(cells):
        return cells
    return cells[torch.randint(len(cells), (count,), generator=generator, device=cells.device)]
