# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges clouds by what the procedural world knows: which category, which colour, which colour on which part.

    python -m backend.priors.judge points [--prior FOLDER] [--prompts 240]
    python -m backend.priors.judge train --out FOLDER
    python -m backend.priors.judge points --judge FOLDER/export

A small transformer sees shapes only (x, y, z) and tells the category and each point's part. Colours are then measured:
the median colour of the points of a part, named by the nearest colour of the world.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from ..point_diffusion import karras
from ..point_diffusion.diffusion import Diffusion
from ..point_diffusion.transformer import Transformer
from . import embedded, tokenizer, world
from .cards import write_card
from .train_points import CONFIG, SAMPLING, PointPrior
from .train_points import load as load_prior
from .training import Ahead, Plan, Session, arguments, autocast, fit
from .world import colours
from .world.things import Thing

CATEGORIES = tuple(world.CATEGORIES)
PARTS = tuple(sorted({part for kind in world.CATEGORIES.values() for part in (*kind.own, *kind.usual)}))
POINTS, WIDTH, LAYERS, HEADS = 384, 128, 4, 2
SEEN = 1024  # points of a cloud that are judged
SHOWN = 400  # things by which the judge itself is judged
PLAN = Plan(samples=48_000, batch=32, rate=1e-3, seed=0)
HALF = torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else None
NOISE = 0.01  # what generated points scatter by


class Judge(nn.Module):
    """Points [B, K, 3] -> logits of the category [B, categories] and of each point's part [B, K, parts]."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(3 + 36, WIDTH)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.backbone = Transformer(WIDTH, LAYERS, HEADS, 0.5 / math.sqrt(WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.category = nn.Linear(WIDTH, len(CATEGORIES))
        self.part = nn.Linear(WIDTH, len(PARTS))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        angles = points[..., None] * (2.0 ** torch.arange(6, device=points.device)) * math.pi
        features = torch.cat([points, torch.sin(angles).flatten(2), torch.cos(angles).flatten(2)], -1)
        h = self.inputs(features)
        h = self.norm(self.backbone(torch.cat([self.token.expand(len(h), -1, -1), h], 1)))
        return self.category(h[:, 0]), self.part(h[:, 1:])


@dataclass(frozen=True)
class Verdict:
    """own: the base colour of the thing's own parts; parts: that of each part that was seen."""

    category: str
    own: str
    parts: dict[str, str]


