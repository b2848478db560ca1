# SPDX-License-Identifier: GPL-3.0-or-later
"""A finished result becomes an object: mesh, colours, material, in the place it was captured."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from .bridge import errors
from .glb import GlbMesh, read_glb
from .materials import colour_material, texture_material

COLLECTION = "Gen3D"
COLORS, UVS = "Color", "UVMap"


@dataclass(frozen=True)
class Imported:
    """What came of an import: the new object, its size, and whether its colours are "vertex", "texture" or "none"."""

    object: bpy.types.Object
    vertices: int
    faces: int
    colour: str


def import_result(folder: Path, *, name: str = "", job: str = "") -> Imported:
    """Builds the mesh of a result folder in the current scene, exactly where its object was captured.

    The object goes into the collection "Gen3D", becomes the active one, keeps its mesh in training-box coordinates
    (pivot: middle of the box) with the box's place as its matrix, and carries the settings in its custom properties.
    Pushes no undo step: the operator and ``api`` do. Raises Gen3DError, and imports nothing, where the result is
    damaged or empty or Blender is busy.
    """
    _check_mode()
    facts = read_facts(folder)
    matrix = placement(facts)
    mesh = read_glb(_checked_file(folder, facts))
    if not len(mesh.faces):
        raise errors.Gen3DError(
            "The result holds no surface: nowhere is the field dense enough.",
            "Make the mesh again at a lower level, or train longer.",
        )
    title = name or "Gen3D result"
    item = bpy.data.objects.new(title, build_mesh(mesh, title))
    item.matrix_world = Matrix(matrix.tolist())
    _describe(item, folder, facts, job)
    _collection(bpy.context.scene).objects.link(item)
    for other in bpy.context.view_layer.objects:
        if other.select_get():
            other.select_set(False)
    item.select_set(True)
    bpy.context.view_layer.objects.active = item
    bpy.context.view_layer.update()
    colour = "texture" if mesh.texture is not None else "vertex" if mesh.colors is not None else "none"
    return Imported(item, len(item.data.vertices), len(item.data.polygons), colour)


def read_facts(folder: Path) -> dict[str, Any]:
    """The decoded result.json of a result folder."""
    path = folder / "result.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise errors.Gen3DError(
            f"{folder} holds no finished result.", "Choose the folder that holds result.json.", field="folder"
        ) from None
    except (OSError, ValueError, RecursionError) as fault:
        raise errors.Gen3DError(f"{path} cannot be read: {fault}.", "Train again.", field="folder") from fault
    if not isinstance(facts, dict) or facts.get("format") != 1:
        raise errors.Gen3DError(f"{path} is of a format this version does not know.", "Update Gen3D.", field="folder")
    return facts


def placement(facts: dict[str, Any]) -> NDArray[np.float64]:
    """The similarity [4, 4] from training-box to world coordinates that the result stores."""
    try:
        matrix = np.array(facts["box_to_world"], np.float64)
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        turned = matrix[:3, :3] / lengths.mean()
        sound = (
            matrix.shape == (4, 4)
            and np.isfinite(matrix).all()
            and np.allclose(turned.T @ turned, np.eye(3), atol=1e-4)
            and np.linalg.det(turned) > 0.0
            and np.allclose(matrix[3], (0.0, 0.0, 0.0, 1.0))
        )
    except (KeyError, ValueError, TypeError, IndexError):
        sound = False
    if not sound:
        raise errors.Gen3DError(
            "The result does not say where its object stands (box_to_world is not a similarity).", "Train again."
        )
    return matrix


def build_mesh(source: GlbMesh, name: str) -> bpy.types.Mesh:
    """A smooth-shaded Blender mesh with its colour attribute or its UVs and texture, and a material that shows them.

    Where the atlas has split vertices along its seams they are joined again: UVs belong to face corners in Blender.
    """
    positions, faces = source.positions, source.faces
    corners = faces.ravel()
    if source.uvs is not None:
        positions, joined = _join_equal(positions)
        faces = joined[faces].astype(np.int32)
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(positions))
    mesh.vertices.foreach_set("co", positions.ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    if source.texture is not None and source.uvs is not None:
        layer = mesh.uv_layers.new(name=UVS)
        uvs = source.uvs[corners]
        uvs[:, 1] = 1.0 - uvs[:, 1]
        layer.uv.foreach_set("vector", uvs.ravel())
        mesh.materials.append(texture_material(name, source.texture))
    elif source.colors is not None:
        attribute = mesh.color_attributes.new(COLORS, "BYTE_COLOR", "POINT")
        attribute.data.foreach_set("color_srgb", to_srgb8(source.colors).ravel())
        mesh.color_attributes.active_color = attribute
        mesh.color_attributes.render_color_index = mesh.color_attributes.active_color_index
        mesh.materials.append(colour_material(name, COLORS, source.colors[:, :3].mean(axis=0).tolist()))
    mesh.update(calc_edges=True)
    mesh.validate()
    mesh.shade_smooth()
    return mesh


def to_srgb8(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear RGBA [..., 4] in [0, 1] as sRGB (IEC 61966-2-1), rounded to whole 255ths as 8-bit colours are."""
    rgb = linear[..., :3]
    curve = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * np.maximum(rgb, 1e-9) ** (1.0 / 2.4) - 0.055)
    out = np.concatenate((curve, linear[..., 3:]), axis=-1)
    return (np.round(255.0 * np.clip(out, 0.0, 1.0)) / 255.0).astype(np.float32)


