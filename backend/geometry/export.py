# SPDX-License-Identifier: GPL-3.0-or-later
"""Mesh files: GLB (glTF 2.0 binary), PLY (binary) and OBJ, with MTL and PNG where there is a texture or a normal map.

The GLB keeps box coordinates and carries the way to the world in its node's matrix; PLY and OBJ, which have no nodes,
are written in world coordinates (Z up, as the dataset). Nothing here is atomic: write into a folder that is renamed
when it is whole.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .mesh import Mesh, vertex_normals, weld

Y_UP = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
"""Z-up to glTF's Y-up: (x, y, z) to (x, z, -y)."""

FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125
VERTICES, INDICES = 34962, 34963


def srgb_to_linear(colour: NDArray[np.floating]) -> NDArray[np.float64]:
    """sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    c = np.asarray(colour, dtype=np.float64)
    return np.where(c <= 0.04045, c / 12.92, ((np.maximum(c, 0.0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: NDArray[np.floating]) -> NDArray[np.float64]:
    """Linear light in [0, 1] to sRGB (IEC 61966-2-1)."""
    c = np.asarray(light, dtype=np.float64)
    return np.where(c <= 0.0031308, c * 12.92, 1.055 * np.maximum(c, 0.0) ** (1 / 2.4) - 0.055)


def to_world(mesh: Mesh, box_to_world: ArrayLike) -> NDArray[np.float64]:
    """Vertices in world coordinates, [V, 3]. ``box_to_world``: similarity [4, 4] for column vectors."""
    matrix = np.asarray(box_to_world, dtype=np.float64)
    return mesh.vertices.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def write_all(mesh: Mesh, box_to_world: ArrayLike, folder: Path, name: str = "mesh") -> dict[str, str]:
    """Every format into ``folder``; the file names by role: mesh (GLB), ply, obj and, if textured, mtl, texture and, if
    there is one, normal_map."""
    (folder / f"{name}.glb").write_bytes(glb(mesh, box_to_world))
    (folder / f"{name}.ply").write_bytes(ply(mesh, box_to_world))
    files = {"mesh": f"{name}.glb", "ply": f"{name}.ply", "obj": f"{name}.obj"}
    if mesh.texture is not None:
        files |= {"mtl": f"{name}.mtl", "texture": f"{name}.png"}
        (folder / files["texture"]).write_bytes(png(mesh.texture))
        material = f"newmtl surface\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {files['texture']}\n"
        if mesh.normal_map is not None:
            files["normal_map"] = f"{name}_normals.png"
            (folder / files["normal_map"]).write_bytes(png(mesh.normal_map))
            # Blender knows normal maps by the one name, which others give to heights; these know them by the other.
            material += f"map_Bump -bm 1 {files['normal_map']}\nnorm {files['normal_map']}\n"
        (folder / files["mtl"]).write_text(material, encoding="ascii", newline="\n")
    with (folder / files["obj"]).open("w", encoding="ascii", newline="\n") as stream:
        stream.writelines(obj(mesh, box_to_world, files.get("mtl")))
    return files


def png(image: NDArray[np.uint8]) -> bytes:
    """PNG of a picture [H, W, 3], which says nothing of its colour space."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def glb(mesh: Mesh, box_to_world: ArrayLike) -> bytes:
    """glTF 2.0 binary: one node with matrix ``Y_UP @ box_to_world``, one mesh in box coordinates, one rough material.

    With a texture: TEXCOORD_0 and the PNG inside, and that of the normal map where there is one; else, with colours:
    COLOR_0 in linear light, 16 bits, RGBA.
    """
    buffer = _Buffer()
    limits = {"min": mesh.vertices.min(axis=0).tolist(), "max": mesh.vertices.max(axis=0).tolist()}
    attributes = {
        "POSITION": buffer.accessor(mesh.vertices.astype("<f4"), FLOAT, "VEC3", VERTICES, **limits),
        "NORMAL": buffer.accessor(vertex_normals(mesh).astype("<f4"), FLOAT, "VEC3", VERTICES),
    }
    material: dict[str, Any] = {
        "name": "surface",
        "doubleSided": False,
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
    }
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "Gen3D"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "matrix": (Y_UP @ np.asarray(box_to_world, dtype=np.float64)).T.ravel().tolist()}],
        "materials": [material],
    }
    if mesh.texture is not None and mesh.uvs is not None:
        top_left = np.stack([mesh.uvs[:, 0], 1.0 - mesh.uvs[:, 1]], axis=1)
        attributes["TEXCOORD_0"] = buffer.accessor(top_left.astype("<f4"), FLOAT, "VEC2", VERTICES)
        pictures = [mesh.texture] if mesh.normal_map is None else [mesh.texture, mesh.normal_map]
        document["images"] = [{"mimeType": "image/png", "bufferView": buffer.view(png(image))} for image in pictures]
        document["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}]
        document["textures"] = [{"source": index, "sampler": 0} for index in range(len(pictures))]
        material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
        if mesh.normal_map is not None:
            material["normalTexture"] = {"index": 1}
    elif mesh.colors is not None:
        light = np.rint(srgb_to_linear(np.arange(256) / 255.0) * 65535.0).astype("<u2")[mesh.colors]
        rgba = np.concatenate([light, np.full((len(light), 1), 65535, dtype="<u2")], axis=1)
        attributes["COLOR_0"] = buffer.accessor(rgba, UNSIGNED_SHORT, "VEC4", VERTICES, normalized=True)
    indices = buffer.accessor(mesh.faces.ravel().astype("<u4"), UNSIGNED_INT, "SCALAR", INDICES)
    document["meshes"] = [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}]
    document |= {"accessors": buffer.accessors, "bufferViews": buffer.views, "buffers": [{"byteLength": buffer.size}]}
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(buffer.parts)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
    return header + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


