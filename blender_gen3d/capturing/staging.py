# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets a scene up for capturing, and gives it back as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import bpy

from ..bridge import errors
from . import capture_passes
from .capture_settings import SPHERE_SIZE, CaptureSettings
from .scene_objects import hide_others
from .scene_state import SceneState

RESULT = "Render Result"  # Blender makes this image with the first rendering of a session


@contextmanager
def stage(
    scene: bpy.types.Scene, plan: CaptureSettings, chosen: Sequence[bpy.types.Object]
) -> Iterator[bpy.types.Object]:
    """The scene ready to render, with a temporary camera (yielded) as the active one; restored on the way out."""
    state = SceneState()
    had_result = RESULT in bpy.data.images
    frame = (scene.frame_current, scene.frame_subframe)
    rig = bpy.data.objects.new("Gen3D capture", bpy.data.cameras.new("Gen3D capture"))
    try:
        _watch(scene, state)
        _set_up(scene, plan)
        if plan.isolate:
            hide_others(scene, chosen, state)
        if plan.depth or plan.normal or plan.mask:
            capture_passes.enable(scene, bpy.context.view_layer, chosen, state)
        scene.collection.objects.link(rig)
        scene.camera = rig
        yield rig
    finally:
        if frame != (scene.frame_current, scene.frame_subframe):
            scene.frame_set(frame[0], subframe=frame[1])
        state.restore()
        bpy.data.cameras.remove(rig.data)  # takes the object with it
        if not had_result and RESULT in bpy.data.images and bpy.app.background:
            bpy.data.images.remove(bpy.data.images[RESULT])


def picture_size(scene: bpy.types.Scene, plan: CaptureSettings) -> tuple[int, int, float, float]:
    """Width and height in pixels, and the pixels' aspects in x and y, of what a capture of the scene renders."""
    if plan.width:
        return plan.width, plan.height, 1.0, 1.0
    if plan.mode == "sphere":
        return SPHERE_SIZE, SPHERE_SIZE, 1.0, 1.0
    return output_size(scene)


def output_size(scene: bpy.types.Scene) -> tuple[int, int, float, float]:
    """Width and height in pixels, and the pixels' aspects in x and y, of what the scene itself renders."""
    render = scene.render
    share = render.resolution_percentage
    width, height = render.resolution_x * share // 100, render.resolution_y * share // 100
    return width, height, render.pixel_aspect_x, render.pixel_aspect_y


def use_png(picture: bpy.types.ImageFormatSettings) -> None:
    """8-bit RGBA PNG from now on."""
    if hasattr(picture, "media_type"):
        picture.media_type = "IMAGE"
    picture.file_format = "PNG"
    picture.color_mode = "RGBA"
    picture.color_depth = "8"


def use_exr(picture: bpy.types.ImageFormatSettings) -> None:
    """All passes in one uncompressed 32-bit EXR from now on."""
    if hasattr(picture, "media_type"):
        picture.media_type = "MULTI_LAYER_IMAGE"
    picture.file_format = "OPEN_EXR_MULTILAYER"
    picture.color_depth = "32"
    picture.exr_codec = "NONE"
    if hasattr(picture, "use_exr_interleave"):
        picture.use_exr_interleave = True


def _watch(scene: bpy.types.Scene, state: SceneState) -> None:
    picture = scene.render.image_settings
    for struct in (scene.render, picture, scene.display_settings, scene.view_settings, *scene.view_layers):
        state.watch(struct)
    for struct in (picture.view_settings, picture.display_settings):
        state.watch(struct)
    if hasattr(scene, "cycles"):
        state.watch(scene.cycles, "samples", "time_limit", "use_denoising", "seed")
    state.watch(scene, "camera")
    for marker in scene.timeline_markers:
        state.watch(marker, "camera")


def _set_up(scene: bpy.types.Scene, plan: CaptureSettings) -> None:
    render = scene.render
    if plan.engine == "cycles":
        try:
            render.engine = "CYCLES"
        except TypeError:
            raise errors.Gen3DError(
                "Blender's Cycles add-on is switched off.",
                'Enable "Cycles Render Engine" in the preferences, or capture with the scene\'s own engine.',
                field="capture.engine",
            ) from None
    if render.engine == "CYCLES":
        scene.cycles.samples = plan.samples
        scene.cycles.time_limit = 0.0
        scene.cycles.use_denoising = plan.denoise
    width, height, render.pixel_aspect_x, render.pixel_aspect_y = picture_size(scene, plan)
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    render.film_transparent = True
    render.dither_intensity = 0.0
    render.use_persistent_data = True
    for name in ("use_border", "use_motion_blur", "use_multiview", "use_compositing", "use_sequencer", "use_stamp"):
        setattr(render, name, False)
    for layer in scene.view_layers:
        layer.use = layer == bpy.context.view_layer
    for marker in scene.timeline_markers:
        marker.camera = None  # a bound marker would replace our camera
    _plain_colours(scene)


def _plain_colours(scene: bpy.types.Scene) -> None:
    """sRGB as it is: no look, no exposure, no curves."""
    view = scene.view_settings
    try:
        scene.render.image_settings.color_management = "FOLLOW_SCENE"
        scene.display_settings.display_device = "sRGB"
        view.view_transform = "Standard"
        view.look = "None"
    except TypeError:
        raise errors.Gen3DError(
            "Blender's colour configuration has no sRGB display with a Standard view.",
            "Start Blender with its own colour configuration (unset the variable OCIO).",
        ) from None
    view.exposure, view.gamma, view.use_curve_mapping = 0.0, 1.0, False
    if hasattr(view, "use_white_balance"):
        view.use_white_balance = False
