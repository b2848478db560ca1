# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a trained field from the scene's own camera, alone or in the midst of the scene.

``render`` is a generator: the scene's pictures are taken by Blender while the backend renders the field's along the
same camera path; then both are put together in linear light, each pixel by its depth, and saved as the scene's output
settings and colour management have it. No compositor nodes: those differ from version to version.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..bridge import errors
from ..capturing import rendering, staging
from ..capturing.camera_model import Intrinsics, without_scale
from ..capturing.scene_objects import hide_from_camera
from ..capturing.scene_state import SceneState
from ..capturing.shots import check_camera, lens_of
from ..connection import handover
from ..elsewhere import elsewhere
from ..results import origin
from ..results.result_facts import placement
from . import compositing
from .compositing import Layer
from .view_settings import ViewSettings

PICTURE = "Gen3D Views"

Ask = Callable[[str, dict[str, Any]], Iterator[Path | None]]
"""Has the backend do a job of a kind with its settings: None as often as it is asked until there is a result folder."""


@dataclass(frozen=True)
class Progress:
    """What is going on, how much of it is done; ``free``: the scene is not needed any more."""

    told: str
    fraction: float
    free: bool = False


@dataclass(frozen=True)
class View:
    """A frame of the scene, and what its camera sees of the field: pose [4, 4] in the field's own world, of which one
    unit is so many of the scene's."""

    frame: int
    pose: NDArray[np.float64]
    unit: float
    lens: Intrinsics


def render(
    plan: ViewSettings, item: bpy.types.Object, folder: Path, home: Path, ask: Ask, *, responsive: bool = False
) -> Generator[Progress, None, list[Path]]:
    """Renders the field of ``item`` from the active camera into ``folder``; the pictures, named by their frames.

    The object itself, which the field takes the place of, is not seen by the camera, but casts its shadows where
    Cycles renders. home: where files for the backend are kept. responsive: as in ``capture.capture``.
    Raises Gen3DError where something is in the way; the scene is restored in any case.
    """
    scene = bpy.context.scene
    if bpy.app.is_job_running("RENDER"):
        raise errors.Gen3DError("Blender is rendering.", "Render the views when that has ended.")
    result = origin.require_field(item)
    with tempfile.TemporaryDirectory(prefix="gen3d-views-") as temporary:
        with _staged(scene, item):
            views = look(scene, plan, item, result)
            path = handover.keep(home, camera_path(views), ".json")
            wanted = {"result": str(result), "cameras": str(path), "exr": True, "png": False, "film": False}
            asking = ask("render", {**wanted, "device": plan.device})
            rendered = next(asking)
            layers = [Path(temporary) / f"{view.frame:04}.exr" for view in views if plan.with_scene]
            for number, layer in enumerate(layers):
                scene.frame_set(views[number].frame)
                for _ in _rendered(layer, responsive):
                    yield Progress(f"Scene: frame {number + 1} of {len(views)}", 0.5 * number / len(views))
        while rendered is None:
            yield Progress("Waiting for the field's views", 0.5, free=True)
            rendered = next(asking)
        files = []
        for number, view in enumerate(views):
            made = _composed(rendered / "exr" / f"{number:04}.exr", view.unit, layers[number] if layers else None)
            told = Progress(f"Frame {number + 1} of {len(views)}", 0.5 + 0.5 * number / len(views), free=True)
            picture = yield from elsewhere(made, told, responsive)
            files.append(_save(bpy.context.scene, picture, folder, view.frame))
    return files


def look(scene: bpy.types.Scene, plan: ViewSettings, item: bpy.types.Object, result: Path) -> list[View]:
    """What the active camera is to see of the field, frame by frame: both may be animated. Changes the frame."""
    home, box = placement(origin.field_facts(result)), origin.box_to_object(item)
    first, last = (scene.frame_current, scene.frame_current)
    if plan.frames == "animation":
        first, last = scene.frame_start, scene.frame_end
    views = []
    for frame in range(first, last + 1, plan.step):
        if frame != scene.frame_current:
            scene.frame_set(frame)
        if scene.camera is None:  # markers may change it
            raise errors.Gen3DError("The scene has no camera.", "Add a camera.", field="camera")
        check_camera(scene.camera)
        now = bpy.context.evaluated_depsgraph_get()
        camera = scene.camera.evaluated_get(now)
        pose = without_scale(camera.matrix_world)
        own, unit = compositing.into_field(home, np.array(item.evaluated_get(now).matrix_world) @ box, pose)
        views.append(View(frame, own, unit, lens_of(scene, camera.data, staging.output_size(scene))))
    return views


