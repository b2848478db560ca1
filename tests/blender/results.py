# SPDX-License-Identifier: GPL-3.0-or-later
"""Result folders made by hand, byte by byte, as the backend writes them."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

YUP = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)
BOX_TO_WORLD = [[0.0, -2.0, 0.0, 5.0], [2.0, 0.0, 0.0, -3.0], [0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 1.0]]

CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32)
CUBE = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]],
    np.int32,
)  # fmt: skip


def linear16(srgb: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """sRGB bytes as linear 16-bit, opaque: glTF's COLOR_0."""
    value = srgb / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    opaque = np.concatenate((linear, np.ones_like(linear[:, :1])), axis=1)
    return np.round(65535.0 * opaque).astype(np.uint16)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An RGB picture [H, W, 3], top row first."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (*chunks, (b"IEND", b""))
    )


def glb(
    positions: NDArray[np.float32],
    faces: NDArray[np.int32],
    *,
    srgb: NDArray[np.uint8] | None = None,
    uvs: NDArray[np.float32] | None = None,
    texture: bytes | None = None,
    normal_map: bytes | None = None,
    box_to_world: Any = BOX_TO_WORLD,
) -> bytes:
    """A binary glTF; uvs with their origin top left."""
    body = bytearray()
    views: list[dict[str, int]] = []
    accessors: list[dict[str, Any]] = []

    def view(data: bytes) -> int:
        views.append({"buffer": 0, "byteOffset": len(body), "byteLength": len(data)})
        body.extend(data + b"\0" * (-len(data) % 4))
        return len(views) - 1

    def accessor(values: NDArray[Any], component: int, kind: str, **more: Any) -> int:
        place = {"bufferView": view(values.tobytes()), "componentType": component}
        accessors.append({**place, "count": len(values), "type": kind, **more})
        return len(accessors) - 1

    attributes = {"POSITION": accessor(positions, 5126, "VEC3", min=[-1.0] * 3, max=[1.0] * 3)}
    if srgb is not None:
        attributes["COLOR_0"] = accessor(linear16(srgb), 5123, "VEC4", normalized=True)
    if uvs is not None:
        attributes["TEXCOORD_0"] = accessor(uvs, 5126, "VEC2")
    indices = accessor(faces.astype(np.uint32).ravel(), 5125, "SCALAR")
    gltf: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "matrix": (YUP @ np.array(box_to_world)).T.ravel().tolist()}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {}}],
    }
    pictures = [picture for picture in (texture, normal_map) if picture is not None]
    if pictures:
        surface = gltf["materials"][0]
        gltf["images"] = [{"bufferView": view(picture), "mimeType": "image/png"} for picture in pictures]
        gltf["textures"] = [{"source": number} for number in range(len(pictures))]
        surface["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
        if normal_map is not None:
            surface["normalTexture"] = {"index": 1}
    gltf |= {"accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": len(body)}]}
    text = json.dumps(gltf).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(body)
    head = struct.pack("<4sII", b"glTF", 2, total) + struct.pack("<I4s", len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(body), b"BIN\0") + bytes(body)


def result(folder: Path, mesh: bytes, /, **facts: Any) -> Path:
    """A finished result folder around a mesh."""
    folder.mkdir()
    (folder / "mesh.glb").write_bytes(mesh)
    (folder / "result.json").write_text(
        json.dumps(
            {
                "format": 1,
                "kind": "nerf",
                "settings": {"seed": 3},
                "seed": 3,
                "box_to_world": BOX_TO_WORLD,
                "files": {"mesh": "mesh.glb"},
                "sha256": {"mesh.glb": hashlib.sha256(mesh).hexdigest()},
                "metrics": {"psnr": 30.0},
                "version": "0.1.0",
                **facts,
            }
        )
    )
    return folder


def coloured_cube() -> tuple[bytes, NDArray[np.uint8]]:
    """A cube with a colour of its own at every corner."""
    srgb = np.random.default_rng(0).integers(0, 256, (8, 3)).astype(np.uint8)
    return glb(CORNERS, CUBE, srgb=srgb), srgb


def ply(positions: NDArray[np.float32], srgb: NDArray[np.uint8]) -> bytes:
    """A coloured cloud as binary PLY."""
    columns = [f"property float {axis}" for axis in "xyz"] + [
        f"property uchar {name}" for name in ("red", "green", "blue")
    ]
    head = ["ply", "format binary_little_endian 1.0", "comment by hand", f"element vertex {len(positions)}", *columns]
    head += ["element face 0", "property list uchar int vertex_indices", "end_header", ""]
    rows = (struct.pack("<3f3B", *place, *colour) for place, colour in zip(positions, srgb, strict=True))
    return "\n".join(head).encode() + b"".join(rows)


def generated(folder: Path, sides: Sequence[Sequence[float]], points: int = 0, **facts: Any) -> Path:
    """A finished result of the kind "generate": for each of ``sides`` (metres) a block of that size, its corners in
    colours of their own, out of the middle of its box; with ``points``, as many of its own surface for each."""
    folder.mkdir()
    srgb = np.arange(24, dtype=np.uint8).reshape(8, 3) * 10
    objects: list[dict[str, Any]] = []
    for number, side in enumerate(sides):
        size = np.array(side, np.float64)
        scale, ending = size.max(), f"_{number + 1}" if number else ""
        matrix = np.diag([scale, scale, scale, 1.0])
        matrix[:3, 3] = -scale * np.array([0.1, -0.2, 0.3 - size[2] / scale / 2.0])
        corners = (CORNERS * (size / scale) + (0.1, -0.2, 0.3)).astype(np.float32)
        files = {"mesh": f"mesh{ending}.glb"}
        (folder / files["mesh"]).write_bytes(glb(corners, CUBE, srgb=srgb, box_to_world=matrix))
        if points:
            files["points"] = f"points{ending}.ply"
            cloud = np.random.default_rng(number).uniform(-0.5, 0.5, (points, 3)) * size + (0.0, 0.0, size[2] / 2.0)
            shades = np.random.default_rng(number).integers(0, 256, (points, 3)).astype(np.uint8)
            (folder / files["points"]).write_bytes(ply(cloud.astype(np.float32), shades))
        objects.append({"seed": 5 + number, "files": files, "box_to_world": matrix.tolist()})
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    told = {
        "format": 1,
        "kind": "generate",
        "settings": {"prompt": "a red block", "seed": 5},
        "seed": 5,
        "sha256": sums,
    }
    told |= {"prior": "embedded", "objects": objects, "files": objects[0]["files"], "notes": ["Made with the prior."]}
    told |= {"box_to_world": objects[0]["box_to_world"], "version": "0.1.0"}
    (folder / "result.json").write_text(json.dumps(told | facts))
    return folder
