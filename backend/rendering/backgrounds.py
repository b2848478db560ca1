# SPDX-License-Identifier: GPL-3.0-or-later
"""What to put behind a thing, so that a guide looks at the thing and not at what surrounds it.

Noise, checkerboards and Fourier textures, blurred, are those of Jain et al., "Dream Fields", 2022 (§4.2, App. C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Maker = Callable[[int, int, torch.Generator], Tensor]

BLUR = 10 / 224
"""Largest standard deviation of the blur, in widths of the picture."""
SQUARES = 8
CONTRAST = 12**-0.5  # that of what is anywhere between black and white


def backgrounds(count: int, size: int, generator: torch.Generator, makers: Sequence[Maker] | None = None) -> Tensor:
    """sRGB [count, 3, size, size] on the generator's device, of each maker as many, in random order, each blurred by
    a standard deviation of its own up to BLUR. Without makers: plain ones, noise, checks and Fourier textures."""
    makers, device = makers or (plain, noise, checks, fourier), generator.device
    every = torch.cat([make(-(-count // len(makers)), size, generator) for make in makers])
    chosen = every[torch.randperm(len(every), generator=generator, device=device)[:count]]
    sigma = torch.rand(count, generator=generator, device=device) * BLUR * size
    return blurred(chosen, sigma).clamp(0, 1)


def plain(count: int, size: int, generator: torch.Generator) -> Tensor:
    """One colour each, half of them shades of grey."""
    colour = torch.rand(count, 3, generator=generator, device=generator.device)
    grey = torch.rand(count, 1, generator=generator, device=generator.device) < 0.5
    colour = torch.where(grey, colour[:, :1].expand(-1, 3), colour)
    return colour[:, :, None, None].expand(-1, -1, size, size)


def noise(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Gaussian, every pixel and channel for itself, around the middle of the range."""
    drawn = torch.randn(count, 3, size, size, generator=generator, device=generator.device)
    return (0.5 + CONTRAST * drawn).clamp(0, 1)


def checks(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Checkerboards in two colours, SQUARES wide."""
    device, squares = generator.device, SQUARES
    shift = torch.rand(2, count, 1, 1, generator=generator, device=device) * 2
    place = (torch.arange(size, device=device) + 0.5) / size
    row, column = (place[:, None] * squares + shift[0]).floor(), (place * squares + shift[1]).floor()
    colours = torch.rand(2, count, 3, 1, 1, generator=generator, device=device)
    return torch.where((((row + column) % 2) == 0)[:, None], colours[0], colours[1])


def fourier(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Sums of waves in random directions, weaker the shorter they are, stretched over the whole range of colours."""
    device = generator.device
    waves = torch.randn(count, 3, size, size, generator=generator, device=device)
    slope = 0.5 + 2 * torch.rand(count, 1, 1, 1, generator=generator, device=device)
    spectrum = torch.fft.rfft2(waves) / _frequency(size, device).clamp_min(1 / size) ** slope
    spectrum[..., 0, 0] = 0
    texture = torch.fft.irfft2(spectrum, s=(size, size))
    spread: Tensor = texture.std(dim=(1, 2, 3), keepdim=True)
    return torch.sigmoid(2 * texture / spread)


def blurred(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Pictures [N, C, S, S] under Gaussians of standard deviation ``sigma`` [N] in pixels; opposite borders touch."""
    size = pictures.shape[-1]
    response = torch.exp(-2 * (torch.pi * sigma[:, None, None, None] * _frequency(size, pictures.device)) ** 2)
    found: Tensor = torch.fft.irfft2(torch.fft.rfft2(pictures) * response, s=(size, size))
    return found


def _frequency(size: int, device: torch.device) -> Tensor:
    """Cycles per pixel of every coefficient of ``rfft2``."""
    down, across = torch.fft.fftfreq(size, device=device), torch.fft.rfftfreq(size, device=device)
    return torch.hypot(down[:, None].expand(-1, len(across)), across.expand(size, -1))


TEXTURES: tuple[Maker, ...] = (noise, checks, fourier)
"""A third each (Jain et al. 2022, App. C)."""
