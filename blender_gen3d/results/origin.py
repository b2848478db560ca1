# SPDX-License-Identifier: GPL-3.0-or-later
"""What an imported object knows of its making, in its custom properties. Text of a file: believed only as far as it
names what to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..bridge import errors

JOB, RESULT, FACTS = "gen3d_job", "gen3d_result", "gen3d"
AWAITS = "gen3d_awaits"
"""The request of the job whose mesh is to take the place of this object's own."""

OUTSIDE = 1.2  # box units


def facts(item: bpy.types.Object | None) -> dict[str, Any]:
    """What made the object: kind, settings, metrics and the like; empty where it was not imported."""
    text = item.get(FACTS) if item is not None else None
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def result(item: bpy.types.Object) -> str:
    """The result folder the object came from; "" where it was not imported."""
    found = item.get(RESULT)
    return found if isinstance(found, str) else ""


def field_folder(item: bpy.types.Object | None) -> str:
    """The result folder of the training whose field the object is a surface of; "" where there is none."""
    told = facts(item)
    if told.get("kind") == "nerf":
        return result(item)
    settings = told.get("settings")
    of = settings.get("result") if told.get("kind") in ("remesh", "bake") and isinstance(settings, dict) else ""
    return of if isinstance(of, str) else ""


def require_field(item: bpy.types.Object) -> Path:
    """That folder. Raises Gen3DError where it has gone, or the mesh is no longer in the field's coordinates."""
    folder = Path(field_folder(item))
    if not (folder / "field.safetensors").is_file():
        raise errors.Gen3DError(
            f"The trained field of {item.name} is not at {folder} any more.", "Train again.", field="result"
        )
    places = np.empty(3 * len(item.data.vertices), np.float32)
    item.data.vertices.foreach_get("co", places)
    if places.size and np.abs(places).max() > OUTSIDE:
        raise errors.Gen3DError(
            f"The mesh of {item.name} is not where its field is: its location or scale has been applied.",
            "Import the result again, and move and scale the object without applying that.",
            field="object",
        )
    return folder


def awaited(request: str) -> bpy.types.Object | None:
    """The object of the scene whose mesh a job is to replace."""
    waiting = (item for item in bpy.context.scene.objects if item.get(AWAITS) == request)
    return next(waiting, None)
