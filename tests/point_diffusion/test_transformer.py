# SPDX-License-Identifier: GPL-3.0-or-later
"""The point transformers: published figures, the published formula written out, and what follows from it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.errors import Gen3DError
from backend.point_diffusion import transformer

from . import by_hand, golden

CHANNELS = {"channel_scales": [2.0, 2.0, 2.0, 0.01, 0.02, 0.03], "channel_biases": [0.1, 0.0, 0.0, -1.0, -1.0, -0.5]}
COMMON = {"input_channels": 6, "output_channels": 12, "init_scale": 0.25, "time_token_cond": True}
VECTOR, GRID = "CLIPImagePointDiffusionTransformer", "CLIPImageGridPointDiffusionTransformer"
REFINING = "CLIPImageGridUpsamplePointDiffusionTransformer"
CONFIGS: list[dict[str, Any]] = [
    {"name": "PointDiffusionTransformer", "width": 24, "layers": 3, "heads": 3},
    {"name": "PointDiffusionTransformer", "width": 15, "layers": 1, "heads": 1, "time_token_cond": False},
    {"name": VECTOR, "width": 40, "layers": 1, "heads": 5, "token_cond": True},
    {"name": VECTOR, "width": 16, "layers": 2, "heads": 2, "feature_dim": 9, "output_channels": 6},
    {"name": GRID, "width": 32, "layers": 2, "heads": 8, "feature_dim": 10, "cond_tokens": 5},
    {"name": GRID, "width": 20, "layers": 2, "heads": 2, "feature_dim": 7, "cond_tokens": 1, "time_token_cond": False},
    {"name": "UpsamplePointDiffusionTransformer", "width": 24, "layers": 1, "heads": 2, **CHANNELS},
    {"name": REFINING, "width": 36, "layers": 4, "heads": 3, "feature_dim": 11, "cond_tokens": 6, **CHANNELS},
]


def made(config: dict[str, Any]) -> tuple[transformer.PointDiffusionTransformer, dict[str, Any], dict[str, Tensor]]:
    """A model in float64, its whole configuration and inputs for it."""
    config = COMMON | config
    model = transformer.build(config).double()
    golden.random_weights(model)
    model.double()
    embeds, refines = transformer.KINDS[config["name"]]
    random = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    inputs = {"x": normal(3, 6, 13), "t": torch.tensor([0, 17, 1023])}
    if embeds == "vector":
        inputs["embeddings"] = normal(3, config.get("feature_dim", 768))
    elif embeds == "grid":
        inputs["embeddings"] = normal(3, config["feature_dim"], config["cond_tokens"])
    if refines:
        inputs["low_res"] = normal(3, 6, 8) * 50
    return model, config, inputs


@pytest.mark.parametrize("name", golden.POINT_MODELS)
def test_the_published_networks(name: str) -> None:
    inputs = golden.tensors(f"{name}.forward")
    expected = inputs.pop("y")
    assert golden.relative(golden.point_model(name)(**inputs), expected) < golden.TOLERANCE


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config['name'][:14]}-{config['width']}")
def test_the_published_formula_at_any_size(config: dict[str, Any]) -> None:
    model, config, inputs = made(config)
    expected = by_hand.forward(model.state_dict(), config, **inputs)
    assert golden.relative(model(**inputs), expected) < 1e-5  # angles are float32
    halves = {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
    assert golden.relative(model.float()(**halves), expected) < golden.TOLERANCE


@pytest.mark.parametrize("config", CONFIGS[2:], ids=lambda config: f"{config['name'][:14]}-{config['width']}")
def test_no_condition_is_one_of_zeros(config: dict[str, Any]) -> None:
    model, config, inputs = made(config)
    zeros = {name: torch.zeros_like(value) for name, value in inputs.items() if name in ("embeddings", "low_res")}
    nothing = model.condition(3, low_res_points=8 if "low_res" in zeros else 0)
    expected = by_hand.forward(model.state_dict(), config, inputs["x"], inputs["t"], **zeros)
    assert golden.relative(model(inputs["x"], inputs["t"], condition=nothing), expected) < 1e-5
    assert golden.relative(model(inputs["x"], inputs["t"], **zeros), expected) < 1e-5


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config['name'][:14]}-{config['width']}")
def test_a_condition_is_worked_out_once(config: dict[str, Any]) -> None:
    model, _, inputs = made(config)
    condition = model.condition(3, inputs.get("embeddings"), inputs.get("low_res"))
    assert torch.equal(model(inputs["x"], inputs["t"], condition=condition), model(**inputs))


@pytest.mark.parametrize("width", [2, 7, 64])
def test_times_are_cosines_and_sines(width: int) -> None:
    t = torch.tensor([0, 1, 1023])
    found, half = transformer.timestep_embedding(t, width), width // 2
    for row, time in enumerate(t.tolist()):
        angles = [time / 10000 ** (i / half) for i in range(half)]
        expected = [*map(math.cos, angles), *map(math.sin, angles), *[0.0] * (width % 2)]
        torch.testing.assert_close(found[row], torch.tensor(expected), rtol=0, atol=2e-4)


def test_points_have_no_order_and_any_number() -> None:
    model, _, inputs = made(CONFIGS[-1])
    order = torch.randperm(13, generator=torch.Generator().manual_seed(3))
    turned = {**inputs, "x": inputs["x"][:, :, order]}
    assert golden.relative(model(**turned), model(**inputs)[:, :, order]) < 1e-12
    for count in (1, 40):
        assert model(**{**inputs, "x": torch.randn(3, 6, count, dtype=torch.float64)}).shape == (3, 12, count)


def test_a_share_of_conditions_is_left_out_in_training_alone() -> None:
    model, _, inputs = made({**CONFIGS[4], "cond_drop_prob": 1.0})
    without = {**inputs, "embeddings": torch.zeros_like(inputs["embeddings"])}
    with_condition = model(**inputs)
    assert not torch.allclose(with_condition, model(**without))
    model.train()
    assert torch.equal(model(**inputs), model.eval()(**without))


def test_a_new_network_predicts_nothing_and_learns() -> None:
    model = transformer.build({**COMMON, **CONFIGS[4]})
    x, t = torch.randn(2, 6, 9), torch.tensor([3, 900])
    out = model(x, t, embeddings=torch.randn(2, 10, 5))
    assert torch.equal(out, torch.zeros(2, 12, 9))
    (out - 1).square().mean().backward()
    assert model.output_proj.weight.grad is not None and float(model.output_proj.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("config", [{**CONFIGS[0], "name": "Transformer"}, {"name": GRID, "width": 8}, {}])
def test_what_is_no_configuration_is_said(config: dict[str, Any]) -> None:
    with pytest.raises(Gen3DError, match=r"has no usable '(Transformer|layers|name)'"):
        transformer.build(config)
