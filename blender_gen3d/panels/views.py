# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a trained field from the scene's camera."""

from __future__ import annotations

import bpy

from .common import big, column, props


class GEN3D_PT_views(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_views"
    bl_label = "Views"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        scene, status = context.scene, context.window_manager.gen3d
        plan = scene.gen3d.views
        layout = column(self.layout)
        layout.prop(scene, "camera", text="Camera")
        layout.row().prop(plan, "frames", expand=True)
        if plan.frames == "animation":
            layout.prop(plan, "step")
        props(layout, plan, ("with_scene", "device"))
        layout.prop(scene.gen3d, "views_folder", placeholder="beside the file")
        big(self.layout, "gen3d.render_views", "RENDER_ANIMATION" if plan.frames == "animation" else "RENDER_STILL")
        if status.viewing:
            line = self.layout.row(align=True)
            line.progress(factor=status.viewed, text=status.viewing)
            line.operator("gen3d.cancel_views", text="", icon="X")


class GEN3D_PT_turntable(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_turntable"
    bl_parent_id = "GEN3D_PT_views"
    bl_label = "Turntable"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        plan = context.scene.gen3d.turntable
        props(column(self.layout), plan, ("frames", "elevation", "distance", "lens"))
        self.layout.operator("gen3d.add_turntable", icon="CON_FOLLOWPATH")


CLASSES = (GEN3D_PT_views, GEN3D_PT_turntable)
