# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering views of a trained field, and turntables."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import bpy

from .. import api
from ..bridge import errors
from ..capturing.scene_objects import bounding_sphere, with_children
from ..connection import pump
from ..connection.client import ENDED
from ..paths import RELATIVE
from ..preferences import backend_places
from ..properties import values
from ..viewing import turntable, views
from ..viewing.view_settings import TurntableSettings, ViewSettings
from ..viewports import redraw
from .common import allowed, next_folder, tell
from .results import refused

Steps = Generator[views.Progress, None, list[Path]]


class GEN3D_OT_render_views(bpy.types.Operator):
    """Views of a field from the scene's camera."""

    bl_idname = "gen3d.render_views"
    bl_label = "Render Views"
    bl_description = (
        "Render the trained field of this object from the active camera, in the midst of the scene or alone. What it "
        "was captured from is best hidden in renders"
    )
    bl_options = {"REGISTER"}

    folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Folder",
        description="Where the pictures are written; empty: a new folder in the panel's, or beside the .blend file",
        subtype="DIR_PATH",
        options={"SKIP_SAVE", *RELATIVE},
    )

    _steps: Steps | None = None
    _timer: bpy.types.Timer | None = None
    _free = False
    _cancelling = False

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        reason = refused(context.object, field=True)
        if not reason and context.scene.camera is None:
            reason = "The scene has no camera"
        if not reason and (bpy.app.is_job_running("RENDER") or context.window_manager.gen3d.viewing):
            reason = "Blender is rendering"
        return allowed(cls, reason)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """All views at once, as scripts want it."""
        try:
            steps = self._begin(context, responsive=False)
            while True:
                next(steps)
        except StopIteration as end:
            return self._finish(end.value)
        except errors.Gen3DError as error:
            return tell(self, error)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Step by step, with Blender's window alive in between."""
        try:
            self._steps = self._begin(context, responsive=True)
            self._show(context, next(self._steps))
        except errors.Gen3DError as error:
            self._end_modal(context)
            return tell(self, error)
        self._timer = context.window_manager.event_timer_add(0.05, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Swallows all input but Esc while Blender renders the scene, which an edit would change; then none."""
        if event.type == "ESC" and event.value == "PRESS" and not self._free:
            self._cancelling = True  # Blender stops the rendering of a view by itself on Esc
        wished = context.window_manager.gen3d.viewing == ""  # the panel's button, or another file
        if event.type != "TIMER" or ((self._cancelling or wished) and bpy.app.is_job_running("RENDER")):
            return {"PASS_THROUGH"} if self._free else {"RUNNING_MODAL"}
        if self._cancelling or wished:
            self.cancel(context)
            self.report({"WARNING"}, "The rendering of views was cancelled.")
            return {"CANCELLED"}
        try:
            self._show(context, next(self._steps))
        except StopIteration as end:
            self._end_modal(context)
            # Not from here: where a window opens meanwhile, Blender does not notice that this has ended.
            bpy.app.timers.register(partial(views.show, end.value))
            return self._finish(end.value)
        except errors.Gen3DError as error:
            self._end_modal(context)
            return tell(self, error)
        return {"PASS_THROUGH"} if self._free else {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Also called by Blender when the window closes or a file is loaded."""
        if self._steps is not None:
            self._steps.close()
        self._end_modal(context)

    def _begin(self, context: bpy.types.Context, responsive: bool) -> Steps:
        home, _ = backend_places()
        chosen = context.scene.gen3d.views_folder
        folder = Path(bpy.path.abspath(self.folder)).absolute() if self.folder else next_folder("views", chosen)
        self.folder = str(folder)
        plan = ViewSettings(**values(context.scene.gen3d.views, ViewSettings))
        return views.render(plan, context.object, folder, home, _ask, responsive=responsive)

    def _show(self, context: bpy.types.Context, progress: views.Progress) -> None:
        status = context.window_manager.gen3d
        status.viewing, status.viewed = progress.told, progress.fraction
        if context.workspace and self._free != progress.free:
            context.workspace.status_text_set(None if progress.free else "Rendering the scene for views. Esc cancels.")
        self._free = progress.free
        redraw()

    def _end_modal(self, context: bpy.types.Context) -> None:
        self._steps = None
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            self._timer = None
        context.window_manager.gen3d.viewing = ""
        if context.workspace:
            context.workspace.status_text_set(None)

    def _finish(self, files: list[Path]) -> set[str]:
        self.report({"INFO"}, f"{len(files)} {'view' if len(files) == 1 else 'views'} in {self.folder}")
        return {"FINISHED"}


class GEN3D_OT_cancel_views(bpy.types.Operator):
    """Stop rendering views"""

    bl_idname = "gen3d.cancel_views"
    bl_label = "Cancel Views"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.window_manager.gen3d.viewing = ""
        return {"FINISHED"}


class GEN3D_OT_add_turntable(bpy.types.Operator):
    """Add a camera that goes around the selected objects (all, if none is selected) once, and make it the active one"""

    bl_idname = "gen3d.add_turntable"
    bl_label = "Add Turntable Camera"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return allowed(cls, "" if context.mode == "OBJECT" else "Change to object mode first")

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene = context.scene
        chosen = [item for item in context.selected_objects if item.type != "CAMERA"] or None
        plan = TurntableSettings(**values(scene.gen3d.turntable, TurntableSettings))
        try:
            center, radius = bounding_sphere(with_children(scene, chosen))
            camera = turntable.add(scene, plan, center, radius)
        except errors.Gen3DError as error:
            return tell(self, error)
        self.report({"INFO"}, f"{camera.name}: frames {scene.frame_start} to {scene.frame_end}")
        return {"FINISHED"}


def _ask(kind: str, wanted: dict[str, Any]) -> Generator[Path | None, None, None]:
    """Has the backend do a job; see ``views.Ask``. Who stops asking has cancelled it."""
    if bpy.app.background:
        yield api.run(kind, wanted)
        return
    current = pump.connect(*backend_places(), start=True)
    current.error = None
    request = current.client.submit(kind, wanted)
    row = None
    try:
        while row is None or row.state not in ENDED:
            yield None
            row = next((row for row in current.rows.values() if row.request == request), None)
            if pump.session() is not current:
                raise errors.Gen3DError("The connection to the backend was closed.", "Render the views again.")
            if row is None and current.error is not None and current.client.answered(request):
                raise current.error
    finally:
        if row is not None and row.state not in ENDED:
            current.client.cancel(row.id)
    if row.state != "done":
        told = row.error or {}
        cause, step = told.get("cause", f"The rendering was {row.state}."), told.get("next_step", "Render again.")
        raise errors.Gen3DError(str(cause), str(step))
    yield pump.result_folder(row)


CLASSES = (GEN3D_OT_render_views, GEN3D_OT_cancel_views, GEN3D_OT_add_turntable)