class _Buffer:
    """The BIN chunk of a GLB as it grows: views aligned to 4 bytes, and the accessors into them."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": self.size, "byteLength": len(data)}
        self.views.append(view if target is None else view | {"target": target})
        self.parts += [data, b"\0" * (-len(data) % 4)]
        self.size += len(data) + -len(data) % 4
        return len(self.views) - 1

    def accessor(self, data: NDArray[Any], component: int, kind: str, target: int, **more: Any) -> int:
        view = self.view(data.tobytes(), target)
        self.accessors.append(
            {"bufferView": view, "componentType": component, "count": len(data), "type": kind, **more}
        )
        return len(self.accessors) - 1


def ply(mesh: Mesh, box_to_world: ArrayLike) -> bytes:
    """Binary PLY in world coordinates, colours uint8 sRGB; vertices welded over texture seams, but for a bare cloud."""
    first, place = weld(mesh.vertices) if len(mesh.faces) else (np.arange(len(mesh.vertices)),) * 2
    columns = [(axis, "<f4") for axis in "xyz"]
    names = ["x", "y", "z"]
    values = list(to_world(mesh, box_to_world)[first].T)
    if mesh.colors is not None:
        columns += [(channel, "u1") for channel in ("red", "green", "blue")]
        names += ["red", "green", "blue"]
        values += list(mesh.colors[first].T)
    vertices = np.empty(len(first), dtype=columns)
    for name, value in zip(names, values, strict=True):
        vertices[name] = value
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, place[mesh.faces]
    types = {"<f4": "float", "u1": "uchar"}
    lines = ["ply", "format binary_little_endian 1.0", "comment Gen3D, world coordinates, Z up, sRGB colours"]
    lines += [f"element vertex {len(vertices)}", *(f"property {types[kind]} {name}" for name, kind in columns)]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(lines).encode() + vertices.tobytes() + faces.tobytes()


def obj(mesh: Mesh, box_to_world: ArrayLike, material_file: str | None) -> Iterable[str]:
    """Wavefront OBJ in world coordinates, in pieces, vertices welded over texture seams.

    With a material file: ``vt`` and its material; without, but with colours: sRGB as ``v x y z r g b``.
    """
    first, place = weld(mesh.vertices)
    positions = to_world(mesh, box_to_world)[first]
    yield "# Gen3D, world coordinates, Z up\ns 1\n"
    if material_file is not None:
        yield f"mtllib {material_file}\nusemtl surface\n"
    if material_file is not None or mesh.colors is None:
        yield from map("v %.8g %.8g %.8g\n".__mod__, map(tuple, positions.tolist()))
    else:
        rows = np.concatenate([positions, mesh.colors[first] / 255.0], axis=1).tolist()
        yield from map("v %.8g %.8g %.8g %.4f %.4f %.4f\n".__mod__, map(tuple, rows))
    corners = place[mesh.faces] + 1
    if mesh.uvs is None:
        yield from map("f %d %d %d\n".__mod__, map(tuple, corners.tolist()))
    else:
        yield from map("vt %.7g %.7g\n".__mod__, map(tuple, mesh.uvs.tolist()))
        both = np.stack([corners, mesh.faces + 1], axis=2).reshape(-1, 6)
        yield from map("f %d/%d %d/%d %d/%d\n".__mod__, map(tuple, both.tolist()))
