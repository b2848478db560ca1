# SPDX-License-Identifier: GPL-3.0-or-later
"""Views to a radiance field and its mesh."""

from __future__ import annotations

import bpy

from .. import upkeep
from ..bridge import settings
from ..presets import GEN3D_PT_train_presets
from ..properties import values
from .common import big, column, needed_memory, props, running, write


class GEN3D_PT_train(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_train"
    bl_label = "Train"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        GEN3D_PT_train_presets.draw_panel_header(self.layout)

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = column(self.layout), context.scene.gen3d
        plan = chosen.nerf
        layout.prop(plan, "dataset")
        if upkeep.elsewhere:
            told = "The backend is on another computer: the dataset has to be there, at this path. Captures are here."
            write(layout, told, icon="INFO")
        props(layout, plan, ("preset", "seconds"))
        if not plan.seconds:
            layout.prop(plan, "steps")
        layout.prop(plan, "scene")
        layout.prop(chosen, "import_when_done")
        wanted = values(plan, settings.NerfSettings)
        wanted["dataset"] = "" if upkeep.elsewhere else bpy.path.abspath(plan.dataset)  # of another computer's: unknown
        needed_memory(self.layout, "nerf", wanted)
        big(self.layout, "gen3d.train", "PLAY")
        running(self.layout, "nerf")


class GEN3D_PT_train_mesh(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_train_mesh"
    bl_parent_id = "GEN3D_PT_train"
    bl_label = "Mesh"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = column(self.layout), context.scene.gen3d.nerf.mesh
        props(layout, plan, ("resolution", "faces", "texture", "normal_map", "level", "floaters", "watertight"))


class GEN3D_PT_train_more(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_train_more"
    bl_parent_id = "GEN3D_PT_train"
    bl_label = "Advanced"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = column(self.layout), context.scene.gen3d.nerf
        if plan.seconds:
            layout.prop(plan, "steps")
        props(layout, plan, ("seed", "exposure", "turntable", "device"))


CLASSES = (GEN3D_PT_train, GEN3D_PT_train_mesh, GEN3D_PT_train_more)
