# SPDX-License-Identifier: GPL-3.0-or-later
"""How near meshes around clouds come to the things that the clouds were taken from.

    .venv/bin/python benchmarks/surfaces.py [--things 39] [--sdf FOLDER] [--scatter 0.008]

Things of the procedural world, which no prior has seen, give 8192 points each, spread and scattered as those of the
embedded point prior are. Around them a ball is rolled (geometry/enclosure.py), and, where an export of
`python -m backend.priors.train sdf` is named, its regression of signed distances is meshed, the same points given.
Told are the mean over all things of: distances between both surfaces in percent of the thing's size (their mean, both
ways, and what 95 % are below), the share of volume that both have in common (IoU), pieces of the mesh, whether it is
closed, and seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend import weights
from backend.geometry.mesh import Mesh, components, face_crosses, is_watertight, sample
from backend.pipelines import point_e
from backend.point_diffusion import sdf
from backend.priors import world
from backend.shares import ended

POINTS, SURFACE, PLACES = 8192, 20_000, 4000
SEED = 771_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", type=int, default=39)
    parser.add_argument("--sdf", type=Path, help="export of a trained SDF regression")
    parser.add_argument("--scatter", type=float, default=0.008, help="standard deviation, in sizes of the thing")
    given = parser.parse_args()
    models: dict[str, sdf.CrossAttentionPointCloudSDFModel | None] = {"ball": None}
    if given.sdf:
        trained = sdf.build(json.loads((given.sdf / "config.json").read_text("utf-8")))
        weights.load(trained, given.sdf / "model.safetensors")
        models["sdf"] = trained.eval()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    names = list(world.CATEGORIES)
    for index in range(given.things):
        rng = np.random.default_rng((SEED, index))
        thing = world.sample(rng, names[index % len(names)])
        cloud = world.points_of(thing, POINTS, rng)
        points = (cloud[:, :3] + rng.normal(0, given.scatter, (POINTS, 3))).astype(np.float32)
        colours = np.round(cloud[:, 3:] * 255).astype(np.uint8)
        line = [f"{thing.category:12}"]
        for name, model in models.items():
            began = time.perf_counter()
            making = point_e.surface(points, colours, model, 128, 50_000, torch.device("cpu"))
            mesh, _ = ended(making)
            seconds = time.perf_counter() - began
            facts = compared(mesh, thing, rng) | {"seconds": seconds}
            found[name].append(facts)
            line.append(f"{name}: {facts['mean']:.2f} % {facts['iou']:.2f}")
        print("   ".join(line), flush=True)
    keys = list(next(iter(found.values()))[0])
    print("\n" + f"{'':8}" + "".join(f"{key:>12}" for key in keys))
    for name, rows in found.items():
        print(f"{name:8}" + "".join(f"{np.mean([row[key] for row in rows]):12.3f}" for key in keys))


def compared(mesh: Mesh, thing: world.Thing, rng: np.random.Generator) -> dict[str, float]:
    """Distances in percent of the thing's size, the share of volume in common, and what is wrong with the mesh."""
    truth = world.surface_of(thing, SURFACE, rng)[0]
    made, face, _ = sample(mesh, SURFACE, rng)
    away = np.concatenate([cKDTree(truth).query(made)[0], cKDTree(made).query(truth)[0]]) * 100
    low, high = truth.min(0) - 0.02, truth.max(0) + 0.02
    places = rng.uniform(low, high, (PLACES, 3)).astype(np.float32)
    inside, within = world.inside(thing, places), behind(places, made, face_crosses(mesh)[face])
    return {
        "mean": float(away.mean()),
        "95 %": float(np.quantile(away, 0.95)),
        "iou": float((inside & within).sum() / max((inside | within).sum(), 1)),
        "pieces": float(components(mesh).max() + 1),
        "closed": float(is_watertight(mesh)),
    }


def behind(
    places: NDArray[np.float32], surface: NDArray[np.float64], normals: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which places [N, 3] lie on the inner side of the nearest points [M, 3] of a surface, whose normals point out."""
    nearest = cKDTree(surface).query(places)[1]
    found: NDArray[np.bool_] = ((places - surface[nearest]) * normals[nearest]).sum(1) < 0
    return found


if __name__ == "__main__":
    main()
