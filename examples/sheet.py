# SPDX-License-Identifier: GPL-3.0-or-later
"""A contact sheet: a row of pictures for each object, which is seen alone, from several sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from blender_gen3d.capturing.camera_model import look_at
from blender_gen3d.capturing.picture_files import write_png

LENS = 52.0  # millimetres, on a square sensor of 36
HALF = 18.0 / LENS  # half of what is seen, one unit away


@dataclass(frozen=True)
class Row:
    """An object, its label, and from where (``eyes``) to where (``target``) it is looked at, in world coordinates."""

    label: str
    object: bpy.types.Object
    eyes: Sequence[Vector]
    target: Vector


def all_round(label: str, item: bpy.types.Object, ways: Sequence[Sequence[float]]) -> Row:
    """The object filling the pictures, seen from where the ways lead to."""
    corners = [item.matrix_world @ Vector(corner) for corner in item.bound_box]
    middle = sum(corners, Vector()) / 8.0
    radius = max((corner - middle).length for corner in corners)
    distance = 1.05 * radius / math.sin(math.atan(HALF))
    return Row(label, item, [middle + distance * Vector(way).normalized() for way in ways], middle)


def draw(rows: Sequence[Row], path: Path, size: int = 400) -> None:
    """Renders the sheet: pictures of ``size`` x ``size`` pixels, PNG."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 32, True
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = size
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.lens = LENS
    scene.collection.objects.link(camera)
    scene.camera = camera
    label = _label(camera)
    part = path.with_name("part.png")
    scene.render.filepath = str(part)
    pictures = []
    for row in rows:
        for other in rows:
            other.object.hide_render = other is not row
        label.data.body = row.label
        for number, eye in enumerate(row.eyes):
            camera.matrix_world = Matrix(look_at(eye, row.target).tolist())
            label.hide_render = number > 0
            bpy.ops.render.render(write_still=True)
            pictures.append(_picture(part))
    count = len(rows[0].eyes)
    lines = [np.concatenate(pictures[i : i + count], axis=1) for i in range(0, len(pictures), count)]
    write_png(path, np.concatenate(lines, axis=0))
    part.unlink()
    bpy.data.objects.remove(label)
    for row in rows:
        row.object.hide_render = False


def _label(camera: bpy.types.Object) -> bpy.types.Object:
    """A text in the upper left corner of what the camera sees."""
    label = bpy.data.objects.new("Label", bpy.data.curves.new("Label", "FONT"))
    material = bpy.data.materials.new("Label")
    material.diffuse_color = (0.0, 0.0, 0.0, 1.0)
    if not material.node_tree:
        material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.0, 0.0, 0.0, 1.0)
    label.data.materials.append(material)
    away = 2.0 * camera.data.clip_start  # nearer than anything that is looked at
    label.data.size = 0.13 * HALF * away
    label.parent = camera
    label.location = (-0.95 * HALF * away, 0.84 * HALF * away, -away)
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
