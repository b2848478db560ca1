# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of two objects that stand in the same place: one above, the other below, from the same sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from blender_gen3d.camera_model import look_at
from blender_gen3d.picture_files import write_png


def compare(
    objects: dict[str, bpy.types.Object], sides: Sequence[Vector], middle: Vector, path: Path, size: int = 400
) -> None:
    """Renders each object alone, a row for each with its label, seen from every one of ``sides`` (world points)."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 32, True
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = size
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.lens = 62.0
    scene.collection.objects.link(camera)
    scene.camera = camera
    label = _label(camera)
    part = path.with_name("part.png")
    scene.render.filepath = str(part)
    rows = []
    for words, shown in objects.items():
        for item in objects.values():
            item.hide_render = item != shown
        label.data.body = words
        row = []
        for number, side in enumerate(sides):
            camera.matrix_world = Matrix(look_at(side, middle).tolist())
            label.hide_render = number > 0
            bpy.ops.render.render(write_still=True)
            row.append(_picture(part))
        rows.append(np.concatenate(row, axis=1))
    write_png(path, np.concatenate(rows, axis=0))
    part.unlink()
    bpy.data.objects.remove(label)
    for item in objects.values():
        item.hide_render = False


def _label(camera: bpy.types.Object) -> bpy.types.Object:
    """A text in the upper left corner of what the camera sees."""
    label = bpy.data.objects.new("Label", bpy.data.curves.new("Label", "FONT"))
    material = bpy.data.materials.new("Label")
    material.diffuse_color = (0.0, 0.0, 0.0, 1.0)
    if not material.node_tree:
        material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.0, 0.0, 0.0, 1.0)
    label.data.materials.append(material)
    label.data.size = 0.022
    label.parent = camera
    label.location = (-0.138, 0.118, -0.5)
    label.visible_shadow = False
    bpy.context.scene.collection.objects.link(label)
    return label


def _picture(path: Path) -> NDArray[np.uint8]:
    """A saved picture as bytes [H, W, 3], top row first."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    values = np.empty(4 * image.size[0] * image.size[1], np.float32)
    image.pixels.foreach_get(values)
    pixels = values.reshape(image.size[1], image.size[0], 4)[::-1, :, :3]
    bpy.data.images.remove(image)
    return np.round(255.0 * pixels).astype(np.uint8)
