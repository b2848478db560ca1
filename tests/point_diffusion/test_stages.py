# SPDX-License-Identifier: GPL-3.0-or-later
"""The published models: as large as their files, and sampled as published."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from backend.errors import Gen3DError
from backend.point_diffusion import adaptive, sdf
from backend.point_diffusion.karras import Sampling
from backend.point_diffusion.stages import BASES, CONFIGS, SDF, Stage, published
from backend.weights import PUBLISHED


@pytest.mark.parametrize("name", [*CONFIGS, "sdf"])
def test_a_model_is_as_large_as_its_file(name: str) -> None:
    with torch.device("meta"):
        model: Any = sdf.build(SDF) if name == "sdf" else Stage(CONFIGS[name], 1, Sampling()).build()
    size = 4 * sum(value.numel() for value in model.state_dict().values())
    assert size == pytest.approx(PUBLISHED[name].size, rel=0.01)


@pytest.mark.parametrize("name", BASES)
def test_stages_are_sampled_as_published(name: str) -> None:
    first, second = published(name)
    assert (first.points, second.points) == (1024, 3072)
    for stage, sigma, churn, linear in ((first, 120.0, 3.0, False), (second, 160.0, 0.0, True)):
        assert (stage.sampling.karras_steps, stage.sampling.sigma_min, stage.sampling.sigma_max) == (64, 1e-3, sigma)
        assert stage.sampling.s_churn == churn
        assert (stage.diffusion.alphas_cumprod[-1] > 1e-6) == linear
    of_words = name == "base40M-textvec"
    assert (first.sampling.guidance_scale, second.sampling.guidance_scale) == (3.0, 0.0 if of_words else 3.0)
    assert first.embeds == ("vector" if name.endswith("vec") else "grid") and second.embeds == "grid"


def test_a_stage_can_be_of_another_network() -> None:
    config = {
        "name": adaptive.NAME, "width": 16, "layers": 1, "heads": 2, "input_channels": 6, "output_channels": 6,
        "init_scale": 0.5, "cond_drop_prob": 0.1, "feature_dim": 8, "cond_tokens": 3,
    }  # fmt: skip
    stage = Stage(config, 10, Sampling())
    assert stage.embeds == "grid" and isinstance(stage.build(), adaptive.AdaptivePointDiffusionTransformer)
    with pytest.raises(Gen3DError):
        Stage({"name": "PointDiffusionTransformer"}, 10, Sampling()).build()
