# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a prior beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open

from .world import CATEGORIES

CARD = "MODEL_CARD.md"

ABOUT = {
    "point": (
        "Gen3D's embedded point prior",
        "Words to coloured clouds of any number of points (1024 by default), as Point-E makes them: a transformer with "
        "a token for each point, modulated by the time and the words, and a small CLIP text encoder.",
        "Prediction of v on the cosine schedule, a tenth of the captions left out; clouds of 128 points for most of "
        "the training, then of up to 1024. Muon for the matrices inside of blocks, AdamW for all else. Every cloud is "
        "drawn anew. Small parts have more points than their area alone would give them, and where a caption names "
        "one, its colour counts as if it had a quarter of the points, up to eight times what it has.",
        "One thing at a time, in plain colours, without texture; of small parts the place is surer than the shape.",
    ),
    "pointnet": (
        "Gen3D's embedded PointNet++",
        "Clouds of 1024 points to the categories of the procedural world, in the format of the classifier that Point-E "
        "was judged by, a quarter as wide. P-IS and P-FID are made of its classes and features.",
        "Cross-entropy with smoothed labels, on clouds that scatter as generated ones do.",
        "Its figures compare results of Gen3D with each other, not with published ones.",
    ),
    "point_judge": (
        "Gen3D's judge of points",
        "Clouds of points, without their colours, to the kind of thing and to the part that each point belongs to: a "
        "small transformer. `python -m backend.priors.judge` tells by it how often the point prior makes what a prompt "
        "says; no system uses it.",
        "Cross-entropy, on clouds that scatter as generated ones do.",
        "Its figures compare point priors of this world with each other.",
    ),
    "clip": (
        "Gen3D's embedded dual encoder",
        "Pictures and words in one space: a small CLIP in the format of `transformers.CLIPModel`, with pictures of "
        "64 x 64 pixels and prompts of up to 24 tokens.",
        "Symmetric contrastive loss. Each batch holds things beside twins of the same shape in other colours; pictures "
        "that are spoilt the way young radiance fields are (wrong colours, hardly there, blurred, specks) belong to no "
        "caption. Random plain, noise, checkerboard and Fourier backgrounds; crops, blur, translucency and specks. "
        "Most steps see half of the patches. In the end pictures are changed against it, and things that are wrong (a "
        "part missing or astray, swollen, squashed, toppled, molten, mere lumps, fragments) are changed to look right.",
        "It guides fields towards simple shapes in plain colours. As a judge of results it is lenient with its own "
        "kind: score what it guided with another encoder.",
    ),
    "clip_scorer": (
        "Gen3D's embedded scorer",
        "A dual encoder like the embedded one that guides Dream Fields, smaller, and trained on other pictures from "
        "other random weights: it ranks results of several seeds, and R-Precision is told by it.",
        "As the one that guides, without pictures that are changed against it and without things that are wrong.",
        "It judges by the words and things of its world: its figures compare results of Gen3D with each other.",
    ),
    "unet": (
        "Gen3D's embedded text-to-image prior",
        "Words to pictures of 32 x 32 pixels: a `UNet2DConditionModel` that works on pixels, with a small CLIP text "
        "encoder, as a diffusers `StableDiffusionPipeline` whose autoencoder does nothing: its latents are the "
        "picture, sRGB in -1..1.",
        "Prediction of v on the cosine schedule; a tenth of the captions left out. Plain backgrounds of any grey; the "
        "captions end in words for the view (\", front view\"). Muon for the kernels and matrices inside of blocks, "
        "AdamW for all else.",
        "Pictures are small and plain. Low guidance (about 3) and noise that stays high suit score distillation.",
    ),
}  # fmt: skip


def write_card(folder: Path, prior: str, facts: Sequence[str]) -> None:
    """Writes the model card; ``facts`` are sentences on how much was trained and what was measured."""
    title, what, how, limits = ABOUT[prior]
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    weights = sum(_numbers(file) for file in folder.rglob("*.safetensors"))
    names = ", ".join(CATEGORIES)
    lines = [
        f"# {title}",
        what,
        f"{weights / 1e6:.1f} million weights in half precision, {size / 1e6:.1f} MB. Licence: GPL-3.0-or-later, as "
        "Gen3D, which made the data and trained it; nobody else's data or weights went into it.",
        "## Data",
        f"Gen3D's procedural world: {len(CATEGORIES)} kinds of things ({names}) in twelve named colours with shades "
        "and a few materials, drawn as needed, so that hardly a picture is seen twice; captions name the thing, its "
        "colour, its shape and the colours of its parts, with synonyms.",
        "## Training",
        how,
        "## Measured",
        *([f"- {fact}" for fact in facts] or ["Nothing yet."]),
        "## Limits",
        f"It knows the words of its world and no others. {limits}",
    ]
    (folder / CARD).write_text("\n\n".join(lines).replace("\n\n- ", "\n- ") + "\n", encoding="utf-8")


def _numbers(file: Path) -> int:
    total = 0
    with safe_open(file, "numpy") as held:
        for name in held.keys():  # noqa: SIM118
            count = 1
            for side in held.get_slice(name).get_shape():
                count *= side
            total += count
    return total
