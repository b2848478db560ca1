# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be made of an imported object: another mesh of its field, UVs and a texture."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from .. import api, upkeep
from ..bridge import errors, settings
from ..connection import handover, pump
from ..preferences import backend_places
from ..properties import values
from ..results import importing, origin
from ..results.materials import show_colours
from ..results.meshes import read_mesh
from ..results.ply import mesh_ply
from ..results.result_facts import placement
from .common import allowed, tell

LEVEL = (1e-3, 1e4)


def not_a_mesh(item: bpy.types.Object | None) -> str:
    """Why the object's mesh cannot be replaced; "" when it can."""
    if item is None or item.type != "MESH":
        return "Select a mesh"
    if item.library or item.data.library or item.override_library:
        return "The object is linked from another file"
    if bpy.context.mode != "OBJECT":
        return "Change to object mode first"
    return ""


def refused(item: bpy.types.Object | None, *, field: bool) -> str:
    """Why the backend can make nothing of the object; "" when it can. ``field``: it must have a trained one."""
    if reason := not_a_mesh(item):
        return reason
    if upkeep.elsewhere:  # it is handed files of this computer
        return "Not with a backend on another computer: it cannot read this one's files"
    if field and not origin.facts(item):
        return "Select an object that was imported from a training"
    if field and not origin.field_place(item):
        return "This object has no trained field: Point·E makes none"
    return ""


class GEN3D_OT_remesh(bpy.types.Operator):
    """Take a new mesh for this object out of its trained field, without training. Its name, place and modifiers stay"""

    bl_idname = "gen3d.remesh"
    bl_label = "Re-Mesh"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return allowed(cls, refused(context.object, field=True))

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Queues the job, whose mesh takes the place of the old one; in background mode, at once."""
        item, plan = context.object, context.scene.gen3d.results
        wanted = values(plan.mesh, settings.MeshSettings)
        try:
            folder = origin.require_field(item)
            if plan.density:
                wanted["level"] = float(np.clip(_found_level(folder) * 2.0**plan.density, *LEVEL))
            return _start(self, item, "remesh", {"result": str(folder), "mesh": wanted})
        except errors.Gen3DError as error:
            return tell(self, error)


class GEN3D_OT_bake(bpy.types.Operator):
    """Give this object UVs and a texture of its vertex colors, so that it can do with fewer faces"""

    bl_idname = "gen3d.bake"
    bl_label = "Bake Vertex Colors"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        item = context.object
        reason = refused(item, field=False)
        if not reason and item.data.color_attributes.active_color is None:
            reason = "The mesh has no vertex colors"
        return allowed(cls, reason)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Queues the job, whose mesh takes the place of the old one; in background mode, at once."""
        item = context.object
        try:
            return _start(self, item, "bake", _baking(context, mesh_ply(*read_mesh(item.data))))
        except errors.Gen3DError as error:
            return tell(self, error)


class GEN3D_OT_retexture(bpy.types.Operator):
    """Give this object UVs and a texture of its trained field, also after its mesh was edited"""

    bl_idname = "gen3d.retexture"
    bl_label = "Texture from Field"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return allowed(cls, refused(context.object, field=True))

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Queues the job, whose mesh takes the place of the old one; in background mode, at once."""
        item = context.object
        try:
            folder = origin.require_field(item)
            home = placement(origin.field_facts(folder)) @ np.linalg.inv(origin.box_to_object(item))
            positions, faces, _ = read_mesh(item.data)
            world = positions.astype(np.float64) @ home[:3, :3].T + home[:3, 3]
            wanted = _baking(context, mesh_ply(world, faces))
            return _start(self, item, "bake", {**wanted, "result": str(folder)})
        except errors.Gen3DError as error:
            return tell(self, error)


def _baking(context: bpy.types.Context, mesh: bytes) -> dict[str, Any]:
    plan = context.scene.gen3d.results
    source = handover.keep(backend_places()[0], mesh, ".ply")
    return {
        "source": str(source),
        "faces": plan.bake_faces,
        "texture": plan.bake_size,
        "normal_map": plan.bake_normals,
    }


def _start(operator: bpy.types.Operator, item: bpy.types.Object, kind: str, wanted: dict[str, Any]) -> set[str]:
    """Has the job done, and its mesh take the place of the object's."""
    if bpy.app.background:
        done = importing.replace_mesh(item, api.run(kind, wanted))
        show_colours(done.colour)
        operator.report({"INFO"}, f"{item.name}: {done.faces} triangles")
        return {"FINISHED"}
    current = pump.connect(*backend_places(), start=True)
    current.error = None
    request = current.client.submit(kind, wanted)
    item[origin.AWAITS] = request
    current.want(request, None)
    operator.report({"INFO"}, f"{operator.bl_label}: queued. The mesh is replaced when it is done.")
    return {"FINISHED"}


def _found_level(folder: Any) -> float:
    """The level that the training's own mesh was taken at."""
    mesh = origin.field_facts(folder).get("mesh")
    level = mesh.get("level") if isinstance(mesh, dict) else None
    if not isinstance(level, int | float) or not level > 0:
        raise errors.Gen3DError(
            "The result does not say at which density its surface was found.",
            "Leave the surface at 0.",
            field="density",
        )
    return float(level)


CLASSES = (GEN3D_OT_remesh, GEN3D_OT_bake, GEN3D_OT_retexture)
