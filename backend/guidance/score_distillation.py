# SPDX-License-Identifier: GPL-3.0-or-later
"""Score distillation (Poole et al., "DreamFusion", 2022, §3): how a diffusion model would change a picture.

Pure formulas; what is diffused, pixels or latents, and by which model, is no matter here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigma2": lambda signal2: 1 - signal2,
    "uniform": torch.ones_like,
    "signal-noise": lambda signal2: signal2.sqrt() * (1 - signal2),
}
"""w(t) by the squared share of the signal, ᾱ: σ² as in the paper, and two that others use."""


class _ByHand(torch.autograd.Function):
    """A loss whose gradient is given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return 0.5 * (gradient.float() ** 2).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grads[0] * gradient, None


def noised(x: Tensor, noise: Tensor, signal2: Tensor) -> Tensor:
    """x [B, ...] at the times whose ᾱ is ``signal2`` [B]: √ᾱ x + √(1 − ᾱ) ε."""
    signal2 = _as(signal2, x)
    return signal2.sqrt() * x + (1 - signal2).sqrt() * noise


def noise_of(predicted: Tensor, noisy: Tensor, signal2: Tensor, prediction: str) -> Tensor:
    """ε̂ of what a model predicts: "epsilon" itself, "v_prediction" (Salimans and Ho 2022: v = √ᾱ ε − √(1 − ᾱ) x) or
    "sample", the clean x."""
    signal2 = _as(signal2, noisy)
    if prediction == "epsilon":
        return predicted
    if prediction == "v_prediction":
        return signal2.sqrt() * predicted + (1 - signal2).sqrt() * noisy
    return (noisy - signal2.sqrt() * predicted) / (1 - signal2).sqrt().clamp_min(1e-4)


def target_of(x: Tensor, noise: Tensor, signal2: Tensor, prediction: str) -> Tensor:
    """What a model of this kind is to predict of the noised x: the inverse of ``noise_of``."""
    signal2 = _as(signal2, x)
    if prediction == "epsilon":
        return noise
    return signal2.sqrt() * noise - (1 - signal2).sqrt() * x if prediction == "v_prediction" else x


def guided(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022): ε_∅ + ω (ε_y − ε_∅)."""
    return unconditional + scale * (conditional - unconditional)


def perp_neg(
    unconditional: Tensor, conditional: Tensor, negatives: Sequence[Tensor], weights: Sequence[Tensor], scale: float
) -> Tensor:
    """Guidance away from other prompts, but only in what they do not share with the wanted one (Armandpour et al.,
    "Re-imagine the Negative Prompt Algorithm", 2023, eq. 8).

    negatives: ε [B, ...] of each; weights: [B] of each, ≥ 0, how much it is to be avoided.
    """
    towards = conditional - unconditional
    away = torch.zeros_like(towards)
    for negative, weight in zip(negatives, weights, strict=True):
        away = away + _as(weight, towards) * perpendicular(negative - unconditional, towards)
    return unconditional + scale * (towards - away)


def perpendicular(x: Tensor, to: Tensor) -> Tensor:
    """The part of each x [B, ...] at right angles to ``to`` [B, ...]."""
    others = tuple(range(1, x.ndim))
    along = (x * to).sum(others, keepdim=True) / (to * to).sum(others, keepdim=True).clamp_min(1e-12)
    return x - along * to


def distillation_loss(x: Tensor, score: Tensor, noise: Tensor, weight: Tensor, most: float = float("inf")) -> Tensor:
    """A loss whose gradient in x [B, ...] is w(t) (ε̂ − ε) / B, without the model's Jacobian (eq. 3).

    score: ε̂ after guidance; weight [B]; most: what each element of w(t) (ε̂ − ε) is clipped to (Hong et al., "Debiasing
    Scores and Prompts of 2D Diffusion", 2023, §4.1). Its value, half the squared length of that gradient, says how far
    x still is. Single elements that are not numbers, as half precision has them, are taken as nothing.
    Raises FloatingPointError where a whole picture's are none.
    """
    gradient = _as(weight, x) * (score - noise).detach()
    if not bool(torch.isfinite(gradient).flatten(1).any(1).all()):
        raise FloatingPointError("what the text-to-image model sees in a picture is no number")
    gradient = torch.nan_to_num(gradient, 0.0, 0.0, 0.0).clamp(-most, most) / len(x)
    found: Tensor = _ByHand.apply(x, gradient)  # type: ignore[no-untyped-call]
    return found


def _as(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).view(-1, *(1,) * (like.ndim - 1))
