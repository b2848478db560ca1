# SPDX-License-Identifier: GPL-3.0-or-later
"""Tetrahedral grids: how fast, beside marching cubes, and how near their surfaces come to what they show.

    .venv/bin/python benchmarks/tetrahedra.py [--only speed|lattices|densities|edges]

speed: building the lattice, and marching a ball; in turns with scikit-image's marching cubes on as many samples.
lattices: the body-centred lattice beside others of as many vertices, and marching cubes: mean distance of faces from a
ball, a torus and a turned box, in layers of the lattice of resolution 64, and how many faces are slivers.
densities: what begins with a density (geometry/level_distance.py), and simpler ways: mean distance of faces from the
surface that marching cubes find in the same density on a much finer grid, in layers, and how many times as steep as the
flattest tenth of the edges across the surface the steepest tenth is; 2.9, where it is as steep everywhere.
edges: a turned box is fitted at resolution 20, by values alone, with deformation, and refined; and after Loop's
subdivision of the surface: mean and largest distance of points from the box, in thousandths of half the cube's side.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.geometry import surface
from backend.geometry.level_distance import level_distance
from backend.geometry.marching_tetrahedra import march
from backend.geometry.mesh import Mesh, face_crosses, sample
from backend.geometry.refinement import refined
from backend.geometry.tetrahedra import TetGrid, deformed, lattice

ROUNDS = 9
TURN = torch.linalg.qr(torch.tensor([[0.8, 0.3, -0.5], [-0.2, 0.9, 0.4], [0.6, -0.3, 0.7]]))[0]
MIDDLE = torch.tensor([0.013, 0.021, -0.017])
HALF = torch.tensor([0.5, 0.42, 0.35])
Solid = Callable[[Tensor], Tensor]


def ball(points: Tensor) -> Tensor:
    found: Tensor = (points - MIDDLE).norm(dim=1) - 0.7
    return found


def torus(points: Tensor) -> Tensor:
    x, y, z = ((points - MIDDLE) @ TURN).unbind(1)
    return torch.hypot(torch.hypot(x, y) - 0.55, z) - 0.22


def box(points: Tensor) -> Tensor:
    away = (points @ TURN).abs() - HALF
    found: Tensor = (away.clamp_min(0).square().sum(1) + 1e-20).sqrt() + away.amax(1).clamp_max(0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"speed": speed, "lattices": lattices, "densities": densities, "edges": edges}
    parser.add_argument("--only", choices=list(parts))
    only = parser.parse_args().only
    torch.set_num_threads(1)
    for name in [only] if only else parts:
        print(f"\n{name}")
        parts[name]()


def cube_grid(cells: int) -> Tensor:
    return torch.cartesian_prod(*[torch.linspace(-1, 1, cells + 1)] * 3)


def cubes(values: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    volume = values.view(cells + 1, cells + 1, cells + 1).numpy()
    vertices, faces, _, _ = marching_cubes(volume, 0.0, gradient_direction="ascent")  # type: ignore[no-untyped-call]
    return torch.from_numpy(vertices.astype(np.float32)) * (2 / cells) - 1, torch.from_numpy(faces.astype(np.int64))


# --------------------------------------------------------------------------------------------------------------- speed


def speed() -> None:
    for resolution in (64, 128):
        speed_at(resolution)


def speed_at(resolution: int) -> None:
    built = min(timed(lambda: lattice(resolution)) for _ in range(3))
    grid = lattice(resolution)
    cells = round(len(grid.vertices) ** (1 / 3)) - 1
    values, samples = ball(grid.vertices), ball(cube_grid(cells))
    sdf, raw = values.clone().requires_grad_(), torch.zeros_like(grid.vertices).requires_grad_()
    ways: dict[str, Callable[[], object]] = {
        "marching": lambda: march(values, grid.vertices, grid),
        "and gradients": lambda: march(sdf, deformed(grid, raw), grid).vertices.square().sum().backward(),  # type: ignore[no-untyped-call]
        "marching cubes": lambda: cubes(samples, cells),
    }
    times = [[timed(way) for way in ways.values()] for _ in range(ROUNDS)]
    held = sum(part.nbytes for part in vars(grid).values()) / 2**20
    print(
        f"  {resolution}: {len(grid.vertices)} vertices, {len(grid.tetrahedra)} tetrahedra, {held:.0f} MiB, built in "
        f"{built * 1e3:.0f} ms; {len(march(values, grid.vertices, grid).faces)} faces, and "
        f"{len(cubes(samples, cells)[1])} of marching cubes on {cells + 1}³"
    )
    for i, name in enumerate(ways):
        taken, ratio = (statistics.median(found) for found in ([r[i] for r in times], [r[i] / r[-1] for r in times]))
        print(f"    {name:15} {taken * 1e3:7.1f} ms   x {ratio:.1f}")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# ------------------------------------------------------------------------------------------------------------ lattices


def lattices() -> None:
    grids = {"body-centred": lattice(64), "six in a cube": kuhn(40), "five in a cube": five(40)}
    print(f"  {'':16}{'distance':>10}{'faces':>8}{'below 10°':>11}{'above 150°':>12}   (ball, torus, box)")
    for name in (*grids, "marching cubes"):
        rows = []
        for solid in (ball, torus, box):
            if name in grids:
                made = march(solid(grids[name].vertices), grids[name].vertices, grids[name])
                vertices, faces = made.vertices, made.faces.long()
            else:
                vertices, faces = cubes(solid(cube_grid(40)), 40)
            rows.append((off(vertices, faces, solid) * 32, float(len(faces)), *slivers(vertices, faces)))
        means = np.mean(rows, axis=0)
        print(f"  {name:16}{means[0]:10.4f}{means[1]:8.0f}{means[2]:10.1%}{means[3]:11.1%} ", end="  ")
        print(" ".join(f"{row[0]:.4f}" for row in rows))


def kuhn(cells: int) -> TetGrid:
    """Six tetrahedra around one diagonal of each cube."""
    paths = [np.cumsum([(0, 0, 0), *np.eye(3, dtype=int)[list(order)]], axis=0) for order in permutations(range(3))]
    return in_cubes(cells, [(path, path) for path in paths])


def five(cells: int) -> TetGrid:
    """One regular tetrahedron in each cube and four around it; in every other cube mirrored."""
    regular = np.array([(0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1)])
    around = [np.vstack([np.delete(regular, i, 0), 1 - regular[i]]) for i in range(4)]  # and what is opposite to i
    return in_cubes(cells, [(one, np.abs(one - (1, 0, 0))) for one in (regular, *around)])


def in_cubes(cells: int, corners: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> TetGrid:
    """The same tetrahedra in each cube: corners [4, 3] for even and for odd cubes."""
    index = torch.arange((cells + 1) ** 3, dtype=torch.int32).view(cells + 1, cells + 1, cells + 1)
    odd = torch.from_numpy(np.indices((cells,) * 3).sum(0) % 2 == 1)
    vertices, parts = cube_grid(cells), []
    for pair in corners:
        for chosen, mask in zip(pair, (~odd, odd), strict=True):
            at = [index[x : cells + x, y : cells + y, z : cells + z] for x, y, z in chosen.tolist()]
            parts.append(torch.stack(at, -1)[mask])
    tetrahedra = torch.cat(parts)
    places = vertices[tetrahedra]
    turned = torch.linalg.det(places[:, 1:] - places[:, :1]) < 0
    tetrahedra[turned] = tetrahedra[turned][:, [1, 0, 2, 3]]
    border = (vertices.abs().amax(1) == 1).to(torch.int8)
    return TetGrid(vertices, tetrahedra, border, torch.zeros(len(vertices)))


def off(vertices: Tensor, faces: Tensor, solid: Solid) -> float:
    """Mean distance of the middles of faces from the solid's surface, by area."""
    corners = vertices[faces]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    return float((solid(corners.mean(1)).abs() * areas).sum() / areas.sum())


