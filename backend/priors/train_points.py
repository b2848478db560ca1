# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the embedded point prior: captions -> coloured clouds, with Point-E's transformer at a small size.

Its text encoder, a small CLIP text model, is trained with it: each word's last hidden state is a token of the grid
that the published models take from CLIP's picture patches.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..point_diffusion.diffusion import Diffusion
from ..point_diffusion.transformer import build
from . import tokenizer
from .stream import CloudStream

CONFIG: dict[str, Any] = {
    "name": "CLIPImageGridPointDiffusionTransformer",
    "width": 192,
    "layers": 6,
    "heads": 3,
    "n_ctx": 1024,
    "input_channels": 6,
    "output_channels": 6,
    "init_scale": 0.5,
    "time_token_cond": True,
    "cond_drop_prob": 0.1,
    "feature_dim": 192,
    "cond_tokens": tokenizer.TOKENS,
    "prediction": "v",
    "schedule": "cosine",
}
TEXT_LAYERS = 3
TOKENS_A_STEP = 64 * 128
# Clouds grow while the training goes on: few points teach the shapes cheaply, many the way they are sampled.
POINTS = ((0.0, 128), (0.7, 256), (0.88, 512), (0.96, 1024))
RATE, WARM_UP, EMA = 1e-3, 200, 0.9995
SAVE_SECONDS = 300.0


class PointPrior(nn.Module):
    """Text encoder and point transformer."""

    def __init__(self, config: dict[str, Any]) -> None:
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
        self.points = build(config)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        grid = self.text(input_ids=tokens).last_hidden_state.transpose(1, 2)
        out: Tensor = self.points(x, t, embeddings=grid)
        return out


@dataclass
class Plan:
    minutes: float
    steps: int
    seed: int
    rate: float

    def fraction(self, step: int, seconds: float) -> float:
        return step / self.steps if self.steps else min(seconds / 60 / self.minutes, 1.0)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="train points", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and of what is exported")
    parser.add_argument("--minutes", type=float, default=60, help="length of the whole training, on this machine")
    parser.add_argument("--steps", type=int, default=0, help="length in steps instead, which makes it deterministic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=RATE, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="exported folder whose weights to begin with")
    parser.add_argument("--points", type=int, default=0, help="points of each cloud; 0 lets them grow")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    train(Plan(given.minutes, given.steps, given.seed, given.rate), given.out, given.start, given.points)


def train(plan: Plan, out: Path, start: Path | None = None, points: int = 0) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(plan.seed)
    model = PointPrior(CONFIG).to(device)
    if start is not None:
        load(model, start)
    mean = {name: value.detach().clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW(groups(model), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    step, spent = 0, 0.0
    out.mkdir(parents=True, exist_ok=True)
    if (out / "checkpoint.pt").exists():
        held = torch.load(out / "checkpoint.pt", map_location=device, weights_only=True)
        model.load_state_dict(held["model"])
        optimiser.load_state_dict(held["optimiser"])
        mean, step, spent = held["mean"], held["step"], held["seconds"]
    stream = CloudStream(plan.seed + step)
    random = torch.Generator().manual_seed(plan.seed + 7919 * step)
    diffusion = Diffusion.of(CONFIG)
    began, saved, losses = time.perf_counter() - spent, time.perf_counter(), []
    while (share := plan.fraction(step, spent)) < 1:
        count = points or max(number for begin, number in POINTS if share >= begin)
        clouds, tokens = stream.next(max(TOKENS_A_STEP // count, 4), count)
        for group in optimiser.param_groups:
            group["lr"] = (
                plan.rate * min((step + 1) / WARM_UP, 1.0) * (0.02 + 0.98 * math.cos(share * math.pi / 2) ** 2)
            )
        loss = step_loss(model, diffusion, clouds.to(device), tokens.to(device), random)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        keep = min(EMA, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    mean[name].lerp_(value, 1 - keep)
        losses.append(float(loss.detach()))
        spent = time.perf_counter() - began
        if step % 100 == 0:
            print(
                f"{spent / 60:6.1f} min  step {step}  {count} points  loss {sum(losses) / len(losses):.4f}", flush=True
            )
            losses = []
        if time.perf_counter() - saved > SAVE_SECONDS or plan.fraction(step, spent) >= 1:
            saved = time.perf_counter()
            save(out, model, optimiser, mean, step, spent)


def step_loss(
    model: PointPrior, diffusion: Diffusion, clouds: Tensor, tokens: Tensor, random: torch.Generator
) -> Tensor:
    """Mean squared error of v at times that are spread evenly over the batch."""
    batch = len(clouds)
    x0 = diffusion.scale(clouds)
    spread = (torch.rand(batch, generator=random) + torch.arange(batch)) / batch
    t = (spread * diffusion.steps).long().clamp(max=diffusion.steps - 1).to(x0.device)
    noise = torch.randn(x0.shape, generator=random).to(x0.device)
    x = diffusion.noised(x0, t, noise)
    # The fused attention of CPUs is slow in its backward pass: written out, the whole step takes two thirds.
    written_out = [SDPBackend.MATH] if x0.device.type == "cpu" else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    with torch.autocast(x0.device.type, torch.bfloat16), sdpa_kernel(written_out):
        predicted = model(x, t, tokens)
    return nn.functional.mse_loss(predicted.float(), diffusion.target(x0, t, noise))


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    return [{"params": matrices}, {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}]


def save(
    out: Path, model: PointPrior, optimiser: torch.optim.Optimizer, mean: dict[str, Tensor], step: int, spent: float
) -> None:
    held = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "mean": mean, "step": step}
    torch.save(held | {"seconds": spent}, out / "checkpoint.part")
    (out / "checkpoint.part").replace(out / "checkpoint.pt")
    export(model, mean, out / "export")


def export(model: PointPrior, mean: dict[str, Tensor], folder: Path) -> None:
    """The averaged weights in half precision, in the published formats."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.half().contiguous().cpu() for name, value in mean.items() if value.is_floating_point()}
    split = {
        part: {n.removeprefix(f"{part}."): v for n, v in state.items() if n.startswith(f"{part}.")}
        for part in ("points", "text")
    }
    save_file(split["points"], folder / "model.safetensors")
    (folder / "text_encoder").mkdir(exist_ok=True)
    model.text.config.save_pretrained(folder / "text_encoder")
    save_file(split["text"], folder / "text_encoder" / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n", encoding="utf-8")


def load(model: PointPrior, folder: Path) -> None:
    """Takes over exported weights."""
    model.points.load_state_dict(load_file(folder / "model.safetensors"))
    model.text.load_state_dict(load_file(folder / "text_encoder" / "model.safetensors"))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
