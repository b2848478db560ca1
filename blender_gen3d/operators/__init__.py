# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be clicked, searched for and called from scripts."""

from __future__ import annotations

from . import common, environment, jobs, models, quads, refine, results, views
from .capture import GEN3D_OT_capture, GEN3D_OT_update_cameras
from .generate import GEN3D_OT_generate
from .import_result import GEN3D_OT_import_result
from .train import GEN3D_OT_train

CLASSES = (
    GEN3D_OT_generate,
    GEN3D_OT_capture,
    GEN3D_OT_update_cameras,
    GEN3D_OT_train,
    GEN3D_OT_import_result,
    *views.CLASSES,
    *results.CLASSES,
    *quads.CLASSES,
    *refine.CLASSES,
    *jobs.CLASSES,
    *environment.CLASSES,
    *models.CLASSES,
)

__all__ = ["CLASSES", "common", "models"]