def slivers(vertices: Tensor, faces: Tensor) -> tuple[float, float]:
    """Shares of faces with an angle below 10 degrees, and above 150."""
    corners = vertices[faces].double()
    angles = []
    for i in range(3):
        one, two = corners[:, i - 1] - corners[:, i], corners[:, i - 2] - corners[:, i]
        angles.append(torch.atan2(torch.linalg.cross(one, two).norm(dim=1), (one * two).sum(1)).rad2deg())
    found = torch.stack(angles, 1)
    return float((found.amin(1) < 10).double().mean()), float((found.amax(1) > 150).double().mean())


# ----------------------------------------------------------------------------------------------------------- densities


def densities() -> None:
    grid, level, layer, fine = lattice(64), 10.0, 2 / 64, 192

    def logs(density: Tensor) -> Tensor:
        return -(density / level).clamp(math.exp(-surface.CLIP), math.exp(surface.CLIP)).log()

    def soft(inside: float, width: float, widening: float = 0.0) -> Solid:
        def density(points: Tensor) -> Tensor:
            return inside * torch.sigmoid(-torus(points) / (layer * (width + widening * (points[:, 0] + 1))))

        return density

    ways: dict[str, Solid] = {
        "level - density": lambda density: level - density,
        "logarithm": logs,
        "level_distance": lambda density: level_distance(density, level, grid),
    }
    fields: dict[str, Solid] = {f"width {width}": soft(100, width) for width in (0.1, 0.3, 1.0, 3.0)}
    fields["width 0.2 to 4"] = soft(20, 0.2, 1.9)
    fields["softplus"] = lambda points: 10 * functional.softplus(-40 * torus(points))
    fields["width 0.5, noisy"] = lambda points: soft(20, 0.5)(points) * noise(points)
    rng = np.random.default_rng(0)
    print(f"  {'density':18}" + "".join(f"{name:>30}" for name in ways))
    for name, field in fields.items():
        density = torch.cat([field(part) for part in torch.split(cube_grid(fine), 2**20)]).view((fine + 1,) * 3)
        known = surface.extract(density.numpy(), level, (-1, -1, -1), 2 / fine)
        there, face, _ = sample(known, 400_000, rng)
        tree, normals = cKDTree(there), face_crosses(known)[face]
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        line = f"  {name:18}"
        for way in ways.values():
            sdf = way(field(grid.vertices))
            made = march(sdf, grid.vertices, grid)
            points = sample(Mesh(made.vertices.numpy(), made.faces.numpy()), 20_000, rng)[0]
            nearest = tree.query(points)[1]
            away = np.abs(((points - there[nearest]) * normals[nearest]).sum(1)).mean() / layer
            ends = grid.vertices[made.edges]
            slopes = (sdf[made.edges[:, 1]] - sdf[made.edges[:, 0]]) / (ends[:, 0] - ends[:, 1]).norm(dim=1)
            low, high = torch.quantile(slopes, torch.tensor([0.1, 0.9])).tolist()
            line += f"{away:15.3f} layers, x {high / low:3.1f}"
        print(line)


