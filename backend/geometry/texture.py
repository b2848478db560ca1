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
from numpy.typing import NDArray

from ..errors import Gen3DError
from ..shares import between
from . import charts, normal_maps
from .mesh import Colour, Mesh, vertex_normals

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


def bake(mesh: Mesh, colour: Colour, size: int, fine: Mesh | None = None) -> Generator[float, None, Mesh]:
    """UV atlas and a ``size`` x ``size`` texture of ``colour``; also vertex colours, for formats without textures; with
    the mesh that this one was reduced from, ``fine``, also its normal map (``normal_maps.bake``).

    A generator, as the atlas takes long (about 26 s for 50,000 faces; decimate first): it yields the share done,
    several times a second, and returns the mesh. Closing it ends the atlas process at once.
    The surface is unchanged, but vertices on seams are doubled. The pictures show no seam (``charts.picture``).

    Raises Gen3DError when no atlas can be made.
    """
    corner, faces, uvs = yield from _unwrapped(mesh, size)
    normals = vertex_normals(mesh)[corner]
    baked = paint(Mesh(mesh.vertices[corner], faces, uvs=uvs), colour)

    def coloured(face: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
        corners, shares = faces[face], weights[:, :, None]
        directions = (normals[corners] * shares).sum(axis=1)
        directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
        return _to_bytes(colour((baked.vertices[corners] * shares).sum(axis=1), directions))

    texture = yield from between(charts.picture(baked, size, coloured), 0.5, 1.0 if fine is None else 0.75)
    if fine is None:
        return replace(baked, texture=texture)
    normal_map = yield from between(normal_maps.bake(baked, fine, size), 0.75, 1.0)
    return replace(baked, texture=texture, normal_map=normal_map)


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


def _to_bytes(colours: NDArray[np.floating]) -> NDArray[np.uint8]:
    quantised: NDArray[np.uint8] = np.rint(np.clip(np.nan_to_num(colours), 0.0, 1.0) * 255.0).astype(np.uint8)
    return quantised
