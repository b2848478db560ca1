# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes and point clouds out of files: PLY, GLB and NPZ. A cloud is a mesh without faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Gen3DError
from .export import Y_UP, linear_to_srgb
from .mesh import Mesh

SUFFIXES = (".ply", ".npz", ".glb")


def read(path: Path) -> list[Mesh]:
    """What a file holds, Z up, colours sRGB.

    One mesh or cloud; of an NPZ with the published evaluation's "arr_0" [B, N, 3 or 6], all of its clouds. Other NPZ
    files are Point-E's: "coords" [N, 3] and the channels "R", "G", "B" [N] in 0..1. Textures become vertex colours.
    Raises Gen3DError for a file that is none of these, is damaged, or holds no finite points.
    """
    step = f"Give a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file with a mesh or points."
    if path.suffix.lower() not in SUFFIXES:
        raise Gen3DError(f"{path} is no mesh and no point cloud.", step, field="results")
    try:
        found = _npz(path) if path.suffix.lower() == ".npz" else [_scene(path)]
    except Exception as error:  # damage shows in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Gen3DError(f"{path} cannot be read: {reason:.200}.", step, field="results") from error
    if not found or not all(len(mesh.vertices) and np.isfinite(mesh.vertices).all() for mesh in found):
        raise Gen3DError(f"{path} holds no points, or some that are not finite.", step, field="results")
    return found


def _npz(path: Path) -> list[Mesh]:
    with np.load(path, allow_pickle=False) as arrays:
        if "arr_0" in arrays:
            clouds = arrays["arr_0"]
            return [_cloud(rows[:, :3], rows[:, 3:6]) for rows in (clouds if clouds.ndim == 3 else clouds[None])]
        channels = [arrays[name] for name in "RGB" if name in arrays]
        return [_cloud(arrays["coords"], np.stack(channels, 1) if len(channels) == 3 else np.empty((0, 0)))]


def _cloud(points: NDArray[Any], colours: NDArray[Any]) -> Mesh:
    if points.shape[1:] != (3,):
        raise ValueError(f"its points are of shape {points.shape}")
    shades = np.rint(colours.clip(0, 1) * 255).astype(np.uint8) if colours.shape == points.shape else None
    return Mesh(points.astype(np.float32), np.empty((0, 3), np.int32), shades)


def _scene(path: Path) -> Mesh:
    """All meshes of a file in their places, or, where it has none, all its clouds."""
    import trimesh

    scene: Any = trimesh.load_scene(path, process=False)
    placed = [scene.graph[node] for node in scene.graph.nodes_geometry]
    pieces = [(scene.geometry[name], matrix) for matrix, name in placed]
    meshes = [piece for piece in pieces if isinstance(piece[0], trimesh.Trimesh)]
    pieces = meshes or [piece for piece in pieces if isinstance(piece[0], trimesh.PointCloud)]
    glb = path.suffix.lower() == ".glb"
    vertices, faces, colours, start = [], [], [], 0
    for piece, matrix in pieces:
        vertices.append(trimesh.transform_points(piece.vertices, Y_UP.T @ matrix if glb else matrix))
        faces.append((piece.faces if meshes else np.empty((0, 3), int)) + start)
        if (shades := _colours(piece, glb)) is not None:
            colours.append(shades)
        start += len(piece.vertices)
    return Mesh(
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
        np.concatenate(colours) if len(colours) == len(pieces) else None,
    )


def _colours(piece: Any, linear: bool) -> NDArray[np.uint8] | None:
    """uint8 sRGB [V, 3]; the colours of vertices and materials are ``linear`` in GLB, those of textures never."""
    visual, count = piece.visual, len(piece.vertices)
    if visual.kind == "texture":
        colours = np.asarray(visual.vertex_attributes.get("color", np.tile(visual.material.main_color, (count, 1))))
        if visual.uv is not None:
            colours, linear = np.asarray(visual.to_color().vertex_colors), False
    elif visual.kind is not None:
        colours = np.asarray(visual.vertex_colors)
    else:
        return None
    if colours.ndim != 2 or len(colours) != count or colours.shape[1] < 3:
        return None
    shades: NDArray[np.float64] = colours[:, :3] / (np.iinfo(colours.dtype).max if colours.dtype.kind in "ui" else 1)
    srgb = linear_to_srgb(shades) if linear else shades
    return np.asarray(np.rint(255 * srgb.clip(0, 1)), np.uint8)
