# SPDX-License-Identifier: GPL-3.0-or-later
"""What the active object was made from, and what else can be made of it."""

from __future__ import annotations

from typing import Any

import bpy

from ..connection import pump
from ..results import origin
from .common import column, props, running, write


class GEN3D_PT_results(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_results"
    bl_label = "Results"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        item = context.object
        if item is None or item.type != "MESH":
            write(self.layout, "Select an object to see what it was made from.", icon="INFO")
            return
        write(self.layout, item.name, icon="OUTLINER_OB_MESH")
        write(self.layout, *describe(item))


class GEN3D_PT_results_mesh(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_results_mesh"
    bl_parent_id = "GEN3D_PT_results"
    bl_label = "Mesh from Field"

    def draw(self, context: bpy.types.Context) -> None:
        layout, plan = column(self.layout), context.scene.gen3d.results
        layout.prop(plan, "density", text="Surface", slider=True)
        props(layout, plan.mesh, ("faces", "resolution", "texture", "normal_map", "floaters", "watertight"))
        self.layout.operator("gen3d.remesh", icon="MOD_REMESH")
        running(self.layout, "remesh")


class GEN3D_PT_results_quads(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_results_quads"
    bl_parent_id = "GEN3D_PT_results"
    bl_label = "Quads"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        plan = context.scene.gen3d.results
        props(column(self.layout), plan, ("quads",))
        self.layout.operator("gen3d.quads", text="Make Quads", icon="MESH_GRID").faces = plan.quads


class GEN3D_PT_results_texture(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_results_texture"
    bl_parent_id = "GEN3D_PT_results"
    bl_label = "Texture"

    def draw(self, context: bpy.types.Context) -> None:
        props(column(self.layout), context.scene.gen3d.results, ("bake_size", "bake_faces", "bake_normals"))
        self.layout.operator("gen3d.bake", icon="GROUP_VCOL")
        self.layout.operator("gen3d.retexture", icon="TEXTURE")
        running(self.layout, "bake")


class GEN3D_PT_results_refine(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_results_refine"
    bl_parent_id = "GEN3D_PT_results"
    bl_label = "Refine"

    def draw(self, context: bpy.types.Context) -> None:
        plan = context.scene.gen3d.results
        words = self.layout.column()
        words.prop(plan, "refine_prompt", text="", icon="GREASEPENCIL", placeholder="what it is to become")
        props(column(self.layout), plan, ("refine_shape",))
        item = context.object
        if item is not None and not plan.refine_prompt.strip():
            known = origin.words(item) or context.scene.gen3d.generate.prompt.strip()
            write(self.layout, f"As: {known[:200]}" if known else "Say in words what it is.", icon="INFO")
        self.layout.operator(
            "gen3d.refine", text="Change" if plan.refine_prompt.strip() else "Refine", icon="MOD_SUBSURF"
        )


def describe(item: bpy.types.Object) -> list[str]:
    """How large an object's mesh is, and what is known of its making, a line each."""
    lines = [f"{len(item.data.vertices):,} vertices, {len(item.data.polygons):,} faces"]
    told = origin.facts(item)
    settings, metrics = origin.settings(item), _dictionary(told.get("metrics"))
    if told.get("kind") == "generate":
        prompt = str(settings.get("prompt") or settings.get("image") or "")
        lines += [f"Generated: {prompt[:200]}", f"Seed {told.get('seed')}"]
    elif origin.field_place(item):
        lines.append("Captured, with a trained field")
    if settings.get("system") == "magic3d" and origin.field_place(item):
        lines.append("Its field is that of the coarse stage")
    if isinstance(psnr := metrics.get("psnr"), float):
        lines.append(f"PSNR {psnr:.1f} dB on views that were held out")
    current = pump.session()
    if current is not None and any(row.request == item.get(origin.AWAITS) for row in pump.active(current)):
        lines.append("Its mesh is being made anew")
    return lines


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


CLASSES = (
    GEN3D_PT_results,
    GEN3D_PT_results_mesh,
    GEN3D_PT_results_texture,
    GEN3D_PT_results_refine,
    GEN3D_PT_results_quads,
)
