# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the embedded point prior: captions -> coloured clouds, as Point-E does, with a transformer that learns fast.

Its loss after 300 steps is that of the published transformer, at the same size and with AdamW, after 570. The text
encoder, a small CLIP text model, is trained with it: each word's last hidden state is a token of the grid that the
published models take from CLIP's picture patches.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..point_diffusion import adaptive
from ..point_diffusion.diffusion import Diffusion
from . import tokenizer, world
from .training import Ahead, Plan, Session, arguments, autocast, chosen, fit, generator

SAMPLING = {"karras_steps": 32, "sigma_min": 1e-3, "sigma_max": 120.0, "s_churn": 3.0, "guidance_scale": 3.0}
MORE_POINTS = {
    "copies": 7,
    "karras_steps": 6,
    "sigma_min": 1e-3,
    "sigma_max": 0.4,
    "s_churn": 0.0,
    "guidance_scale": 1.0,
}
CONFIG: dict[str, Any] = {
    "name": adaptive.NAME,
    "width": 192,
    "layers": 6,
    "heads": 3,
    "n_ctx": 1024,
    "input_channels": 6,
    "output_channels": 6,
    "init_scale": 0.5,
    "cond_drop_prob": 0.1,
    "feature_dim": 192,
    "cond_tokens": tokenizer.TOKENS,
    "prediction": "v",
    "schedule": "cosine",
    "sampling": SAMPLING,
    "more_points": MORE_POINTS,
}
TEXT_LAYERS = 3
OFTEN = 1 / 3
NAMED = 2
"""Parts that captions name, in the things of which they are to name more."""
HEARD, LOUDEST = 0.25, 8.0
"""A part that a caption names counts, in the loss of colours, as if it had this share of the points, up to so many
times what it has: of 128 points an eye has three, and what is said of it would hardly be learned."""
PLAN = Plan(samples=1_000_000, batch=64, rate=1e-3, seed=0, ema=0.9995)
# Clouds grow while the training goes on: few points teach the shapes cheaply, many the way they are sampled.
POINTS = ((0.0, 128), (0.7, 256), (0.88, 512), (0.96, 1024))

Batch = tuple[Tensor, Tensor, Tensor]


class PointPrior(nn.Module):
    """Text encoder and point transformer."""

    def __init__(self, config: dict[str, Any] = CONFIG) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        words = tokenizer.load()
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=config["feature_dim"],
                intermediate_size=4 * config["feature_dim"],
                projection_dim=config["feature_dim"],
                num_hidden_layers=TEXT_LAYERS,
                num_attention_heads=config["feature_dim"] // 32,
                max_position_embeddings=config["cond_tokens"],
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        )
        self.points = adaptive.AdaptivePointDiffusionTransformer(config)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        grid = self.text(input_ids=tokens).last_hidden_state.transpose(1, 2)
        out: Tensor = self.points(x, t, embeddings=grid)
        return out


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="train points", description=__doc__)
    arguments(parser, PLAN)
    parser.add_argument("--start", type=Path, help="exported folder whose weights to begin with")
    parser.add_argument(
        "--often",
        nargs="*",
        default=[],
        choices=list(world.CATEGORIES),
        metavar="CATEGORY",
        help="kinds that a third of the things are to be of",
    )
    parser.add_argument("--named", type=float, default=0.0, help="share of the things that have two parts named")
    given = parser.parse_args(argv)
    train(*chosen(given, PLAN), given.workers, given.start, given.often, given.named)


def train(
    plan: Plan,
    session: Session,
    workers: int = 0,
    start: Path | None = None,
    often: Sequence[str] = (),
    named: float = 0.0,
) -> None:
    """Trains, and exports the averaged weights to ``export`` in the session's folder.

    start: exported weights to begin with; often, named: as ``draw`` has them.
    """
    torch.manual_seed(plan.seed)
    model = PointPrior()
    if start is not None:
        load(model, start)
    diffusion = Diffusion.of(CONFIG)
    batches = Ahead(partial(draw, plan, often=tuple(often), named=named), workers)

    def loss(step: int) -> Tensor:
        clouds, loud, tokens = (part.to(session.device) for part in batches[step])
        random = generator(torch.device("cpu"), plan.seed, step)
        return diffusion_loss(model, diffusion, clouds, loud, tokens, random)

    try:
        export(model, fit(model, loss, plan, session, hidden), session.folder / "export")
    finally:
        batches.close()


