# SPDX-License-Identifier: GPL-3.0-or-later
"""Training from the panel."""

from __future__ import annotations

from pathlib import Path

import bpy

from .. import upkeep
from ..bridge import errors, settings
from ..paths import RELATIVE
from ..properties import values
from .common import allowed, from_panel, no_backend, start_job, tell


class GEN3D_OT_train(bpy.types.Operator):
    """Train a radiance field on the dataset and make a mesh of it, in the backend process"""

    bl_idname = "gen3d.train"
    bl_label = "Train"
    bl_options = {"REGISTER"}

    dataset: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Dataset",
        description="Folder of posed views; empty: the last capture",
        subtype="DIR_PATH",
        options={"SKIP_SAVE", *RELATIVE},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not from_panel(context):
            return True
        nothing = not context.scene.gen3d.nerf.dataset
        return allowed(cls, "Capture views first, or choose the folder of a dataset" if nothing else no_backend())

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Queues the job, which the panel then shows; in background mode, waits for it and imports the result."""
        wanted = values(context.scene.gen3d.nerf, settings.NerfSettings)
        try:
            wanted["dataset"] = self._dataset(self.dataset or wanted["dataset"])
        except errors.Gen3DError as error:
            return tell(self, error)
        return start_job(self, "nerf", wanted)

    def _dataset(self, named: str) -> str:
        if named and upkeep.elsewhere and not bpy.app.background:
            return named  # a path of that computer
        folder = Path(bpy.path.abspath(named)).absolute() if named else None
        if folder is None or not folder.exists():
            raise errors.Gen3DError(
                f"There is no dataset at {folder}." if folder else "There is no dataset yet.",
                "Capture views first, or choose the folder of a dataset.",
                field="dataset",
            )
        return str(folder)
