# SPDX-License-Identifier: GPL-3.0-or-later
"""Which views a capture takes, and how the temporary camera comes to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..bridge import errors
from . import camera_model
from .camera_model import Intrinsics
from .capture_settings import CaptureSettings, lowest

SENSOR = ("sensor_width", "sensor_height", "sensor_fit")
LENS = ("lens", "shift_x", "shift_y", "clip_start", "clip_end")


@dataclass(frozen=True)
class Shot:
    """One view: a pose [4, 4] on the sphere, or a scene camera, at a frame if along an animation."""

    pose: NDArray[np.float64] | None = None
    camera: bpy.types.Object | None = None
    frame: int | None = None


def shots_of(
    scene: bpy.types.Scene,
    plan: CaptureSettings,
    rig: bpy.types.Object,
    cameras: Sequence[bpy.types.Object],
    center: NDArray[np.float64],
    radius: float,
) -> list[Shot]:
    """All views of a capture. On a sphere the temporary camera ``rig`` gets its lens and clipping here.

    Raises Gen3DError where there are fewer than two, or one of the cameras is not a perspective camera.
    """
    if plan.mode == "sphere":
        rig.data.lens = plan.lens
        distance = distance_of(plan, lens_of(scene, rig.data), radius)
        rig.data.clip_start, rig.data.clip_end = 1e-3 * distance, 1e3 * distance
        return [Shot(pose=camera_model.look_at(eye, center)) for eye in eyes_of(plan, center, distance)]
    for camera in cameras:
        check_camera(camera)
    if plan.mode == "animation":
        shots = [Shot(camera=cameras[0], frame=frame) for frame in frames_of(scene, plan)] if cameras else []
    else:
        shots = [Shot(camera=camera) for camera in cameras]
    if len(shots) < 2:
        raise errors.Gen3DError(
            f"A capture needs at least two views, but there {'is only one' if shots else 'are none'}.",
            "Add cameras, or frames to the animation, or capture on a sphere.",
            field="capture.mode",
        )
    return shots


def distance_of(plan: CaptureSettings, lens: Intrinsics, radius: float) -> float:
    """How far cameras on a sphere stand from its centre, for objects of a radius; world units."""
    return plan.radius or camera_model.fit_distance(lens, radius)


def eyes_of(plan: CaptureSettings, center: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Where the cameras on a sphere stand, [views, 3]; they look at the centre."""
    return center + distance * camera_model.sphere_directions(
        plan.views, elevation_min=lowest(plan), elevation_max=plan.elevation_max, seed=plan.seed
    )


def frames_of(scene: bpy.types.Scene, plan: CaptureSettings) -> range:
    """The frames of which a capture along an animation takes views."""
    return range(scene.frame_start, scene.frame_end + 1, plan.step)


def default_cameras(scene: bpy.types.Scene, mode: str) -> list[bpy.types.Object]:
    """The cameras a capture takes where none are named: the active one for an animation, else all of the scene."""
    if mode == "animation":
        return [scene.camera] if scene.camera else []
    return [item for item in scene.objects if item.type == "CAMERA"]


def place(scene: bpy.types.Scene, rig: bpy.types.Object, shot: Shot) -> tuple[NDArray[np.float64], Intrinsics]:
    """Puts the temporary camera where the shot wants it; its pose [4, 4] and its pinhole."""
    if shot.frame is not None:
        scene.frame_set(shot.frame)
    pose = shot.pose
    if shot.camera is not None:
        seen = shot.camera.evaluated_get(bpy.context.evaluated_depsgraph_get())
        pose = camera_model.without_scale(seen.matrix_world)
        for name in (*SENSOR, *LENS):
            setattr(rig.data, name, getattr(seen.data, name))
    assert pose is not None
    rig.matrix_world = Matrix(pose.tolist())  # a bare list would be taken column by column
    return pose, lens_of(scene, rig.data)


def lens_of(
    scene: bpy.types.Scene, camera: bpy.types.Camera, size: tuple[int, int, float, float] | None = None
) -> Intrinsics:
    """The pinhole of a Blender camera at the scene's resolution, which is meant to be at 100 percent, or at another
    ``size``: pixels and their aspects, each in x and y."""
    render = scene.render
    width, height, aspect_x, aspect_y = size or (
        render.resolution_x, render.resolution_y, render.pixel_aspect_x, render.pixel_aspect_y
    )  # fmt: skip
    return camera_model.intrinsics(
        width,
        height,
        lens=camera.lens,
        sensor_width=camera.sensor_width,
        sensor_height=camera.sensor_height,
        sensor_fit=camera.sensor_fit,
        shift_x=camera.shift_x,
        shift_y=camera.shift_y,
        pixel_aspect_x=aspect_x,
        pixel_aspect_y=aspect_y,
    )


def check_camera(camera: bpy.types.Object) -> None:
    """Raises Gen3DError unless the camera is a pinhole."""
    if camera.type != "CAMERA" or camera.data.type != "PERSP":
        raise errors.Gen3DError(
            f"{camera.name} is not a perspective camera.",
            "Set its lens type to Perspective, or leave it out.",
            field="cameras",
        )
