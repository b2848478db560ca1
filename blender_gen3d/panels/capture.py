# SPDX-License-Identifier: GPL-3.0-or-later
"""Views of the scene's objects."""

from __future__ import annotations

import bpy

from .. import capture_preview
from ..presets import GEN3D_PT_capture_presets
from .common import big, column, in_panel, props, write

CAMERAS = {
    "sphere": ("views", "around", "radius", "lens"),
    "animation": ("step",),
    "cameras": (),
}
"""What each mode uses."""


class GEN3D_PT_capture(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_capture"
    bl_label = "Capture"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        GEN3D_PT_capture_presets.draw_panel_header(self.layout)

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = column(self.layout), context.scene.gen3d.capture
        status = context.window_manager.gen3d
        self.layout.row().prop(plan, "mode", expand=True)
        layout = column(self.layout)
        props(layout, plan, CAMERAS[plan.mode])
        if plan.mode == "sphere":
            heights = layout.column(align=True)
            heights.prop(plan, "elevation_min")
            heights.prop(plan, "elevation_max")
            layout.prop(plan, "upper_half")
        shares = layout.column(align=True)
        props(shares, plan, ("test", "val"))
        layout.prop(plan, "isolate")
        layout.prop(context.scene.gen3d, "capture_folder", placeholder="beside the file")
        shown = in_panel(self.layout.row(align=True))
        eye = "HIDE_OFF" if status.show_cameras else "HIDE_ON"
        shown.prop(status, "show_cameras", toggle=True, icon=eye)
        shown.operator("gen3d.update_cameras", text="", icon="FILE_REFRESH")
        if status.show_cameras:
            _tell(self.layout)
        big(self.layout, "gen3d.capture", "RENDER_STILL")
        if status.capturing:
            self.layout.progress(factor=status.captured, text=status.capturing)


class GEN3D_PT_capture_pictures(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_capture_pictures"
    bl_parent_id = "GEN3D_PT_capture"
    bl_label = "Pictures"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = column(self.layout), context.scene.gen3d.capture
        size = layout.column(align=True)
        props(size, plan, ("width", "height"))
        props(layout, plan, ("engine", "samples", "denoise", "seed"))


class GEN3D_PT_capture_files(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_capture_files"
    bl_parent_id = "GEN3D_PT_capture"
    bl_label = "Passes and Format"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = column(self.layout), context.scene.gen3d.capture
        passes = layout.column(heading="Passes")
        props(passes, plan, ("depth", "normal", "mask"))
        layout.prop(plan, "dialect")


def _tell(layout: bpy.types.UILayout) -> None:
    """How many cameras are shown, and for what; or why none are."""
    found = capture_preview.cameras()
    if found is None:
        write(layout, "Update the cameras to step through the animation.", icon="INFO")
    elif found.problem:
        write(layout, found.problem.cause, found.problem.next_step, icon="ERROR")
    else:
        names = {"train": "train", "val": "validation", "test": "test"}
        parts = [f"{found.counts[key]} {words}" for key, words in names.items() if found.counts[key]]
        write(layout, f"{found.counts.total()} views: {', '.join(parts)}", icon="CAMERA_DATA")


CLASSES = (GEN3D_PT_capture, GEN3D_PT_capture_pictures, GEN3D_PT_capture_files)
