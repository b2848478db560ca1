# SPDX-License-Identifier: GPL-3.0-or-later
"""The transformers of Nichol et al., "Point-E", 2022 (§4.3), with the parameter names of the published weights.

A cloud is a set: each point is one token without any positional encoding, beside one token for the time and those of
the condition. So any model takes any number of points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import Gen3DError

Embeds = Literal["none", "vector", "grid"]

# Published name -> what of CLIP it looks at, and whether it refines a cloud of lower resolution.
KINDS: dict[str, tuple[Embeds, bool]] = {
    "PointDiffusionTransformer": ("none", False),
    "CLIPImagePointDiffusionTransformer": ("vector", False),
    "CLIPImageGridPointDiffusionTransformer": ("grid", False),
    "UpsamplePointDiffusionTransformer": ("none", True),
    "CLIPImageGridUpsamplePointDiffusionTransformer": ("grid", True),
}
CLIP_VECTOR, CLIP_GRID = 768, 1024  # features of CLIP ViT-L/14: of the joint space, and of one patch
CLIP_PATCHES = 256


class Condition(NamedTuple):
    """What a condition is to the transformer, the same at every time.

    added: [B, 1, width], to each point; tokens: [B, T, width]; counts: [T], how many equal tokens each stands for,
    or None where each is one. With no position encoded, equal tokens stay equal through all the layers: "no
    condition", 256 times the same, and 1024 times for points, is computed as one that others attend to as often.
    """

    added: Tensor
    tokens: Tensor
    counts: Tensor | None


def build(config: Mapping[str, Any]) -> PointDiffusionTransformer:
    """The model of a stage, with random weights.

    ``config`` is a published configuration: name, width, layers, heads, input_channels, output_channels, init_scale,
    time_token_cond, token_cond, cond_drop_prob, channel_scales, channel_biases; ``feature_dim`` and ``cond_tokens`` are
    the size and the number of the conditioning features where they are not those of CLIP ViT-L/14. Other keys are for
    others.

    Raises Gen3DError for a name that is none of KINDS, and for a key without which there is no model.
    """
    try:
        embeds, low_res = KINDS[config["name"]]
        return PointDiffusionTransformer(
            embeds,
            low_res,
            width=config["width"],
            layers=config["layers"],
            heads=config["heads"],
            input_channels=config["input_channels"],
            output_channels=config["output_channels"],
            feature_dim=config.get("feature_dim", CLIP_GRID if embeds == "grid" else CLIP_VECTOR),
            cond_tokens=config.get("cond_tokens", CLIP_PATCHES),
            init_scale=config.get("init_scale", 0.25),
            time_token=config.get("time_token_cond", False),
            embedding_token=config.get("token_cond", False),
            drop=config.get("cond_drop_prob", 0.0),
            channel_scales=config.get("channel_scales"),
            channel_biases=config.get("channel_biases"),
        )
    except KeyError as error:
        raise Gen3DError(
            f"The configuration of a point model has no usable {error.args[0]!r:.60}.",
            "Give the configuration the weights were published with.",
            field="weights",
        ) from None


class PointDiffusionTransformer(nn.Module):
    """Predicts, of a noisy cloud, its noise (or velocity) and its variance.

    embeds: the condition: none, one vector, which is one token or is added to all, or a grid of features, which are
    one token each. low_res: whether the points of a coarser cloud are tokens too.
    """

    def __init__(
        self,
        embeds: Embeds,
        low_res: bool,
        *,
        width: int,
        layers: int,
        heads: int,
        input_channels: int,
        output_channels: int,
        feature_dim: int,
        cond_tokens: int,
        init_scale: float,
        time_token: bool,
        embedding_token: bool,
        drop: float,
        channel_scales: list[float] | None,
        channel_biases: list[float] | None,
    ) -> None:
        super().__init__()
        self.embeds, self.feature_dim, self.cond_tokens, self.drop = embeds, feature_dim, cond_tokens, drop
        self.time_token, self.embedding_token = time_token, embedding_token
        scale = init_scale * math.sqrt(1.0 / width)
        self.time_embed = Mlp(width, scale)
        self.ln_pre = nn.LayerNorm(width)
        self.backbone = Transformer(width, layers, heads, scale)
        self.ln_post = nn.LayerNorm(width)
        self.input_proj = nn.Linear(input_channels, width)
        self.output_proj = nn.Linear(width, output_channels)
        nn.init.zeros_(self.output_proj.weight)
        nn.init.zeros_(self.output_proj.bias)
        self.clip_embed: nn.Module | None = None
        if embeds == "vector":
            self.clip_embed = nn.Linear(feature_dim, width)
        elif embeds == "grid":
            self.clip_embed = nn.Sequential(nn.LayerNorm(feature_dim), nn.Linear(feature_dim, width))
        self.cond_point_proj = nn.Linear(input_channels, width) if low_res else None
        self.channel_scales: Tensor
        self.channel_biases: Tensor
        if low_res:
            self.register_buffer("channel_scales", torch.tensor(channel_scales or [1.0] * input_channels))
            self.register_buffer("channel_biases", torch.tensor(channel_biases or [0.0] * input_channels))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        embeddings: Tensor | None = None,
        low_res: Tensor | None = None,
        condition: Condition | None = None,
    ) -> Tensor:
        """Clouds [B, C, K] at the times t [B], counted in diffusion steps -> [B, C_out, K].

        embeddings: [B, D], or [B, D, tokens] for a grid; None and zeros are "no condition". low_res: [B, C, K'], in
        the units of finished clouds. Or both at once as what ``condition`` returned for them.
        """
        added, tokens, counts = condition or self.condition(len(x), embeddings, low_res)
        time = self.time_embed(timestep_embedding(t, self.ln_pre.normalized_shape[0]).to(x.dtype))[:, None]
        h = self.input_proj(x.transpose(1, 2)) + added
        if self.time_token:
            tokens = torch.cat([time, tokens], 1)
        else:
            h = h + time
        bias = None
        if counts is not None:
            bias = functional.pad(counts.log(), (int(self.time_token), x.shape[-1]))
        h = self.backbone(self.ln_pre(torch.cat([tokens, h], 1)), bias)[:, tokens.shape[1] :]
        out: Tensor = self.output_proj(self.ln_post(h)).transpose(1, 2)
        return out

    def condition(
        self, batch: int, embeddings: Tensor | None = None, low_res: Tensor | None = None, low_res_points: int = 0
    ) -> Condition:
        """A condition, to be given to ``forward`` at every time.

        low_res_points: where there is no ``low_res``, how many points, all zero, stand in for it.
        """
        like = self.input_proj.weight
        added, tokens, counts = like.new_zeros(batch, 1, like.shape[0]), [like.new_zeros(batch, 0, like.shape[0])], []
        if self.clip_embed is not None:
            if embeddings is None:
                counts.append(self.cond_tokens if self.embeds == "grid" else 1)
                embeddings = like.new_zeros(batch, self.feature_dim, *[1] * (self.embeds == "grid"))
            else:
                counts += [1] * (embeddings.shape[2] if self.embeds == "grid" else 1)
            if self.training and self.drop > 0:
                kept = torch.rand(batch, device=like.device) >= self.drop
                embeddings = embeddings * kept.view(-1, *[1] * (embeddings.ndim - 1))
            if self.embeds == "grid":
                tokens.append(self.clip_embed(embeddings.transpose(1, 2)))
            else:
                # A vector of unit length becomes one of unit variance.
                embedded = self.clip_embed(embeddings * math.sqrt(self.feature_dim))[:, None]
                if self.embedding_token:
                    tokens.append(embedded)
                else:
                    added = added + embedded
                    counts.clear()
        if self.cond_point_proj is not None and (low_res is not None or low_res_points):
            if low_res is None:
                counts.append(low_res_points)
                low_res = like.new_zeros(batch, len(self.channel_scales), 1)
            else:
                counts += [1] * low_res.shape[2]
            scaled = low_res * self.channel_scales[:, None] + self.channel_biases[:, None]
            tokens.append(self.cond_point_proj(scaled.transpose(1, 2)))
        several = any(count != 1 for count in counts)
        return Condition(added, torch.cat(tokens, 1), like.new_tensor(counts) if several else None)


def timestep_embedding(t: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Cosines, then sines, of the times t [B] at geometric frequencies, [B, width]."""
    half = width // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t[:, None].float() * frequencies
    return functional.pad(torch.cat([torch.cos(angles), torch.sin(angles)], -1), (0, width % 2))


# ---------------------------------------------------------------------------------------------------------- blocks


class Transformer(nn.Module):
    """Residual blocks of attention and a perceptron, each behind its norm. ``init_scale`` is a standard deviation."""

    def __init__(self, width: int, layers: int, heads: int, init_scale: float) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(AttentionBlock(width, heads, init_scale) for _ in range(layers))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Tokens [B, T, width]; bias [T]: added to the logits with which all attend to a token."""
        for block in self.resblocks:
            x = block(x, bias)
        return x


class AttentionBlock(nn.Module):
    def __init__(self, width: int, heads: int, init_scale: float) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads, init_scale)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Mlp(width, init_scale)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), bias)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, init_scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.c_qkv = linear(width, width * 3, init_scale)
        self.c_proj = linear(width, width, init_scale)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        query, key, value = split_heads(self.c_qkv(x), self.heads, 3)
        out: Tensor = self.c_proj(attend(query, key, value, bias))
        return out


class Mlp(nn.Module):
    def __init__(self, width: int, init_scale: float) -> None:
        super().__init__()
        self.c_fc = linear(width, width * 4, init_scale)
        self.c_proj = linear(width * 4, width, init_scale)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(functional.gelu(self.c_fc(x)))
        return out


def linear(inputs: int, outputs: int, deviation: float) -> nn.Linear:
    made = nn.Linear(inputs, outputs)
    nn.init.normal_(made.weight, std=deviation)
    nn.init.zeros_(made.bias)
    return made


def split_heads(x: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
    """[B, T, parts * width], each head's parts side by side -> ``parts`` times [B, heads, T, width / heads]."""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, heads, parts, width // heads // parts).permute(3, 0, 2, 1, 4).unbind(0)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of each head, [B, heads, T, d], and all heads side by side again, [B, T, heads * d].

    Published as softmax of (q / d^¼) (k / d^¼)ᵀ; that is, of q kᵀ / √d. ``bias`` [T] is added to it for each key.
    """
    mask = None if bias is None else bias.to(query.dtype)[None, None, None]
    return functional.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)
