# SPDX-License-Identifier: GPL-3.0-or-later
"""The tab "Gen3D" of the 3D view's sidebar, one file for each of its panels."""

from __future__ import annotations

from . import backend, capture, generate, jobs, results, status_bar, train, views

CLASSES = (
    backend.GEN3D_PT_setup,
    *generate.CLASSES,
    *capture.CLASSES,
    *train.CLASSES,
    *views.CLASSES,
    *results.CLASSES,
    *jobs.CLASSES,
    backend.GEN3D_PT_backend,
)
"""In the order in which they are shown."""

__all__ = ["CLASSES", "status_bar"]
