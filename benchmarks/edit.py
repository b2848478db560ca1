# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a thing's shape stays when its prompt changes (Lin et al. 2023, "Magic3D", §6).

    .venv/bin/python -m benchmarks.edit FOLDER [--prompts "a red chair" "a blue chair"]

Makes the first and edits it into the second, with the embedded priors. Prints the intersection of the two solids over
their union, where their fields have them and as large as they are written; and how like each prompt the pictures of
each are, by the encoder that guided neither. Run again, it makes what is missing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from backend import running
from backend.geometry.mesh import Mesh
from backend.geometry.reading import read
from backend.guidance.clip import Clip
from backend.metrics.r_precision import portraits
from backend.pipelines.start_shape import Shape
from backend.priors import embedded
from backend.settings import GenerateSettings
from backend.storage import read_result

CELLS = 96  # of the grid along the longest side
VIEWS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", nargs=2, default=["a red chair", "a blue chair"])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    places = given.folder / "before", given.folder / "after"
    for place, prompt, start in zip(places, given.prompts, ("", str(places[0])), strict=True):
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            asked = GenerateSettings(prompt=prompt, system="magic3d", weights="embedded", seed=given.seed, start=start)
            running.run("generate", asked, place)
    meshes = [read(place / "mesh.ply")[0] for place in places]
    boxes = [in_box(mesh, place) for mesh, place in zip(meshes, places, strict=True)]
    print(f"IoU {overlap(*boxes):.3f}; both {meshes[0].vertices[:, 2].max():.2f} m high: {overlap(*meshes):.3f}")
    clip = Clip(embedded.CLIP_SCORER)
    with torch.inference_mode():
        words = clip.encode_text(given.prompts)
        for name, mesh in zip(("before", "after"), meshes, strict=True):
            likes = (clip.encode_image(portraits(mesh, VIEWS)) @ words.T).mean(0).tolist()
            print(
                f"{name}: " + ", ".join(f"{like:.3f} {said!r}" for like, said in zip(likes, given.prompts, strict=True))
            )


def in_box(mesh: Mesh, place: Path) -> Mesh:
    """A result's mesh where its field has it, which an edit shares."""
    back = np.linalg.inv(np.array((read_result(place) or {})["box_to_world"]))
    return replace(mesh, vertices=(mesh.vertices @ back[:3, :3].T + back[:3, 3]).astype(np.float32))


def overlap(one: Mesh, other: Mesh) -> float:
    """Intersection over union of the volumes of two closed meshes, on a grid around both."""
    corners = np.concatenate([one.vertices, other.vertices]).astype(np.float64)
    low, high = corners.min(0), corners.max(0)
    step = float((high - low).max()) / CELLS
    axes = [np.arange(a + step / 2, b, step) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    first, second = (Shape.of(mesh, np.random.default_rng(0)).near(points)[0] for mesh in (one, other))
    return float((first & second).sum() / (first | second).sum())


if __name__ == "__main__":
    main()
