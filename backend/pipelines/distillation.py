# SPDX-License-Identifier: GPL-3.0-or-later
"""A text-to-image model as the critic of renderings (Poole et al., "DreamFusion", 2022, §3).

Noise is added to them, and the model says what noise it sees, by prompts that say from where one looks. The same for
fields and for meshes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..guidance.diffusion_prior import DiffusionPrior, Said
from ..guidance.score_distillation import WEIGHTS, distillation_loss, guided, noised, perp_neg
from ..rendering.viewpoints import View

SIDES = ("front view", "side view", "back view", "overhead view")


@dataclass(frozen=True)
class Asking:
    """How the model is asked.

    guidance: ω. times: the shares of all noise levels that are drawn from, evenly; ``until``: to what the higher of
    them has fallen at the end, where it is to fall. weighting: w(t), a key of WEIGHTS. told: prompts say from which
    side one looks; avoided: how much those of the other sides are avoided (Perp-Neg).
    """

    guidance: float = 100.0
    times: tuple[float, float] = (0.02, 0.98)
    until: float = 0.98
    weighting: str = "sigma2"
    told: bool = True
    avoided: float = 0.0


class Critic:
    """The model, and what it makes of the prompt of each of SIDES (``said``) and of what to avoid (``unsaid``)."""

    def __init__(self, prior: DiffusionPrior, said: Said, unsaid: Said, asking: Asking) -> None:
        self.prior, self.said, self.unsaid, self.asking = prior, said, unsaid, asking

    def times(self, share: float, count: int, generator: torch.Generator) -> Tensor:
        """Noise levels [B] for this share of all steps, between those that are to be asked about."""
        low, high = self.asking.times
        high = max(low, high + (min(self.asking.until, high) - high) * share)
        drawn = low + (high - low) * torch.rand(count, generator=generator, device=generator.device)
        return (drawn * self.prior.steps).long().clamp(0, self.prior.steps - 1)

    def loss(self, pictures: Tensor, views: Sequence[View], t: Tensor, generator: torch.Generator) -> Tensor:
        """The loss whose gradient in x, what the model works on of sRGB ``pictures`` [B, 3, S, S] of these views, is
        w(t) (ε̂ − ε) (eq. 3)."""
        asking, prior = self.asking, self.prior
        x = prior.encode(pictures)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        noisy = noised(x.detach(), noise, prior.signal2[t])
        own = [SIDES.index(view.words) if asking.told else 0 for view in views]
        others = [[side for side in range(3) if side != each][:2] for each in own] if asking.avoided else []
        prompts = [own, *zip(*others, strict=True)]
        heard = prior.noise(noisy, t, self.unsaid.of([0] * len(own)), *(self.said.of(list(each)) for each in prompts))
        nothing, wanted, *avoided = heard
        if avoided:
            weight = x.new_full((len(own),), asking.avoided)
            score = perp_neg(nothing, wanted, avoided, [weight] * len(avoided), asking.guidance)
        else:
            score = guided(nothing, wanted, asking.guidance)
        return distillation_loss(x, score, noise, WEIGHTS[asking.weighting](prior.signal2[t]))
