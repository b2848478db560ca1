# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast preset: a hash-grid radiance field behind an occupancy grid (Müller et al., "Instant Neural Graphics
Primitives", 2022), with a contraction for scenes without bounds (Barron et al., "Mip-NeRF 360", 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.training_pixels import TrainingPixels
from ..fields.hash_field import HashField
from ..fields.hash_grid import levels
from ..fields.lazy_adam import LazyAdam
from ..rendering.contraction import contract
from ..rendering.marching import Path, Samples, march
from ..rendering.occupancy import OccupancyGrid
from ..rendering.segments import in_segments
from ..rendering.volume import Composited, composite, visible
from . import optimiser_state

STEPS = 20_000
LEARNING_RATE, WARM_UP, DECAY_FROM, DECAY_TO = 1e-2, 50, 0.3, 0.01
HUBER = 0.1
UPDATE_EVERY, UPDATE_SAMPLES, UPDATE_SHARE, FIRST_UPDATE = 16, 2**14, 1 / 8, 32
PRUNE_FROM = 100
AIR = -3.0  # logarithm of the density before training where no silhouette says what is empty
LOOK = 0.25  # what it costs to see that a sample is not needed, in samples that are
SAMPLES_AT_START, RAYS_MOST = 32, 2**16  # samples of a ray, and rays


@dataclass(frozen=True)
class Shape:
    """What fixes the field and the way rays are walked. ``footprint``: box units that a pixel spans at the object."""

    unbounded: bool
    footprint: float
    log2_rows: int
    resolution: int = 128  # of the occupancy grid

    @property
    def path(self) -> Path:
        """Steps as long as a pixel is wide, which measured better than finer ones at equal time."""
        step = min(max(1.1 * self.footprint, math.sqrt(3) / 1024), 0.02)
        if self.unbounded:
            return Path(max(step, 0.01), cone=1 / 64, near=0.05, far=64.0, contracted=True)
        return Path(step)

    @property
    def finest(self) -> int:
        """Cells a side of the finest level: three across a pixel."""
        return int(min(max(6 / self.footprint, 256), 2048))


class FastNerf(nn.Module):
    """Field and occupancy. Points are in box coordinates, colours sRGB."""

    softness = 0.0

    def __init__(self, shape: Shape, allowed: Tensor | None = None) -> None:
        """allowed: bool [G, G, G], cells that may hold something; None: all."""
        super().__init__()
        self.shape = shape
        self.field = HashField(levels(finest=shape.finest, log2_rows=shape.log2_rows), AIR if shape.unbounded else 0.0)
        everywhere = torch.ones((shape.resolution,) * 3, dtype=torch.bool)
        self.occupancy = OccupancyGrid(everywhere if allowed is None else allowed, shape.path.step, shape.unbounded)

    def density(self, points: Tensor) -> Tensor:
        """[N, 3] -> [N], per unit of the box."""
        return self.field.density(self._encode(points))[0]

    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """[N, 3], unit [N, 3] -> sRGB [N, 3]."""
        return self.field.colour(self.field.density(self._encode(points))[1], directions)

    def walk(self, origins: Tensor, directions: Tensor, shifts: Tensor) -> Samples:
        """Samples where something may be."""
        grid = self.occupancy
        return march(origins, directions, shifts, grid.occupied, self.shape.path, grid.solid, grid.free)

    def shade(
        self, origins: Tensor, directions: Tensor, samples: Samples, prune: bool = True
    ) -> tuple[Composited, int]:
        """What rays see, and by how many samples. With ``prune``, samples that are hidden or clear are left out first:
        their gradient is nil, and most of them are such."""
        points = samples.points(origins, directions)
        known = None
        if prune:
            with torch.no_grad():
                encoded = self._encode(points)
                density = self.field.density(encoded)[0]
                if self.training:
                    self.occupancy.observe(points, density)
                keep = visible(density, samples)
                samples, points, known = samples.kept(keep), points[keep], encoded[keep]
        density, features = self.field.density(self._encode(points, known))
        colour = self.field.colour(features, directions, samples.rays)
        return composite(density, colour, samples), len(samples)

    def region(self) -> Tensor:
        """bool [G, G, G]: cells of [-1, 1]^3 that hold something, and those around them."""
        near = self.occupancy.near()
        if self.shape.unbounded:  # the box is the inner half of the contracted cube
            quarter = self.shape.resolution // 4
            near = near[quarter:-quarter, quarter:-quarter, quarter:-quarter]
        return near

    @torch.no_grad()
    def render(self, origins: Tensor, directions: Tensor) -> Composited:
        """What rays [R, 3] see."""
        samples = self.walk(origins, directions, torch.full((len(origins),), 0.5, device=origins.device))
        return in_segments(samples, lambda some: self.shade(origins, directions, some)[0], origins)

    def _encode(self, points: Tensor, known: Tensor | None = None) -> Tensor:
        return self.field.encode(contract(points) if self.shape.unbounded else points, known)


