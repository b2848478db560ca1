# SPDX-License-Identifier: GPL-3.0-or-later
"""The published networks, written out over a state dict: one sample and one head at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def forward(
    state: State,
    config: Mapping[str, Any],
    x: Tensor,
    t: Tensor,
    embeddings: Tensor | None = None,
    low_res: Tensor | None = None,
) -> Tensor:
    """Of point models: [B, C, K] -> [B, C_out, K]."""
    rows = range(len(x))
    return torch.stack([_one(state, config, x[b], t[b], _row(embeddings, b), _row(low_res, b)) for b in rows])


def distances(state: State, config: Mapping[str, Any], points: Tensor, query: Tensor) -> Tensor:
    """Of distance models: [B, 3, K], [B, 3, N] -> [B, N]."""
    found = []
    for cloud, places in zip(points, query, strict=True):
        data = linear(state, "encoder_input_proj", cloud.T)
        data = backbone(state, "encoder", data, config["encoder_layers"], config["encoder_heads"])
        h = linear(state, "decoder_input_proj", places.T)
        for layer in range(config["decoder_layers"]):
            block = f"decoder.resblocks.{layer}"
            query_rows = linear(state, f"{block}.attn.c_q", norm(state, f"{block}.ln_1", h))
            kv = linear(state, f"{block}.attn.c_kv", norm(state, f"{block}.ln_2", data))
            h = h + linear(state, f"{block}.attn.c_proj", attention(query_rows, kv, config["decoder_heads"]))
            h = h + perceptron(state, f"{block}.mlp", norm(state, f"{block}.ln_3", h))
        found.append(linear(state, "output_proj", norm(state, "ln_post", h))[:, 0])
    return torch.stack(found)


def _row(values: Tensor | None, b: int) -> Tensor | None:
    return None if values is None else values[b]


def _one(
    state: State, config: Mapping[str, Any], x: Tensor, t: Tensor, embedding: Tensor | None, low_res: Tensor | None
) -> Tensor:
    width = config["width"]
    h = linear(state, "input_proj", x.T)
    tokens = []
    time = perceptron(state, "time_embed", sinusoid(float(t), width).to(x))[None]
    if config.get("time_token_cond"):
        tokens.append(time)
    else:
        h = h + time
    if embedding is not None and embedding.ndim == 1:
        vector = linear(state, "clip_embed", embedding * math.sqrt(len(embedding)))[None]
        if config.get("token_cond"):
            tokens.append(vector)
        else:
            h = h + vector
    elif embedding is not None:
        tokens.append(linear(state, "clip_embed.1", norm(state, "clip_embed.0", embedding.T)))
    if low_res is not None:
        scaled = low_res * state["channel_scales"][:, None] + state["channel_biases"][:, None]
        tokens.append(linear(state, "cond_point_proj", scaled.T))
    h = norm(state, "ln_pre", torch.cat([*tokens, h]))
    h = norm(state, "ln_post", backbone(state, "backbone", h, config["layers"], config["heads"]))
    return linear(state, "output_proj", h[-x.shape[1] :]).T


def backbone(state: State, name: str, h: Tensor, layers: int, heads: int) -> Tensor:
    for layer in range(layers):
        block = f"{name}.resblocks.{layer}"
        qkv = linear(state, f"{block}.attn.c_qkv", norm(state, f"{block}.ln_1", h))
        parts = qkv.view(len(h), heads, 3, -1)
        query = parts[:, :, 0].reshape(len(h), -1)
        kv = parts[:, :, 1:].reshape(len(h), -1)
        h = h + linear(state, f"{block}.attn.c_proj", attention(query, kv, heads))
        h = h + perceptron(state, f"{block}.mlp", norm(state, f"{block}.ln_2", h))
    return h


def attention(query: Tensor, kv: Tensor, heads: int) -> Tensor:
    """As published: queries and keys each divided by the fourth root of the head's width."""
    size = query.shape[1] // heads
    scale = 1 / math.sqrt(math.sqrt(size))
    outs = []
    for head in range(heads):
        q = query[:, head * size : (head + 1) * size]
        k = kv[:, 2 * head * size : (2 * head + 1) * size]
        v = kv[:, (2 * head + 1) * size : (2 * head + 2) * size]
        outs.append(torch.softmax((q * scale) @ (k * scale).T, -1) @ v)
    return torch.cat(outs, 1)


def sinusoid(t: float, width: int) -> Tensor:
    """In float32, as published: at t = 1000 that is off by 1e-4."""
    half = width // 2
    angles = t * torch.exp(torch.arange(half, dtype=torch.float32) / half * -math.log(10000))
    return torch.cat([torch.cos(angles), torch.sin(angles), torch.zeros(width % 2)])


def perceptron(state: State, name: str, x: Tensor) -> Tensor:
    h = linear(state, f"{name}.c_fc", x)
    return linear(state, f"{name}.c_proj", h * 0.5 * (1 + torch.erf(h / math.sqrt(2))))


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: State, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred**2).mean(-1, keepdim=True) + 1e-5
    return centred / spread.sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]
