# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of two systems' results a scorer likes better (Lin et al. 2023, "Magic3D", §5, where people were asked).

    .venv/bin/python -m benchmarks.fields_sheet dreamfusion ONE --prompts 24
    .venv/bin/python -m benchmarks.fields_sheet magic3d OTHER --prompts 24
    .venv/bin/python -m benchmarks.preference ONE OTHER

A result's score is the mean cosine between its prompt and pictures of its mesh from eight sides, by an encoder that
guided neither. Prints each pair, and the share in which the other is preferred, with its 95 % interval (Wilson's).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from backend.evaluation import results
from backend.geometry.mesh import Mesh
from backend.guidance.clip import Clip
from backend.metrics.r_precision import portraits
from backend.priors import embedded

VIEWS = 8
NORMAL = 1.96  # standard deviations that hold 95 %


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--scorer", type=Path, default=embedded.CLIP_SCORER)
    given = parser.parse_args()
    clip = Clip(given.scorer)
    one, other = (scores(folder, clip) for folder in (given.one, given.other))
    both = [prompt for prompt in one if prompt in other]
    for prompt in both:
        print(f"{one[prompt]:.3f}  {other[prompt]:.3f}  {prompt}")
    better = sum(other[prompt] > one[prompt] for prompt in both)
    low, high = wilson(better, len(both))
    print(f"{better} of {len(both)}: {better / len(both):.1%} prefer {given.other} (95 %: {low:.1%} to {high:.1%})")


def scores(folder: Path, clip: Clip) -> dict[str, float]:
    """By prompt."""
    return {result.prompt: liking(result.shape(), result.prompt, clip) for result in results(folder)}


@torch.inference_mode()
def liking(mesh: Mesh, prompt: str, clip: Clip) -> float:
    """How near pictures of a mesh are to a prompt: the mean cosine."""
    return float((clip.encode_image(portraits(mesh, VIEWS)) @ clip.encode_text([prompt])[0]).mean())


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The interval of a share that was seen ``hits`` times in ``count`` (Wilson 1927)."""
    share, spread = hits / count, NORMAL**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = NORMAL * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return middle - half, middle + half


if __name__ == "__main__":
    main()