def hidden(name: str) -> bool:
    """The matrices of attention and perceptrons, of both transformers."""
    return ("blocks." in name or "encoder.layers." in name) and "modulation" not in name


def draw(plan: Plan, step: int, often: Sequence[str] = (), named: float = 0.0) -> Batch:
    """The things of a step: float32 [B, 6, K], coordinates in the unit cube and colours in 0..255; how much each
    point's colour counts, float32 [B, K]; tokens [B, T].

    The more points, the fewer clouds: a step always costs about the same. often: categories that OFTEN of the things
    are of, where there are any; named: share of the things of which NAMED parts are named.
    """
    count = max(number for begin, number in POINTS if step >= begin * plan.steps)
    rng = np.random.default_rng((plan.seed, step))
    clouds, loud, captions = [], [], []
    for _ in range(max(plan.batch * POINTS[0][1] // count, 1)):
        kind = str(rng.choice(often)) if often and rng.random() < OFTEN else ""
        thing = world.sample(rng, kind, NAMED if rng.random() < named else None)
        cloud, part = world.labelled_points_of(thing, count, rng)
        clouds.append(cloud.T)
        loud.append(loudness(thing, count, np.bincount(part, minlength=len(thing.parts)))[part])
        captions.append(world.caption(thing, rng))
    stacked = torch.from_numpy(np.stack(clouds))
    stacked[:, 3:] *= 255
    return stacked, torch.from_numpy(np.stack(loud)), tokenizer.encode(tokenizer.load(), captions)


def loudness(thing: world.Thing, count: int, points: NDArray[np.int64]) -> NDArray[np.float32]:
    """How much the colour of a point of each part counts, float32 [parts], where the parts have so many ``points`` of
    ``count``: 1, and more for the small ones that a caption names."""
    asked = np.array([part.asked for part in thing.parts])
    wanted = np.clip(HEARD * count / np.maximum(points, 1), 1.0, LOUDEST)
    return np.where(asked, wanted, 1.0).astype(np.float32)


def diffusion_loss(
    model: PointPrior, diffusion: Diffusion, clouds: Tensor, loud: Tensor, tokens: Tensor, random: torch.Generator
) -> Tensor:
    """Mean squared error of v, colours times ``loud`` [B, K], at times spread evenly over the batch."""
    x0 = diffusion.scale(clouds)
    times = (torch.rand(len(x0), generator=random) + torch.arange(len(x0))) / len(x0) * diffusion.steps
    t = times.long().clamp(max=diffusion.steps - 1).to(x0.device)
    noise = torch.randn(x0.shape, generator=random).to(x0.device)
    with autocast(x0.device):
        predicted = model(diffusion.noised(x0, t, noise), t, tokens)
    error = (predicted.float() - diffusion.target(x0, t, noise)).square()
    mean: Tensor = (error[:, :3].mean() + (error[:, 3:] * loud[:, None]).mean()) / 2
    return mean


def export(model: PointPrior, mean: dict[str, Tensor], folder: Path) -> None:
    """The averaged weights in half precision, in the published formats."""
    state = {name: value.half().contiguous().cpu() for name, value in mean.items() if value.is_floating_point()}
    (folder / "text_encoder").mkdir(parents=True, exist_ok=True)
    for part, place in (("points", folder), ("text", folder / "text_encoder")):
        own = {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
        save_file(own, place / "model.safetensors", {"format": "pt"})
    model.text.config.save_pretrained(folder / "text_encoder")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n", encoding="utf-8")


def load(model: PointPrior, folder: Path) -> None:
    """Takes over exported weights."""
    model.points.load_state_dict(load_file(folder / "model.safetensors"))
    model.text.load_state_dict(load_file(folder / "text_encoder" / "model.safetensors"))
