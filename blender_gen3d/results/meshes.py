# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender meshes out of what the backend's files hold: surfaces, and clouds of points."""

from __future__ import annotations

import bpy
import numpy as np
from numpy.typing import NDArray

from .glb import GlbMesh
from .materials import colour_material, texture_material
from .ply import Cloud

COLORS, UVS = "Color", "UVMap"


def build_mesh(source: GlbMesh, name: str) -> bpy.types.Mesh:
    """A smooth-shaded Blender mesh with its colour attribute or its UVs and textures, and a material that shows them.

    Where the atlas has split vertices along its seams they are joined again: UVs belong to face corners in Blender.
    """
    positions, faces = source.positions, source.faces
    corners = faces.ravel()
    if source.uvs is not None:
        positions, joined = _join_equal(positions)
        faces = joined[faces].astype(np.int32)
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(positions))
    mesh.vertices.foreach_set("co", positions.ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    if source.texture is not None and source.uvs is not None:
        layer = mesh.uv_layers.new(name=UVS)
        uvs = source.uvs[corners]
        uvs[:, 1] = 1.0 - uvs[:, 1]
        layer.uv.foreach_set("vector", uvs.ravel())
        mesh.materials.append(texture_material(name, source.texture, source.normal_map))
    elif source.colors is not None:
        _colour(mesh, to_srgb8(source.colors))
        mesh.materials.append(colour_material(name, COLORS, source.colors[:, :3].mean(axis=0).tolist()))
    mesh.update(calc_edges=True)
    mesh.validate()
    mesh.shade_smooth()
    return mesh


def build_cloud(source: Cloud, name: str) -> bpy.types.Mesh:
    """Vertices without edges or faces, with their colour attribute and a material that shows it."""
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(source.positions))
    mesh.vertices.foreach_set("co", source.positions.ravel())
    shades = (source.colors / 255.0).astype(np.float32)
    _colour(mesh, np.concatenate((shades, np.ones_like(shades[:, :1])), axis=1))
    mesh.materials.append(colour_material(name, COLORS, (shades**2.2).mean(axis=0).tolist()))
    mesh.update()
    return mesh


def show_points(item: bpy.types.Object, radius: float) -> None:
    """Has the vertices of a cloud drawn as little balls, by a geometry-nodes modifier that can be taken off again."""
    tree = bpy.data.node_groups.new("Gen3D points", "GeometryNodeTree")
    tree.is_modifier = True
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    kinds = ("NodeGroupInput", "GeometryNodeMeshToPoints", "GeometryNodeSetMaterial", "NodeGroupOutput")
    chain = [tree.nodes.new(kind) for kind in kinds]
    for number, node in enumerate(chain):
        node.location = (200.0 * number, 0.0)
        if number:
            tree.links.new(chain[number - 1].outputs[0], node.inputs[0])
    chain[1].inputs["Radius"].default_value = radius
    chain[2].inputs["Material"].default_value = item.data.materials[0]
    item.modifiers.new("Points", "NODES").node_group = tree


def read_mesh(mesh: bpy.types.Mesh) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.uint8] | None]:
    """Positions [V, 3], triangles [F, 3], and the active colour attribute as sRGB [V, 3] in bytes, where there is one.

    Colours of face corners become the mean of those that meet in a vertex.
    """
    positions = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", positions)
    mesh.calc_loop_triangles()
    faces = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("vertices", faces)
    attribute = mesh.color_attributes.active_color
    colors = None
    if attribute is not None and len(attribute.data):
        shades = np.empty(4 * len(attribute.data), np.float32)
        attribute.data.foreach_get("color_srgb", shades)
        shades = shades.reshape(-1, 4)[:, :3]
        if attribute.domain == "CORNER":
            corners = np.empty(len(mesh.loops), np.int32)
            mesh.loops.foreach_get("vertex_index", corners)
            sums = [np.bincount(corners, shades[:, channel], len(mesh.vertices)) for channel in range(3)]
            shades = np.stack(sums, 1) / np.maximum(np.bincount(corners, minlength=len(mesh.vertices)), 1)[:, None]
        colors = np.round(255.0 * np.clip(shades, 0.0, 1.0)).astype(np.uint8)
    return positions.reshape(-1, 3), faces.reshape(-1, 3), colors


def colour_from_picture(mesh: bpy.types.Mesh, picture: bpy.types.Image) -> tuple[str, list[float]]:
    """Colours the vertices as a picture does by the active UVs; the new attribute's name, and the average (linear RGB).

    Of a vertex on a seam, the mean of what its corners have.
    """
    width, height = picture.size
    pixels = np.empty(4 * width * height, np.float32)
    picture.pixels.foreach_get(pixels)
    uvs, corners = np.empty(2 * len(mesh.loops), np.float32), np.empty(len(mesh.loops), np.int32)
    mesh.uv_layers.active.uv.foreach_get("vector", uvs)
    mesh.loops.foreach_get("vertex_index", corners)
    column, row = (uvs.reshape(-1, 2).T * [[width], [height]]).astype(np.int64)
    seen = pixels.reshape(height, width, 4)[row.clip(0, height - 1), column.clip(0, width - 1), :3]
    count = np.maximum(np.bincount(corners, minlength=len(mesh.vertices)), 1)
    shades = np.stack([np.bincount(corners, seen[:, i], len(mesh.vertices)) / count for i in range(3)], 1)
    name = _colour(mesh, np.concatenate((shades, np.ones_like(shades[:, :1])), axis=1).astype(np.float32))
    return name, (shades.mean(0) ** 2.2).tolist()


def to_srgb8(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear RGBA [..., 4] in [0, 1] as sRGB (IEC 61966-2-1), rounded to whole 255ths as 8-bit colours are."""
    rgb = linear[..., :3]
    curve = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * np.maximum(rgb, 1e-9) ** (1.0 / 2.4) - 0.055)
    out = np.concatenate((curve, linear[..., 3:]), axis=-1)
    return (np.round(255.0 * np.clip(out, 0.0, 1.0)) / 255.0).astype(np.float32)


def _colour(mesh: bpy.types.Mesh, srgb: NDArray[np.float32]) -> str:
    """A new colour attribute, from sRGB [V, 4] in whole 255ths, which becomes the active one; its name."""
    attribute = mesh.color_attributes.new(COLORS, "BYTE_COLOR", "POINT")
    attribute.data.foreach_set("color_srgb", srgb.ravel())
    mesh.color_attributes.active_color = attribute
    mesh.color_attributes.render_color_index = mesh.color_attributes.active_color_index
    return str(attribute.name)


def _join_equal(positions: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distinct positions, and for each given one the index of its equal among them."""
    keys = np.ascontiguousarray(positions).view(np.dtype((np.void, 3 * positions.itemsize))).ravel()
    _, first, joined = np.unique(keys, return_index=True, return_inverse=True)
    return positions[first], joined.ravel()
