# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a dual encoder knows the procedural world, on things it has not seen.

python -m backend.priors.evaluate_clip FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import tokenizer, world
from .augment import augmented, spoilt
from .pictures import HELD_OUT, photograph, shot, twin
from .tokenizer import encode
from .train_clip import SIZE, read, see
from .training import generator
from .world import colours

if TYPE_CHECKING:
    from transformers import CLIPModel

COUNT = 512
GREY = 0.75


@dataclass(frozen=True)
class Scores:
    """Shares in 0..1. retrieval: pictures whose own caption is nearest among all; category, colour: named rightly
    among all names; binding: caption preferred to that of the twin in other colours, for things with a part of a colour
    of its own; sound: picture preferred to a spoilt one of the same thing."""

    retrieval: float
    category: float
    colour: float
    binding: float
    sound: float


@torch.inference_mode()
def evaluate(model: CLIPModel, *, count: int = COUNT, plain: bool = True, seed: int = 0) -> Scores:
    """On ``count`` things, in front of grey or, not ``plain``, of anything and a little damaged."""
    device = model.device
    words = tokenizer.load()
    things, twins, captions, others, pictures = [], [], [], [], []
    for number in range(count):
        rng = np.random.default_rng((seed, HELD_OUT, number))
        thing = world.sample(rng)
        other, wording = twin(thing, rng), int(rng.integers(1 << 62))
        things.append(thing)
        twins.append(other)
        captions.append(world.caption(thing, np.random.default_rng(wording)))
        others.append(world.caption(other, np.random.default_rng(wording)))
        pictures.append(photograph(thing, shot(rng), SIZE))
    rgba = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().to(device) / 255
    random = generator(device, seed, HELD_OUT)
    seen, bad = _shown(model, rgba, plain, random), _shown(model, spoilt(rgba, random), plain, random)

    def said(phrases: list[str]) -> Tensor:
        return read(model, encode(words, phrases).to(device))

    own, false = said(captions), said(others)
    nearest = (seen @ own.T).argmax(1).tolist()
    names, shades = list(world.CATEGORIES), list(colours.NAMES)
    guesses = (seen @ said([f"a {name}" for name in names]).T).argmax(1).tolist()
    painted = said([f"a {shade} {name}" for name in names for shade in shades]).reshape(len(names), len(shades), -1)
    right_shade, asked = [], []
    for i, thing in enumerate(things):
        if not any(part.asked for part in thing.parts):
            guess = int((painted[names.index(thing.category)] @ seen[i]).argmax())
            right_shade.append(shades[guess] == thing.colour.base)
        elif captions[i] != others[i]:
            asked.append(bool(seen[i] @ own[i] > seen[i] @ false[i]))
    return Scores(
        float(np.mean([captions[j] == captions[i] for i, j in enumerate(nearest)])),
        float(np.mean([names[guess] == thing.category for guess, thing in zip(guesses, things, strict=True)])),
        float(np.mean(right_shade)),
        float(np.mean(asked)),
        float(((seen * own).sum(1) > (bad * own).sum(1)).float().mean()),
    )


def _shown(model: CLIPModel, rgba: Tensor, plain: bool, random: torch.Generator) -> Tensor:
    pictures = rgba[:, :3] * rgba[:, 3:] + GREY * (1 - rgba[:, 3:]) if plain else augmented(rgba, random)
    return torch.cat([see(model, part) for part in torch.split(pictures, 64)])


def facts(folder: Path) -> list[str]:
    """Sentences on an exported encoder for its card."""
    from transformers import CLIPModel

    model: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    if torch.cuda.is_available():
        model = model.cuda()
    found = []
    for plain, where in ((True, "in front of grey"), (False, "in front of random backgrounds, cropped and blurred")):
        scores = evaluate(model, plain=plain)
        found.append(
            f"{COUNT} held-out things {where}: own caption first of {COUNT}: {scores.retrieval:.1%}; "
            f"category (of {len(world.CATEGORIES)}) {scores.category:.1%}; colour (of {len(colours.NAMES)}) "
            f"{scores.colour:.1%}; which part has which colour (of 2) {scores.binding:.1%}; "
            f"preferred to a spoilt picture {scores.sound:.1%}."
        )
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("\n".join(facts(Path(sys.argv[1]))))
