# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backend is doing and has done."""

from __future__ import annotations

import time
from typing import Any

import bpy

from .. import job_list, thumbnails, upkeep
from ..bridge import protocol
from ..connection import pump
from .common import in_panel, progress, start_backend, write

ICONS = {
    "queued": "SORTTIME",
    "running": "PLAY",
    "done": "CHECKMARK",
    "failed": "ERROR",
    "cancelled": "CANCEL",
    "interrupted": "PAUSE",
}
STATES = {"queued": "Waiting", "done": "Finished", "failed": "Failed", "cancelled": "Cancelled"}
STATES |= {"interrupted": "Interrupted", "running": "Running"}


class GEN3D_UL_jobs(bpy.types.UIList):
    """Newest first."""

    def draw_item(
        self,
        _context: bpy.types.Context,
        layout: bpy.types.UILayout,
        _data: Any,
        item: bpy.types.PropertyGroup,
        _icon: int,
        _active_data: Any,
        _active_property: str,
    ) -> None:
        current = pump.session()
        row = current.rows.get(item.name) if current else None
        if row is None:
            return
        ready = "Ready" if not row.imported and row.kind != "render" else ""  # pictures are not imported
        told = {"queued": "Waiting", "running": "Running", "done": ready}.get(row.state)
        line = layout.split(factor=0.66) if told else layout
        line.label(text=job_list.title(row), icon=ICONS.get(row.state, "NONE"))
        if row.state == "running":
            progress(line, row, short=True)
        elif told:
            line.label(text=told)

    def filter_items(self, context: bpy.types.Context, _data: Any, _property: str) -> tuple[list[int], list[int]]:
        status, current = context.window_manager.gen3d, pump.session()
        rows = job_list.rows()
        words = self.filter_name.lower()
        name = current.client.name if current else ""
        flags = [
            self.bitflag_filter_item
            if row and (status.everyone or row.client == name) and words in job_list.title(row).lower()
            else 0
            for row in rows
        ]
        order = sorted(range(len(rows)), key=lambda index: -rows[index].created if rows[index] else 0.0)
        places = [0] * len(rows)
        for place, index in enumerate(order):
            places[index] = place
        return flags, places


class GEN3D_MT_jobs(bpy.types.Menu):
    bl_idname = "GEN3D_MT_jobs"
    bl_label = "More"
    bl_description = "Import a result from a folder, and choose what is listed and drawn"

    def draw(self, context: bpy.types.Context) -> None:
        layout, status = self.layout, context.window_manager.gen3d
        layout.operator("gen3d.import_result", text="Import from Folder…", icon="IMPORT")
        layout.separator()
        layout.prop(status, "show_points")
        layout.prop(status, "everyone")


class GEN3D_PT_jobs(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_jobs"
    bl_label = "Jobs"

    def draw(self, context: bpy.types.Context) -> None:
        current, status = pump.session(), context.window_manager.gen3d
        if current is not None and current.error is not None:
            _draw_problem(self.layout, current)
        if current is None or current.client.link.state in ("offline", "closed"):
            _draw_absence(self.layout)
        line = self.layout.row()
        line.template_list("GEN3D_UL_jobs", "", status, "jobs", status, "job_index", rows=4, sort_lock=True)
        side = in_panel(line.column(align=True))
        for operator, icon in (("open_job", "FILE_FOLDER"), ("copy_job", "COPYDOWN"), ("remove_job", "TRASH")):
            side.operator(f"gen3d.{operator}", text="", icon=icon)
        side.separator()
        side.menu("GEN3D_MT_jobs", text="", icon="DOWNARROW_HLT")
        if row := job_list.chosen(context):
            _draw_job(self.layout.box().column(), row)


def _draw_absence(layout: bpy.types.UILayout) -> None:
    """Why nothing earlier is listed, where that can be helped."""
    if upkeep.elsewhere or upkeep.state.kind in upkeep.USABLE:
        start_backend(layout, "to see earlier jobs.")


def _draw_problem(layout: bpy.types.UILayout, current: pump.Session) -> None:
    line = layout.box().row()
    line.alert = True
    write(line.column(), current.error.cause, current.error.next_step, icon="ERROR")
    line.operator("gen3d.forget_error", text="", icon="X", emboss=False)


def _draw_job(box: bpy.types.UILayout, row: protocol.JobRow) -> None:
    """All about one job: picture, state, what it has to say, and what to do next."""
    write(box, row.params.get("prompt") or job_list.title(row))
    if picture := thumbnails.icon(row.id):
        box.template_icon(picture, scale=7.0)
    if row.state in ("queued", "running"):
        if row.state == "running":
            progress(box, row)
        box.operator("gen3d.cancel_job", icon="X").job = row.id
        return
    write(box, _state_line(row), icon=ICONS.get(row.state, "NONE"))
    told, notes, current = row.error or {}, (row.result or {}).get("notes") or (), pump.session()
    if row.state == "done":
        write(box, *notes, icon="INFO")
        if row.kind != "render":  # pictures: they are not imported
            _draw_import(box, row)
        return
    write(box, told.get("cause"), told.get("next_step"))
    box.operator("gen3d.resume_job", icon="FILE_REFRESH").job = row.id
    if current is not None and pump.has_something(current, row):
        write(box, *notes, icon="INFO")
        _draw_import(box, row)


def _state_line(row: protocol.JobRow) -> str:
    """How and when a job ended, and how long it took: "Finished 2 May 14:03 (1:12)"."""
    line = STATES.get(row.state, row.state)
    if row.ended:
        at = time.localtime(row.ended)
        line += f" {at.tm_mday} {time.strftime('%b %H:%M', at)}"
        if row.started:
            line += f" ({pump.duration(row.ended - row.started)})"
    return line


def _draw_import(box: bpy.types.UILayout, row: protocol.JobRow) -> None:
    current = pump.session()
    if current is not None and row.request in current.to_import and (reason := pump.waits()):
        write(box, f"The import waits {reason}.", icon="TIME")
    chosen = box.operator("gen3d.import_result", text="Import Again" if row.imported else "Import", icon="IMPORT")
    chosen.folder, chosen.job = str(pump.result_folder(row)), row.id


CLASSES = (GEN3D_UL_jobs, GEN3D_MT_jobs, GEN3D_PT_jobs)