class FastTraining:
    """Its optimisation: random pixels of all pictures, Huber loss, Adam."""

    def __init__(self, model: FastNerf, pixels: TrainingPixels, exposure: bool, target: int, seed: int) -> None:
        """target: samples a step, to which the number of rays is fitted."""
        device = pixels.values.device
        self.model, self.pixels, self.target = model, pixels, target
        self.generator = torch.Generator(device).manual_seed(seed)
        self.exposure = nn.Parameter(torch.zeros(pixels.count, 3, device=device)) if exposure else None
        self.mlps = torch.optim.Adam(model.field.weights.parameters(), LEARNING_RATE, (0.9, 0.99), 1e-15, fused=True)
        self.tables = LazyAdam([model.field.grid.table], LEARNING_RATE, (0.9, 0.99))
        self.exposures = torch.optim.Adam([self.exposure], 1e-3) if self.exposure is not None else None
        self.rays, self.steps = max(1, target // SAMPLES_AT_START), 0

    def step(self, fraction: float) -> Tensor:
        """One step at ``fraction`` of the training; the loss, still on the device."""
        model, generator, device = self.model, self.generator, self.pixels.values.device
        image, place, value = self.pixels.sample(self.rays, generator)
        origins, directions = self.pixels.cameras.rays(image, place)
        background = torch.rand(self.rays, 3, generator=generator, device=device)
        truth = value[:, :3] if value.shape[1] == 3 else background.lerp(value[:, :3], value[:, 3:])

        samples = model.walk(origins, directions, torch.rand(self.rays, generator=generator, device=device))
        seen, kept = model.shade(origins, directions, samples, prune=self.steps >= PRUNE_FROM)
        used = kept + len(samples) * LOOK  # an estimate of the cost, in samples
        rgb = seen.rgb
        if self.exposure is not None:
            # A gain on sRGB values is one on light to the power of about 2.2. Only differences count: the mean stays 1.
            rgb = rgb * torch.exp(self.exposure - self.exposure.mean(0))[image]
        loss = F.huber_loss(rgb + background * (1 - seen.opacity)[:, None], truth, delta=HUBER)
        self._descend(loss, fraction)

        self.steps += 1
        if self.steps % UPDATE_EVERY == 0 and self.steps >= FIRST_UPDATE:
            with torch.no_grad():
                model.occupancy.update(model.density, UPDATE_SAMPLES, UPDATE_SHARE, generator)
        if self.steps % 4 == 0:
            change = math.sqrt(self.target / max(used, 1))
            self.rays = min(max(int(self.rays * min(max(change, 0.5), 1.25)), 16), RAYS_MOST)
        return loss.detach()

    def _descend(self, loss: Tensor, fraction: float) -> None:
        decay = DECAY_TO ** max(0.0, (fraction - DECAY_FROM) / (1 - DECAY_FROM))
        rate = LEARNING_RATE * decay * min(1.0, (self.steps + 1) / WARM_UP)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in (self.mlps, self.tables):
            optimiser.param_groups[0]["lr"] = rate
            optimiser.step()
        self.mlps.zero_grad()
        if self.exposures is not None:
            self.exposures.step()
            self.exposures.zero_grad()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step depends on, besides the model: tensors and JSON-ready facts."""
        tensors = {"optical": self.model.occupancy.optical, "generator": self.generator.get_state()}
        tensors |= optimiser_state.pack(self._optimisers())
        if self.exposure is not None:
            tensors["exposure"] = self.exposure.detach()
        return tensors, {"rays": self.rays, "steps": self.steps}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse of ``state``. Raises KeyError or RuntimeError where they are of another training."""
        self.model.occupancy.optical.copy_(tensors["optical"])
        self.generator.set_state(tensors["generator"])
        self.rays, self.steps = int(facts["rays"]), int(facts["steps"])
        if self.exposure is not None:
            self.exposure.data.copy_(tensors["exposure"])
        optimiser_state.unpack(self._optimisers(), tensors)

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        found: dict[str, torch.optim.Optimizer] = {"mlps": self.mlps, "tables": self.tables}
        return found if self.exposures is None else {**found, "exposures": self.exposures}


def mlp_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it faster (3.5 times on AVX512-BF16), else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") else torch.float32
