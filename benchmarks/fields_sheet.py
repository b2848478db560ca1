# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that a system makes of held-out prompts, on numbered pictures without their prompts, and how good they are.

    .venv/bin/python -m benchmarks.fields_sheet dreamfusion FOLDER [--prompts 48] [--begin fog] [--kinds chair,mug]

Every kind in turn, half of the prompts with a coloured part. Name the things from the sheets (four views of each), then
look into key.txt. Prints the median of the seconds that one takes, how many meshes are closed and in how many pieces
they are, and CLIP R-Precision by the scorer that guided none of them. Run again, it makes what is missing.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from backend import evaluation, running
from backend.geometry.mesh import Mesh, components, is_watertight
from backend.geometry.reading import read
from backend.metrics.r_precision import portraits
from backend.priors import embedded, world
from backend.priors.judge import held_out
from backend.settings import TITLES, EvaluateSettings, GenerateSettings
from backend.storage import read_result

ROWS, SIDE = 8, 192  # of objects, on a sheet; pixels of a view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=TITLES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", type=lambda text: text.split(","), help="of the prompts only those of these kinds")
    parser.add_argument("--begin", choices=("auto", "fog", "points"), default="auto")
    parser.add_argument("--scorer", default=str(embedded.CLIP_SCORER))
    given = parser.parse_args()
    wanted = given.kinds or list(world.CATEGORIES)
    prompts = [text for text, thing in held_out(given.prompts) if thing.category in wanted]
    given.folder.mkdir(parents=True, exist_ok=True)
    (given.folder / "key.txt").write_text("".join(f"{i}: {text}\n" for i, text in enumerate(prompts)), "utf-8")
    seconds, closed, pieces = [], [], []
    for index, prompt in enumerate(prompts):
        folder = given.folder / f"{index:02}"
        if not folder.exists():
            settings = GenerateSettings(
                prompt=prompt, seed=given.seed, system=given.system, weights="embedded", begin=given.begin
            )
            running.run("generate", settings, folder)
        mesh = read(folder / "mesh.ply")[0]
        seconds.append((read_result(folder) or {})["seconds"])
        closed.append(is_watertight(mesh))
        pieces.append(int(components(mesh).max()) + 1)
        print(f"{seconds[-1]:6.1f} s  {pieces[-1]} pieces  {'closed' if closed[-1] else 'OPEN'}  {index}", flush=True)
    sheets(given.folder, len(prompts))
    print(f"{statistics.median(seconds):.1f} s for one, in the median, {max(seconds):.1f} s at most")
    print(f"{sum(closed)} of {len(closed)} closed; {sum(count > 1 for count in pieces)} in more than one piece")
    print(evaluation.table(evaluation.evaluate([given.folder], EvaluateSettings(clip=given.scorer))))


def sheets(folder: Path, count: int) -> None:
    """sheet_1.png and so on: a row of views of each mesh, with its number."""
    rows = [row(read(folder / f"{index:02}" / "mesh.ply")[0]) for index in range(count)]
    for begin in range(0, count, ROWS):
        some = rows[begin : begin + ROWS]
        sheet = Image.fromarray(np.concatenate(some))
        draw = ImageDraw.Draw(sheet)
        for index, shown in enumerate(some):
            draw.text((4, 2 + index * len(shown)), str(begin + index), fill="black")
        sheet.save(folder / f"sheet_{begin // ROWS + 1}.png")


def row(mesh: Mesh) -> NDArray[np.uint8]:
    """Four views beside each other."""
    pictures: Tensor = torch.cat(list(portraits(mesh, size=SIDE)), 2).permute(1, 2, 0)
    return (255 * pictures).round().byte().numpy()


if __name__ == "__main__":
    main()
