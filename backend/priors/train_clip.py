# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the embedded dual encoder: pictures and words in one space, as a small CLIP (Radford et al., 2021).

Each batch holds things beside twins of the same shape in other colours, so that it is not enough to know which colours
are there: it takes which part has which. Pictures that are spoilt the way young radiance fields are belong to no
caption. Most steps see half of the patches (Li et al., "Scaling Language-Image Pre-training via Masking", 2023).

A guide is to be climbed: what changes a picture's likeness to the words should be what a person would see changing. So
a second training is on pictures that were changed against it (Santurkar et al., "Image Synthesis with a Single (Robust)
Classifier", 2019):

    python -m backend.priors.train clip --out DIR
    python -m backend.priors.train clip --start DIR/export --attack 2 --samples 300000 --rate 3e-4 --out OTHER

and on things that are wrong (``ruins``), which are changed to look right (Augustin et al., "Adversarial Robustness on
In- and Out-Distribution Improves Explainability", 2020), with ``--ruins`` in addition.

What a guide has made should be judged by another encoder, smaller and of pictures of its own:

    python -m backend.priors.train clip --scorer --samples 500000 --seed 1 --out DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from .. import weights
from . import tokenizer
from .augment import augmented, spoilt
from .cards import write_card
from .pictures import Block, block
from .tokenizer import encode
from .training import Ahead, Plan, Session, arguments, autocast, chosen, fit, generator

if TYPE_CHECKING:
    from transformers import CLIPModel

PLAN = Plan(samples=2_000_000, batch=256, rate=1e-3, seed=0)
SIZE, PATCH = 64, 8
MEAN = STD = 0.5
"""Of pictures in 0..1, before the encoder sees them."""
KEPT = 0.5
"""Share of the patches that steps see but for the last WHOLE of them."""
WHOLE = 0.1
SPOILT = 1 / 8
"""Spoilt pictures for each true one."""
TEMPTED = 2.0
"""How much farther pictures are changed that are true of no caption."""
TEMPERATURE = 0.01
"""The lowest."""
TENSORS = "model.safetensors"


@dataclass(frozen=True)
class Shape:
    """Sizes of the two towers and of the space they share."""

    vision_width: int = 160
    vision_layers: int = 6
    text_width: int = 128
    text_layers: int = 3
    embedding: int = 128


SCORER = Shape(vision_width=128, text_width=96, embedding=96)


@dataclass(frozen=True)
class Pool:
    """Where a batch is taken from: ``things`` things at a time, from ``views`` sides each, ``uses`` times each, with
    their ruins or without."""

    things: int = 1024
    views: int = 2
    uses: int = 2
    ruins: bool = False


def build(shape: Shape) -> CLIPModel:
    from transformers import CLIPConfig, CLIPModel

    words = tokenizer.load()
    text = {
        "vocab_size": len(words),
        "hidden_size": shape.text_width,
        "intermediate_size": 4 * shape.text_width,
        "num_hidden_layers": shape.text_layers,
        "num_attention_heads": shape.text_width // 32,
        "max_position_embeddings": tokenizer.TOKENS,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    vision = {
        "hidden_size": shape.vision_width,
        "intermediate_size": 4 * shape.vision_width,
        "num_hidden_layers": shape.vision_layers,
        "num_attention_heads": shape.vision_width // 32,
        "image_size": SIZE,
        "patch_size": PATCH,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=shape.embedding))


def see(model: CLIPModel, pictures: Tensor, keep: Tensor | None = None) -> Tensor:
    """Unit vectors [N, E] of sRGB pictures [N, 3, 64, 64]; ``keep`` int64 [N, K]: the patches looked at."""
    vision = model.vision_model
    tokens = vision.embeddings((pictures - MEAN) / STD)
    if keep is not None:
        patches = tokens[:, 1:].gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
        tokens = torch.cat([tokens[:, :1], patches], 1)
    states = vision.encoder(inputs_embeds=vision.pre_layrnorm(tokens)).last_hidden_state
    return normalize(model.visual_projection(vision.post_layernorm(states[:, 0])).float(), dim=-1)


def read(model: CLIPModel, tokens: Tensor) -> Tensor:
    """Unit vectors [N, E] of captions as tokens [N, T]."""
    return normalize(model.text_projection(model.text_model(input_ids=tokens).pooler_output).float(), dim=-1)


def contrast(seen: Tensor, said: Tensor, scale: Tensor, truth: Tensor) -> Tensor:
    """Symmetric cross-entropy of N captions ``said`` [N, E] and N or more pictures ``seen`` [N + M, E].

    truth bool [N, N]: which caption is known to be true of which picture; the M further pictures are true of none.
    """
    count = len(said)
    logits = scale * said @ seen.T
    target = truth.float()
    to_pictures = torch.cat([target, target.new_zeros(count, len(seen) - count)], 1)
    return (
        cross_entropy(logits, to_pictures / to_pictures.sum(1, keepdim=True))
        + cross_entropy(logits[:, :count].T, target.T / target.sum(0)[:, None])
    ) / 2


def truth_of(tokens: Tensor, things: Tensor) -> Tensor:
    """bool [N, N]: same thing, or same words."""
    return (things[:, None] == things) | (tokens[:, None] == tokens).all(-1)


class Batches:
    """Batches by the number of the step: a pool of fresh things serves for some steps, each picture ``uses`` times."""

    def __init__(self, plan: Plan, pool: Pool, device: torch.device, workers: int = 0) -> None:
        self.plan, self.pool, self.device = plan, pool, device
        self.pairs = pool.things * pool.views
        self.steps = self.pairs * pool.uses * 2 // plan.batch
        self._words = tokenizer.load()
        self.end: int = self._words.eos_token_id
        make = partial(block, plan.seed, things=pool.things, views=pool.views, size=SIZE, twins=True, ruins=pool.ruins)
        self._ahead: Ahead[Block] = Ahead(make, workers)
        self._held = -1

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """rgba [N, 4, S, S] in 0..1, tokens [N, T], the number of each picture's thing [N], and rgba of the ruins of
        every other one, or of none."""
        index, turn = divmod(step, self.steps)
        if index != self._held:
            found = self._ahead[index]
            self._held = index
            self._rgba, self._ruins = (
                torch.from_numpy(rgba).permute(0, 3, 1, 2).contiguous().to(self.device)
                for rgba in (found.rgba, found.ruins)
            )
            self._tokens = encode(self._words, found.captions).to(self.device)
            self._things = torch.from_numpy(found.thing).to(self.device)
        rng = np.random.default_rng((self.plan.seed, index))
        order = np.concatenate([rng.permutation(self.pairs) for _ in range(self.pool.uses)])
        half = self.plan.batch // 2
        pairs = torch.from_numpy(order[turn * half : (turn + 1) * half]).to(self.device)
        places = torch.stack([2 * pairs, 2 * pairs + 1], 1).flatten()
        ruins = self._ruins[pairs] if self.pool.ruins else self._ruins
        return self._rgba[places].float() / 255, self._tokens[places], self._things[places], ruins.float() / 255

    def close(self) -> None:
        self._ahead.close()


def attacked(
    pictures: Tensor, radius: Tensor, loss: Callable[[Tensor], Tensor], random: torch.Generator, steps: int = 2
) -> Tensor:
    """Pictures [N, ...], each changed by up to its ``radius`` [N] (the length of all its changes), a random share of
    it, so that ``loss`` of them rises as far as it does in a few steps of its gradient (Madry et al. 2018)."""
    count = len(pictures)
    shares = torch.rand(count, generator=random, device=pictures.device)
    bounds = (radius * shares).view(-1, *(1,) * (pictures.ndim - 1))
    change = torch.zeros_like(pictures)
    for _ in range(steps):
        seen = (pictures + change).requires_grad_()
        (slope,) = torch.autograd.grad(loss(seen), seen)
        change = change + 1.5 / steps * bounds * _unit(slope)
        change = torch.where(_length(change) > bounds, bounds * _unit(change), change)
    return (pictures + change).clamp(0, 1)


def _length(x: Tensor) -> Tensor:
    length: Tensor = x.flatten(1).norm(dim=1).view(-1, *(1,) * (x.ndim - 1))
    return length


def _unit(x: Tensor) -> Tensor:
    return x / _length(x).clamp_min(1e-12)


def step_loss(model: CLIPModel, batches: Batches, step: int, attack: float = 0.0) -> Tensor:
    """The loss of a step, on pictures that were changed against the model by up to ``attack``."""
    plan, device = batches.plan, batches.device
    rgba, tokens, things, ruins = batches[step]
    random = generator(device, plan.seed, step)
    bad = spoilt(rgba[torch.randperm(len(rgba), generator=random, device=device)[: int(SPOILT * len(rgba))]], random)
    pictures = augmented(torch.cat([rgba, bad, ruins]), random)
    keep = None
    if step < (1 - WHOLE) * plan.steps:
        patches = (SIZE // PATCH) ** 2
        chance = torch.rand(len(pictures), patches, generator=random, device=device)
        keep = chance.argsort(1)[:, : int(KEPT * patches)]
    length = int((tokens == batches.end).int().argmax(1).max()) + 1
    with autocast(device):
        said = read(model, tokens[:, :length])
    scale, truth = model.logit_scale.exp().clamp(max=1 / TEMPERATURE), truth_of(tokens, things)

    def loss(pictures: Tensor, said: Tensor, scale: Tensor) -> Tensor:
        with autocast(device):
            seen = see(model, pictures, keep)
        return contrast(seen, said, scale, truth)

    if attack:
        radius = torch.full((len(pictures),), attack, device=device)
        radius[len(rgba) :] *= TEMPTED
        pictures = attacked(pictures, radius, lambda x: loss(x, said.detach(), scale.detach()), random)
    return loss(pictures, said, scale)


def export(model: CLIPModel, mean: dict[str, Tensor], folder: Path, card: str, facts: Sequence[str] = ()) -> None:
    """The folder that ``CLIPModel``, ``CLIPTokenizer`` and ``CLIPImageProcessor`` load; weights in half precision."""
    import copy

    from transformers import CLIPImageProcessor

    half: Any = copy.deepcopy(model)
    half.load_state_dict(mean)
    half.half().cpu().save_pretrained(folder)
    tokenizer.load().save_pretrained(folder)
    side = {"height": SIZE, "width": SIZE}
    CLIPImageProcessor(
        size={"shortest_edge": SIZE}, crop_size=side, image_mean=[MEAN] * 3, image_std=[STD] * 3
    ).save_pretrained(folder)
    write_card(folder, card, facts)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="train clip", description=__doc__)
    arguments(parser, PLAN)
    parser.add_argument("--pool", type=int, default=Pool.things, help="things drawn at a time")
    parser.add_argument("--start", type=Path, help="exported folder whose weights to begin with")
    parser.add_argument("--attack", type=float, default=0.0, help="how far pictures are changed against the model")
    parser.add_argument("--ruins", action="store_true", help="show it things that are wrong, too")
    parser.add_argument("--scorer", action="store_true", help="train the one that judges what the other has guided")
    given = parser.parse_args(argv)
    shape = SCORER if given.scorer else Shape()
    train(*chosen(given, PLAN), shape, Pool(given.pool, ruins=given.ruins), given.workers, given.start, given.attack)


def train(
    plan: Plan,
    session: Session,
    shape: Shape,
    pool: Pool,
    workers: int = 0,
    start: Path | None = None,
    attack: float = 0.0,
) -> None:
    """Trains or goes on, and exports what there is to ``export`` in the session's folder."""
    from . import evaluate_clip

    torch.manual_seed(plan.seed)
    model: Any = build(shape)
    if start is not None:
        model.load_state_dict({name: value.float() for name, value in weights.read(start / TENSORS).items()})
    model.to(session.device)
    batches = Batches(plan, pool, session.device, workers)
    try:
        mean = fit(
            model,
            lambda step: step_loss(model, batches, step, attack),
            plan,
            session,
            lambda name: "encoder.layers." in name,
        )
    finally:
        batches.close()
    folder, card = session.folder / "export", "clip_scorer" if shape == SCORER else "clip"
    export(model, mean, folder, card)
    export(model, mean, folder, card, evaluate_clip.facts(folder))
