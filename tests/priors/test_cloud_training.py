# SPDX-License-Identifier: GPL-3.0-or-later
"""A few steps of the trainings on clouds, interrupted and in one go, and what the export is good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend import weights
from backend.metrics.pointnet import PointNet
from backend.point_diffusion import adaptive, sdf
from backend.point_diffusion.diffusion import Diffusion
from backend.priors import train_pointnet, train_points, train_sdf, world
from backend.priors.training import CHECKPOINT, Plan, Session

PLAN = Plan(samples=6, batch=2, rate=1e-3, seed=3, warm_up=1)


def build(kind: str, config: dict[str, Any]) -> torch.nn.Module:
    match kind:
        case "points":
            return adaptive.AdaptivePointDiffusionTransformer(config)
        case "sdf":
            return sdf.build(config)
        case _:
            return PointNet(config["classes"], config["width"])


@pytest.mark.parametrize(
    ("kind", "module"), [("points", train_points), ("sdf", train_sdf), ("pointnet", train_pointnet)]
)
def test_one_that_was_interrupted_goes_on_to_the_bit(
    kind: str, module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(train_pointnet, "accuracy", lambda model, count: 0.0)  # takes longer than all else
    module.train(PLAN, Session(tmp_path / "whole"))

    def interrupted(plan: Plan, step: int, **more: Any) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return draw(plan, step, **more)

    draw = module.draw
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "draw", interrupted)
        module.train(PLAN, Session(tmp_path / "parts", save_minutes=0))
    assert torch.load(tmp_path / "parts" / CHECKPOINT, weights_only=True)["step"] == 2 < PLAN.steps
    module.train(PLAN, Session(tmp_path / "parts"))

    whole, parts = (tmp_path / name / "export" for name in ("whole", "parts"))
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in parts.iterdir())
    one, other = (weights.read(folder / "model.safetensors") for folder in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()
    made = build(kind, json.loads((whole / "config.json").read_text("utf-8")))
    weights.load(made, whole / "model.safetensors")


def test_small_parts_that_a_caption_names_count_more_and_never_less_than_all_else() -> None:
    thing = world.sample(np.random.default_rng(0), "robot", 1)
    asked = [part.asked for part in thing.parts].index(True)
    points = np.full(len(thing.parts), 20)
    for own, counts in ((0, 8), (2, 8), (8, 4), (16, 2), (32, 1), (100, 1)):
        points[asked] = own
        found = train_points.loudness(thing, 128, points)
        assert found[asked] == counts
        assert (np.delete(found, asked) == 1).all()


def test_more_parts_are_named_where_that_is_asked() -> None:
    def loud(named: float) -> float:
        clouds, counts, tokens = train_points.draw(Plan(samples=64, batch=64, rate=1, seed=0), 0, named=named)
        assert clouds.shape == (64, 6, 128) and counts.shape == (64, 128) and len(tokens) == 64
        return float((counts > 1).any(1).float().mean())

    assert loud(0.0) < 0.75 < 0.9 < loud(1.0)


def test_only_colours_count_more() -> None:
    model = train_points.PointPrior()
    diffusion = Diffusion.of(train_points.CONFIG)
    clouds, _, tokens = train_points.draw(Plan(samples=4, batch=4, rate=1, seed=0), 0)

    def loss(loud: float) -> float:
        with torch.no_grad():
            random = torch.Generator().manual_seed(0)
            return float(
                train_points.diffusion_loss(model, diffusion, clouds, torch.full((4, 128), loud), tokens, random)
            )

    places, colours = loss(0.0), loss(1.0) - loss(0.0)
    assert places > 0 and colours > 0
    assert loss(3.0) == pytest.approx(places + 3 * colours, rel=1e-4)
