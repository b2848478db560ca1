# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours onto a mesh: one per vertex, or a texture baked over a UV atlas."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..errors import Gen3DError
from .mesh import Colour, Mesh, vertex_normals

GUTTER = 2.0  # texels around each chart that take the colour of the nearest point of any chart
CHUNK = 1 << 17  # points per call of the colour function
POLL = 0.1  # seconds between two looks at the atlas process


def paint(mesh: Mesh, colour: Colour) -> Mesh:
    """The mesh with ``colors`` [V, 3], uint8 sRGB, taken from ``colour`` at its vertices."""
    normals = vertex_normals(mesh)
    parts = [
        _to_bytes(colour(mesh.vertices[i : i + CHUNK], normals[i : i + CHUNK]))
        for i in range(0, len(mesh.vertices), CHUNK)
    ]
    return replace(mesh, colors=np.concatenate(parts) if parts else np.zeros((0, 3), dtype=np.uint8))


def bake(mesh: Mesh, colour: Colour, size: int) -> Generator[float, None, Mesh]:
    """UV atlas and a ``size`` x ``size`` texture of ``colour``; also vertex colours, for formats without textures.

    A generator, as the atlas takes long (about 26 s for 50,000 faces; decimate first): it yields the share done,
    several times a second, and returns the mesh. Closing it ends the atlas process at once.
    The surface is unchanged, but vertices on seams are doubled. Texels in the charts are exact; those up to
    ``GUTTER`` outside take the nearest point of the chart; the rest is filled from coarser and coarser means of these,
    so that neither filtering nor mip-mapping lets a seam show.

    Raises Gen3DError when no atlas can be made.
    """
    corner, faces, uvs = yield from _unwrapped(mesh, size)
    normals = vertex_normals(mesh)[corner]
    baked = paint(Mesh(mesh.vertices[corner], faces, uvs=uvs), colour)
    texture = np.zeros((size, size, 3), dtype=np.uint8)
    covered = np.zeros((size, size), dtype=bool)
    places = np.stack([uvs[:, 0], 1.0 - uvs[:, 1]], axis=1) * size
    rows = max(1, (1 << 20) // size)
    for top in range(0, size, rows):
        height = min(rows, size - top)
        face, weights = _rasterise(places.astype(np.float32), faces, top, height, size, GUTTER)
        texels = np.flatnonzero(face.ravel() >= 0)
        band, inside = texture[top : top + height].reshape(-1, 3), covered[top : top + height].reshape(-1)
        inside[texels] = True
        for i in range(0, len(texels), CHUNK):
            some = texels[i : i + CHUNK]
            corners, shares = faces[face.ravel()[some]], weights.reshape(-1, 3)[some][:, :, None]
            points = (baked.vertices[corners] * shares).sum(axis=1)
            directions = (normals[corners] * shares).sum(axis=1)
            directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
            band[some] = _to_bytes(colour(points, directions))
            yield 0.5 + 0.5 * (top + height * (i + len(some)) / len(texels)) / size
    return replace(baked, texture=_filled(texture, covered))


def uv_coverage(mesh: Mesh) -> float:
    """Share of the texture that the charts cover."""
    if mesh.uvs is None:
        return 0.0
    a, b, c = (mesh.uvs[mesh.faces[:, i]].astype(np.float64) for i in range(3))
    ab, ac = b - a, c - a
    return float(0.5 * np.abs(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]).sum())


def _unwrapped(
    mesh: Mesh, size: int
) -> Generator[float, None, tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]]:
    """See ``atlas.unwrap``, in a child process that does not outlive this generator."""
    with tempfile.TemporaryFile() as work, tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as complaint:
        np.savez(work, vertices=mesh.vertices, faces=mesh.faces, size=size)
        work.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("atlas.py"))],
            stdin=work,  # files, not pipes: nobody waits for the other side
            stdout=answer,
            stderr=complaint,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        share = 0.0
        try:
            while True:
                try:
                    process.wait(POLL)
                    break
                except subprocess.TimeoutExpired:
                    share += (0.5 - share) * POLL / 20  # how far xatlas is, it does not say
                    yield share
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            complaint.seek(0)
            last = complaint.read().decode(errors="replace").strip().splitlines()[-1:]
            raise Gen3DError(
                f"The UV atlas could not be made: {' '.join(last) or f'xatlas ended with code {process.returncode}'}.",
                "Lower mesh.faces, or set mesh.texture to 0 for vertex colours.",
                field="mesh.texture",
            )
        answer.seek(0)
        with np.load(answer, allow_pickle=False) as made:
            return made["corner"], made["faces"], made["uvs"]


