# SPDX-License-Identifier: GPL-3.0-or-later
"""A point transformer that learns faster at a small size than the published one: the time and the whole condition scale
and shift every block (Peebles and Xie, "Scalable Diffusion Models with Transformers", 2023, adaLN-Zero), and the
coordinates come with their sines and cosines. The tokens of the condition stand beside the points, as published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .transformer import Mlp, SelfAttention, timestep_embedding

NAME = "AdaptivePointDiffusionTransformer"
OCTAVES = 5

Condition = tuple[Tensor, Tensor]
"""What is added to the time's embedding, [B, width], and the tokens beside the points, [B, T, width]."""


class AdaptivePointDiffusionTransformer(nn.Module):
    """Clouds [B, C, K] at times t [B], with a grid of features [B, D, T] -> [B, C_out, K]."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, self.feature_dim, self.cond_tokens = config["width"], config["feature_dim"], config["cond_tokens"]
        scale = config["init_scale"] / math.sqrt(width)
        self.drop = config["cond_drop_prob"]
        self.time_embed = Mlp(width, scale)
        self.pooled = nn.Linear(self.feature_dim, width)
        self.tokens = nn.Sequential(nn.LayerNorm(self.feature_dim), nn.Linear(self.feature_dim, width))
        self.input_proj = nn.Linear(config["input_channels"] + 6 * OCTAVES, width)
        self.blocks = nn.ModuleList(AdaptiveBlock(width, config["heads"], scale) for _ in range(config["layers"]))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.output_proj = zeroed(nn.Linear(width, config["output_channels"]))

    def forward(
        self, x: Tensor, t: Tensor, embeddings: Tensor | None = None, condition: Condition | None = None
    ) -> Tensor:
        added, tokens = self.condition(len(x), embeddings) if condition is None else condition
        time = self.time_embed(timestep_embedding(t, added.shape[1]).to(added.dtype))
        given = nn.functional.silu(time + added)[:, None]
        h = torch.cat([tokens, self.input_proj(with_waves(x.transpose(1, 2)))], 1)
        for block in self.blocks:
            h = block(h, given)
        shift, scale = self.modulation(given).chunk(2, -1)
        h = self.norm(h[:, tokens.shape[1] :]) * (1 + scale) + shift
        out: Tensor = self.output_proj(h).transpose(1, 2)
        return out

    def condition(
        self, batch: int, embeddings: Tensor | None = None, low_res: Tensor | None = None, low_res_points: int = 0
    ) -> Condition:
        """What a condition is to the transformer, the same at every time. None and zeros are "no condition"."""
        if embeddings is None:
            embeddings = self.pooled.weight.new_zeros(batch, self.feature_dim, self.cond_tokens)
        if self.training and self.drop > 0:
            embeddings = embeddings * (torch.rand(batch, 1, 1, device=embeddings.device) >= self.drop)
        return self.pooled(embeddings[:, :, -1]), self.tokens(embeddings.transpose(1, 2))


class AdaptiveBlock(nn.Module):
    def __init__(self, width: int, heads: int, init_scale: float) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attn = SelfAttention(width, heads, init_scale)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = Mlp(width, init_scale)
        self.modulation = zeroed(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(given).chunk(6, -1)
        x = x + gate_1 * self.attn(self.norm_1(x) * (1 + scale_1) + shift_1)
        out: Tensor = x + gate_2 * self.mlp(self.norm_2(x) * (1 + scale_2) + shift_2)
        return out


def with_waves(x: Tensor) -> Tensor:
    """[B, K, C] beside the sines and cosines of its first three channels, [B, K, C + 6 * OCTAVES]."""
    angles = (x[..., :3, None] * (2.0 ** torch.arange(OCTAVES, device=x.device) * math.pi / 2)).flatten(2)
    return torch.cat([x, torch.sin(angles), torch.cos(angles)], -1)


def zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
