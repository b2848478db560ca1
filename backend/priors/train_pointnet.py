# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the embedded PointNet++, whose features and classes P-FID and P-IS are made of where the published one is not
installed: it tells the categories of the procedural world apart.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..metrics.point_cloud import normalised
from ..metrics.pointnet import PointNet
from . import world
from .training import Ahead, Plan, Session, arguments, chosen, fit

CATEGORIES = tuple(world.CATEGORIES)
CONFIG: dict[str, Any] = {"name": "PointNet", "classes": len(CATEGORIES), "width": 0.25, "categories": CATEGORIES}
PLAN = Plan(samples=40_000, batch=32, rate=2e-3, seed=0, ema=0.99)
POINTS = 1024
SCATTER = 0.01  # the most that points scatter by


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="train pointnet", description=__doc__)
    arguments(parser, PLAN)
    given = parser.parse_args(argv)
    train(*chosen(given, PLAN), given.workers)


def train(plan: Plan, session: Session, workers: int = 0) -> None:
    """Trains, and exports the averaged weights to ``export`` in the session's folder."""
    torch.manual_seed(plan.seed)
    model = PointNet(CONFIG["classes"], CONFIG["width"])
    batches = Ahead(partial(draw, plan), workers)

    def loss(step: int) -> Tensor:
        clouds, kinds = (part.to(session.device) for part in batches[step])
        torch.manual_seed(plan.seed + step)  # of its dropout and of the points it begins with
        logits, _ = model(clouds)
        return cross_entropy(logits, kinds, label_smoothing=0.1)

    try:
        mean = fit(model, loss, plan, session)
    finally:
        batches.close()
    model.load_state_dict(mean)
    print(json.dumps({"held-out accuracy": accuracy(model, 600)}))
    export(mean, session.folder / "export")


def draw(plan: Plan, step: int) -> tuple[Tensor, Tensor]:
    """Clouds [B, K, 3], centred and in the unit sphere, and their categories [B]."""
    return things(np.random.default_rng((plan.seed, step)), plan.batch)


def things(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    clouds, kinds = [], []
    for _ in range(count):
        thing = world.sample(rng)
        points = world.points_of(thing, POINTS, rng)[:, :3]
        clouds.append(points + rng.normal(0, SCATTER * rng.random(), points.shape).astype(np.float32))
        kinds.append(CATEGORIES.index(thing.category))
    return torch.from_numpy(normalised(np.stack(clouds)).astype(np.float32)), torch.tensor(kinds)


@torch.inference_mode()
def accuracy(model: PointNet, count: int, seed: int = 10**6) -> float:
    """On things it has not seen."""
    model.eval()
    clouds, kinds = things(np.random.default_rng(seed), count)
    found = torch.cat([model(clouds[i : i + 50])[0].argmax(1) for i in range(0, count, 50)])
    return float((found == kinds).float().mean())


def export(mean: dict[str, Tensor], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {n: v.half() if v.is_floating_point() else v for n, v in mean.items()}
    save_file({name: value.contiguous().cpu() for name, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n", encoding="utf-8")
