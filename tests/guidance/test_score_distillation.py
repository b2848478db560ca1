# SPDX-License-Identifier: GPL-3.0-or-later
"""Score distillation against its definition, worked out by hand on a real pipeline."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backend.guidance.score_distillation import (
    WEIGHTS,
    distillation_loss,
    guided,
    noise_of,
    noised,
    perp_neg,
    perpendicular,
    target_of,
)


def test_the_predictions_of_one_state_agree() -> None:
    torch.manual_seed(0)
    x, noise, signal2 = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5), torch.tensor([0.01, 0.4, 0.9, 0.999])
    noisy = noised(x, noise, signal2)
    assert torch.allclose(noisy.var(dim=(1, 2, 3)).mean(), torch.tensor(1.0), atol=0.2)
    a = signal2.view(-1, 1, 1, 1)
    v = a.sqrt() * noise - (1 - a).sqrt() * x
    for predicted, kind in ((noise, "epsilon"), (v, "v_prediction"), (x, "sample")):
        assert torch.allclose(noise_of(predicted, noisy, signal2, kind), noise, atol=1e-4)
        assert torch.allclose(target_of(x, noise, signal2, kind), predicted)


def test_perp_neg_leaves_what_is_wanted_alone() -> None:
    torch.manual_seed(0)
    none, wanted, other = torch.randn(3, 2, 4, 4).unbind(0)
    none, wanted, other = none[None], wanted[None], other[None]
    towards = wanted - none
    assert torch.allclose(perp_neg(none, wanted, [], [], 7.0), guided(none, wanted, 7.0))
    found = perp_neg(none, wanted, [other], [torch.tensor([1.5])], 7.0)
    change = found - guided(none, wanted, 7.0)
    assert abs(float((change * towards).sum())) < 1e-3
    assert float((change * (other - none)).sum()) < 0
    same = perp_neg(none, wanted, [none + 3 * towards], [torch.tensor([2.0])], 7.0)
    assert torch.allclose(same, guided(none, wanted, 7.0), atol=1e-4), "a prompt is never held against itself"
    assert torch.allclose(perpendicular(towards, towards), torch.zeros_like(towards), atol=1e-5)


@pytest.mark.parametrize("weighting", WEIGHTS)
def test_the_gradient_of_parameters_is_the_definition(drawing_folder: Path, weighting: str) -> None:
    """∂L/∂θ = w(t) (ε̂ − ε) ∂x/∂θ, with ε̂ of the pipeline's own U-Net and no derivative of it."""
    diffusers: Any = importlib.import_module("diffusers")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(drawing_folder, safety_checker=None)
    unet = pipeline.unet.requires_grad_(False)
    torch.manual_seed(0)
    painter = nn.Linear(6, 4 * 8 * 8)  # what would be a renderer
    places, noise, t = torch.randn(2, 6), torch.randn(2, 4, 8, 8), torch.tensor([300, 700])
    words, nothing = pipeline.encode_prompt("a red cat", "cpu", 1, True)
    signal2 = pipeline.scheduler.alphas_cumprod[t]

    def score(x: Tensor) -> Tensor:
        noisy = noised(x, noise, signal2)
        with torch.no_grad():
            each = [unet(noisy, t, embedded.expand(2, -1, -1)).sample for embedded in (nothing, words)]
        without, said = (noise_of(one, noisy, signal2, "epsilon") for one in each)
        return guided(without, said, 100.0)

    x = painter(places).view(2, 4, 8, 8)
    loss = distillation_loss(x, score(x), noise, WEIGHTS[weighting](signal2))
    loss.backward()  # type: ignore[no-untyped-call]

    x = painter(places).view(2, 4, 8, 8).detach()
    weight = {"sigma2": 1 - signal2, "uniform": torch.ones(2), "signal-noise": signal2.sqrt() * (1 - signal2)}
    wanted = weight[weighting].view(2, 1, 1, 1) * (score(x) - noise) / 2
    by_hand = torch.einsum("bp,bi->pi", wanted.flatten(1), places)
    assert painter.weight.grad is not None
    assert torch.allclose(painter.weight.grad, by_hand, rtol=1e-4, atol=1e-5)
    assert float(loss.detach()) == pytest.approx(0.5 * float((wanted**2).sum()), rel=1e-4)


def test_what_is_no_number_changes_nothing() -> None:
    x = torch.zeros(1, 2, requires_grad=True)
    score = torch.tensor([[float("nan"), 3.0]])
    distillation_loss(x, score, torch.zeros(1, 2), torch.ones(1)).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.tolist() == [[0.0, 3.0]]
    lost = torch.tensor([[float("nan"), float("inf")], [1.0, 2.0]])
    with pytest.raises(FloatingPointError, match="no number"):
        distillation_loss(torch.zeros(2, 2), lost, torch.zeros(2, 2), torch.ones(2))


def test_what_a_model_says_is_clipped_after_it_is_weighted() -> None:
    x = torch.zeros(1, 3, requires_grad=True)
    score = torch.tensor([[-9.0, 0.5, 9.0]])
    distillation_loss(x, score, torch.zeros(1, 3), torch.full((1,), 0.5), most=2.0).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.tolist() == [[-2.0, 0.25, 2.0]]
