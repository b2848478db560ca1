# SPDX-License-Identifier: GPL-3.0-or-later
"""Sampling with Heun's method on the noise levels of Karras et al., "Elucidating the Design Space", 2022 (algorithm 2).

Here the cloud at noise level σ is x = x0 + σ ε. ``heun`` knows nothing of networks: it is given a function
(x, σ) -> x0. ``denoiser`` makes that function of a point model, and ``sample`` puts the two together for one stage.

Only networks run on the device, in float32 or less. The clouds are float64 on the CPU: they are small, and where noise
is strong, x0 is the small difference of two numbers a hundred times larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .diffusion import Diffusion

Denoise = Callable[[Tensor, Tensor], Tensor]
"""A noisy cloud [B, C, K] and its noise level σ [] to the clean cloud one expects, [B, C, K]."""

Noise = Callable[[Sequence[int]], Tensor]
"""A shape to that many normally distributed numbers, on the CPU."""


class PointModel(Protocol):
    """What is asked of a network: see PointDiffusionTransformer, which says what they mean."""

    def __call__(self, x: Tensor, t: Tensor, *, condition: Any) -> Tensor: ...

    def condition(
        self, batch: int, embeddings: Tensor | None = None, low_res: Tensor | None = None, low_res_points: int = 0
    ) -> Any: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


RHO = 7.0
MOST_CHURN = 2**0.5 - 1


@dataclass(frozen=True)
class Sampling:
    """How a stage is sampled. The defaults are the published ones of the first stage."""

    karras_steps: int = 64
    sigma_min: float = 1e-3
    sigma_max: float = 120.0
    s_churn: float = 3.0
    guidance_scale: float = 3.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Sampling:
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


UPSAMPLING = Sampling(sigma_max=160.0, s_churn=0.0)


@dataclass(frozen=True)
class State:
    """After ``step`` steps: noisy clouds and the latest guess of the clean ones, float64 [B, C, K] in model units."""

    step: int
    x: Tensor
    clean: Tensor


def sigmas(sampling: Sampling) -> Tensor:
    """The noise levels, falling, and 0 after them, float64 [karras_steps + 1] (equation 5)."""
    low, high = sampling.sigma_min ** (1 / RHO), sampling.sigma_max ** (1 / RHO)
    levels = (high + torch.linspace(0, 1, sampling.karras_steps) * (low - high)) ** RHO
    return torch.cat([levels, levels.new_zeros(1)]).double()


def drawn(generators: Sequence[torch.Generator]) -> Noise:
    """Noise whose every row has a generator of its own, so that a sample is the same in any batch."""
    return lambda shape: torch.stack([torch.randn(tuple(shape[1:]), generator=own) for own in generators])


def start(sampling: Sampling, noise: Noise, shape: Sequence[int]) -> State:
    """Nothing but noise, of the shape [B, C, K]."""
    x = noise(shape).double() * sampling.sigma_max
    return State(0, x, torch.zeros_like(x))


def heun(denoise: Denoise, state: State, levels: Tensor, churn: float, noise: Noise) -> Iterator[State]:
    """The states after each of the remaining steps, down to level 0.

    levels: [steps + 1]; churn: how much noise is added back over all the steps. One draw is taken at each step, even
    where it is not used.
    """
    x, count = state.x, len(levels) - 1
    gamma = min(churn / count, MOST_CHURN)
    for i in range(state.step, count):
        draw = noise(x.shape)
        raised = levels[i] * (gamma + 1)
        if gamma > 0:
            x = x + draw.double() * (raised**2 - levels[i] ** 2) ** 0.5
        clean = denoise(x, raised)
        slope = (x - clean) / raised
        there = x + slope * (levels[i + 1] - raised)
        if levels[i + 1] > 0:  # the mean of the slopes here and there
            slope = (slope + (there - denoise(there, levels[i + 1])) / levels[i + 1]) / 2
            there = x + slope * (levels[i + 1] - raised)
        x = there
        yield State(i + 1, x, clean)


def sample(
    model: PointModel,
    diffusion: Diffusion,
    sampling: Sampling,
    state: State,
    noise: Noise,
    embeddings: Tensor | None = None,
    low_res: Tensor | None = None,
    half: torch.dtype | None = None,
) -> Iterator[State]:
    """One stage from ``state`` on. ``diffusion.unscale(state.clean)`` of the last one is the cloud.

    embeddings and low_res are those of ``model.condition``; half: a type for what a GPU may compute less exactly.
    """
    denoise = denoiser(model, diffusion, sampling.guidance_scale, len(state.x), embeddings, low_res, half)
    return heun(denoise, state, sigmas(sampling), sampling.s_churn, noise)


def denoiser(
    model: PointModel,
    diffusion: Diffusion,
    guidance: float,
    batch: int,
    embeddings: Tensor | None = None,
    low_res: Tensor | None = None,
    half: torch.dtype | None = None,
) -> Denoise:
    """A model as a function of cloud and noise level, with classifier-free guidance (Ho and Salimans 2021).

    Guidance 0 and 1 are none: the condition alone, as published. Clean clouds are clipped to [-1, 1].
    """
    like = next(model.parameters())
    with torch.no_grad():
        seen = None if embeddings is None else embeddings.to(like)
        conditions = [model.condition(batch, seen, None if low_res is None else low_res.to(like))]
        if guidance not in (0, 1):
            conditions.append(model.condition(batch, low_res_points=0 if low_res is None else low_res.shape[2]))

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        t = torch.full((batch,), nearest_step(diffusion, float(sigma)))
        x = x / (sigma**2 + 1) ** 0.5
        with torch.no_grad(), torch.autocast(like.device.type, half, enabled=half is not None):
            outs = [model(x.to(like), t.to(like.device), condition=condition) for condition in conditions]
        found = [diffusion.clean(x, t, out.to(x)).clamp(-1, 1) for out in outs]
        return found[0] if len(found) == 1 else found[1] + guidance * (found[0] - found[1])

    return denoise


def nearest_step(diffusion: Diffusion, sigma: float) -> int:
    """The last diffusion step no noisier than σ, where ᾱ = 1 / (σ² + 1), between steps interpolated in ᾱ."""
    falling = diffusion.alphas_cumprod
    return int(np.interp(1 / (sigma**2 + 1), falling[::-1], np.arange(len(falling) - 1.0, -1, -1)))
