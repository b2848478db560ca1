# SPDX-License-Identifier: GPL-3.0-or-later
"""The 3D views that are open."""

from __future__ import annotations

import bpy


def redraw(*_: object) -> None:
    """Shows what is new in every 3D view and its sidebar."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()
