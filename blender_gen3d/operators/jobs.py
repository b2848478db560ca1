# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done with a listed job."""

from __future__ import annotations

import bpy

from .. import pump
from ..bridge import errors
from .common import tell


class _JobOperator:
    """An operator on one of the listed jobs."""

    job: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return pump.session() is not None


class GEN3D_OT_cancel_job(_JobOperator, bpy.types.Operator):
    """Stop this job. What it has learned so far is kept: it can be resumed"""

    bl_idname = "gen3d.cancel_job"
    bl_label = "Cancel Job"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return _ask(self, "cancel")


class GEN3D_OT_resume_job(_JobOperator, bpy.types.Operator):
    """Go on with this job from its last checkpoint"""

    bl_idname = "gen3d.resume_job"
    bl_label = "Resume Job"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return _ask(self, "resume")


def _ask(operator: bpy.types.Operator, verb: str) -> set[str]:
    current = pump.session()
    if current is None:
        return tell(operator, errors.Gen3DError("There is no backend.", "Start a training."))
    try:
        getattr(current.client, verb)(operator.job)
    except errors.Gen3DError as error:
        return tell(operator, error)
    return {"FINISHED"}
