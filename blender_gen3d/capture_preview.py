# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras of a capture, drawn in the viewports before anything is rendered.

They are worked out anew a moment after the scene, the selection or the settings have changed, by the functions that
the capture itself uses. Two things are left to a click, because they take Blender's time: stepping through an
animation, and scenes where it takes longer than ``QUICK``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from numpy.typing import NDArray

from .bridge import errors
from .capturing import camera_model, shots, staging
from .capturing.camera_model import Intrinsics
from .capturing.capture import aim, wanted
from .capturing.capture_settings import CaptureSettings, checked
from .capturing.scene_objects import bounding_sphere, with_children
from .properties import values
from .viewports import redraw

QUIET = 0.15  # seconds without a change before the cameras are worked out
QUICK = 0.05  # seconds that this may take without being asked for
MOST = 1000  # cameras that are drawn; of more, evenly chosen ones
SIZE = 0.3  # length of a drawn camera, as a share of the objects' radius
COLOURS = {"train": (1.0, 0.55, 0.15, 0.75), "test": (0.25, 0.65, 1.0, 1.0), "val": (0.35, 0.9, 0.4, 1.0)}


@dataclass
class Cameras:
    """What a capture would take: line ends [N, 2, 3] in world units and their colours [N, 2, 4], and how many views
    there would be for "train", "val" and "test"; or the reason why there would be none."""

    lines: NDArray[np.float32]
    colours: NDArray[np.float32]
    counts: Counter[str]
    mode: str
    problem: errors.Gen3DError | None = None
    batch: Any = None  # made with the first drawing: only then there is a GPU to give it to


_cameras: Cameras | None = None
_seconds = 0.0  # that the last working out has taken
_key: tuple[Any, ...] = ()
_working = False
_handle: Any = None
_HANDLERS = ("depsgraph_update_post", "undo_post", "redo_post", "load_post", "frame_change_post")


def register() -> None:
    global _handle
    _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")
    for name in _HANDLERS:
        getattr(bpy.app.handlers, name).append(_changed)


def unregister() -> None:
    global _cameras
    for name in _HANDLERS:
        getattr(bpy.app.handlers, name).remove(_changed)
    bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    if bpy.app.timers.is_registered(_work):
        bpy.app.timers.unregister(_work)
    _cameras = None


def cameras() -> Cameras | None:
    """What is drawn at the moment."""
    return _cameras


def update() -> None:
    """Works the cameras out now, whatever it takes; without ``show_cameras``, forgets them."""
    global _cameras, _seconds, _key, _working
    context = bpy.context
    began, _working = time.perf_counter(), True
    try:
        _key, _cameras = _settings(context.scene), None
        if context.window_manager.gen3d.show_cameras:
            _cameras = planned(context)
    except errors.Gen3DError as error:
        none = np.empty((0, 2, 3), np.float32)
        _cameras = Cameras(none, none, Counter(), context.scene.gen3d.capture.mode, error)
    finally:
        _seconds, _working = time.perf_counter() - began, False
    redraw()


def planned(context: bpy.types.Context) -> Cameras:
    """The cameras that a capture with the panel's settings would use now. Steps through an animation where the
    capture would. Raises Gen3DError as the capture would."""
    scene = context.scene
    plan = checked(values(scene.gen3d.capture, CaptureSettings))
    objects, named = wanted(context)
    middle, radius = bounding_sphere(with_children(scene, objects))
    size = staging.picture_size(scene, plan)
    if plan.mode == "sphere":
        width, height, aspect_x, aspect_y = size
        lens = camera_model.intrinsics(width, height, lens=plan.lens, pixel_aspect_x=aspect_x, pixel_aspect_y=aspect_y)
        center = aim(scene, plan, None, middle)
        eyes = shots.eyes_of(plan, center, shots.distance_of(plan, lens, radius))
        count, chosen = len(eyes), _some(len(eyes))
        lines = placed(outline(lens, SIZE * radius), camera_model.look_at(eyes[chosen], center))
    else:
        cameras = named or shots.default_cameras(scene, plan.mode)
        every = shots.shots_of(scene, plan, None, cameras, middle, radius)
        count, chosen = len(every), _some(len(every))
        views = _seen(scene, [every[index] for index in chosen], size)
        lines = np.stack([placed(outline(lens, SIZE * radius), pose) for pose, lens in views])
    names = camera_model.split(count, plan.val, plan.test)
    colours = np.array([COLOURS[names[index]] for index in chosen], np.float32)[:, None, None]
    shape = (*lines.shape[:3], 4)
    return Cameras(
        lines.reshape(-1, 2, 3).astype(np.float32),
        np.broadcast_to(colours, shape).reshape(-1, 2, 4),
        Counter(names),
        plan.mode,
    )


