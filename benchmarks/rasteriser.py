# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernels of the differentiable rasteriser are worth: pictures of a bumpy closed mesh, and their gradients.

    .venv/bin/python benchmarks/rasteriser.py [--faces 100000] [--size 512] [--views 1] [--threads 1] [--device cpu]

Compared in one process, each the least of many times, by turns, so that a machine that grows slower does so for all:
our kernels (numba on CPUs, Warp on CUDA), their definition in plain torch, and rays cast through all pixels' middles
into a hierarchy of boxes around the faces: Warp's, and Embree's where embreex can be imported (pip install embreex).
That all see the same faces is checked first. Peers neither interpolate nor give gradients; the time in which they build
their hierarchies, which they would have to do anew for a mesh that is being trained, is told but not counted.

The last lines tell how many silhouettes antialiasing finds, and how many if it looked only at the edges of the face
that is seen, as Laine et al. 2020 do.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.rendering import antialiasing
from backend.rendering.antialiasing import adjacency, antialias, silhouettes
from backend.rendering.orbit import orbit
from backend.rendering.rasteriser import interpolate, interpolate_reference, rasterise, rasterise_reference
from backend.rendering.viewpoints import View, project, rays

try:
    import warp as wp

    from backend.fields.warp_launch import launch

    WITHOUT_WARP = ""

    @wp.kernel(enable_backward=False)
    @no_type_check
    def _cast(face: wp.array[wp.int32], mesh: wp.uint64, start: wp.array2d[wp.float32], way: wp.array2d[wp.float32]):
        i = wp.tid()
        origin, direction = wp.vec3(start[i, 0], start[i, 1], start[i, 2]), wp.vec3(way[i, 0], way[i, 1], way[i, 2])
        hit = wp.mesh_query_ray(mesh, origin, direction, 1.0e6)
        face[i] = wp.where(hit.result, hit.face, -1)

except ImportError as error:
    WITHOUT_WARP = str(error)

BY_GRID = 5.3  # faces of the mesh by the squared resolution of the grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    numba.set_num_threads(given.threads)
    device, size = torch.device(given.device), given.size
    vertices, faces = (x.to(device) for x in blob(given.faces))
    views = [View(orbit(30 + 360 * i / given.views, 20, 3.0), 1.7, 0, 0) for i in range(given.views)]
    positions = project(vertices, views)
    colours = (0.5 + 0.5 * torch.sin(9 * vertices)).contiguous()
    seen = rasterise(positions, faces, size, size)
    adjacent, picture = adjacency(faces), interpolate(colours, faces, seen)
    covered = float((seen.face >= 0).double().mean())
    print(
        f"{len(faces)} faces, {given.views} x {size}² pixels, {covered:.0%} covered, {given.threads} threads, {device}"
    )

    def drawn() -> Tensor:
        return interpolate(colours, faces, rasterise(positions, faces, size, size))

    def defined() -> Tensor:
        return interpolate_reference(colours, faces, rasterise_reference(positions, faces, size, size))

    torch.testing.assert_close(drawn(), defined(), rtol=0, atol=1e-3)
    moving, painted = positions.clone().requires_grad_(), colours.clone().requires_grad_()

    def step() -> None:
        fragments = rasterise(moving, faces, size, size)
        smooth = antialias(interpolate(painted, faces, fragments), fragments, moving, faces, adjacent)
        torch.autograd.grad(smooth.square().mean(), (moving, painted))

    subjects: dict[str, Callable[[], Any]] = {
        "rasterise + interpolate": drawn,
        "  rasterise": lambda: rasterise(positions, faces, size, size),
        "  rasterise, both sides": lambda: rasterise(positions, faces, size, size, cull=False),
        "  interpolate 3 channels": lambda: interpolate(colours, faces, seen),
        "  in plain torch": defined,
        "antialias": lambda: antialias(picture, seen, positions, faces, adjacent),
        "adjacency": lambda: adjacency(faces),
        "all, and the gradients": step,
    }
    origins, directions = rays(views, size, torch.zeros(3, device=device))
    for name, make in (("  Warp's rays", warp_rays), ("  Embree's rays", embree_rays)):
        began = time.perf_counter()
        try:
            cast = make(vertices, faces, origins, directions)
        except ImportError as error:
            print(f"{name.strip()} are not there: {error}")
            continue
        built = time.perf_counter() - began
        agree = float((cast() == seen.face.flatten()).double().mean())
        print(f"{name.strip()}: {agree:.3%} of the pixels agree; {1e3 * built:.0f} ms to build")
        subjects[name] = cast
    least = timed(subjects, given.repeat, device)
    ours = least["rasterise + interpolate"]
    for name, seconds in least.items():
        print(f"{name:26}{1e3 * seconds:9.2f} ms   x {seconds / ours:6.2f}")
    found = {antialiasing.FACES: 0, 1: 0}
    for limit in found:
        antialiasing.FACES = limit
        found[limit] = int((silhouettes(seen, positions, faces, adjacent) >= 0).sum())
    print("silhouettes between pixels: {} found, {} at the seen face's own edges".format(*found.values()))


def blob(faces: int) -> tuple[Tensor, Tensor]:
    """A closed mesh with about as many faces, of all shapes, as iso-surfaces have them, within the unit ball."""
    resolution = round((faces / BY_GRID) ** 0.5)
    axis = np.linspace(-1, 1, resolution)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    field = np.sqrt(x * x + y * y + z * z) - 0.75 - 0.08 * np.sin(5 * x) * np.sin(6 * y + 1) * np.sin(4 * z)
    vertices, triangles, _, _ = marching_cubes(field, 0.0, spacing=(axis[1] - axis[0],) * 3)  # type: ignore[no-untyped-call]
    return torch.from_numpy(vertices - 1).float(), torch.from_numpy(triangles.copy()).int()


def timed(subjects: dict[str, Callable[[], Any]], repeat: int, device: torch.device) -> dict[str, float]:
    """Least seconds of each."""
    least = dict.fromkeys(subjects, float("inf"))
    for _ in range(repeat):
        for name, run in subjects.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            least[name] = min(least[name], time.perf_counter() - began)
    return least


def warp_rays(vertices: Tensor, faces: Tensor, origins: Tensor, directions: Tensor) -> Callable[[], Tensor]:
    """The first face [R] that each ray meets, -1 for none."""
    if WITHOUT_WARP:
        raise ImportError(WITHOUT_WARP)
    mesh = wp.Mesh(wp.from_torch(vertices, dtype=wp.vec3), wp.from_torch(faces.flatten()))
    face = torch.empty(len(origins), dtype=torch.int32, device=vertices.device)

    def run() -> Tensor:
        launch(_cast, len(face), face, mesh.id, origins, directions)
        return face

    return run


def embree_rays(vertices: Tensor, faces: Tensor, origins: Tensor, directions: Tensor) -> Callable[[], Tensor]:
    """The same."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    mesh = trimesh.Trimesh(vertices.cpu().numpy(), faces.cpu().numpy(), process=False)
    intersector = RayMeshIntersector(mesh)
    start, way = origins.cpu().numpy(), directions.cpu().numpy()
    return lambda: torch.from_numpy(intersector.intersects_first(start, way)).to(vertices.device)


if __name__ == "__main__":
    main()
