# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaving empty blocks at once is worth to ray marching, on grids of which about 3 % are occupied.

    .venv/bin/python benchmarks/marching.py [--views 4] [--size 64] [--occupied 0.03] [--threads 1] [--device cpu]

Rays of views around a thin shell of a sphere, of three objects, and of a grid that is full, as at the start of a
training. Compared in one process, each the median of many times, by turns, so that a machine that grows slower does so
for both: cell by cell, and by the blocks of ``empty_space.free_blocks``. That both find the same samples, to the last
bit, is checked first. The last column is what it takes to find the blocks, once for every change of the grid.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.rendering.empty_space import free_blocks
from backend.rendering.marching import Path as Walk
from backend.rendering.marching import Samples, march
from backend.rendering.orbit import orbit
from backend.rendering.viewpoints import View, rays

GRIDS = {72: 144, 128: 512, 256: 1024}
"""Cells a side, and steps along the diagonal of the box: of fields made from words, of captured ones, and Magic3D's."""
BALLS = [((-0.3, -0.2, -0.1), 0.35), ((0.35, 0.3, 0.2), 0.25), ((0.2, -0.4, 0.4), 0.18)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--occupied", type=float, default=0.03)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    numba.set_num_threads(given.threads)
    device = torch.device(given.device)
    views = [View(orbit(360 * i / given.views, 20, 2.5), 1.5, 0, 0) for i in range(given.views)]
    origins, directions = rays(views, given.size, torch.zeros(3, device=device))
    shifts = torch.rand(len(origins), generator=torch.Generator().manual_seed(0)).to(device)
    print(f"{len(origins)} rays, {given.threads} threads, {device}; medians of {given.repeat} times, in ms")
    print("grid  scene    occupied  samples/ray     cells    blocks  ratio   finding them")
    for resolution, steps in GRIDS.items():
        path = Walk(2 * math.sqrt(3) / steps, most=1024)
        for name, distance in {"sphere": sphere, "objects": objects, "full": None}.items():
            occupied = shell(distance, resolution, given.occupied).to(device)
            free = free_blocks(occupied)

            def walk(blocks: Tensor | None, occupied: Tensor = occupied, path: Walk = path) -> Samples:
                return march(origins, directions, shifts, occupied, path, free=blocks)

            one, other = walk(None), walk(free)
            assert torch.equal(one.t, other.t) and torch.equal(one.offsets, other.offsets)
            ways: list[Callable[[], Any]] = [partial(walk, None), partial(walk, free), partial(free_blocks, occupied)]
            cells, blocks, found = timed(ways, given.repeat, device)
            share, count = float(occupied.double().mean()), len(one) / len(origins)
            print(
                f"{resolution:3}³  {name:8}{share:9.1%}{count:13.1f}{1e3 * cells:10.2f}{1e3 * blocks:10.2f}"
                f"{cells / blocks:7.2f}{1e3 * found:15.2f}"
            )


def sphere(points: Tensor) -> Tensor:
    return points.square().sum(-1).sqrt() - 0.55


def objects(points: Tensor) -> Tensor:
    away = [(points - torch.tensor(middle)).square().sum(-1).sqrt() - radius for middle, radius in BALLS]
    return torch.stack(away).amin(0)


def shell(distance: Callable[[Tensor], Tensor] | None, resolution: int, part: float) -> Tensor:
    """bool [G, G, G]: that part of the cells, those nearest to where ``distance`` is nil; without one, all."""
    if distance is None:
        return torch.ones((resolution,) * 3, dtype=torch.bool)
    axis = (torch.arange(resolution) + 0.5) * (2 / resolution) - 1
    away = distance(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)).abs()
    return away <= away.flatten().kthvalue(round(part * away.numel())).values


def timed(ways: list[Callable[[], Any]], repeat: int, device: torch.device) -> list[float]:
    """Median seconds of each."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(repeat):
        for taken, run in zip(seconds, ways, strict=True):
            if device.type == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in seconds]


if __name__ == "__main__":
    main()
