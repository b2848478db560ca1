# SPDX-License-Identifier: GPL-3.0-or-later
"""Capturing from the panel."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import bpy

from .. import capture_preview
from ..bridge import errors
from ..capturing.capture import Captured, CaptureProgress, capture, wanted
from ..capturing.capture_settings import CaptureSettings, checked
from ..paths import RELATIVE
from ..properties import values
from .common import allowed, next_folder, tell

Steps = Generator[CaptureProgress, None, Captured]


class GEN3D_OT_update_cameras(bpy.types.Operator):
    """Work out the shown cameras anew. Along an animation this steps through its frames"""

    bl_idname = "gen3d.update_cameras"
    bl_label = "Update Cameras"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return allowed(cls, "" if context.window_manager.gen3d.show_cameras else "The cameras are not shown")

    def execute(self, _context: bpy.types.Context) -> set[str]:
        capture_preview.update()
        return {"FINISHED"}


class GEN3D_OT_capture(bpy.types.Operator):
    """Render the selected objects (all, if none is selected) from many cameras into a dataset for training"""

    bl_idname = "gen3d.capture"
    bl_label = "Capture Views"
    bl_options = {"REGISTER"}

    folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Dataset folder",
        description="Where the dataset is written; empty: a new folder in the panel's, or beside the .blend file",
        subtype="DIR_PATH",
        options={"SKIP_SAVE", *RELATIVE},
    )
    overwrite: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Overwrite", description="Replace the dataset that is already in the folder", options={"SKIP_SAVE"}
    )

    _steps: Steps | None = None
    _timer: bpy.types.Timer | None = None
    _cancelling = False

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if bpy.app.is_job_running("RENDER") or context.window_manager.gen3d.capturing:
            return allowed(cls, "Blender is rendering")
        return allowed(cls, "" if context.mode == "OBJECT" else "Change to object mode first")

    def execute(self, context: bpy.types.Context) -> set[str]:
        """All views at once, as scripts want it."""
        try:
            steps = self._begin(context, responsive=False)
            while True:
                next(steps)
        except StopIteration as end:
            return self._finish(context, end.value)
        except errors.Gen3DError as error:
            return tell(self, error)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """View by view, with Blender's window alive in between."""
        try:
            self._steps = self._begin(context, responsive=True)
            next(self._steps)
        except errors.Gen3DError as error:
            return tell(self, error)
        self._timer = context.window_manager.event_timer_add(0.05, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Swallows all input but Esc: an edit between two views would make them disagree."""
        if event.type == "ESC" and event.value == "PRESS":
            self._cancelling = True  # Blender stops the rendering of a view by itself on Esc
        if event.type != "TIMER" or (self._cancelling and bpy.app.is_job_running("RENDER")):
            return {"RUNNING_MODAL"}
        if self._cancelling:
            self.cancel(context)
            self.report({"WARNING"}, "The capture was cancelled; nothing was written.")
            return {"CANCELLED"}
        try:
            self._show(context, next(self._steps))
        except StopIteration as end:
            self._end_modal(context)
            return self._finish(context, end.value)
        except errors.Gen3DError as error:
            self._end_modal(context)
            return tell(self, error)
        return {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Also called by Blender when the window closes or a file is loaded."""
        if self._steps is not None:
            self._steps.close()
        self._end_modal(context)

    def _begin(self, context: bpy.types.Context, responsive: bool) -> Steps:
        plan = checked(values(context.scene.gen3d.capture, CaptureSettings))
        chosen = context.scene.gen3d.capture_folder
        self.folder = str(Path(bpy.path.abspath(self.folder)) if self.folder else next_folder("captures", chosen))
        objects, cameras = wanted(context)
        return capture(
            plan, Path(self.folder), objects=objects, cameras=cameras, overwrite=self.overwrite, responsive=responsive
        )

    def _show(self, context: bpy.types.Context, progress: CaptureProgress) -> None:
        left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
        context.window_manager.gen3d.captured = progress.done / progress.total
        context.window_manager.gen3d.capturing = f"View {progress.done} of {progress.total}{left}"
        context.workspace.status_text_set(f"{context.window_manager.gen3d.capturing}. Esc cancels.")
        _redraw(context)

    def _end_modal(self, context: bpy.types.Context) -> None:
        self._steps = None
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            self._timer = None
        context.window_manager.gen3d.capturing = ""
        if context.workspace:
            context.workspace.status_text_set(None)
        _redraw(context)

    def _finish(self, context: bpy.types.Context, done: Captured) -> set[str]:
        context.scene.gen3d.nerf.dataset = str(done.folder)
        self.report({"INFO"}, f"{done.views} views in {done.folder}")
        return {"FINISHED"}


def _redraw(context: bpy.types.Context) -> None:
    for area in context.screen.areas if context.screen else ():
        area.tag_redraw()
