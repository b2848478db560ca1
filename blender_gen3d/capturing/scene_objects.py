# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects a capture is about: which they are, how large they are, what else must not be seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import bpy
import numpy as np
from numpy.typing import NDArray

from ..bridge import errors
from .scene_state import SceneState

SURFACES = {"MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "POINTCLOUD", "VOLUME", "GREASEPENCIL"}


def with_children(scene: bpy.types.Scene, objects: Sequence[bpy.types.Object] | None) -> list[bpy.types.Object]:
    """The objects to capture and all beneath them; None means all that render.

    Raises Gen3DError where none of them shows a surface in a rendering.
    """
    if objects is None:
        found = list(scene.objects)
    else:
        found = list(dict.fromkeys(item for top in objects for item in (top, *top.children_recursive)))
    chosen = [item for item in found if not item.hide_render and (item.type in SURFACES or _instances(item))]
    if not chosen:
        raise errors.Gen3DError(
            "None of the chosen objects shows a surface in a rendering.",
            "Choose a mesh, curve, text or instanced collection that is not hidden in renders.",
            field="objects",
        )
    return chosen


def bounding_sphere(objects: Sequence[bpy.types.Object]) -> tuple[NDArray[np.float64], float]:
    """Centre [3] (of the bounding box) and radius that hold all evaluated vertices, in world units."""
    clouds = list(_points(objects))
    if not clouds:
        raise errors.Gen3DError(
            "The chosen objects have no visible surface.",
            "Show them in the viewport, and check that their modifiers leave something.",
            field="objects",
        )
    points = np.concatenate(clouds)
    center = (points.min(axis=0) + points.max(axis=0)) / 2.0
    radius = float(np.linalg.norm(points - center, axis=1).max())
    if not 0.0 < radius < np.inf:
        raise errors.Gen3DError(
            f"The chosen objects measure {2.0 * radius:g}.", "Choose objects of finite size.", field="objects"
        )
    return center, radius


def hide_others(scene: bpy.types.Scene, chosen: Sequence[bpy.types.Object], state: SceneState) -> None:
    """Takes everything else out of the camera's sight; Cycles keeps its light and its shadows."""
    hide_from_camera(scene, [item for item in scene.objects if item not in chosen], state)


def hide_from_camera(scene: bpy.types.Scene, objects: Sequence[bpy.types.Object], state: SceneState) -> None:
    """Takes objects out of the camera's sight; Cycles keeps their light and their shadows."""
    for item in objects:
        if scene.render.engine == "CYCLES" and not _instances(item):
            state.watch(item, "visible_camera")
            item.visible_camera = False
        elif item.type in SURFACES or _instances(item):
            state.watch(item, "hide_render")
            item.hide_render = True


def _instances(item: bpy.types.Object) -> bool:
    return item.type == "EMPTY" and item.instance_type == "COLLECTION"


def _points(objects: Sequence[bpy.types.Object]) -> Iterator[NDArray[np.float64]]:
    """World positions [N, 3] of every evaluated surface of the objects, instances included."""
    wanted = set(objects)
    for instance in bpy.context.evaluated_depsgraph_get().object_instances:
        shown = instance.object
        owner = instance.parent if instance.is_instance else shown
        if owner is None or owner.original not in wanted or shown.type not in SURFACES:
            continue
        if shown.type == "MESH":
            local = np.empty(3 * len(shown.data.vertices), np.float32)
            shown.data.vertices.foreach_get("co", local)
        else:
            local = np.array(shown.bound_box, np.float32)
        if local.size:
            matrix = np.array(instance.matrix_world, np.float64)
            yield local.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
