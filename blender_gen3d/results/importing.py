# SPDX-License-Identifier: GPL-3.0-or-later
"""A finished result becomes objects: mesh, colours, material, in the place that is right for them.

What was captured lands on its original; what was generated stands on the ground at the 3D cursor, upright, its front
towards -Y, several in a row along +X.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from ..bridge import errors
from ..capturing import layout
from . import origin
from .glb import GlbMesh, read_glb
from .meshes import COLORS, build_cloud, build_mesh, show_points
from .ply import Cloud, read_cloud
from .result_facts import placement, read_facts

COLLECTION = "Gen3D"
BALL = 0.012  # radius of a shown point, as a share of the largest side
HIDDEN = 0.5  # of a thing's box that is inside of another, from which on it is moved out


@dataclass(frozen=True)
class Imported:
    """What came of an import: the new objects that have a surface, in the order of their seeds; their vertices and
    faces, summed; and whether their colours are "vertex", "texture" or "none"."""

    objects: tuple[bpy.types.Object, ...]
    vertices: int
    faces: int
    colour: str

    @property
    def object(self) -> bpy.types.Object:
        return self.objects[0]


@dataclass(frozen=True)
class _Part:
    """An object of a result: its surface, its points where they were saved, the matrix it is to have, its facts."""

    mesh: GlbMesh
    cloud: Cloud | None
    matrix: NDArray[np.float64]
    facts: dict[str, Any]


def import_result(folder: Path, *, name: str = "", job: str = "", at: Sequence[float] | None = None) -> Imported:
    """Builds the objects of a result folder in the current scene.

    What was captured stands exactly where its original does: it keeps its mesh in training-box coordinates (pivot:
    middle of the box) with the box's place as its matrix. What was generated stands at ``at``, by default the 3D
    cursor: its pivot is the middle of its foot, its scale 1, its size the one in metres that the result says; the
    points, where they were saved, stand behind it. All go into the collection "Gen3D", are selected, the first one
    active, and carry the settings in their custom properties. Pushes no undo step: the operator and ``api`` do.
    Raises Gen3DError, and imports nothing, where the result is damaged or empty or Blender is busy.
    """
    _check_mode()
    facts = read_facts(folder)
    parts = [_read(folder, facts, own) for own in _objects(facts)]
    clouds: list[_Part] = []
    if facts.get("kind") == "generate":
        parts, clouds = _standing(parts, at)
    title = name or _title(facts)
    made = []
    for part in parts:
        made.append(_add(title, build_mesh(part.mesh, title), part.matrix))
        _describe(made[-1], folder, {**facts, **part.facts}, job)
    for part in clouds:
        item = _add(f"{title} points", build_cloud(part.cloud, f"{title} points"), part.matrix)
        _describe(item, folder, {**facts, **part.facts}, job)
        show_points(item, BALL * float(np.ptp(part.mesh.positions, axis=0).max()))
    for other in bpy.context.view_layer.objects:
        if other.select_get():
            other.select_set(False)
    for item in made:
        item.select_set(True)
    bpy.context.view_layer.objects.active = made[0]
    bpy.context.view_layer.update()
    return _imported(made, parts[0].mesh)


def replace_mesh(item: bpy.types.Object, folder: Path) -> Imported:
    """Gives an object the mesh of a result in place of its own, which is removed where nobody else uses it.

    Name, place, modifiers and what is told of its making stay; the mesh is taken to be in the object's coordinates, but
    for what was made of a field, which comes in those of its box. Materials stay where both meshes are coloured by
    their vertices. Pushes no undo step. Raises Gen3DError, and changes nothing, where the result is damaged or empty
    or Blender is busy.
    """
    _check_mode()
    facts = read_facts(folder)
    part = _read(folder, facts, _objects(facts)[0])
    if facts.get("kind") == "remesh" or (facts.get("settings") or {}).get("result"):  # in the field's coordinates
        part = replace(part, mesh=replace(part.mesh, positions=_moved(part.mesh.positions, origin.box_to_object(item))))
    before, made = item.data, build_mesh(part.mesh, item.data.name)
    if part.mesh.texture is None and COLORS in before.color_attributes and len(before.materials):
        bpy.data.materials.remove(made.materials.pop(index=0))
        for material in before.materials:
            made.materials.append(material)
    item.data, name = made, before.name
    if not before.users:
        bpy.data.meshes.remove(before)
    made.name = name
    item[origin.FACTS] = json.dumps({**origin.facts(item), "mesh": facts.get("mesh")})
    if item.get(origin.AWAITS):
        del item[origin.AWAITS]
    bpy.context.view_layer.update()
    return _imported([item], part.mesh)


def _imported(made: Sequence[bpy.types.Object], first: GlbMesh) -> Imported:
    colour = "texture" if first.texture is not None else "vertex" if first.colors is not None else "none"
    vertices, faces = (sum(len(getattr(item.data, kind)) for item in made) for kind in ("vertices", "polygons"))
    return Imported(tuple(made), vertices, faces, colour)


def units_per_metre(scene: bpy.types.Scene) -> float:
    """How many of the scene's units are a metre; those of a scene without a system of units are metres."""
    units = scene.unit_settings
    return 1.0 / units.scale_length if units.system != "NONE" else 1.0


