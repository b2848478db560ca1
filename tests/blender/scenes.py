# SPDX-License-Identifier: GPL-3.0-or-later
"""Small scenes, and what is needed to look at them: pictures as arrays, a dump of a scene's settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray


def emission(name: str, rgb: Sequence[float], strength: float = 1.0) -> bpy.types.Material:
    """A material that shines evenly in a linear colour."""
    material = bpy.data.materials.new(name)
    if not material.node_tree:
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    shader = tree.nodes.new("ShaderNodeEmission")
    shader.inputs["Color"].default_value = (*rgb, 1.0)
    shader.inputs["Strength"].default_value = strength
    tree.links.new(shader.outputs[0], tree.nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    return material


def ball(
    location: Sequence[float], radius: float, rgb: Sequence[float] = (1.0, 1.0, 1.0), name: str = "Ball"
) -> bpy.types.Object:
    bpy.ops.mesh.primitive_uv_sphere_add(segments=24, ring_count=16, radius=radius, location=location)
    made = bpy.context.object
    made.name = name
    made.data.materials.append(emission(name, rgb))
    return made


def camera(matrix: NDArray[np.float64] | None = None, name: str = "Camera", **lens: Any) -> bpy.types.Object:
    made = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    bpy.context.scene.collection.objects.link(made)
    if matrix is not None:
        made.matrix_world = Matrix(matrix.tolist())
    for key, value in lens.items():
        setattr(made.data, key, value)
    bpy.context.view_layer.update()
    return made


def picture(path: Path) -> NDArray[np.float32]:
    """Stored values in [0, 1], [H, W, 4], top row first; nothing converted."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    values = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(values)
    bpy.data.images.remove(image)
    return values.reshape(height, width, 4)[::-1]


def dump(scene: bpy.types.Scene) -> dict[str, Any]:
    """All settings that a capture could disturb, data-blocks by name, selection and frame included."""
    found: dict[str, Any] = {}
    _walk("scene", scene, found, 0)
    for layer in scene.view_layers:
        _walk(f"layer {layer.name}", layer, found, 1)
    for item in scene.objects:
        for name in ("visible_camera", "hide_render", "pass_index", "matrix_world", "hide_viewport"):
            found[f"{item.name}.{name}"] = repr(getattr(item, name))
        found[f"{item.name} selected"] = item.select_get()
    for marker in scene.timeline_markers:
        found[f"marker {marker.name}"] = marker.camera and marker.camera.name
    for kind in dir(bpy.data):
        blocks = getattr(bpy.data, kind)
        if isinstance(blocks, bpy.types.bpy_prop_collection):
            found[f"data {kind}"] = sorted((block.name, block.users) for block in blocks if hasattr(block, "users"))
    active = bpy.context.view_layer.objects.active
    found["active"] = active and active.name
    return found


SKIPPED = {"rna_type", "depsgraph", "tool_settings", "use_nodes"}  # of no account, crashing (4.2), deprecated (5.x)


def _walk(path: str, struct: bpy.types.bpy_struct, found: dict[str, Any], depth: int) -> None:
    for prop in struct.bl_rna.properties:
        name = prop.identifier
        if name in SKIPPED:
            continue
        if prop.type in {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"}:
            value = getattr(struct, name)
            found[f"{path}.{name}"] = repr(tuple(value)) if getattr(prop, "is_array", False) else repr(value)
        elif prop.type == "POINTER" and depth < 3:
            child = getattr(struct, name)
            if isinstance(child, bpy.types.ID):
                found[f"{path}.{name}"] = child.name
            elif child is not None:
                _walk(f"{path}.{name}", child, found, depth + 1)
