# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import torch

from backend.point_diffusion.adaptive import AdaptivePointDiffusionTransformer, with_waves

CONFIG = {
    "width": 32,
    "layers": 2,
    "heads": 2,
    "feature_dim": 12,
    "cond_tokens": 5,
    "input_channels": 6,
    "output_channels": 6,
    "init_scale": 0.5,
    "cond_drop_prob": 0.5,
}


@pytest.fixture
def model() -> AdaptivePointDiffusionTransformer:
    """With no layer at zero, as after training."""
    torch.manual_seed(0)
    made = AdaptivePointDiffusionTransformer(CONFIG).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.requires_grad_(False)


def inputs(count: int = 20) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(3, 6, count), torch.tensor([0, 400, 1023]), torch.randn(3, 12, 5)


def test_a_new_model_predicts_nothing() -> None:
    x, t, grid = inputs()
    assert (AdaptivePointDiffusionTransformer(CONFIG)(x, t, grid) == 0).all()


def test_the_order_of_points_does_not_matter(model: AdaptivePointDiffusionTransformer) -> None:
    x, t, grid = inputs()
    order = torch.randperm(20)
    assert torch.allclose(model(x, t, grid)[..., order], model(x[..., order], t, grid), atol=1e-5)


def test_any_number_of_points_is_taken(model: AdaptivePointDiffusionTransformer) -> None:
    for count in (1, 7, 300):
        x, t, grid = inputs(count)
        assert model(x, t, grid).shape == (3, 6, count)


def test_time_and_every_token_of_the_condition_are_seen(model: AdaptivePointDiffusionTransformer) -> None:
    x, t, grid = inputs()
    out = model(x, t, grid)
    assert not torch.allclose(out, model(x, t.flip(0), grid), atol=1e-2)
    for token in range(5):
        other = grid.clone()
        other[..., token] = torch.randn(3, 12)
        assert not torch.allclose(out, model(x, t, other), atol=1e-3)


def test_a_condition_can_be_made_beforehand(model: AdaptivePointDiffusionTransformer) -> None:
    x, t, grid = inputs()
    assert torch.equal(model(x, t, grid), model(x, t, condition=model.condition(3, grid)))
    nothing = model(x, t, torch.zeros(3, 12, 5))
    assert torch.allclose(model(x, t), nothing, atol=1e-5)
    assert torch.allclose(model(x, t, condition=model.condition(3)), nothing, atol=1e-5)


def test_conditions_are_dropped_in_training_only(model: AdaptivePointDiffusionTransformer) -> None:
    x, t, grid = inputs()
    with_it, without = model(x, t, grid), model(x, t)
    model.train()
    kept = 0
    for _ in range(40):
        out = model(x, t, grid)
        for row in range(3):
            is_kept = torch.allclose(out[row], with_it[row], atol=1e-5)
            assert is_kept or torch.allclose(out[row], without[row], atol=1e-5)
            kept += is_kept
    assert 35 < kept < 85


def test_waves_are_those_of_the_coordinates() -> None:
    x = torch.zeros(1, 1, 6)
    x[..., 0] = 0.5
    found = with_waves(x)[0, 0]
    angles = 0.5 * torch.pi / 2 * 2.0 ** torch.arange(5)
    assert torch.equal(found[:6], x[0, 0])
    assert torch.allclose(found[6:11], torch.sin(angles), atol=1e-6)
    assert torch.allclose(found[21:26], torch.cos(angles), atol=1e-6)
    assert torch.allclose(found[11:21], torch.zeros(10))
