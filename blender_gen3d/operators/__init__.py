# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be clicked, searched for and called from scripts."""

from __future__ import annotations

from . import common
from .capture import GEN3D_OT_capture
from .generate import GEN3D_OT_generate
from .import_result import GEN3D_OT_import_result
from .jobs import GEN3D_OT_cancel_job, GEN3D_OT_resume_job
from .train import GEN3D_OT_train

CLASSES = (
    GEN3D_OT_generate,
    GEN3D_OT_capture,
    GEN3D_OT_train,
    GEN3D_OT_import_result,
    GEN3D_OT_cancel_job,
    GEN3D_OT_resume_job,
)

__all__ = ["CLASSES", "common"]
