# SPDX-License-Identifier: GPL-3.0-or-later
"""Contact sheets of a text-to-image prior, and what the dual encoder says of them.

python -m backend.priors.evaluate_unet FOLDER SHEET.png [CLIP_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import tokenizer, world
from .tokenizer import encode
from .train_clip import SIZE, read, see
from .world import colours

CLIP = Path(__file__).with_name("clip")
GUIDANCE, STEPS = 4.0, 25
COLUMNS = 13


def sample(
    pipeline: Any,
    prompts: list[str],
    *,
    guidance: float = GUIDANCE,
    steps: int = STEPS,
    seed: int = 0,
) -> Tensor:
    """sRGB [N, 3, S, S] in 0..1."""
    random = torch.Generator(pipeline.device).manual_seed(seed)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(prompts, num_inference_steps=steps, guidance_scale=guidance, generator=random, output_type="pt")
    pictures: Tensor = made.images.float()
    return pictures


def prompts() -> list[str]:
    """Every category in some colour, each three times, from the front and the side."""
    shades = colours.NAMES
    views = ("front view", "side view", "side view")
    return [
        f"a {shades[(5 * i + 3 * row) % len(shades)]} {name}, {view}"
        for row, view in enumerate(views)
        for i, name in enumerate(world.CATEGORIES)
    ]


def sheet(pictures: Tensor, columns: int = COLUMNS) -> Image.Image:
    """Pictures [N, 3, S, S] side by side, twice as large."""
    rows = -(-len(pictures) // columns)
    whole = torch.cat([pictures, pictures.new_ones(rows * columns - len(pictures), *pictures.shape[1:])])
    _, _, high, wide = whole.shape
    tiles = whole.reshape(rows, columns, 3, high, wide).permute(0, 3, 1, 4, 2).reshape(rows * high, columns * wide, 3)
    image = Image.fromarray((tiles.cpu().numpy() * 255 + 0.5).astype(np.uint8))
    return image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST)


@torch.inference_mode()
def judged(pictures: Tensor, clip: Path) -> float:
    """Share of the pictures of ``prompts()`` whose category the dual encoder of this folder names rightly."""
    from transformers import CLIPModel

    model: Any = CLIPModel.from_pretrained(clip, dtype=torch.float32, local_files_only=True)
    model.to(pictures.device)
    names = list(world.CATEGORIES)
    said = read(model, encode(tokenizer.load(), [f"a {name}" for name in names]).to(pictures.device))
    large = torch.nn.functional.interpolate(pictures, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 1)
    guesses = (see(model, large) @ said.T).argmax(1).tolist()
    return float(np.mean([guess == i % len(names) for i, guess in enumerate(guesses)]))


def facts(folder: Path, to: Path, clip: Path = CLIP) -> list[str]:
    """Writes a contact sheet to ``to``; sentences on an exported prior for its card."""
    from diffusers import DiffusionPipeline

    load: Any = DiffusionPipeline.from_pretrained
    pipeline = load(folder, dtype=torch.float32, local_files_only=True)
    if torch.cuda.is_available():
        pipeline = pipeline.to("cuda")
    asked = prompts()
    pictures = torch.cat(
        [sample(pipeline, asked[start : start + 39], seed=start) for start in range(0, len(asked), 39)]
    )
    sheet(pictures).save(to)
    if not (clip / "config.json").exists():
        return []
    return [
        f"{len(asked)} pictures at guidance {GUIDANCE:g} in {STEPS} steps: Gen3D's dual encoder names the category of "
        f"{judged(pictures, clip):.1%} rightly (of {len(world.CATEGORIES)})."
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = facts(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else CLIP)
    print("\n".join(found))
