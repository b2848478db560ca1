# SPDX-License-Identifier: GPL-3.0-or-later
"""From a density grid to a closed triangle surface, and the level at which that surface lies.

Densities are per unit length of the box, as in volume rendering: a stretch of length s absorbs 1 - exp(-density s).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.measure import marching_cubes

from ..errors import Gen3DError
from .mesh import Mesh

MAX_FACES = 30_000_000
CLIP = 4.0  # |log(density / level)| beyond which a sample says nothing more about where the surface lies
LEVELS = 64
RAYS = 64  # rays along each side of the grid, at least
REACH = 0.02  # share of the grid's side beyond which a surface counts as missed or invented


def extract(density: NDArray[np.floating], level: float, lower: ArrayLike, spacing: float) -> Mesh:
    """The surface where ``density`` equals ``level``, outside being where it is lower.

    density: [X, Y, Z] samples at ``lower + spacing * index``; level: above 0; lower: [3]. The surface is closed at
    the border of the grid. Vertices are interpolated in log-density, clipped: densities jump by orders of magnitude
    within a cell, and linear interpolation would push every vertex next to the outer sample (on a sharp sphere,
    log interpolation leaves 0.004 cells of staircase where linear leaves 0.09, and no bias).

    Raises Gen3DError when there is no surface, the densities are not numbers, or there would be too many triangles.
    """
    density = _checked(density)
    low, high = float(density.min()), float(density.max())
    if not 0 < level < math.inf or not low <= level <= high:
        raise Gen3DError(
            f"No surface lies at density {level:g}: the field's densities run from {low:g} to {high:g}.",
            "Choose a level between them, or 0 to have it found; if the field is empty, train it longer.",
            field="mesh.level",
        )
    logs = np.full([n + 2 for n in density.shape], -100.0 * CLIP, dtype=np.float32)  # empty all around: closed
    inner = logs[1:-1, 1:-1, 1:-1]
    np.maximum(density, level * math.exp(-CLIP), out=inner)
    inner /= level
    np.log(inner, out=inner)
    np.minimum(inner, CLIP, out=inner)
    inner[np.abs(inner) < 1e-4] = 1e-4  # a vertex exactly on a sample would make faces without area
    _refuse_too_many(logs > 0)
    vertices, faces, _, _ = marching_cubes(  # type: ignore[no-untyped-call]
        logs, 0.0, gradient_direction="ascent"
    )
    vertices = np.asarray(lower, dtype=np.float64) + (vertices.astype(np.float64) - 1.0) * spacing
    return Mesh(vertices.astype(np.float32), np.ascontiguousarray(faces, dtype=np.int32))


class EmptyFieldError(Gen3DError):
    """There is no surface, because there is nothing."""


def automatic_level(density: NDArray[np.floating], spacing: float) -> float:
    """The density at which the surface seen in pictures of the field lies.

    Parallel rays are sent through the grid from its six sides. Each either passes, or meets a surface at the depth
    where half of its light is absorbed: what volume rendering calls the median depth. For every candidate level the
    first crossing of the iso-surface is compared with that; the level with the least mean difference (a missed or
    invented surface counts as ``REACH``) is the one whose mesh looks like the field. Where many levels do equally
    well, as in sharp fields, the middle of their range (in log) is taken. No density is preset: sharp, foggy and
    faint fields (no ray loses half its light: half of what the most opaque one loses is taken) each find their own.

    density: [X, Y, Z]; spacing: the cell's side in box units. Returns a level for ``extract``.
    Raises Gen3DError when the densities are not numbers, EmptyFieldError when the field is empty.
    """
    density = _checked(density)
    top = min(float(density.max()), 10.0 / spacing)  # denser than this, one cell is as good as opaque
    views = list(_views(density, 10.0 * top))
    most = max(-math.expm1(-spacing * float(view.sum(axis=1).max())) for view in views)
    if not top > 0 or most < 0.01:
        raise EmptyFieldError(
            f"The field is empty: no line of sight through it loses more than {most:.2%} of its light.",
            "Train it longer, or check that the cameras look at the object.",
            field="mesh.level",
        )
    levels = np.geomspace(top * 1e-6, top, LEVELS)
    errors, solid = np.zeros(LEVELS), 0
    for view in views:
        depth = _median_depth(view, spacing, most / 2)
        solid += int((depth < view.shape[1]).sum())
        errors += _level_errors(view, levels, depth)
    errors /= solid  # per ray that meets something
    best = int(errors.argmin())
    worse = np.flatnonzero(errors > errors[best] + REACH / 20)
    first = worse[worse < best].max(initial=-1) + 1
    last = worse[worse > best].min(initial=LEVELS) - 1
    return max(float(math.sqrt(levels[first] * levels[last])), float(density.min()))  # fog is as large as its box


def _checked(density: NDArray[np.floating]) -> NDArray[np.floating]:
    if density.ndim != 3 or min(density.shape) < 2:
        raise ValueError(f"density must be a grid [X, Y, Z] of at least 2 samples a side, not {density.shape}")
    wrong = int(np.isnan(density).sum())
    if wrong:
        raise Gen3DError(
            f"The density of {wrong} of {density.size} cells is not a number.",
            "The field is damaged: train it again, or go back to an earlier checkpoint.",
        )
    return density


def _refuse_too_many(inside: NDArray[np.bool_]) -> None:
    """One vertex per crossed grid edge, about two triangles per vertex (Euler): known before any mesh is made."""
    vertices = sum(int(np.count_nonzero(np.diff(inside, axis=axis))) for axis in range(3))
    if 2 * vertices > MAX_FACES:
        raise Gen3DError(
            f"The surface would have about {2 * vertices / 1e6:.0f} million triangles, more than {MAX_FACES // 10**6}.",
            "Lower mesh.resolution, or raise mesh.level if the field is noise.",
            field="mesh.resolution",
        )


def _views(density: NDArray[np.floating], most: float) -> Iterator[NDArray[np.float32]]:
    """Densities from 0 to ``most`` along parallel rays from each of the six sides, [rays, samples] front to back."""
    for axis in range(3):
        lines = np.moveaxis(density, axis, -1)
        step = [max(1, n // RAYS) for n in lines.shape[:2]]
        thinned = lines[step[0] // 2 :: step[0], step[1] // 2 :: step[1]]
        view = np.clip(thinned, 0.0, most).astype(np.float32).reshape(-1, lines.shape[2])
        yield view
        yield view[:, ::-1]


def _median_depth(view: NDArray[np.float32], spacing: float, opacity: float) -> NDArray[np.float64]:
    """Depth in cells at which each ray has lost the share ``opacity`` of its light; [samples] where it never does.

    Each sample fills the cell around it, as in the quadrature of Max (1995) that volume rendering uses.
    """
    target = -math.log1p(-opacity) / spacing
    gathered = np.cumsum(view, axis=1, dtype=np.float64)
    index = (gathered < target).sum(axis=1)
    hit = np.minimum(index, view.shape[1] - 1)
    row = np.arange(len(view))
    inside = (gathered[row, hit] - target) / np.maximum(view[row, hit], 1e-30)
    return np.where(index < view.shape[1], np.maximum(hit + 0.5 - inside, 0.0), float(view.shape[1]))


def _level_errors(
    view: NDArray[np.float32], levels: NDArray[np.float64], depth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum over rays of the distance between ``depth`` and the first crossing of each level, [levels].

    As a share of the grid's side, each ray at most ``REACH``.
    """
    logs = np.log(np.maximum(view, levels[0] * math.exp(-CLIP)))
    running = np.maximum.accumulate(logs, axis=1)
    row = np.arange(len(view))
    errors = np.empty(len(levels))
    for i, level in enumerate(np.log(levels)):
        index = (running < level).sum(axis=1)
        hit = np.minimum(index, view.shape[1] - 1)
        after = np.minimum(logs[row, hit] - level, CLIP)
        before = np.maximum(logs[row, np.maximum(hit - 1, 0)] - level, -CLIP)
        inner = np.where(hit > 0, hit - after / np.maximum(after - before, 1e-6), 0.0)
        crossing = np.where(index < view.shape[1], inner, float(view.shape[1]))
        errors[i] = np.minimum(np.abs(crossing - depth) / view.shape[1], REACH).sum()
    return errors
