# SPDX-License-Identifier: GPL-3.0-or-later
"""A text-to-image model as the critic of renderings (Poole et al., "DreamFusion", 2022, §3).

Noise is added to them, and the model says what noise it sees, by prompts that say from where one looks. The same for
fields and for meshes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..guidance.diffusion_prior import DiffusionPrior, Said
from ..guidance.score_distillation import WEIGHTS, distillation_loss, guided, noised, perp_neg
from ..rendering.viewpoints import View

SIDES = ("front view", "side view", "back view", "overhead view")
OF_LATENTS, OF_PIXELS = 100.0, 20.0
"""The guidance of models of latents, as in the paper, and of DeepFloyd's pixels."""


@dataclass(frozen=True)
class Asking:
    """How the model is asked.

    guidance: ω; 0: as is usual for the kind of model. times: the shares of all noise levels that are drawn from;
    ``until``: to what the higher of them has fallen at the end, where it is to fall. weighting: w(t), a key of WEIGHTS.
    told: prompts say from which side one looks, or, with ``bearings``, just from where; avoided: how much those of the
    other sides are avoided (Perp-Neg). clipped: what the gradient's elements are clipped to, at first and at the end;
    None: to nothing.
    """

    guidance: float = 0.0
    times: tuple[float, float] = (0.02, 0.98)
    until: float = 0.98
    weighting: str = "sigma2"
    told: bool = True
    bearings: bool = False
    avoided: float = 0.0
    clipped: tuple[float, float] | None = None

    def named(self, view: View) -> str:
        """From where one looks; empty: that is not told."""
        if not self.told:
            return ""
        return view.bearing if self.bearings else view.words

    def most(self, share: float) -> float:
        """What the gradient's elements are clipped to after this share of all steps."""
        if self.clipped is None:
            return math.inf
        first, last = self.clipped
        return first + (last - first) * share

    def others(self, view: View) -> list[str]:
        """Two from where one does not look."""
        if self.bearings:
            return [replace(view, azimuth=view.azimuth + turn).bearing for turn in (90.0, 180.0)]
        return [side for side in SIDES[:3] if side != view.words][:2]


@dataclass(frozen=True)
class Heard:
    """What a model makes of the prompts of views with these ``names``, and as often of what is to be avoided."""

    names: tuple[str, ...]
    said: Said
    unsaid: Said

    def of(self, names: Sequence[str]) -> Said:
        """What it makes of these. Raises ValueError for a name that is none."""
        return self.said.of([self.names.index(name) for name in names])


class Critic:
    """The model, and what it makes of the prompts: those of SIDES, of all bearings where they are asked for, and ""."""

    def __init__(self, prior: DiffusionPrior, heard: Heard, asking: Asking) -> None:
        self.prior, self.heard, self.asking = prior, heard, asking
        self.guidance = asking.guidance or (OF_PIXELS if prior.of_pixels else OF_LATENTS)

    def times(self, share: float, count: int, generator: torch.Generator) -> Tensor:
        """Noise levels [B] for this share of all steps, between those that are to be asked about."""
        low, high = self.asking.times
        high = max(low, high + (min(self.asking.until, high) - high) * share)
        drawn = low + (high - low) * torch.rand(count, generator=generator, device=generator.device)
        return (drawn * self.prior.steps).long().clamp(0, self.prior.steps - 1)

    def loss(
        self, pictures: Tensor, views: Sequence[View], t: Tensor, generator: torch.Generator, share: float = 0.0
    ) -> Tensor:
        """The loss whose gradient in x, what the model works on of sRGB ``pictures`` [B, 3, S, S] of these views, is
        w(t) (ε̂ − ε) (eq. 3). share: of all steps that are done."""
        asking, prior = self.asking, self.prior
        x = prior.encode(pictures)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        noisy = noised(x.detach(), noise, prior.signal2[t])
        prompts = [[asking.named(view) for view in views]]
        if asking.avoided and asking.told:
            prompts += [list(names) for names in zip(*(asking.others(view) for view in views), strict=True)]
        unsaid = self.heard.unsaid.of([0] * len(views))
        nothing, wanted, *avoided = prior.noise(noisy, t, unsaid, *(self.heard.of(names) for names in prompts))
        if avoided:
            weight = x.new_full((len(views),), asking.avoided)
            score = perp_neg(nothing, wanted, avoided, [weight] * len(avoided), self.guidance)
        else:
            score = guided(nothing, wanted, self.guidance)
        return distillation_loss(x, score, noise, WEIGHTS[asking.weighting](prior.signal2[t]), asking.most(share))
