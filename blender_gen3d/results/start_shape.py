# SPDX-License-Identifier: GPL-3.0-or-later
"""From an object of the scene to a file that a field can begin as."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ..bridge import errors
from ..connection import handover, remote
from .importing import units_per_metre
from .materials import picture_of
from .meshes import colour_from_picture, read_mesh
from .ply import mesh_ply


def start_shape(item: bpy.types.Object, home: Path) -> str:
    """The file, in the home folder, of a mesh as it stands in the scene, modifiers and all, in metres, with the colours
    of its vertices or of its texture. Raises Gen3DError where it has no faces, or that home's backend cannot read it.
    """
    if remote.address(home):
        cause = "A backend on another computer cannot read this one's meshes."
        raise errors.Gen3DError(cause, "Leave the start shape out.", field="start")
    if item.type != "MESH":
        raise errors.Gen3DError(f"{item.name} is no mesh.", "Choose another start shape.", field="start")
    whole = item.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = whole.to_mesh()
    if mesh.color_attributes.active_color is None and (picture := picture_of(mesh)) is not None:
        colour_from_picture(mesh, picture)
    positions, faces, colours = read_mesh(mesh)
    whole.to_mesh_clear()
    if not len(faces):
        raise errors.Gen3DError(f"{item.name} has no faces.", "Choose another start shape.", field="start")
    turned = positions @ np.array(item.matrix_world, np.float32)[:3, :3].T / units_per_metre(bpy.context.scene)
    return str(handover.keep(home, mesh_ply(turned, faces, colours), ".ply"))
