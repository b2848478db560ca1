# SPDX-License-Identifier: GPL-3.0-or-later
"""Views of the scene's objects."""

from __future__ import annotations

import bpy

from ..properties import Gen3DStatus
from .common import column


class GEN3D_PT_capture(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_capture"
    bl_label = "1. Capture"

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = column(self), context.scene.gen3d.capture
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
        layout, plan = column(self), context.scene.gen3d.capture
        names = ["dialect", "width", "height", "engine", "samples", "denoise", "val", "test", "depth", "normal", "mask"]
        if plan.mode == "sphere":
            names += ["elevation_min", "elevation_max", "seed"]
        for name in names:
            layout.prop(plan, name)


CLASSES = (GEN3D_PT_capture, GEN3D_PT_capture_more)
