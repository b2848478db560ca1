# SPDX-License-Identifier: GPL-3.0-or-later
"""The 3D views, and other areas, that are open."""

from __future__ import annotations

import bpy


def redraw(*_: object) -> None:
    """Shows what is new in every 3D view and its sidebar."""
    redraw_areas("VIEW_3D")


def redraw_areas(*kinds: str) -> None:
    """Shows what is new in every area of these kinds."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in kinds:
                area.tag_redraw()
