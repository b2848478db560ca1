# SPDX-License-Identifier: GPL-3.0-or-later
"""A fine, textured mesh of an object there is, by Magic3D: of any result, and of any mesh."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import bpy

from ..bridge import errors, settings
from ..preferences import backend_places
from ..results import origin
from ..results.importing import corners, units_per_metre
from ..results.start_shape import start_shape
from .common import allowed, no_backend, start_job, tell
from .generate import chosen
from .results import refused

SHARING = ("dreamfusion", "magic3d")
"""Systems whose settings in the panel mean the same to Magic3D."""


class GEN3D_OT_refine(bpy.types.Operator):
    """Make a fine mesh with a texture of this object, or change it by words, with Magic3D and its settings in Generate.
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
        item, plan, wanted = context.object, context.scene.gen3d.results, chosen(context.scene)
        if wanted["system"] not in SHARING:  # what was chosen for another one, which the panel hides, is not meant
            usual = asdict(settings.GenerateSettings())
            wanted = {**usual, **{name: wanted[name] for name in ("prompt", "seed", "device")}}
        edit = (self.prompt or plan.refine_prompt).strip()
        prompt = edit or origin.words(item) or wanted["prompt"].strip()
        try:
            if not prompt:
                cause = f"It is not known what {item.name} shows."
                raise errors.Gen3DError(cause, "Say it in words, as the prompt.", field="prompt")
            start = begin_with(item, changed=bool(edit) and plan.refine_shape)
        except errors.Gen3DError as error:
            return tell(self, error)
        box = corners(item)
        low, high = box.min(0), box.max(0)
        stages = {**wanted["magic3d"], "coarse": bool(edit), "shape": plan.refine_shape}
        size = float((high - low).max()) / units_per_metre(context.scene)
        asked = {"system": "magic3d", "prompt": prompt, "start": start, "magic3d": stages, "size": size}
        foot = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2])
        return start_job(self, "generate", {**wanted, **asked, "image": "", "count": 1}, foot)


def begin_with(item: bpy.types.Object, *, changed: bool) -> str:
    """The file of the object's mesh. Where it is to be ``changed`` by words, and still is what was made of them, the
    result folder, whose field then goes on from where it was. Raises Gen3DError."""
    place = origin.field_place(item) if changed and origin.words(item) and origin.untouched(item) else ""
    stages = origin.settings(item).get("magic3d")
    painted = isinstance(stages, dict) and stages.get("shape") is False
    if place.endswith(f"field{origin.SUFFIX}") and Path(place).is_file() and not painted:
        return str(Path(place).parent)
    return start_shape(item, backend_places()[0])


CLASSES = (GEN3D_OT_refine,)
