# SPDX-License-Identifier: GPL-3.0-or-later
"""Quads in place of an object's triangles, by Blender's own QuadriFlow."""

from __future__ import annotations

import bpy

from ..bridge import errors
from ..results.materials import colour_material, picture_of, show_colours
from ..results.meshes import colour_from_picture
from ..results.origin import shape_of
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
        if not reason and len(item.data.materials) > 1:
            reason = "The mesh has several materials, which would be mixed up"
        return allowed(cls, reason)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """On a mesh of the object's own; the old one stays where others use it."""
        item, before = context.object, context.object.data
        item.data = made = before.copy()
        own = colour_vertices(made)
        try:
            remesh(item, self.faces)
        except errors.Gen3DError as error:
            item.data = before
            bpy.data.meshes.remove(made)
            if own is not None:
                bpy.data.materials.remove(own)
            return tell(self, error)
        name = before.name
        if not before.users:
            bpy.data.meshes.remove(before)
        made.name = name
        if item.data.color_attributes.active_color is not None:
            show_colours("vertex")
        self.report({"INFO"}, f"{item.name}: {len(item.data.polygons)} faces")
        return {"FINISHED"}


def colour_vertices(mesh: bpy.types.Mesh) -> bpy.types.Material | None:
    """Where a picture colours the mesh, its vertices and a material of its own do in place of that; that material."""
    picture = picture_of(mesh)
    if picture is None:
        return None
    name, average = colour_from_picture(mesh, picture)
    for layer in list(mesh.uv_layers):
        mesh.uv_layers.remove(layer)
    mesh.materials[0] = colour_material(mesh.name, name, average)
    return mesh.materials[0]


def remesh(item: bpy.types.Object, faces: int) -> None:
    """Raises Gen3DError where QuadriFlow cannot."""
    before = shape_of(item.data)
    try:
        with bpy.context.temp_override(object=item, active_object=item, selected_objects=[item]):
            done = bpy.ops.object.quadriflow_remesh(
                "EXEC_DEFAULT", mode="FACES", target_faces=faces, use_mesh_symmetry=False, preserve_attributes=True,
                smooth_normals=True,
            )  # fmt: skip
    except RuntimeError:  # what it reports, which says no more
        done = {"CANCELLED"}
    if "FINISHED" not in done or shape_of(item.data) == before:  # some versions only warn
        cause = f"Blender's QuadriFlow cannot do with the mesh of {item.name}."
        step = "It wants no more than two faces at an edge, no loose edges, and normals that agree: Blender's Voxel "
        raise errors.Gen3DError(cause, f"{step}remesher, among the mesh's data, makes such a surface.", field="object")


CLASSES = (GEN3D_OT_quads,)
