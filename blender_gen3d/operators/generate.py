# SPDX-License-Identifier: GPL-3.0-or-later
"""Generating from the panel."""

from __future__ import annotations

import bpy

from ..bridge import errors, settings
from ..properties import values
from ..results.importing import units_per_metre
from .common import allowed, from_panel, start_job, tell


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
        plan = context.scene.gen3d.generate
        nothing = from_panel(context) and not plan.prompt.strip() and not plan.image
        return allowed(cls, "Say in words what to make, or choose an image" if nothing else "")

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Queues the job, which the panel then shows; in background mode, waits for it and imports the result."""
        wanted = values(context.scene.gen3d.generate, settings.GenerateSettings)
        wanted["size"] /= units_per_metre(context.scene)
        wanted["prompt"] = (self.prompt or wanted["prompt"]).strip()
        for name in ("image", "weights", "text_to_image"):
            if wanted[name].startswith("//"):  # beside the .blend file
                wanted[name] = bpy.path.abspath(wanted[name])
        if not wanted["prompt"] and not wanted["image"]:
            return tell(
                self,
                errors.Gen3DError(
                    "There is nothing to make yet.", "Say in words what to make, or choose an image.", field="prompt"
                ),
            )
        return start_job(self, "generate", wanted, tuple(context.scene.cursor.location))
