# SPDX-License-Identifier: GPL-3.0-or-later
"""A few steps of the trainings on clouds, interrupted and in one go, and what the export is good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from backend import weights
from backend.metrics.pointnet import PointNet
from backend.point_diffusion import adaptive, sdf
from backend.priors import train_pointnet, train_points, train_sdf
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
