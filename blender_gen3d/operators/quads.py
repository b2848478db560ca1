# SPDX-License-Identifier: GPL-3.0-or-later
"""Quads in place of an object's triangles, by Blender's own QuadriFlow."""

from __future__ import annotations

import bpy

from ..bridge import errors
from ..results.materials import colour_material, picture_of, show_colours
from ..results.meshes import COLORS, colour_from_picture
from .common import allowed, tell
from .results import not_a_mesh


class GEN3D_OT_quads(bpy.types.Operator):
    """Make the faces of this object quads. Its colors stay; of a texture, they become vertex colors"""

    bl_idname = "gen3d.quads"
    bl_label = "Quads"
    bl_options = {"REGISTER", "UNDO"}

    faces: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Faces", description="About how many there are to be", default=5000, min=100, max=200_000
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        item = context.object
        reason = not_a_mesh(item)
        if not reason and item.data.shape_keys:
            reason = "The mesh has shape keys, which would be lost"
        return allowed(cls, reason)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """On a mesh of the object's own; the old one stays where others use it."""
        item, before = context.object, context.object.data
        item.data = made = before.copy()
        try:
            remesh(item, self.faces)
        except errors.Gen3DError as error:
            item.data = before
            bpy.data.meshes.remove(made)
            return tell(self, error)
        name = before.name
        if not before.users:
            bpy.data.meshes.remove(before)
        made.name = name
        show_colours("vertex")
        self.report({"INFO"}, f"{item.name}: {len(item.data.polygons)} faces")
        return {"FINISHED"}


def remesh(item: bpy.types.Object, faces: int) -> None:
    """Raises Gen3DError where QuadriFlow cannot."""
    mesh = item.data
    picture = picture_of(mesh)
    if picture is not None:
        average = colour_from_picture(mesh, picture)
        mesh.materials.clear()
        mesh.materials.append(colour_material(mesh.name, COLORS, average))
    for layer in list(mesh.uv_layers):
        mesh.uv_layers.remove(layer)
    try:
        with bpy.context.temp_override(object=item, active_object=item, selected_objects=[item]):
            done = bpy.ops.object.quadriflow_remesh(
                "EXEC_DEFAULT", mode="FACES", target_faces=faces, use_mesh_symmetry=False, preserve_attributes=True,
                smooth_normals=True,
            )  # fmt: skip
    except RuntimeError as fault:  # what it reports
        done = {"CANCELLED"}
        print(fault)
    if "FINISHED" not in done:
        cause = f"Blender's QuadriFlow cannot do with the mesh of {item.name}."
        step = "It wants a closed surface: use Re-Mesh with Watertight first, or the Voxel remesher of the mesh's data."
        raise errors.Gen3DError(cause, step, field="object")


CLASSES = (GEN3D_OT_quads,)
