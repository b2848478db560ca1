# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backend is doing and has done."""

from __future__ import annotations

import bpy

from .. import pump
from ..bridge import protocol
from .common import write


class GEN3D_PT_jobs(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_jobs"
    bl_label = "Results"

    def draw(self, _context: bpy.types.Context) -> None:
        current = pump.session()
        jobs = current.jobs() if current else []
        if current is not None and current.error is not None:
            box = self.layout.box().column()
            box.alert = True
            write(box, current.error.cause, current.error.next_step)
        for row in jobs[:10]:
            _draw_job(self.layout.box(), row)
        if not jobs:
            self.layout.label(text="Nothing has been made yet.")
        self.layout.operator("gen3d.import_result", text="Import from Folder…", icon="IMPORT")


def _draw_job(box: bpy.types.UILayout, row: protocol.JobRow) -> None:
    line = box.row()
    line.label(text=f"{str(row.params.get('prompt') or row.kind)[:60]}: {pump.progress_line(row)}")
    if row.state in ("queued", "running"):
        line.operator("gen3d.cancel_job", text="", icon="X").job = row.id
    elif row.state == "done":
        chosen = line.operator("gen3d.import_result", text="Import again" if row.imported else "Import")
        chosen.folder, chosen.job = str(pump.result_folder(row)), row.id
    else:
        line.operator("gen3d.resume_job", text="Resume").job = row.id
    if row.state == "running" and row.progress and hasattr(box, "progress"):
        box.progress(factor=row.progress.get("fraction") or 0.0, text=pump.progress_line(row))
    told, result = row.error or {}, row.result or {}
    write(box, told.get("cause"), told.get("next_step"), *(result.get("notes") or ()))


CLASSES = (GEN3D_PT_jobs,)