@njit(cache=True, nogil=True)
def _rasterise(
    places: NDArray[np.float32], faces: NDArray[np.int32], top: int, height: int, width: int, gutter: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Face [height, width] and barycentric coordinates [height, width, 3] of the chart point nearest to each texel.

    places: float32 [V, 2], x to the right and y down, in texels; rows ``top`` to ``top + height``. The face is -1 where
    no chart comes within ``gutter`` texels of the texel's middle.
    """
    face = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 3), np.float32)
    nearest = np.full((height, width), np.float32(gutter * gutter))
    for f in range(len(faces)):
        x = places[faces[f], 0]
        y = places[faces[f], 1]
        if y.max() + gutter < top or y.min() - gutter > top + height:
            continue
        area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
        first_row = max(int(y.min() - gutter), top)
        last_row = min(int(y.max() + gutter), top + height - 1)
        for row in range(first_row, last_row + 1):
            for column in range(max(int(x.min() - gutter), 0), min(int(x.max() + gutter), width - 1) + 1):
                px, py = column + 0.5, row + 0.5
                best = nearest[row - top, column]
                w0 = ((x[1] - px) * (y[2] - py) - (x[2] - px) * (y[1] - py)) / area if area != 0.0 else -1.0
                w1 = ((x[2] - px) * (y[0] - py) - (x[0] - px) * (y[2] - py)) / area if area != 0.0 else -1.0
                w2 = 1.0 - w0 - w1
                if w0 >= 0.0 and w1 >= 0.0 and w2 >= 0.0:
                    nearest[row - top, column] = 0.0
                    face[row - top, column] = f
                    weights[row - top, column] = (w0, w1, w2)
                    continue
                for i in range(3):
                    j = (i + 1) % 3
                    dx, dy = x[j] - x[i], y[j] - y[i]
                    length = dx * dx + dy * dy
                    t = ((px - x[i]) * dx + (py - y[i]) * dy) / length if length > 0.0 else 0.0
                    t = min(max(t, 0.0), 1.0)
                    distance = (x[i] + t * dx - px) ** 2 + (y[i] + t * dy - py) ** 2
                    if distance < best:
                        best = distance
                        nearest[row - top, column] = distance
                        face[row - top, column] = f
                        weights[row - top, column] = 0.0
                        weights[row - top, column, i] = 1.0 - t
                        weights[row - top, column, j] = t
    return face, weights


def _filled(image: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Texels not covered take the mean of the covered ones near them, from an image of half the size, and so on."""
    height, width = covered.shape
    if covered.all() or max(height, width) == 1:
        return image
    rows, columns = (height + 1) // 2, (width + 1) // 2
    pad = ((0, 2 * rows - height), (0, 2 * columns - width))
    counts = np.pad(covered, pad).reshape(rows, 2, columns, 2).sum(axis=(1, 3), dtype=np.uint16)
    seen = np.pad(image * covered[..., None], (*pad, (0, 0)))
    sums = seen.reshape(rows, 2, columns, 2, 3).sum(axis=(1, 3), dtype=np.uint16)
    half = (sums // np.maximum(counts, 1)[..., None]).astype(np.uint8)
    coarse = _filled(half, counts > 0).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(covered[..., None], image, coarse)


def _to_bytes(colours: NDArray[np.floating]) -> NDArray[np.uint8]:
    quantised: NDArray[np.uint8] = np.rint(np.clip(np.nan_to_num(colours), 0.0, 1.0) * 255.0).astype(np.uint8)
    return quantised
