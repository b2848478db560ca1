# SPDX-License-Identifier: GPL-3.0-or-later
"""The diffusion process that point models are trained on (Ho et al. 2020; Nichol and Dhariwal 2021), 1024 steps.

A cloud x0, its channels scaled to about [-1, 1], becomes x_t = √ᾱ_t x0 + √(1 - ᾱ_t) ε.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Schedule = Literal["cosine", "linear"]
Prediction = Literal["epsilon", "v"]

STEPS = 1024
CHANNEL_SCALES = (2.0, 2.0, 2.0, 1 / 127.5, 1 / 127.5, 1 / 127.5)
CHANNEL_BIASES = (0.0, 0.0, 0.0, -1.0, -1.0, -1.0)


def betas(schedule: Schedule, steps: int = STEPS) -> NDArray[np.float64]:
    """The variance that each step adds, [steps]."""
    if schedule == "linear":
        scale = 1000 / steps
        return scale * np.linspace(1e-4, 0.02, steps, dtype=np.float64)
    kept = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    added: NDArray[np.float64] = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
    return added


@dataclass(frozen=True)
class Diffusion:
    """One stage's process: ᾱ [steps], what its model predicts, and how channels become model units."""

    alphas_cumprod: NDArray[np.float64]
    prediction: Prediction = "epsilon"
    channel_scales: Sequence[float] = CHANNEL_SCALES
    channel_biases: Sequence[float] = CHANNEL_BIASES

    @classmethod
    def of(cls, config: Mapping[str, Any], default: Schedule = "cosine") -> Diffusion:
        """From a stage's configuration: ``schedule``, ``prediction``, ``channel_scales``, ``channel_biases``."""
        return cls(
            np.cumprod(1 - betas(config.get("schedule", default)), dtype=np.float64),
            config.get("prediction", "epsilon"),
            tuple(config.get("channel_scales", CHANNEL_SCALES)),
            tuple(config.get("channel_biases", CHANNEL_BIASES)),
        )

    @property
    def steps(self) -> int:
        return len(self.alphas_cumprod)

    def scale(self, cloud: Tensor) -> Tensor:
        """Clouds [B, C, K] with coordinates in the unit cube and colours in 0..255 -> model units."""
        return cloud * _column(self.channel_scales, cloud) + _column(self.channel_biases, cloud)

    def unscale(self, x: Tensor) -> Tensor:
        """The inverse of ``scale``."""
        return (x - _column(self.channel_biases, x)) / _column(self.channel_scales, x)

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of clean clouds [B, C, K] at the steps t [B]."""
        signal, spread = self._levels(t, x0)
        return signal * x0 + spread * noise

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What a model is to predict: the noise, or v = √ᾱ ε - √(1 - ᾱ) x0 (Salimans and Ho 2022)."""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self._levels(t, x0)
        return signal * noise - spread * x0

    def clean(self, x: Tensor, t: Tensor, out: Tensor) -> Tensor:
        """x0 of noised clouds [B, C, K], from what a model made of them, [B, >= C, K]: the variance is not used."""
        predicted, (signal, spread) = out[:, : x.shape[1]], self._levels(t, x)
        return signal * x - spread * predicted if self.prediction == "v" else (x - spread * predicted) / signal

    def _levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha = torch.from_numpy(self.alphas_cumprod)
        return alpha.sqrt().to(like)[t, None, None], (1 - alpha).sqrt().to(like)[t, None, None]


def as_points(cloud: Tensor) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A finished cloud [6, K] as float32 coordinates [K, 3] and sRGB colours [K, 3], rounded as published."""
    rows = cloud.T.cpu().numpy()
    return rows[:, :3].astype(np.float32), rows[:, 3:].clip(0, 255).round().astype(np.uint8)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None]
