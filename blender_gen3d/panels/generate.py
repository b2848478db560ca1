# SPDX-License-Identifier: GPL-3.0-or-later
"""Words, or a picture, to an object."""

from __future__ import annotations

import bpy

from ..bridge import settings
from ..presets import GEN3D_PT_generate_presets
from ..properties import title, values
from .common import ZERO, big, column, needed_memory, props, running

MAIN = ("seed", "count", "size")
ELSEWHERE = {"image", "text_to_image", "remove_background", "negative_prompt"}  # not in a row with the others
TECHNIQUES = {
    "dream-fields": ("dream_fields",),
    "dreamfusion": ("dreamfusion",),
    "magic3d": ("magic3d", "dreamfusion"),
}


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
        known = settings.SYSTEMS[plan.system]
        if "negative_prompt" in known:
            words.prop(plan, "negative_prompt", text="", icon="X", placeholder="what not to make")
        if "image" in known:
            layout.prop(plan, "image")
        layout.prop(plan, "system")
        quality = layout.row().split(factor=0.4)
        name = quality.row()
        name.alignment = "RIGHT"
        name.label(text="Quality")
        quality.popover(GEN3D_PT_generate_presets.__name__, text=GEN3D_PT_generate_presets.bl_label)
        if "start" in known:
            layout.prop(chosen, "start_object")
        props(layout, plan, MAIN)
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
        known = settings.SYSTEMS[plan.system]
        if "image" in known:
            layout.prop(plan, "remove_background" if plan.image else "text_to_image")
        apart = ELSEWHERE.union(*TECHNIQUES.values())
        usual = {"texture": "Texture (Usual)"} if plan.system == "magic3d" else {}
        props(layout, plan, [name for name in (*known, "device") if name not in apart], ZERO | usual)


class GEN3D_PT_generate_techniques(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_generate_techniques"
    bl_parent_id = "GEN3D_PT_generate"
    bl_label = "Techniques"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene.gen3d.generate.system in TECHNIQUES

    def draw(self, context: bpy.types.Context) -> None:
        plan = context.scene.gen3d.generate
        for name in TECHNIQUES[plan.system]:
            group, layout = getattr(plan, name), column(self.layout)
            if name != TECHNIQUES[plan.system][0]:
                layout.label(text=f"As in {title(name)}")
            props(layout, group, type(group).__annotations__)


CLASSES = (GEN3D_PT_generate, GEN3D_PT_generate_more, GEN3D_PT_generate_techniques)
