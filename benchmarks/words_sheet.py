# SPDX-License-Identifier: GPL-3.0-or-later
"""One object of every kind the embedded prior knows, from words to mesh, on one picture.

    .venv/bin/python benchmarks/words_sheet.py sheet.png [--seed 0] [--prompts "a red mug" ...]

Prints the seconds that each took, and whether its mesh is closed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from backend.geometry.mesh import Mesh, is_watertight
from backend.geometry.reading import read
from backend.pipelines import point_e
from backend.priors import world
from backend.priors.world import colours
from backend.rendering.orbit import focal_length, orbit
from backend.rendering.raster import render
from backend.settings import GenerateSettings

SIDE, COLUMNS = 240, 8
PAPER = np.array([0.93, 0.94, 0.95], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", nargs="*", default=[])
    parser.add_argument("--weights", default="embedded")
    given = parser.parse_args()
    prompts = given.prompts or usual(given.seed)
    pictures, times = [], []
    for prompt in prompts:
        began = time.perf_counter()
        mesh = made(GenerateSettings(prompt=prompt, seed=given.seed, weights=given.weights))
        times.append(time.perf_counter() - began)
        print(f"{times[-1]:6.1f} s  {'closed' if is_watertight(mesh) else 'OPEN  '}  {prompt}", flush=True)
        pictures.append(portrait(mesh))
        sheet(pictures, prompts).save(given.out)
    print(f"{statistics.median(times):.1f} s for one, in the median")


def usual(seed: int) -> list[str]:
    """A prompt for every category: its colours differ, and where a part can have its own, it has."""
    rng = np.random.default_rng(seed)
    found = []
    for index, (category, kind) in enumerate(world.CATEGORIES.items()):
        first = colours.NAMES[(5 * index + seed) % len(colours.NAMES)]
        other = colours.NAMES[(5 * index + 3 + seed) % len(colours.NAMES)]
        drawn = {part.name for part in world.sample(rng, category).parts}
        parts = [part for part in kind.usual if part in drawn and part not in ("eyes", "nose", "buttons")]
        said = f"{world.article(first)} {first} {kind.names[0]}"
        if parts and index % 3:
            part = parts[int(rng.integers(len(parts)))]
            said += f" with {'' if part.endswith('s') else world.article(other) + ' '}{other} {part}"
        found.append(said)
    return found


def made(settings: GenerateSettings) -> Mesh:
    folder = Path(tempfile.mkdtemp())
    try:
        for _ in point_e.generate(settings, folder):
            pass
        return read(folder / "mesh.ply")[0]
    finally:
        shutil.rmtree(folder)


def portrait(mesh: Mesh) -> NDArray[np.uint8]:
    """uint8 [SIDE, SIDE, 3], from the front, a little from the side and from above."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    vertices = (mesh.vertices - (low + high) / 2) / (high - low).max()
    assert mesh.colors is not None
    picture = render(
        vertices.astype(np.float32),
        mesh.faces,
        np.asarray(mesh.colors / 255, np.float32),
        orbit(-35, 22, 2.3),
        focal=focal_length(36, SIDE),
        size=SIDE,
        light=(-0.4, -0.8, 0.9),
        ambient=0.5,
    )
    return (np.clip(picture.over(PAPER), 0, 1) * 255).astype(np.uint8)


def sheet(pictures: list[NDArray[np.uint8]], prompts: list[str]) -> Image.Image:
    caption = 16
    rows = -(-len(pictures) // COLUMNS)
    found = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + caption)), "white")
    draw = ImageDraw.Draw(found)
    for index, (picture, prompt) in enumerate(zip(pictures, prompts, strict=False)):
        x, y = index % COLUMNS * SIDE, index // COLUMNS * (SIDE + caption)
        found.paste(Image.fromarray(picture), (x, y + caption))
        draw.text((x + 4, y + 2), prompt, fill="black")
    return found


if __name__ == "__main__":
    main()
