# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera that goes around things once, as an action of its own that can be edited like any other."""

from __future__ import annotations

import math

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..capturing.camera_model import fit_distance, look_at
from ..capturing.shots import lens_of
from ..capturing.staging import output_size
from .view_settings import TurntableSettings

NAME = "Gen3D Turntable"


def add(
    scene: bpy.types.Scene, plan: TurntableSettings, center: NDArray[np.float64], radius: float
) -> bpy.types.Object:
    """The camera, made the scene's active one, with a key on every frame; the scene's frames end with it.

    center [3] and radius: a sphere around what is to be seen, world units.
    """
    data = bpy.data.cameras.new(NAME)
    data.lens = plan.lens
    camera = bpy.data.objects.new(NAME, data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    distance = plan.distance or fit_distance(lens_of(scene, data, output_size(scene)), radius)
    data.clip_start, data.clip_end = 1e-3 * distance, max(1e3 * distance, 100.0)
    height = math.radians(plan.elevation)
    turned = None
    for step in range(plan.frames):
        angle = 2.0 * math.pi * step / plan.frames - math.pi / 2.0  # from the front, -Y
        ring = math.cos(height)
        eye = center + distance * np.array((ring * math.cos(angle), ring * math.sin(angle), math.sin(height)))
        pose = Matrix(look_at(eye, center).tolist())
        camera.location = pose.translation
        turned = pose.to_euler("XYZ", turned) if turned else pose.to_euler("XYZ")  # near the last: it never turns back
        camera.rotation_euler = turned
        for path in ("location", "rotation_euler"):
            camera.keyframe_insert(path, frame=scene.frame_start + step)
    camera.animation_data.action.name = NAME
    scene.frame_end = scene.frame_start + plan.frames - 1
    scene.frame_set(scene.frame_start)
    return camera