def camera_path(views: list[View]) -> bytes:
    """The camera path of a render job."""
    frames = [
        {
            "transform_matrix": view.pose.tolist(),
            "w": view.lens.width,
            "h": view.lens.height,
            "fl_x": view.lens.fl_x,
            "fl_y": view.lens.fl_y,
            "cx": view.lens.cx,
            "cy": view.lens.cy,
        }
        for view in views
    ]
    return json.dumps({"frames": frames}, allow_nan=False).encode("ascii")


def show(files: list[Path]) -> None:
    """Puts the pictures before the user: in an open image editor, or where the preferences have renderings shown."""
    image = bpy.data.images.load(str(files[0]))
    image.name = PICTURE
    if not _editors():
        window = bpy.context.window_manager.windows[0]
        with suppress(RuntimeError), bpy.context.temp_override(window=window):  # nowhere, by preference
            bpy.ops.render.view_show("INVOKE_DEFAULT")
    scene, frames = bpy.context.scene, [int(file.stem) for file in files]
    first, last = frames[0], frames[-1]
    for area in _editors()[:1]:
        space = area.spaces.active
        space.image = image
        if last > first and last - first + 1 == len(files):  # without gaps: plays with the scene
            image.source = "SEQUENCE"
            if not first <= scene.frame_current <= last:
                scene.frame_set(first)
            space.image_user.frame_start, space.image_user.frame_offset = first, first - 1
            space.image_user.frame_duration = len(files)
            space.image_user.use_auto_refresh = True


def _editors() -> list[bpy.types.Area]:
    windows = bpy.context.window_manager.windows
    return [area for window in windows for area in window.screen.areas if area.type == "IMAGE_EDITOR"]


@contextmanager
def _staged(scene: bpy.types.Scene, item: bpy.types.Object) -> Iterator[None]:
    """The scene ready to give colour and depth; restored on the way out."""
    state = SceneState()
    frame = (scene.frame_current, scene.frame_subframe)
    render, picture = scene.render, scene.render.image_settings
    layer = bpy.context.view_layer
    for struct in (render, picture, *scene.view_layers):
        state.watch(struct)
    state.watch(scene, "camera")
    try:
        for name in ("use_border", "use_motion_blur", "use_multiview", "use_compositing", "use_sequencer", "use_stamp"):
            setattr(render, name, False)
        for other in scene.view_layers:
            other.use = other == layer
        layer.use_pass_combined = layer.use_pass_z = True
        staging.use_exr(picture)
        picture.exr_codec = "ZIP"
        hide_from_camera(scene, [item], state)
        yield
    finally:
        if frame != (scene.frame_current, scene.frame_subframe):
            scene.frame_set(frame[0], subframe=frame[1])
        state.restore()


def _rendered(path: Path, responsive: bool) -> Iterator[None]:
    """Renders the scene into an EXR of all passes."""
    try:
        yield from rendering.render(responsive, path)
    except (OSError, RuntimeError) as fault:
        raise errors.Gen3DError(
            f"{path.parent} cannot be written: {str(fault).strip().rstrip('.')}.", "Make space on that disk."
        ) from fault


def _composed(field: Path, unit: float, scene: Path | None) -> Callable[[], NDArray[np.float32]]:
    def work() -> NDArray[np.float32]:
        under: Layer | None = compositing.read_scene(scene) if scene else None
        return compositing.compose(compositing.read_field(field, unit), under)

    return work


def _save(scene: bpy.types.Scene, picture: NDArray[np.float32], folder: Path, frame: int) -> Path:
    """Writes linear premultiplied RGBA [H, W, 4] in the scene's format, seen through its colour management."""
    height, width = picture.shape[:2]
    image = bpy.data.images.new(PICTURE, width, height, alpha=True, float_buffer=True)
    state = SceneState()
    state.watch(scene.render.image_settings)
    try:
        image.alpha_mode = "PREMUL"
        image.pixels.foreach_set(np.ascontiguousarray(picture[::-1], np.float32).ravel())
        if scene.render.is_movie_format or scene.render.image_settings.file_format == "OPEN_EXR_MULTILAYER":
            staging.use_png(scene.render.image_settings)
        with suppress(TypeError):  # a format without alpha
            scene.render.image_settings.color_mode = "RGBA"
        path = folder / f"{frame:04}{scene.render.file_extension}"
        folder.mkdir(parents=True, exist_ok=True)
        image.save_render(str(path), scene=scene)
    except (OSError, RuntimeError) as fault:
        raise errors.Gen3DError(
            f"{folder} cannot be written: {str(fault).strip().rstrip('.')}.", "Choose another folder.", field="folder"
        ) from fault
    finally:
        state.restore()
        bpy.data.images.remove(image)
    return path