def noise(points: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    turns, begin = 4 * torch.randn(3, 12, generator=generator), 6.3 * torch.rand(12, generator=generator)
    return torch.exp(3 * torch.cos(points @ turns + begin).mean(1))


# --------------------------------------------------------------------------------------------------------------- edges


def edges() -> None:
    grid = lattice(20)
    corners = torch.cartesian_prod(*[torch.linspace(-1, 1, 31)] * 3)
    known = corners[(corners.abs() == 1).any(1)] * HALF @ TURN.T

    def told(name: str, vertices: Tensor, faces: Tensor) -> None:
        points = sample(Mesh(vertices.numpy(), faces.int().numpy()), 50_000, np.random.default_rng(0))[0]
        away = box(torch.from_numpy(points).float()).abs() * 1e3
        missed = float(cKDTree(points).query(known.numpy())[0].max()) * 1e3
        print(f"  {name:26}{float(away.mean()):6.2f}{float(away.max()):7.1f}{missed:10.1f}{len(faces):8}")

    def fit(grid: TetGrid, start: Tensor, rate: float, moving: bool) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        sdf, raw = start.clone().requires_grad_(), torch.zeros_like(grid.vertices).requires_grad_()
        groups = [{"params": [sdf], "lr": rate}, {"params": [raw], "lr": 10 * rate * moving}]
        optimiser = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.1, 200)
        for _ in range(200):
            made = march(sdf, deformed(grid, raw), grid)
            points = spread(made.vertices, made.faces, 6000, generator)
            nearest = torch.from_numpy(cKDTree(points.detach().numpy()).query(known.numpy())[1])
            loss = box(points).square().mean() + (points[nearest] - known).square().sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        return sdf.detach(), deformed(grid, raw).detach()

    print(f"  {'':26}{'mean':>6}{'most':>7}{'missed':>10}{'faces':>8}")
    start = box(grid.vertices)
    made = march(start, grid.vertices, grid)
    told("its distances", made.vertices, made.faces)
    for name, moving in (("values fitted", False), ("and deformation", True)):
        sdf, positions = fit(grid, start, 3e-3, moving)
        made = march(sdf, positions, grid)
        told(name, made.vertices, made.faces)
    loop = trimesh.Trimesh(made.vertices.numpy(), made.faces.numpy(), process=False).subdivide_loop(1)
    told("and Loop's subdivision", *(torch.from_numpy(np.array(x)).float() for x in (loop.vertices, loop.faces)))
    finer, sdf, _ = refined(grid, sdf, positions)
    made = march(*fit(finer, sdf, 1.5e-3, True), finer)
    told("or refined and fitted", made.vertices, made.faces)


def spread(vertices: Tensor, faces: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Points [N, 3] of the surface, differentiable."""
    corners = vertices[faces]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).detach().norm(dim=1)
    face = torch.multinomial(areas, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator)
    weights = torch.stack([1 - u.sqrt(), u.sqrt() * (1 - v), u.sqrt() * v], 1)
    return (corners[face] * weights[..., None]).sum(1)


if __name__ == "__main__":
    main()
