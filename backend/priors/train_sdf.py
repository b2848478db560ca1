# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the embedded SDF regression: a cloud of points -> signed distances, with Point-E's model at a small size.

The distances are those of the procedural world, whose solids say exactly what is inside. The clouds scatter as
generated ones do.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.spatial import cKDTree
from torch import Tensor

from ..point_diffusion.sdf import build
from . import world
from .training import Ahead, Plan, Session, arguments, autocast, chosen, fit

CONFIG: dict[str, Any] = {
    "name": "CrossAttentionPointCloudSDFModel",
    "n_ctx": 1024,
    "width": 128,
    "encoder_layers": 4,
    "encoder_heads": 2,
    "decoder_layers": 3,
    "decoder_heads": 2,
    "init_scale": 0.25,
}
PLAN = Plan(samples=100_000, batch=8, rate=1e-3, seed=0, ema=0.999)
QUERIES = 1024
NEAR = (0.01, 0.04)  # how far from the surface most queries are
SCATTER = 0.012  # the most that points scatter by
LIMIT = 0.1  # distances beyond it are all the same
MISSED = 2.0  # weight where the model sees nothing and there is something: thin parts go first
SURFACE = 6000

Batch = tuple[Tensor, Tensor, Tensor]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="train sdf", description=__doc__)
    arguments(parser, PLAN)
    given = parser.parse_args(argv)
    train(*chosen(given, PLAN), given.workers)


def train(plan: Plan, session: Session, workers: int = 0) -> None:
    """Trains, and exports the averaged weights to ``export`` in the session's folder."""
    torch.manual_seed(plan.seed)
    model = build(CONFIG)
    batches = Ahead(partial(draw, plan), workers)

    def loss(step: int) -> Tensor:
        clouds, queries, truth = (part.to(session.device) for part in batches[step])
        with autocast(session.device):
            found = model(clouds, queries)
        off = found.float() - truth
        error: Tensor = off.abs() * torch.where((off > 0) & (truth < 0), MISSED, 1.0)
        return error.mean() / LIMIT

    try:
        export(fit(model, loss, plan, session, lambda name: "resblocks." in name), session.folder / "export")
    finally:
        batches.close()


def draw(plan: Plan, step: int) -> Batch:
    """Clouds [B, 3, K], queries [B, 3, M] and their signed distances [B, M], negative inside, within LIMIT."""
    rng = np.random.default_rng((plan.seed, step))
    made = [example(rng) for _ in range(plan.batch)]
    clouds, queries, truth = (torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True))
    return clouds, queries, truth


def example(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    thing = world.sample(rng)
    surface, _, _ = world.surface_of(thing, SURFACE, rng)
    cloud = surface[: CONFIG["n_ctx"]]
    cloud = cloud + rng.normal(0, SCATTER * rng.random(), cloud.shape).astype(np.float32)
    spread = rng.choice(NEAR, (3 * QUERIES // 4, 1))
    near = surface[-len(spread) :] + rng.normal(0, 1, (len(spread), 3)) * spread
    anywhere = rng.uniform(-0.51, 0.51, (QUERIES - len(spread), 3))
    queries = np.concatenate([near, anywhere]).astype(np.float32)
    return cloud.T.copy(), queries.T.copy(), signed_distance(thing, surface, queries)


def signed_distance(
    thing: world.Thing, surface: NDArray[np.float32], queries: NDArray[np.float32]
) -> NDArray[np.float32]:
    """float32 [M] for queries [M, 3]: to the nearest of the points on the surface, negative inside, within LIMIT."""
    distance = np.minimum(cKDTree(surface).query(queries, distance_upper_bound=LIMIT)[0], LIMIT)
    return np.where(world.inside(thing, queries), -distance, distance).astype(np.float32)


def export(mean: dict[str, Tensor], folder: Path) -> None:
    """The averaged weights in half precision, in the published format."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous().cpu() for name, value in mean.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n", encoding="utf-8")
