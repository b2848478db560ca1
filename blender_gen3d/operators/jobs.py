# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done with a job: with the one named, or with the one that is chosen in the list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from .. import job_list
from ..bridge import errors, protocol
from ..connection import pump
from ..properties import assign
from ..results.importing import units_per_metre
from .common import from_panel, tell

PANELS = {"generate": "generate", "nerf": "nerf"}
"""Job kinds, and where the panel's settings for such a job are."""


class _JobOperator:
    """An operator on a job. ``states`` are those of jobs that it can be used on."""

    states: tuple[str, ...] = protocol.STATES
    refusal = ""

    job: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if pump.session() is None:
            cls.poll_message_set("There is no connection to a backend yet")
            return False
        row = job_list.chosen(context)
        if from_panel(context) and (row is None or row.state not in cls.states):
            cls.poll_message_set(cls.refusal if row else "There is no job yet")
            return False
        return True


class GEN3D_OT_cancel_job(_JobOperator, bpy.types.Operator):
    """Stop this job. What it has learned so far is kept: it can be resumed"""

    bl_idname = "gen3d.cancel_job"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}
    states = ("queued", "running")
    refusal = "This job has ended"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return _do(self, context, lambda current, row: current.client.cancel(row.id))


class GEN3D_OT_resume_job(_JobOperator, bpy.types.Operator):
    """Go on with this job from its last checkpoint"""

    bl_idname = "gen3d.resume_job"
    bl_label = "Resume"
    bl_options = {"INTERNAL"}
    states = ("failed", "cancelled", "interrupted")
    refusal = "Only a job that has been stopped can go on"

    def execute(self, context: bpy.types.Context) -> set[str]:
        return _do(self, context, lambda current, row: current.client.resume(row.id))


class GEN3D_OT_remove_job(_JobOperator, bpy.types.Operator):
    """Delete this job with all its files. What has been imported from it stays in the scene"""

    bl_idname = "gen3d.remove_job"
    bl_label = "Delete Job"
    bl_options = {"INTERNAL"}
    states = ("done", "failed", "cancelled", "interrupted")
    refusal = "A running job cannot be deleted: cancel it first"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(
            self, event, title="Delete this job?", message="Its result and its checkpoints are lost.",
            confirm_text="Delete", icon="WARNING",
        )  # fmt: skip

    def execute(self, context: bpy.types.Context) -> set[str]:
        return _do(self, context, lambda current, row: current.client.remove(row.id))


class GEN3D_OT_open_job(_JobOperator, bpy.types.Operator):
    """Show the files of this job in the file manager"""

    bl_idname = "gen3d.open_job"
    bl_label = "Open Folder"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        return _do(self, context, self._open)

    def _open(self, _current: pump.Session, row: protocol.JobRow) -> None:
        folder = pump.result_folder(row) if row.state == "done" else Path(row.folder)
        folder = folder if folder.is_dir() else Path(row.folder)
        if not folder.is_dir():
            raise errors.Gen3DError(
                f"{folder} is not on this machine.", "Look for it where the backend runs, or import the result."
            )
        bpy.ops.wm.path_open(filepath=str(folder))


class GEN3D_OT_copy_job(_JobOperator, bpy.types.Operator):
    """Put the settings of this job, its seed included, back into the panel, to make it again or a variant of it"""

    bl_idname = "gen3d.copy_job"
    bl_label = "Copy Settings to Panel"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        row = job_list.chosen(context)
        if from_panel(context) and row is not None and row.kind not in PANELS:
            cls.poll_message_set("This job was started from an object: the panel has no settings of it")
            return False
        return super().poll(context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        return _do(self, context, self._copy)

    def _copy(self, _current: pump.Session, row: protocol.JobRow) -> None:
        if row.kind not in PANELS:
            raise errors.Gen3DError(
                f'Jobs of the kind "{row.kind}" have no settings in the panel.', "Choose another job."
            )
        wanted = dict(row.params)
        if "size" in wanted:
            wanted["size"] *= units_per_metre(bpy.context.scene)
        assign(getattr(bpy.context.scene.gen3d, PANELS[row.kind]), wanted)
        self.report({"INFO"}, f"The panel has the settings of {job_list.title(row)} now.")


class GEN3D_OT_forget_error(bpy.types.Operator):
    """Take this message away"""

    bl_idname = "gen3d.forget_error"
    bl_label = "Dismiss"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        if current := pump.session():
            current.error = None
        return {"FINISHED"}


def _do(operator: Any, context: bpy.types.Context, work: Callable[[pump.Session, protocol.JobRow], object]) -> set[str]:
    current = pump.session()
    row = current.rows.get(operator.job) if operator.job else job_list.chosen(context)
    try:
        if row is None:
            raise errors.Gen3DError("There is no such job.", "Choose one in the list.")
        work(current, row)
    except errors.Gen3DError as error:
        return tell(operator, error)
    return {"FINISHED"}


CLASSES = (
    GEN3D_OT_cancel_job,
    GEN3D_OT_resume_job,
    GEN3D_OT_remove_job,
    GEN3D_OT_open_job,
    GEN3D_OT_copy_job,
    GEN3D_OT_forget_error,
)
