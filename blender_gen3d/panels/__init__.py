# SPDX-License-Identifier: GPL-3.0-or-later
"""The tab "Gen3D" of the 3D view's sidebar, one file for each of its panels."""

from __future__ import annotations

from . import capture, generate, jobs, train
from .common import redraw

CLASSES = (*generate.CLASSES, *capture.CLASSES, *train.CLASSES, *jobs.CLASSES)
"""In the order in which they are shown."""

__all__ = ["CLASSES", "redraw"]
