# SPDX-License-Identifier: GPL-3.0-or-later
"""Words, or a picture, to an object."""

from __future__ import annotations

import bpy

from ..bridge import settings
from ..presets import GEN3D_PT_generate_presets
from ..properties import values
from .common import big, column, needed_memory, props, running

# What each system uses: in the panel, and in the folded one beneath.
MAIN = {"point-e": ("seed", "count", "size")}
MORE = {"point-e": ("weights", "guidance", "steps", "points", "resolution", "faces", "save_points", "device")}
PICTURES = {"point-e"}  # those that can begin with a picture
NEGATIVE = set[str]()  # those that can be told what not to make


class GEN3D_PT_generate(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_generate"
    bl_label = "Generate"

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = column(self.layout), context.scene.gen3d
        plan = chosen.generate
        words = layout.column()
        words.use_property_split = False
        words.prop(plan, "prompt", text="", icon="GREASEPENCIL", placeholder="a red chair with a blue seat")
        if plan.system in NEGATIVE:
            words.prop(plan, "negative_prompt", text="", icon="X", placeholder="what not to make")
        if plan.system in PICTURES:
            layout.prop(plan, "image")
        layout.prop(plan, "system")
        quality = layout.row().split(factor=0.4)
        name = quality.row()
        name.alignment = "RIGHT"
        name.label(text="Quality")
        quality.popover(GEN3D_PT_generate_presets.__name__, text=GEN3D_PT_generate_presets.bl_label)
        props(layout, plan, MAIN[plan.system])
        layout.prop(chosen, "import_when_done")
        needed_memory(self.layout, "generate", values(plan, settings.GenerateSettings))
        big(self.layout, "gen3d.generate", "PLAY")
        running(self.layout, "generate")


class GEN3D_PT_generate_more(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_generate_more"
    bl_parent_id = "GEN3D_PT_generate"
    bl_label = "Advanced"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = column(self.layout), context.scene.gen3d.generate
        if plan.system in PICTURES:
            layout.prop(plan, "remove_background" if plan.image else "text_to_image")
        props(layout, plan, MORE[plan.system])


CLASSES = (GEN3D_PT_generate, GEN3D_PT_generate_more)