def outline(lens: Intrinsics, length: float) -> NDArray[np.float64]:
    """The lines [11, 2, 3] that show a camera, in its own coordinates: from its eye to the corners of its picture at a
    distance ``length``, around the picture, and a roof that says where up is."""
    across = np.array((0.0, lens.width, lens.width, 0.0)) - lens.cx
    down = np.array((0.0, 0.0, lens.height, lens.height)) - lens.cy
    corners = np.stack((across / lens.fl_x, -down / lens.fl_y, -np.ones(4)), axis=1) * length
    peak = corners[:2].mean(axis=0)
    peak[1] += 0.35 * (corners[1, 0] - corners[0, 0])
    eye = np.zeros(3)
    sides = [(corners[index], corners[(index + 1) % 4]) for index in range(4)]
    roof = [(corners[0], peak), (peak, corners[1]), (eye, peak)]
    return np.array([*((eye, corner) for corner in corners), *sides, *roof])


def placed(lines: NDArray[np.float64], poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lines [L, 2, 3] of a camera where each of the poses [..., 4, 4] puts it: [..., L, 2, 3]."""
    turned = np.einsum("...ij,lej->...lei", poses[..., :3, :3], lines)
    return turned + poses[..., None, None, :3, 3]


def _seen(
    scene: bpy.types.Scene, wanted_shots: Sequence[shots.Shot], size: tuple[int, int, float, float]
) -> list[tuple[NDArray[np.float64], Intrinsics]]:
    """Poses and pinholes of the scene's own cameras, each at its frame; the frame is put back."""
    frame, subframe = scene.frame_current, scene.frame_subframe
    views = []
    try:
        for shot in wanted_shots:
            if shot.frame is not None:
                scene.frame_set(shot.frame)
            camera = shot.camera.evaluated_get(bpy.context.evaluated_depsgraph_get())
            views.append((camera_model.without_scale(camera.matrix_world), shots.lens_of(scene, camera.data, size)))
    finally:
        if (scene.frame_current, scene.frame_subframe) != (frame, subframe):
            scene.frame_set(frame, subframe=subframe)
    return views


def _some(count: int) -> list[int]:
    """Which of so many cameras are drawn."""
    return [index * count // min(count, MOST) for index in range(min(count, MOST))]


def _settings(scene: bpy.types.Scene) -> tuple[Any, ...]:
    """All that cameras depend on and that may change without Blender's telling."""
    render = scene.render
    size = (render.resolution_x, render.resolution_y, render.resolution_percentage)
    return (
        scene.name, *values(scene.gen3d.capture, CaptureSettings).values(), tuple(scene.cursor.location), *size,
        render.pixel_aspect_x, render.pixel_aspect_y, scene.frame_start, scene.frame_end,
    )  # fmt: skip


@bpy.app.handlers.persistent
def _changed(*_: object) -> None:
    """Blender calls this after every change, while rendering even from another thread."""
    if _working or bpy.app.background or bpy.app.is_job_running("RENDER"):
        return
    status = bpy.context.window_manager.gen3d
    if not status.show_cameras or status.capturing:
        return
    if bpy.app.timers.is_registered(_work):
        bpy.app.timers.unregister(_work)
    bpy.app.timers.register(_work, first_interval=QUIET)


def _work() -> None:
    global _cameras
    mode = bpy.context.scene.gen3d.capture.mode
    if _seconds <= QUICK and mode != "animation":
        update()
    elif _cameras is not None and _cameras.mode != mode:
        _cameras = None
        redraw()


def _draw() -> None:
    context = bpy.context
    status = context.window_manager.gen3d
    if not status.show_cameras or status.capturing or not context.space_data.overlay.show_overlays:
        return
    if _key != _settings(context.scene):
        _notice(context.scene)
    if _cameras is None or not len(_cameras.lines):
        return
    shader = gpu.shader.from_builtin("POLYLINE_FLAT_COLOR")
    if _cameras.batch is None:
        content = {"pos": _cameras.lines.reshape(-1, 3), "color": _cameras.colours.reshape(-1, 4)}
        _cameras.batch = batch_for_shader(shader, "LINES", content)
    gpu.state.blend_set("ALPHA")
    gpu.state.depth_test_set("LESS_EQUAL")
    shader.bind()
    shader.uniform_float("viewportSize", (context.region.width, context.region.height))
    shader.uniform_float("lineWidth", 1.2 * context.preferences.system.ui_scale)
    _cameras.batch.draw(shader)
    gpu.state.depth_test_set("NONE")
    gpu.state.blend_set("NONE")


def _notice(scene: bpy.types.Scene) -> None:
    global _key
    _key = _settings(scene)
    _changed()
