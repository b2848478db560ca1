# SPDX-License-Identifier: GPL-3.0-or-later
"""Light on a field that is being made from words (Poole et al., "DreamFusion", 2022, §3.1 and App. A.2).

A field can paint a picture of a thing on a flat wall. Under a lamp that is elsewhere each time, that shows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

AMBIENT = 0.1
ALBEDO, LAMBERTIAN, TEXTURELESS = "albedo", "lambertian", "textureless"


def normals(density: Callable[[Tensor], Tensor], points: Tensor, step: float) -> Tensor:
    """Unit vectors [N, 3] away from where the density rises, by central differences of ``step``; where it does not
    change, up. density: [N, 3] -> [N], differentiable in its weights, and so are the normals."""
    offsets = step * torch.eye(3, device=points.device, dtype=points.dtype)
    around = (points[:, None, None] + torch.stack([offsets, -offsets], 1)).reshape(-1, 3)
    ahead, behind = density(around).view(len(points), 3, 2).unbind(2)
    # So much less than 1 that only what is flat is turned upwards.
    downhill = (behind - ahead) / (2 * step) + points.new_tensor([0.0, 0.0, 1e-6])
    return F.normalize(downhill, dim=1, eps=1e-9)


def lit(albedo: Tensor, normal: Tensor, towards: Tensor, ambient: float = AMBIENT) -> Tensor:
    """Colours [N, 3] of a matte surface under a lamp in the direction ``towards`` it, unit vectors [N, 3] (eq. 4), and
    under a sky that is so bright where the two together are 1."""
    return albedo * (ambient + (1 - ambient) * torch.relu((normal * towards).sum(1, keepdim=True)))


def as_colours(normal: Tensor, turned: Tensor) -> Tensor:
    """Unit normals [N, 3] as the colours [N, 3] of a normal map, as cameras see them whose axes are the columns of
    ``turned`` [N, 3, 3]: red to the right, green up, blue towards the camera."""
    return 0.5 + 0.5 * (normal[:, None] @ turned)[:, 0]


def shading(share: float, rng: np.random.Generator, albedo_until: float, textureless: float = 0.5) -> str:
    """How a step shades at this ``share`` of all steps: by albedo alone until ``albedo_until``; then lit in three
    quarters of them, and a share of these without texture."""
    if share < albedo_until or rng.random() >= 0.75:
        return ALBEDO
    return TEXTURELESS if rng.random() < textureless else LAMBERTIAN


def lamp(eye: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Where the lamp is [3]: about in the direction of the camera ``eye`` [3] from the origin, 0.8 to 1.5 away."""
    direction = eye / np.linalg.norm(eye) + rng.normal(0, 1, 3)
    return np.asarray(direction / np.linalg.norm(direction) * rng.uniform(0.8, 1.5), np.float64)


def seen_from_behind(normal: Tensor, directions: Tensor) -> Tensor:
    """max(0, n·d)² [N] of normals and directions of view [N, 3]: what a surface that is seen does not have. Its mean,
    weighted by what is seen, is the orientation loss (Verbin et al., "Ref-NeRF", 2022, eq. 11)."""
    return torch.relu((normal * directions).sum(1)) ** 2


def sparseness(opacity: Tensor) -> Tensor:
    """√(opacity² + 0.01), the mean: against fog."""
    return torch.sqrt(opacity**2 + 0.01).mean()
