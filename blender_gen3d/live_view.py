# SPDX-License-Identifier: GPL-3.0-or-later
"""Running jobs as points in the viewports.

They are drawn over the scene and never become objects: there is nothing that undo, a save or a rendering could meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix
from numpy.typing import NDArray

from .bridge import protocol
from .connection import pump
from .connection.client import News
from .results.importing import units_per_metre

SIZE, HIDDEN = 4.0, 1.5  # pixels of a point, and of one behind something else
LIVING = ("queued", "running", "done")  # states of jobs whose result may still come into the scene
POINT = np.dtype([("place", "<f4", 3), ("colour", "u1", 4)])
SHADER = "POINT_FLAT_COLOR" if bpy.app.version >= (4, 5, 0) else "FLAT_COLOR"


@dataclass
class _Shape:
    points: NDArray[np.void]  # [N] of POINT
    batch: Any = None  # made with the first drawing: only then there is a GPU to give it to


_shapes: dict[str, _Shape] = {}
_handle: Any = None


def register() -> None:
    global _handle
    _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def unregister() -> None:
    bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    _shapes.clear()


def take(_current: pump.Session, news: Sequence[News]) -> None:
    """Keeps the newest points of each job, until its result is in the scene or will never be."""
    for piece in news:
        if isinstance(piece, protocol.Shape):
            _shapes[piece.job] = _Shape(np.frombuffer(piece.data, POINT))
        elif isinstance(piece, protocol.JobRow) and (piece.imported or piece.state not in LIVING):
            _shapes.pop(piece.id, None)


def shown(current: pump.Session) -> list[tuple[str, Matrix]]:
    """The jobs of which there are points, and whose result the present file wants; and where the points stand."""
    found = []
    for job in _shapes:
        row = current.rows.get(job)
        if row is not None and row.request in current.to_import:
            place = current.to_import[row.request]
            stands = Matrix.Translation(place) @ Matrix.Scale(units_per_metre(bpy.context.scene), 4) if place else None
            found.append((job, stands or Matrix()))
    return found


def _draw() -> None:
    current, context = pump.session(), bpy.context
    if current is None or not context.window_manager.gen3d.show_points or not context.space_data.overlay.show_overlays:
        return
    for job, stands in shown(current):
        shape = _shapes[job]
        shader = gpu.shader.from_builtin(SHADER)
        if shape.batch is None:
            colours = shape.points["colour"].astype(np.float32) / 255.0
            colours[:, 3] = 1.0
            places = np.ascontiguousarray(shape.points["place"])
            shape.batch = batch_for_shader(shader, "POINTS", {"pos": places, "color": colours})
        with gpu.matrix.push_pop():
            gpu.matrix.multiply_matrix(stands)
            for test, size in (("GREATER", HIDDEN), ("LESS_EQUAL", SIZE)):
                gpu.state.depth_test_set(test)
                gpu.state.depth_mask_set(test == "LESS_EQUAL")
                gpu.state.point_size_set(size * context.preferences.system.ui_scale)
                shape.batch.draw(shader)
        gpu.state.depth_mask_set(False)
        gpu.state.depth_test_set("NONE")
        gpu.state.point_size_set(1.0)
