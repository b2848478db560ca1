# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the coloured point clouds that the backend writes, and writes meshes for it, as binary PLY. Needs no bpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bridge import errors

_VERTEX = np.dtype([("place", "<f4", 3), ("color", "u1", 3)])
_PROPERTIES = [f"property float {axis}" for axis in "xyz"] + [
    f"property uchar {channel}" for channel in ("red", "green", "blue")
]


_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])


@dataclass(frozen=True)
class Cloud:
    """positions: float32 [N, 3]; colors: uint8 [N, 3], sRGB."""

    positions: NDArray[np.float32]
    colors: NDArray[np.uint8]


def read_cloud(path: Path) -> Cloud:
    """The points of a PLY file. Raises Gen3DError where it is damaged or none of ours."""
    try:
        head, _, body = path.read_bytes().partition(b"end_header\n")
        lines = head.decode("ascii").splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("element vertex "))
        if lines[:2] != ["ply", "format binary_little_endian 1.0"] or lines[start + 1 : start + 7] != _PROPERTIES:
            raise ValueError("the header is another one")
        points = np.frombuffer(body, _VERTEX, int(lines[start].split()[2]))
        if not np.isfinite(points["place"]).all():
            raise ValueError("a point is not finite")
    except (OSError, ValueError, StopIteration) as fault:
        raise errors.Gen3DError(
            f"{path} is damaged or holds no points of ours ({type(fault).__name__}).", "Generate it again."
        ) from fault
    return Cloud(points["place"].copy(), points["color"].copy())


def mesh_ply(
    positions: NDArray[np.floating], faces: NDArray[np.int32], colors: NDArray[np.uint8] | None = None
) -> bytes:
    """A file of triangles: positions [V, 3], faces [F, 3], colors uint8 sRGB [V, 3]."""
    fields = [("place", "<f4", 3)] + ([("color", "u1", 3)] if colors is not None else [])
    vertices = np.empty(len(positions), np.dtype(fields))
    vertices["place"] = positions
    if colors is not None:
        vertices["color"] = colors
    triangles = np.empty(len(faces), _FACE)
    triangles["count"], triangles["corners"] = 3, faces
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    head += _PROPERTIES[: 6 if colors is not None else 3]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(head).encode("ascii") + vertices.tobytes() + triangles.tobytes()