def _objects(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """What a result tells of each of its objects; where it has only one, it may tell of it as of itself."""
    found = facts.get("objects", [facts])
    if not isinstance(found, list) or not found or not all(isinstance(own, dict) for own in found):
        raise errors.Gen3DError("The result does not say which objects it holds.", "Make it again.")
    return found


def _read(folder: Path, facts: dict[str, Any], own: dict[str, Any]) -> _Part:
    matrix = placement(own)
    mesh = read_glb(_checked_file(folder, facts, own, "mesh"))
    if not len(mesh.faces):
        raise errors.Gen3DError(
            "The result holds no surface: nowhere is the field dense enough.",
            "Make the mesh again at a lower level, or train longer.",
        )
    files = own.get("files")
    saved = facts.get("kind") == "generate" and isinstance(files, dict) and "points" in files
    cloud = read_cloud(_checked_file(folder, facts, own, "points")) if saved else None
    told: dict[str, Any] = (
        {} if own is facts else {key: own[key] for key in ("seed", "points", "mesh", "score") if key in own}
    )
    if isinstance(files, dict) and isinstance(files.get("field"), str):
        told["field"] = files["field"]
    return _Part(mesh, cloud, matrix, told)


def _standing(parts: list[_Part], at: Sequence[float] | None) -> tuple[list[_Part], list[_Part]]:
    """Generated parts where they are to stand; then those with points, behind."""
    scene = bpy.context.scene
    unit = 1.0 / units_per_metre(scene)
    place = np.array(scene.cursor.location if at is None else at, np.float64)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise errors.Gen3DError("The place to stand at is no point.", "Give three numbers.", field="at")
    matrices = [part.matrix / [[unit], [unit], [unit], [1.0]] for part in parts]
    stood = [layout.stand(part.mesh.positions, matrix) for part, matrix in zip(parts, matrices, strict=True)]
    sizes = [np.ptp(positions, axis=0) for positions, _ in stood]
    places, behind = layout.row(sizes)
    place = _outside(place, sizes[0])
    meshes, clouds = [], []
    for part, (positions, foot), offset, matrix in zip(parts, stood, places, matrices, strict=True):
        told = {**part.facts, origin.BOX: (layout.move(-foot) @ matrix).tolist()}
        mesh = replace(part.mesh, positions=positions)
        meshes.append(replace(part, mesh=mesh, matrix=layout.move(place + offset), facts=told))
        if part.cloud is not None:
            cloud = replace(part.cloud, positions=(part.cloud.positions / unit - foot).astype(np.float32))
            clouds.append(replace(part, cloud=cloud, matrix=layout.move(place + offset + behind)))
    return meshes, clouds


def _outside(place: NDArray[np.float64], size: NDArray[np.floating]) -> NDArray[np.float64]:
    """The place itself, or, where most of a thing of this size would stand unseen in the inside of another, such as a
    new file's cube, one beside that, towards +X. Within walls one sees faces that look at one: there it stays."""
    scene, graph = bpy.context.scene, bpy.context.evaluated_depsgraph_get()
    middle, around = place + np.array((0.0, 0.0, size[2] / 2.0)), set()
    for way in (*np.eye(3), *-np.eye(3)):
        hit, _, normal, _, item, _ = scene.ray_cast(graph, middle, way)
        if not hit or normal.dot(way) <= 0.0:
            return place
        around.add(item.name)
    box = corners(scene.objects[around.pop()])
    shared = np.minimum(box.max(0), middle + size / 2.0) - np.maximum(box.min(0), middle - size / 2.0)
    if around or shared.clip(0.0).prod() < HIDDEN * size.prod():
        return place
    return np.array((box[:, 0].max() + 0.6 * size[0] + 0.1 * size.max(), *place[1:]))


def corners(item: bpy.types.Object) -> NDArray[np.float64]:
    """Of its bounding box, in the world [8, 3]."""
    return np.array([item.matrix_world @ Vector(corner) for corner in item.bound_box], np.float64)


def _moved(positions: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    return (positions.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)


def _title(facts: dict[str, Any]) -> str:
    settings = facts.get("settings")
    prompt = settings.get("prompt") if isinstance(settings, dict) else None
    return " ".join(str(prompt or "Gen3D result").split())[:60]


def _add(title: str, data: bpy.types.Mesh, matrix: NDArray[np.float64]) -> bpy.types.Object:
    item = bpy.data.objects.new(title, data)
    item.matrix_world = Matrix(matrix.tolist())
    _collection(bpy.context.scene).objects.link(item)
    return item


def _check_mode() -> None:
    if bpy.app.is_job_running("RENDER"):
        raise errors.Gen3DError("Blender is rendering.", "Import when the rendering has ended.")
    if bpy.context.mode != "OBJECT":
        raise errors.Gen3DError(
            f"Blender is in {bpy.context.mode.replace('_', ' ').lower()} mode.",
            "Change to object mode (Tab), then import again.",
        )


def _checked_file(folder: Path, facts: dict[str, Any], own: dict[str, Any], role: str) -> Path:
    """An object's file, its checksum verified."""
    files, sums = own.get("files"), facts.get("sha256")
    name = files.get(role) if isinstance(files, dict) else None
    if name is None:
        raise errors.Gen3DError("The result holds no mesh.", "Make one from the saved field (remesh).")
    if not isinstance(name, str) or PurePosixPath(name).name != name or "\\" in name:
        raise errors.Gen3DError(f"The result names a {role} file outside its folder.", "Make it again.")
    path = folder / name
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise errors.Gen3DError(f"{path} cannot be read: {fault.strerror}.", "Make it again.") from fault
    if not isinstance(sums, dict) or sums.get(name) != found:
        raise errors.Gen3DError(
            f"{path} is not the file that was written (its checksum differs).", "Make the mesh again."
        )
    return path


def _describe(item: bpy.types.Object, folder: Path, facts: dict[str, Any], job: str) -> None:
    """What made this object, for people and scripts to read; nothing ever acts on it."""
    told = (
        "kind", "settings", "seed", "score", "prior", "device", "steps", "metrics", "mesh", "version", "field",
        origin.BOX,
    )  # fmt: skip
    item[origin.JOB] = job
    item[origin.RESULT] = str(folder)
    item[origin.FACTS] = json.dumps({key: facts[key] for key in told if key in facts})
    origin.mark(item)


def _collection(scene: bpy.types.Scene) -> bpy.types.Collection:
    """The scene's collection for results, made when it is not there."""
    for found in scene.collection.children_recursive:
        if found.name.split(".")[0] == COLLECTION and found.library is None:
            return found
    made = bpy.data.collections.new(COLLECTION)
    scene.collection.children.link(made)
    return made
