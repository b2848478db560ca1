# SPDX-License-Identifier: GPL-3.0-or-later
"""What an imported object knows of its making, in its custom properties. Text of a file: believed only as far as it
names what to look at."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..bridge import errors
from .result_facts import read_facts

JOB, RESULT, FACTS = "gen3d_job", "gen3d_result", "gen3d"
SHAPE = "gen3d_shape"
AWAITS = "gen3d_awaits"
"""The request of the job whose mesh is to take the place of this object's own."""

BOX = "box_to_object"
SUFFIX = ".safetensors"  # of fields

OUTSIDE = 1.2  # box units


def facts(item: bpy.types.Object | None) -> dict[str, Any]:
    """What made the object: kind, settings, metrics and the like; empty where it was not imported."""
    text = item.get(FACTS) if item is not None else None
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def settings(item: bpy.types.Object | None) -> dict[str, Any]:
    """The settings of the job that made the object; empty where they are not known."""
    found = facts(item).get("settings")
    return found if isinstance(found, dict) else {}


def words(item: bpy.types.Object) -> str:
    """What the object was made from in words, or ""."""
    found = settings(item).get("prompt") if facts(item).get("kind") == "generate" else ""
    return found.strip() if isinstance(found, str) else ""


def result(item: bpy.types.Object) -> str:
    """The result folder the object came from; "" where it was not imported."""
    found = item.get(RESULT)
    return found if isinstance(found, str) else ""


def field_place(item: bpy.types.Object | None) -> str:
    """The result folder of the training whose field the object is a surface of, or the file of that field; "" where
    there is none."""
    told = facts(item)
    if told.get("kind") == "nerf":
        return result(item)
    if told.get("kind") == "generate":
        name = told.get("field")
        return str(Path(result(item)) / Path(name).name) if isinstance(name, str) and name else ""
    of = settings(item).get("result") if told.get("kind") in ("remesh", "bake") else ""
    return of if isinstance(of, str) else ""


def field_facts(place: Path) -> dict[str, Any]:
    """What the result tells of the object whose field is at ``place``, a folder or a file."""
    if place.suffix != SUFFIX:
        return read_facts(place)
    told = read_facts(place.parent)
    objects = [own for own in told.get("objects", []) if isinstance(own, dict)]
    own = next((own for own in objects if dict(own.get("files") or {}).get("field") == place.name), {})
    return {**told, **own}


def box_to_object(item: bpy.types.Object) -> NDArray[np.float64]:
    """From the coordinates of the field's box to those of the object's mesh, [4, 4]: the same for what was captured."""
    known = np.array(facts(item).get(BOX) or np.eye(4), np.float64)
    return known if known.shape == (4, 4) and np.isfinite(known).all() else np.eye(4)


def require_field(item: bpy.types.Object) -> Path:
    """That place. Raises Gen3DError where it has gone, or the mesh is no longer in the field's coordinates."""
    place = Path(field_place(item))
    if not (place if place.suffix == SUFFIX else place / f"field{SUFFIX}").is_file():
        raise errors.Gen3DError(
            f"The trained field of {item.name} is not at {place} any more.", "Make it again.", field="result"
        )
    places = np.empty(3 * len(item.data.vertices), np.float32)
    item.data.vertices.foreach_get("co", places)
    box = np.linalg.inv(box_to_object(item))
    inside = places.reshape(-1, 3) @ box[:3, :3].T + box[:3, 3]
    if inside.size and np.abs(inside).max() > OUTSIDE:
        raise errors.Gen3DError(
            f"The mesh of {item.name} is not where its field is: its location or scale has been applied.",
            "Import the result again, and move and scale the object without applying that.",
            field="object",
        )
    return place


def mark(item: bpy.types.Object) -> None:
    """Notes the mesh as it has been imported."""
    item[SHAPE] = shape_of(item.data)


def untouched(item: bpy.types.Object) -> bool:
    """Whether an object still shows what it was imported as: its mesh was not edited, nor is it turned, scaled or
    changed by modifiers."""
    as_it_was = np.allclose(np.array(item.matrix_world)[:3, :3], np.eye(3), atol=1e-5) and not item.modifiers
    return as_it_was and item.get(SHAPE) == shape_of(item.data)


def shape_of(mesh: bpy.types.Mesh) -> str:
    """A short text that is another one for every other mesh."""
    places = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", places)
    return f"{len(mesh.polygons)} {zlib.crc32(places.tobytes()):08x}"


def awaited(request: str) -> bpy.types.Object | None:
    """The object of the scene whose mesh a job is to replace."""
    waiting = (item for item in bpy.context.scene.objects if item.get(AWAITS) == request)
    return next(waiting, None)