@torch.inference_mode()
def judge(model: Judge, cloud: NDArray[np.float32], category: str = "") -> Verdict:
    """Looks at a cloud [N, 6] (sRGB in 0..1); its parts are those of ``category``, or of what it looks like."""
    seen = cloud[:: max(1, len(cloud) // SEEN)][:SEEN]
    kinds, labels = model(torch.from_numpy(seen[None, :, :3].copy()))
    looks = CATEGORIES[int(kinds.argmax())]
    kind = world.CATEGORIES[category or looks]
    allowed = [PARTS.index(part) for part in (*kind.own, *kind.usual)]
    found = np.array(allowed)[labels[0][:, allowed].argmax(-1).numpy()]
    names = np.array(PARTS)[found]
    parts = {str(part): base_of(np.median(seen[names == part, 3:], 0)) for part in np.unique(names)}
    own = np.isin(names, kind.own)
    return Verdict(looks, base_of(np.median(seen[own, 3:], 0)) if own.any() else "", parts)


@lru_cache(maxsize=1)
def _palette() -> tuple[NDArray[np.float64], tuple[str, ...]]:
    shades = [(rgb, name) for name, rgb in colours.BASE.items()]
    shades += [(tuple(colours.shaded(np.array(colours.BASE[b]), s)), b) for b, s in colours.SYNONYMS.values()]
    shades += [
        (tuple(colours.shaded(np.array(rgb), s)), name)
        for name, rgb in colours.BASE.items()
        if name not in ("black", "white")
        for s in colours.SHADES.values()
    ]
    shades += [(rgb, base) for rgb, base in colours.MATERIALS.values()]
    return np.array([rgb for rgb, _ in shades]), tuple(name for _, name in shades)


def base_of(rgb: NDArray[Any]) -> str:
    """The base colour a colour (sRGB in 0..1) counts as: that of the nearest shade the world has."""
    shades, names = _palette()
    return names[int(((shades - rgb) ** 2).sum(1).argmin())]


def agreement(verdict: Verdict, thing: Thing) -> dict[str, list[bool]]:
    """What a verdict gets right of a thing: category, colour, and each part whose colour was asked for."""
    return {
        "category": [verdict.category == thing.category],
        "colour": [verdict.own == thing.colour.base],
        "binding": [verdict.parts.get(part.name) == part.colour.base for part in thing.parts if part.asked],
    }


# -------------------------------------------------------------------------------------------------------- training


def train(plan: Plan, session: Session, workers: int = 0) -> None:
    """Trains, and exports the averaged weights to ``export`` in the session's folder."""
    torch.manual_seed(plan.seed)
    model = Judge()
    batches = Ahead(partial(draw, plan), workers)

    def loss(step: int) -> Tensor:
        clouds, kinds, labels = (part.to(session.device) for part in batches[step])
        with autocast(session.device):
            category, part = model(clouds)
        error = functional.cross_entropy(part.float().flatten(0, 1), labels.flatten())
        return error + functional.cross_entropy(category.float(), kinds)

    try:
        mean = fit(model, loss, plan, session, lambda name: "resblocks." in name)
    finally:
        batches.close()
    export(mean, session.folder / "export")


def export(mean: dict[str, Tensor], folder: Path) -> None:
    """The averaged weights in half precision, and a card with what the judge makes of things it has not seen."""
    folder.mkdir(exist_ok=True)
    half = {name: value.half().contiguous().cpu() for name, value in mean.items()}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    right = ", ".join(f"{name} {share:.1%}" for name, share in on_real_things(load(folder), SHOWN).items())
    write_card(folder, "point_judge", [f"Found rightly of {SHOWN} things it had not seen: {right}."])


def draw(plan: Plan, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points [B, K, 3], scattered; categories [B]; parts [B, K]."""
    rng = np.random.default_rng((plan.seed, step))
    clouds, kinds, labels = [], [], []
    for _ in range(plan.batch):
        thing = world.sample(rng)
        points, _, part = world.surface_of(thing, POINTS, rng, world.DETAIL)
        clouds.append(points + rng.normal(0, rng.random() * 1.5 * NOISE, points.shape).astype(np.float32))
        kinds.append(CATEGORIES.index(thing.category))
        labels.append(np.array([PARTS.index(p.name) for p in thing.parts])[part])
    return torch.from_numpy(np.stack(clouds)), torch.tensor(kinds), torch.from_numpy(np.stack(labels))


def on_real_things(model: Judge, count: int, seed: int = 10**6) -> dict[str, float]:
    """Its own accuracy, on things that it has not seen and that have the colours their captions say."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[bool]] = {"category": [], "colour": [], "binding": []}
    for _ in range(count):
        thing = world.sample(rng)
        cloud = world.points_of(thing, 1024, rng)
        cloud[:, :3] += rng.normal(0, 0.7 * NOISE, (1024, 3)).astype(np.float32)
        for name, right in agreement(judge(model, cloud, thing.category), thing).items():
            found[name] += right
    return {name: float(np.mean(right)) for name, right in found.items()}


# ------------------------------------------------------------------------------------------------ generated clouds


def generate(
    prior: PointPrior, captions: list[str], sampling: karras.Sampling, seed: int, points: int = 1024
) -> NDArray[np.float32]:
    """Clouds [B, points, 6] of captions, sRGB in 0..1."""
    diffusion = Diffusion.of(CONFIG)
    noise = karras.drawn([torch.Generator().manual_seed(seed + i) for i in range(len(captions))])
    with torch.inference_mode():
        tokens = tokenizer.encode(tokenizer.load(), captions)
        grid = prior.text(input_ids=tokens).last_hidden_state.transpose(1, 2)
        begin = karras.start(sampling, noise, (len(captions), 6, points))
        *_, last = karras.sample(prior.points, diffusion, sampling, begin, noise, grid, half=HALF)
        clouds = diffusion.unscale(last.clean).transpose(1, 2).numpy()
    clouds[..., 3:] = np.clip(clouds[..., 3:] / 255, 0, 1)
    return np.ascontiguousarray(clouds, np.float32)


def held_out(count: int, seed: int = 2 * 10**6) -> list[tuple[str, Thing]]:
    """Prompts and the things they were said of: every category in turn, half of them with a coloured part."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        thing = world.sample(rng, CATEGORIES[i % len(CATEGORIES)], named_parts=(i // len(CATEGORIES)) % 2)
        text = world.caption(thing, rng)
        while thing.colour.words.split()[-1] not in text:
            text = world.caption(thing, rng)
        found.append((text, thing))
    return found


def on_prompts(model: Judge, prior: PointPrior, count: int, sampling: karras.Sampling) -> dict[str, Any]:
    """How often generated clouds are what their prompts say."""
    prompts, batch = held_out(count), 8
    right: dict[str, list[bool]] = {"category": [], "colour": [], "binding": []}
    wrong: list[str] = []
    began = time.perf_counter()
    for begin in range(0, count, batch):
        some = prompts[begin : begin + batch]
        clouds = generate(prior, [text for text, _ in some], sampling, 10**6 + begin)
        for (text, thing), cloud in zip(some, clouds, strict=True):
            verdict = judge(model, cloud, thing.category)
            for name, found in agreement(verdict, thing).items():
                right[name] += found
                wrong += [f"{name}: {text} -> {verdict}"] * (not all(found))
    figures = {name: round(float(np.mean(found)), 4) for name, found in right.items()}
    return {
        "prompts": count,
        "parts asked for": len(right["binding"]),
        **figures,
        "seconds a cloud": round((time.perf_counter() - began) / count, 2),
        "wrong": wrong,
    }


def load(folder: Path) -> Judge:
    model = Judge()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="judge", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    arguments(training, PLAN)
    judging = commands.add_parser("points")
    judging.add_argument("--judge", type=Path, default=embedded.POINT_JUDGE)
    judging.add_argument("--prior", type=Path, default=embedded.POINT)
    judging.add_argument("--prompts", type=int, default=240)
    judging.add_argument("--steps", type=int, default=0)
    judging.add_argument("--guidance", type=float, default=-1.0)
    judging.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    if given.command == "train":
        plan = Plan(given.samples, given.batch, given.rate, given.seed)
        train(plan, Session(given.out, given.minutes), given.workers)
        return
    prior = PointPrior()
    load_prior(prior, given.prior)
    asked = {"karras_steps": given.steps or None, "guidance_scale": given.guidance if given.guidance >= 0 else None}
    sampling = karras.Sampling.of(SAMPLING | {name: value for name, value in asked.items() if value is not None})
    model = load(given.judge)
    print(json.dumps(on_prompts(model, prior.eval(), given.prompts, sampling), indent=1))
    print(json.dumps({"the judge itself, on real things": on_real_things(model, SHOWN)}))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
