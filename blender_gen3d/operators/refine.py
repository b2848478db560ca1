# SPDX-License-Identifier: GPL-3.0-or-later
"""A fine, textured mesh of an object there is, by Magic3D: of any result, and of any mesh."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from ..bridge import errors
from ..results import origin
from ..results.importing import units_per_metre
from .common import allowed, no_backend, start_job, tell
from .generate import chosen, start_shape
from .results import refused


class GEN3D_OT_refine(bpy.types.Operator):
    """Make a fine mesh with a texture of this object, or change it by words, with Magic3D and the settings of Generate.
    The object stays; what is made of it comes beside it"""

    bl_idname = "gen3d.refine"
    bl_label = "Refine"
    bl_options = {"REGISTER"}

    prompt: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Prompt",
        description="What the object is to become, in words; empty: as the panel says, or what it was made from",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return allowed(cls, refused(context.object, field=False) or no_backend())

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Queues the job, which the panel then shows; in background mode, waits for it and imports the result."""
        item, plan = context.object, context.scene.gen3d.results
        edit = (self.prompt or plan.refine_prompt).strip()
        wanted = chosen(context.scene)
        try:
            start, known = begin_with(item)
            prompt = edit or known or wanted["prompt"].strip()
            if not prompt:
                cause = f"It is not known what {item.name} shows."
                raise errors.Gen3DError(cause, "Say it in words, as the prompt.", field="prompt")
        except errors.Gen3DError as error:
            return tell(self, error)
        low, high = bounds(item)
        stages = {**wanted["magic3d"], "coarse": bool(edit), "shape": plan.refine_shape}
        size = float((high - low).max()) / units_per_metre(context.scene)
        asked = {"system": "magic3d", "prompt": prompt, "start": start, "magic3d": stages, "size": size}
        foot = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2])
        return start_job(self, "generate", {**wanted, **asked, "image": "", "count": 1}, foot)


def begin_with(item: bpy.types.Object) -> tuple[str, str]:
    """The result folder whose field the object is a surface of, or else the file of its mesh; and the words it was made
    from, or "". Raises Gen3DError."""
    told = origin.facts(item)
    settings = told.get("settings")
    words = settings.get("prompt") if told.get("kind") == "generate" and isinstance(settings, dict) else ""
    place = origin.field_place(item) if words else ""
    first = place.endswith(f"field{origin.SUFFIX}") and Path(place).is_file()
    return (str(Path(place).parent) if first else start_shape(item)), words if isinstance(words, str) else ""


def bounds(item: bpy.types.Object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and the highest corner of an object in the world, in its units."""
    corners = np.array([item.matrix_world @ Vector(corner) for corner in item.bound_box])
    return corners.min(0), corners.max(0)


CLASSES = (GEN3D_OT_refine,)
