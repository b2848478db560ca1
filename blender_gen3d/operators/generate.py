# SPDX-License-Identifier: GPL-3.0-or-later
"""Generating from the panel."""

from __future__ import annotations

from typing import Any

import bpy

from ..bridge import errors, settings
from ..preferences import backend_places
from ..properties import values
from ..results.importing import units_per_metre
from ..results.start_shape import start_shape
from .common import allowed, from_panel, no_backend, start_job, tell

PATHS = (
    "image", "weights", "coarse_weights", "text_to_image", "scorer", "start", "lora", "inversion", "style",
    "style_adapter",
)  # fmt: skip


class GEN3D_OT_generate(bpy.types.Operator):
    """Make an object from words, or from a picture of it, in the backend process"""

    bl_idname = "gen3d.generate"
    bl_label = "Generate"
    bl_options = {"REGISTER"}

    prompt: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Prompt", description="What to make, in words; empty: the panel's", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not from_panel(context):
            return True
        plan = context.scene.gen3d.generate
        takes_image = "image" in settings.SYSTEMS[plan.system]
        if not plan.prompt.strip() and not (takes_image and plan.image):
            return allowed(cls, f"Say in words what to make{', or choose an image' if takes_image else ''}")
        return allowed(cls, no_backend())

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Queues the job, which the panel then shows; in background mode, waits for it and imports the result."""
        wanted = chosen(context.scene)
        wanted["prompt"] = (self.prompt or wanted["prompt"]).strip()
        known, item = settings.SYSTEMS[wanted["system"]], context.scene.gen3d.start_object
        if "image" not in known:
            wanted["image"] = ""
        if "start" in known and item is not None:
            try:
                wanted["start"] = start_shape(item, backend_places()[0])
            except errors.Gen3DError as error:
                return tell(self, error)
        if not wanted["prompt"] and not wanted["image"]:
            return tell(
                self,
                errors.Gen3DError(
                    "There is nothing to make yet.", "Say in words what to make, or choose an image.", field="prompt"
                ),
            )
        return start_job(self, "generate", wanted, tuple(context.scene.cursor.location))


def chosen(scene: bpy.types.Scene) -> dict[str, Any]:
    """What the panel asks for, in metres and with whole paths."""
    wanted = values(scene.gen3d.generate, settings.GenerateSettings)
    wanted["size"] /= units_per_metre(scene)
    for some in (wanted, *(value for value in wanted.values() if isinstance(value, dict))):
        for name in set(PATHS) & set(some):
            if some[name].startswith("//"):  # beside the .blend file
                some[name] = bpy.path.abspath(some[name])
    return wanted