def _join_equal(positions: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distinct positions, and for each given one the index of its equal among them."""
    keys = np.ascontiguousarray(positions).view(np.dtype((np.void, 3 * positions.itemsize))).ravel()
    _, first, joined = np.unique(keys, return_index=True, return_inverse=True)
    return positions[first], joined.ravel()


def _check_mode() -> None:
    if bpy.app.is_job_running("RENDER"):
        raise errors.Gen3DError("Blender is rendering.", "Import when the rendering has ended.")
    if bpy.context.mode != "OBJECT":
        raise errors.Gen3DError(
            f"Blender is in {bpy.context.mode.replace('_', ' ').lower()} mode.",
            "Change to object mode (Tab), then import again.",
        )


def _checked_file(folder: Path, facts: dict[str, Any]) -> Path:
    """The mesh file, its checksum verified."""
    files, sums = facts.get("files"), facts.get("sha256")
    name = files.get("mesh") if isinstance(files, dict) else None
    if name is None:
        raise errors.Gen3DError("The result holds no mesh.", "Make one from the saved field (remesh).")
    if not isinstance(name, str) or PurePosixPath(name).name != name or "\\" in name:
        raise errors.Gen3DError("The result names a mesh file outside its folder.", "Train again.")
    path = folder / name
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise errors.Gen3DError(f"{path} cannot be read: {fault.strerror}.", "Train again.") from fault
    if not isinstance(sums, dict) or sums.get(name) != found:
        raise errors.Gen3DError(
            f"{path} is not the file that was written (its checksum differs).", "Make the mesh again."
        )
    return path


def _describe(item: bpy.types.Object, folder: Path, facts: dict[str, Any], job: str) -> None:
    """What made this object, for people and scripts to read; nothing ever acts on it."""
    told = ("kind", "settings", "seed", "device", "steps", "metrics", "version")
    item["gen3d_job"] = job
    item["gen3d_result"] = str(folder)
    item["gen3d"] = json.dumps({key: facts[key] for key in told if key in facts})


def _collection(scene: bpy.types.Scene) -> bpy.types.Collection:
    """The scene's collection for results, made when it is not there."""
    for found in scene.collection.children_recursive:
        if found.name.split(".")[0] == COLLECTION and found.library is None:
            return found
    made = bpy.data.collections.new(COLLECTION)
    scene.collection.children.link(made)
    return made
