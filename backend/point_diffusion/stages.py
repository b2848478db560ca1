# SPDX-License-Identifier: GPL-3.0-or-later
"""Point models in the order they are sampled in: those Nichol et al. published with "Point-E", 2022, and others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import adaptive, transformer
from .diffusion import CHANNEL_BIASES, CHANNEL_SCALES, Diffusion
from .karras import UPSAMPLING, PointModel, Sampling

_POINTS: dict[str, Any] = {
    "heads": 8,
    "init_scale": 0.25,
    "input_channels": 6,
    "layers": 12,
    "n_ctx": 1024,
    "output_channels": 12,
    "time_token_cond": True,
    "width": 512,
}
_VECTOR = {**_POINTS, "name": "CLIPImagePointDiffusionTransformer", "cond_drop_prob": 0.1, "token_cond": True}
_GRID = {**_POINTS, "name": "CLIPImageGridPointDiffusionTransformer", "cond_drop_prob": 0.1}

CONFIGS: dict[str, dict[str, Any]] = {
    "base40M-textvec": _VECTOR,
    "base40M-imagevec": _VECTOR,
    "base40M": _GRID,
    "base300M": {**_GRID, "heads": 16, "layers": 24, "width": 1024},
    "base1B": {**_GRID, "heads": 32, "layers": 24, "width": 2048},
    "upsample": {
        **_GRID,
        "name": "CLIPImageGridUpsamplePointDiffusionTransformer",
        "channel_scales": list(CHANNEL_SCALES),
        "channel_biases": list(CHANNEL_BIASES),
        "cond_ctx": 1024,
        "n_ctx": 3072,
        "schedule": "linear",
    },
}
BASES = tuple(name for name in CONFIGS if name != "upsample")
SDF: dict[str, Any] = {
    "name": "CrossAttentionPointCloudSDFModel",
    "decoder_heads": 4,
    "decoder_layers": 4,
    "encoder_heads": 4,
    "encoder_layers": 8,
    "init_scale": 0.25,
    "n_ctx": 4096,
    "width": 256,
}


@dataclass(frozen=True)
class Stage:
    """A model that adds ``points`` to those of the stages before.

    copies: where it is not 0, the points are so many copies of those before, each noised up to sigma_max and cleaned
    anew as a cloud of its own (Meng et al., "SDEdit", 2022): more points of one thing from the model that made it.
    """

    config: Mapping[str, Any]
    points: int
    sampling: Sampling
    copies: int = 0

    @property
    def embeds(self) -> transformer.Embeds:
        """What it is conditioned on."""
        return "grid" if self.config["name"] == adaptive.NAME else transformer.KINDS[self.config["name"]][0]

    @property
    def diffusion(self) -> Diffusion:
        return Diffusion.of(self.config)

    def build(self) -> PointModel:
        """Its model, with random weights. Raises Gen3DError where the configuration is none."""
        if self.config["name"] == adaptive.NAME:
            return adaptive.AdaptivePointDiffusionTransformer(self.config)
        return transformer.build(self.config)


def published(base: str) -> tuple[Stage, Stage]:
    """1024 points by a model of BASES, then 3072 between them.

    The model that was trained on words knows no picture for the second stage, which is then not guided (3 / 0).
    """
    guidance = 0.0 if base == "base40M-textvec" else UPSAMPLING.guidance_scale
    first, second = CONFIGS[base], CONFIGS["upsample"]
    return (
        Stage(first, first["n_ctx"], Sampling()),
        Stage(second, second["n_ctx"], replace(UPSAMPLING, guidance_scale=guidance)),
    )
