# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper preset: two MLPs and hierarchical sampling (Mildenhall et al., "NeRF", 2020, §4, §5, App. A)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.training_pixels import TrainingPixels
from ..fields.nerf_mlp import NerfMlp
from ..rendering import hierarchical
from ..rendering.contraction import contract
from ..rendering.volume import Composited
from . import optimiser_state
from .nerf_fast import Shape

STEPS = 200_000
RAYS, PART = 4096, 1024
RATE_FROM, RATE_TO = 5e-4, 5e-5
NEAR, FAR = 0.05, 100.0
NOISE = 1.0


class PaperNerf(nn.Module):
    """The coarse and the fine field. Points are in box coordinates, colours sRGB.

    Where the scene has no bounds, samples are even in disparity and the MLPs read contracted points: the paper's own
    answer, normalised device coordinates, is for cameras that all face one way.
    """

    allowed: Tensor
    softness = 0.0

    def __init__(self, shape: Shape, allowed: Tensor | None = None, width: int = 256) -> None:
        """allowed: bool [G, G, G], cells that may hold something; None: all. Only the mesh makes use of it."""
        super().__init__()
        self.shape = shape
        self.coarse, self.fine = NerfMlp(width), NerfMlp(width)
        everywhere = torch.ones((shape.resolution,) * 3, dtype=torch.bool)
        self.register_buffer("allowed", everywhere if allowed is None else allowed)

    def density(self, points: Tensor) -> Tensor:
        """[N, 3] -> [N], per unit of the box."""
        return self.ask(self.fine, points, torch.zeros_like(points))[0]

    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """[N, 3], unit [N, 3] -> sRGB [N, 3]."""
        return self.ask(self.fine, points, directions)[1]

    def region(self) -> Tensor:
        """bool [G, G, G]: cells of [-1, 1]^3 that may hold something."""
        return self.allowed

    def ask(
        self,
        mlp: NerfMlp,
        points: Tensor,
        directions: Tensor,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Density and colour of one of the two."""
        points = contract(points) if self.shape.unbounded else points
        found: tuple[Tensor, Tensor] = mlp(points, directions, noise, generator)
        return found

    def both(
        self, origins: Tensor, directions: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Composited, Composited]:
        """What rays [R, 3] see by the coarse field and by the fine one; with a generator, at random depths."""
        noise = NOISE if generator is not None and self.shape.unbounded else 0.0
        if self.shape.unbounded:
            near, far = (torch.full((len(origins),), limit, device=origins.device) for limit in (NEAR, FAR))
        else:
            near, far = hierarchical.box_interval(origins, directions)
        coarse, fine = (partial(self.ask, mlp, noise=noise, generator=generator) for mlp in (self.coarse, self.fine))
        return hierarchical.render(
            coarse, fine, origins, directions, near, far, disparity=self.shape.unbounded, generator=generator
        )

    @torch.no_grad()
    def render(self, origins: Tensor, directions: Tensor) -> Composited:
        """What rays [R, 3] see."""
        starts = range(0, len(origins), PART)
        parts = [self.both(origins[i : i + PART], directions[i : i + PART])[1] for i in starts]
        return Composited(*(torch.cat(values) for values in zip(*parts, strict=True)))


class PaperTraining:
    """Its optimisation: 4096 random pixels a step on white, coarse and fine squared errors, Adam."""

    def __init__(self, model: PaperNerf, pixels: TrainingPixels, seed: int, rays: int = RAYS) -> None:
        self.model, self.pixels, self.rays = model, pixels, rays
        self.generator = torch.Generator(pixels.values.device).manual_seed(seed)
        self.adam = torch.optim.Adam(model.parameters(), RATE_FROM, (0.9, 0.999), 1e-7)
        self.steps = 0

    def step(self, fraction: float) -> Tensor:
        """One step at ``fraction`` of the training; the loss, still on the device."""
        self.adam.param_groups[0]["lr"] = RATE_FROM * (RATE_TO / RATE_FROM) ** fraction
        self.adam.zero_grad()
        total = torch.zeros((), device=self.pixels.values.device)
        for start in range(0, self.rays, PART):  # the gradients add up; the memory does not
            rays = min(PART, self.rays - start)
            image, place, value = self.pixels.sample(rays, self.generator)
            truth = (
                value[:, :3] if value.shape[1] == 3 else torch.ones_like(place[:, :1]).lerp(value[:, :3], value[:, 3:])
            )
            seen = self.model.both(*self.pixels.cameras.rays(image, place), self.generator)
            errors = [F.mse_loss(one.rgb + (1 - one.opacity)[:, None], truth) for one in seen]
            loss = torch.stack(errors).sum() * (rays / self.rays)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.adam.step()
        self.steps += 1
        return total

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step depends on, besides the model: tensors and JSON-ready facts."""
        tensors = {"generator": self.generator.get_state(), **optimiser_state.pack({"adam": self.adam})}
        return tensors, {"steps": self.steps}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse of ``state``. Raises KeyError or RuntimeError where they are of another training."""
        self.generator.set_state(tensors["generator"])
        optimiser_state.unpack({"adam": self.adam}, tensors)
        self.steps = int(facts["steps"])
