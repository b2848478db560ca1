# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing a result, from the panel, from a folder, or as soon as it is finished."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..bridge import errors
from ..connection import pump
from ..paths import RELATIVE
from ..results import origin
from ..results.importing import import_result, replace_mesh
from ..results.materials import show_colours
from .common import allowed, tell


class GEN3D_OT_import_result(bpy.types.Operator):
    """Bring a finished result into the scene: to where it was captured or, if it was generated, to the 3D cursor"""

    bl_idname = "gen3d.import_result"
    bl_label = "Import Result"
    bl_options = {"REGISTER", "UNDO"}

    folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Result folder",
        description="The folder that holds result.json",
        subtype="DIR_PATH",
        options={"SKIP_SAVE", *RELATIVE},
    )
    at: bpy.props.FloatVectorProperty(  # type: ignore[valid-type]
        name="At",
        description="Where a generated result stands; without it, at the 3D cursor",
        subtype="TRANSLATION",
        options={"SKIP_SAVE"},
    )
    job: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})  # type: ignore[valid-type]
    colours_in_solid: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Show colours in solid view",
        description="Let viewports in solid shading show vertex or texture colours instead of one colour per material",
        default=True,
    )
    directory: bpy.props.StringProperty(  # type: ignore[valid-type]
        subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE", *RELATIVE}
    )

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return allowed(cls, f"The import waits {reason}" if (reason := pump.waits()) else "")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        if self.folder:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        current = pump.session()
        row = current.rows.get(self.job) if current else None
        if self.job and pump.will_import(self.job):
            self.report({"INFO"}, "The result is copied from the other computer, and then imported.")
            return {"FINISHED"}
        try:
            at = tuple(self.at) if self.properties.is_property_set("at") else None
            folder = Path(bpy.path.abspath(self.folder or self.directory))
            waiting = origin.awaited(row.request) if row else None
            done = replace_mesh(waiting, folder) if waiting else import_result(folder, job=self.job, at=at)
        except errors.Gen3DError as error:
            return tell(self, error)
        if self.colours_in_solid:
            show_colours(done.colour)
        if row is not None and row.state == "done" and row.client == current.client.name:  # others import theirs
            current.client.imported(self.job)
        self.report({"INFO"}, f"{', '.join(item.name for item in done.objects)}: {done.faces} triangles")
        return {"FINISHED"}
