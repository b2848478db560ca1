# SPDX-License-Identifier: GPL-3.0-or-later
"""From a density field to mesh files."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ..geometry import cleanup, export, surface, texture
from ..geometry.mesh import Colour, Mesh, area, vertex_normals
from ..settings import MeshSettings
from ..shares import between
from .radiance import RadianceField

CHUNK = 2**17
DEPTHS = 21
SETTLE, ABSORBED = 0.8, 0.25  # cells, share of the light
LEVELS = 5  # tried, each half the one before
POROUS = 1.1  # share of the least area above which a surface is taken to have pores


def write_mesh(
    field: RadianceField,
    settings: MeshSettings,
    box_to_world: NDArray[np.float64],
    eyes: NDArray[np.float64],
    device: torch.device,
    out: Path,
) -> Generator[float, None, tuple[dict[str, Any], dict[str, str]]]:
    """GLB, PLY and OBJ of the field's surface, as ``make_mesh`` finds it, into ``out``; facts of the mesh and its files
    by role. Yields the share done."""
    mesh, facts = yield from make_mesh(field, settings, eyes, device)
    return facts, export.write_all(mesh, box_to_world, out)


def make_mesh(
    field: RadianceField, settings: MeshSettings, eyes: NDArray[np.float64], device: torch.device
) -> Generator[float, None, tuple[Mesh, dict[str, Any]]]:
    """The field's surface, coloured, in box coordinates, and facts of it. Yields the share done.

    eyes: cameras [N, 3] in box coordinates; cavities that none of them is in are removed. Raises Gen3DError where there
    is no surface.
    """
    density, lower, spacing = yield from sample_density(field, settings.resolution, device)
    level, mesh = yield from find_surface(density, lower, spacing, settings, eyes)
    yield 0.45
    fine = cleanup.smooth(settled(field, mesh, spacing, device))
    mesh = cleanup.decimate(fine, settings.faces)
    if settings.watertight:
        mesh = cleanup.make_watertight(mesh)
    yield 0.5
    colour = seen_colour(field, (2 * spacing, -8 * spacing), device)
    if settings.texture:
        baking = texture.bake(mesh, colour, settings.texture, fine if settings.normal_map else None)
        mesh = yield from between(baking, 0.5, 0.9)
    else:
        mesh = texture.paint(mesh, colour)
    yield 0.95
    facts = {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "level": level}
    return mesh, {**facts, "colour": "texture" if settings.texture else "vertex"}


def sample_density(
    field: RadianceField, resolution: int, device: torch.device
) -> Generator[float, None, tuple[NDArray[np.float32], NDArray[np.float64], float]]:
    """Density [X, Y, Z] on a grid around the field's region, its lower corner [3] and its spacing, in box units.

    The longest side has ``resolution`` cells. Outside the region the density is 0, and it is blurred where the field is
    soft. Yields the share done.
    Raises EmptyFieldError where the field is.
    """
    region = field.region()
    cells = region.nonzero()
    if not len(cells):
        raise surface.EmptyFieldError(
            "The field is empty: training found nothing in the box.",
            "Train longer, or check the dataset's poses and alpha.",
        )
    g = region.shape[0]
    low = (cells.amin(0).cpu().double() * 2 / g - 1).numpy()
    high = ((cells.amax(0) + 1).cpu().double() * 2 / g - 1).numpy()
    spacing = float((high - low).max() / resolution)
    sizes = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    axes = [torch.from_numpy(low[i] + spacing * np.arange(sizes[i])).float().to(device) for i in range(3)]
    density = np.zeros(tuple(sizes), np.float32)
    slab = max(1, CHUNK // int(sizes[1] * sizes[2]))
    for start in range(0, int(sizes[0]), slab):
        points = torch.stack(torch.meshgrid(axes[0][start : start + slab], axes[1], axes[2], indexing="ij"), -1)
        flat = points.view(-1, 3)
        x, y, z = ((flat + 1) * (g / 2)).long().clamp(0, g - 1).unbind(-1)
        inside = region[x, y, z]
        values = torch.zeros(len(flat), device=device)
        with torch.no_grad():
            values[inside] = field.density(flat[inside])
        density[start : start + slab] = values.view(points.shape[:3]).cpu().numpy()
        yield 0.3 * min(1.0, (start + slab) / sizes[0])
    if field.softness:
        density = gaussian_filter(density, field.softness / spacing, mode="constant")
    return density, low, spacing


def find_surface(
    density: NDArray[np.float32],
    lower: NDArray[np.float64],
    spacing: float,
    settings: MeshSettings,
    eyes: NDArray[np.float64],
) -> Generator[float, None, tuple[float, Mesh]]:
    """The surface without floaters and without what is hidden inside, and its level. Yields the share done.

    Where no level is set, lower and lower ones are tried, from a quarter of the one that on the whole looks most like
    the field: at that, thin and dark parts, which training leaves fainter than the rest, would be torn. And where a
    surface has one colour, it may be so soft that it is porous still, and through its pores the walls of the hollow
    inside count as seen. So the highest level is taken whose area is hardly above the least.
    """

    def cleaned(level: float) -> Mesh:
        mesh = surface.extract(density, level, lower, spacing)
        return cleanup.remove_inside(cleanup.remove_floaters(mesh, settings.floaters), eyes)

    if settings.level:
        return settings.level, cleaned(settings.level)
    best = surface.automatic_level(density, spacing)
    yield 0.32
    fog = min(2 * float(density.min()), best)  # there is no surface in it
    levels = [max(best / 2**i, fog) for i in range(2, 2 + LEVELS)]
    areas = []
    for i, level in enumerate(levels):
        areas.append(area(cleaned(level)))
        yield 0.32 + 0.1 * (i + 1) / LEVELS
    chosen = next(level for level, size in zip(levels, areas, strict=True) if size <= POROUS * min(areas))
    return chosen, cleaned(chosen)


def settled(field: RadianceField, mesh: Mesh, spacing: float, device: torch.device) -> Mesh:
    """The mesh with its vertices moved inwards to where ``ABSORBED`` of the light is gone, ``SETTLE`` cells at most.

    Levels low enough for whole surfaces lie a little outside of what one sees. (Measured on a known object: with this,
    0.09 % of its diagonal instead of 0.22 %; deeper or at half of the light, the surface ends up too far inside.)
    """
    depths = torch.linspace(0, SETTLE * spacing, DEPTHS, device=device)
    normals = vertex_normals(mesh)
    moved: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(mesh.vertices), CHUNK // DEPTHS):
            x = torch.from_numpy(mesh.vertices[start : start + CHUNK // DEPTHS]).to(device)
            n = torch.from_numpy(normals[start : start + CHUNK // DEPTHS]).to(device)
            along = (x[:, None] - depths[:, None] * n[:, None]).reshape(-1, 3)
            optical = field.density(along).view(len(x), DEPTHS).cumsum(1) * float(depths[1])
            reached = (optical < -math.log1p(-ABSORBED)).sum(1).clamp_max(DEPTHS - 1)
            moved.append(x - depths[reached][:, None] * n)
    vertices: NDArray[np.float32] = torch.cat(moved).cpu().numpy() if moved else mesh.vertices
    return replace(mesh, vertices=vertices)


def seen_colour(field: RadianceField, reach: tuple[float, float], device: torch.device) -> Colour:
    """The colour one sees looking straight at the surface: rendered along the normal, from ``reach[0]`` box units
    outside to ``reach[1]``. At the surface itself the field is almost empty, and the colour of nothing is arbitrary."""

    def colour(points: NDArray[np.float32], normals: NDArray[np.float32]) -> NDArray[np.float32]:
        depths = torch.linspace(*reach, DEPTHS, device=device)
        parts: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, len(points), CHUNK // DEPTHS):
                x = torch.from_numpy(points[start : start + CHUNK // DEPTHS]).float().to(device)
                n = torch.from_numpy(normals[start : start + CHUNK // DEPTHS]).float().to(device)
                along = (x[:, None] + depths[:, None] * n[:, None]).reshape(-1, 3)
                optical = field.density(along).view(len(x), DEPTHS) * ((reach[0] - reach[1]) / (DEPTHS - 1))
                rgb = field.colour(along, -n.repeat_interleave(DEPTHS, 0)).view(len(x), DEPTHS, 3)
                weights = torch.exp(optical - optical.cumsum(1)) * -torch.expm1(-optical) + 1e-9
                parts.append((weights[..., None] * rgb).sum(1) / weights.sum(1, keepdim=True))
        result: NDArray[np.float32] = torch.cat(parts).cpu().numpy() if parts else np.zeros((0, 3), np.float32)
        return result

    return colour
