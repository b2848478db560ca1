# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures as a guide meets them: in front of anything, cropped, blurred, half transparent, with specks in the air.

A radiance field that is being made looks like that, and a guide that has only seen finished things leads it astray.
What has gone too far, ``spoilt``, is for the guide to tell from the real thing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..rendering.backgrounds import backgrounds, blurred, fourier


def augmented(rgba: Tensor, generator: torch.Generator, background: Tensor | None = None) -> Tensor:
    """Straight rgba [N, 4, S, S] -> sRGB [N, 3, S, S] over random backgrounds, each a little worse than it was."""
    count, size = len(rgba), rgba.shape[-1]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, device=rgba.device)

    def some(share: float) -> Tensor:
        return uniform(0, 1) < share

    light = premultiplied(rgba)
    light = _cropped(light, uniform(0.85, 1.15), uniform(-0.12, 0.12), uniform(-0.12, 0.12))
    hazy, sigma = some(0.35), uniform(0, 1.3) * size / 64
    light[hazy] = blurred(light[hazy], sigma[hazy])
    light = light * torch.where(some(0.3), uniform(0.6, 1), 1.0)[:, None, None, None]
    dusty, share = some(0.2), uniform(0, 0.06)
    light[dusty] = _specked(light[dusty], share[dusty], generator)
    behind = backgrounds(count, size, generator) if background is None else background
    pictures = light[:, :3] + behind * (1 - light[:, 3:])
    return (pictures * uniform(0.85, 1.15)[:, None, None, None]).clamp(0, 1)


def spoilt(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Straight rgba [N, 4, S, S] -> the same, badly: any colours, hardly there, blurred, or lost among specks."""
    count, size = len(rgba), rgba.shape[-1]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, device=rgba.device)

    fault = torch.randint(0, 5, (count,), generator=generator, device=rgba.device)
    wrong = fourier(count, size, generator)
    share = torch.where(fault <= 1, uniform(0.5, 1), 0.0)[:, None, None, None]
    colour = rgba[:, :3].lerp((3 * wrong - 1).clamp(0, 1), share)
    light = premultiplied(torch.cat([colour, rgba[:, 3:]], 1))
    light = light * torch.where(fault == 2, uniform(0.1, 0.35), 1.0)[:, None, None, None]
    light = blurred(light, torch.where(fault == 3, uniform(3, 6) * size / 64, 0.0))
    light = _specked(light, torch.where(fault == 4, uniform(0.15, 0.4), 0.0), generator)
    alpha = light[:, 3:].clamp(0, 1)
    return torch.cat([(light[:, :3] / alpha.clamp_min(1e-6)).clamp(0, 1), alpha], 1)


def premultiplied(rgba: Tensor) -> Tensor:
    return torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)


def _cropped(light: Tensor, zoom: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Shown ``zoom`` times as large and moved by shares of the picture."""
    matrix = light.new_zeros(len(light), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / zoom
    matrix[:, 0, 2], matrix[:, 1, 2] = -2 * right / zoom, -2 * down / zoom
    grid = torch.nn.functional.affine_grid(matrix, list(light.shape), align_corners=False)
    return torch.nn.functional.grid_sample(light, grid, align_corners=False)


def _specked(light: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """Blobs of random colours, about two pixels wide, over this share [N] of each picture."""
    count, _, size, _ = light.shape
    chance = torch.rand(count, 1, size, size, generator=generator, device=light.device)
    colours = torch.rand(count, 3, size, size, generator=generator, device=light.device)
    specks = (chance < share[:, None, None, None] / 4).float()
    blobs = torch.nn.functional.max_pool2d(torch.cat([colours * specks, specks], 1), 3, 1, 1)
    blobs = torch.nn.functional.avg_pool2d(blobs, 3, 1, 1)
    return blobs + light * (1 - blobs[:, 3:])
