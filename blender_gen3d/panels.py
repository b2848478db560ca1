# SPDX-License-Identifier: GPL-3.0-or-later
"""The tab "Gen3D" of the 3D view's sidebar."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy

from . import pump
from .bridge import protocol
from .properties import Gen3DStatus


class GEN3D_PT_generate(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_generate"
    bl_label = "Generate"

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = _column(self), context.scene.gen3d
        for name in ("prompt", "image", "seed", "count", "size", "system"):
            layout.prop(chosen.generate, name)
        layout.prop(chosen, "import_when_done")
        layout.operator("gen3d.generate", icon="PLAY")


class GEN3D_PT_generate_more(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_generate_more"
    bl_parent_id = "GEN3D_PT_generate"
    bl_label = "Model and Sampling"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = _column(self), context.scene.gen3d.generate
        names = ("weights", "text_to_image", "remove_background", "guidance", "steps", "points", "resolution", "faces")
        for name in (*names, "save_points", "device"):
            layout.prop(plan, name)


class GEN3D_PT_capture(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_capture"
    bl_label = "1. Capture"

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = _column(self), context.scene.gen3d.capture
        layout.prop(plan, "mode")
        if plan.mode == "sphere":
            for name in ("views", "around", "radius", "lens", "upper_half"):
                layout.prop(plan, name)
        if plan.mode == "animation":
            layout.prop(plan, "step")
        layout.prop(plan, "isolate")
        status: Gen3DStatus = context.window_manager.gen3d
        if status.capturing:
            layout.label(text=status.capturing)
        layout.operator("gen3d.capture", icon="RENDER_STILL")


class GEN3D_PT_capture_more(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_capture_more"
    bl_parent_id = "GEN3D_PT_capture"
    bl_label = "Pictures and Files"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = _column(self), context.scene.gen3d.capture
        names = ["dialect", "width", "height", "engine", "samples", "denoise", "val", "test", "depth", "normal", "mask"]
        if plan.mode == "sphere":
            names += ["elevation_min", "elevation_max", "seed"]
        for name in names:
            layout.prop(plan, name)


class GEN3D_PT_train(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_train"
    bl_label = "2. Train"

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = _column(self), context.scene.gen3d
        for name in ("dataset", "seconds", "preset", "scene"):
            layout.prop(chosen.nerf, name)
        for name in ("faces", "texture"):
            layout.prop(chosen.nerf.mesh, name)
        layout.prop(chosen, "import_when_done")
        layout.operator("gen3d.train", icon="PLAY")


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
            _write(box, current.error.cause, current.error.next_step)
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
    _write(box, told.get("cause"), told.get("next_step"), *(result.get("notes") or ()))


def _column(panel: bpy.types.Panel) -> bpy.types.UILayout:
    layout = panel.layout.column()
    layout.use_property_split = True
    layout.use_property_decorate = False
    return layout


def _write(layout: bpy.types.UILayout, *sentences: Any, width: int = 42) -> None:
    """Sentences in pieces that fit the sidebar: Blender's labels do not wrap."""
    for sentence in filter(None, sentences):
        for line in textwrap.wrap(str(sentence), width):
            layout.label(text=line)


def redraw() -> None:
    """Shows what is new in every open sidebar."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


CLASSES = (
    GEN3D_PT_generate,
    GEN3D_PT_generate_more,
    GEN3D_PT_capture,
    GEN3D_PT_capture_more,
    GEN3D_PT_train,
    GEN3D_PT_jobs,
)
