# SPDX-License-Identifier: GPL-3.0-or-later
"""Words, or a picture, to an object."""

from __future__ import annotations

import bpy

from .common import column


class GEN3D_PT_generate(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_generate"
    bl_label = "Generate"

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = column(self), context.scene.gen3d
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
        layout, plan = column(self), context.scene.gen3d.generate
        names = ("weights", "text_to_image", "remove_background", "guidance", "steps", "points", "resolution", "faces")
        for name in (*names, "save_points", "device"):
            layout.prop(plan, name)


CLASSES = (GEN3D_PT_generate, GEN3D_PT_generate_more)
