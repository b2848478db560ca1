# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the binary glTF that the backend writes: one mesh of triangles with colours or textures. Needs no bpy.

glTF 2.0, sections 3.6 (accessors) and 4.4 (GLB). Nothing in the file is trusted: every offset and index is checked.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bridge import errors

_DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, struct.error)
_TYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True)
class GlbMesh:
    """Positions float32 [V, 3] and faces int32 [F, 3]; then what there is of

    colors: float32 [V, 4], linear; uvs: float32 [V, 2], origin TOP left as in glTF; texture and, beside it, normal_map:
    encoded PNGs.
    """

    positions: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors: NDArray[np.float32] | None
    uvs: NDArray[np.float32] | None
    texture: bytes | None
    normal_map: bytes | None


def read_glb(path: Path) -> GlbMesh:
    """The first primitive of the first mesh of a GLB file. Raises Gen3DError where the file is damaged."""
    try:
        return _read(path.read_bytes())
    except (OSError, *_DAMAGE) as fault:
        raise errors.Gen3DError(
            f"{path} is damaged or is not a mesh of ours ({type(fault).__name__}).",
            "Make the mesh again from the saved field.",
        ) from fault


def _read(data: bytes) -> GlbMesh:
    magic, version, length = struct.unpack_from("<4sII", data, 0)
    if magic != b"glTF" or version != 2 or length != len(data):
        raise ValueError("not a whole binary glTF 2.0 file")
    (json_length,) = struct.unpack_from("<I", data, 12)
    gltf = json.loads(data[20 : 20 + json_length])
    start = 20 + json_length + 8
    body = data[start:]
    primitive = gltf["meshes"][0]["primitives"][0]
    attributes = primitive["attributes"]
    positions = _accessor(gltf, body, attributes["POSITION"], 3)
    faces = _accessor(gltf, body, primitive["indices"], 1).astype(np.int64).reshape(-1, 3)
    if faces.size and faces.max() >= len(positions):
        raise ValueError("a face names a vertex that is not there")
    if not np.isfinite(positions).all():
        raise ValueError("a vertex is not a finite point")
    colors = _unit(_accessor(gltf, body, attributes["COLOR_0"])) if "COLOR_0" in attributes else None
    uvs = _accessor(gltf, body, attributes["TEXCOORD_0"], 2) if "TEXCOORD_0" in attributes else None
    if colors is not None and colors.shape[1] == 3:
        colors = np.concatenate((colors, np.ones_like(colors[:, :1])), axis=1)
    for values in (colors, uvs):
        if values is not None and len(values) != len(positions):
            raise ValueError("colours or UVs do not match the vertices")
    material = gltf["materials"][primitive["material"]] if uvs is not None else {}
    return GlbMesh(
        positions.astype(np.float32),
        faces.astype(np.int32),
        colors,
        None if uvs is None else uvs.astype(np.float32),
        _picture(gltf, body, material["pbrMetallicRoughness"]["baseColorTexture"]) if uvs is not None else None,
        _picture(gltf, body, material["normalTexture"]) if "normalTexture" in material else None,
    )


def _accessor(gltf: dict[str, Any], body: bytes, index: int, columns: int | None = None) -> NDArray[Any]:
    """The values [N, columns] of a tightly packed accessor."""
    accessor = gltf["accessors"][index]
    view = gltf["bufferViews"][accessor["bufferView"]]
    width = _COLUMNS[accessor["type"]]
    dtype = np.dtype(_TYPES[accessor["componentType"]])
    if (columns is not None and width != columns) or view.get("byteStride", width * dtype.itemsize) != (
        width * dtype.itemsize
    ):
        raise ValueError("an accessor is laid out otherwise")
    offset = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
    count = int(accessor["count"])
    if offset < 0 or count < 0:
        raise ValueError("an accessor lies outside the file")
    return np.frombuffer(body, dtype, count * width, offset).reshape(count, width)


def _unit(values: NDArray[Any]) -> NDArray[np.float32]:
    """Normalised integers as fractions."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    return (values / np.iinfo(values.dtype).max).astype(np.float32)


def _picture(gltf: dict[str, Any], body: bytes, texture: dict[str, Any]) -> bytes:
    """The encoded PNG of one of a material's textures."""
    image = gltf["images"][gltf["textures"][texture["index"]]["source"]]
    view = gltf["bufferViews"][image["bufferView"]]
    offset = int(view.get("byteOffset", 0))
    picture = body[offset : offset + int(view["byteLength"])]
    if offset < 0 or not picture.startswith(b"\x89PNG"):
        raise ValueError("a texture is no PNG")
    return picture
