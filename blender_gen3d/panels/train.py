# SPDX-License-Identifier: GPL-3.0-or-later
"""Views to a radiance field and its mesh."""

from __future__ import annotations

import bpy

from .common import column


class GEN3D_PT_train(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_train"
    bl_label = "2. Train"

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = column(self), context.scene.gen3d
        for name in ("dataset", "seconds", "preset", "scene"):
            layout.prop(chosen.nerf, name)
        for name in ("faces", "texture"):
            layout.prop(chosen.nerf.mesh, name)
        layout.prop(chosen, "import_when_done")
        layout.operator("gen3d.train", icon="PLAY")


CLASSES = (GEN3D_PT_train,)
