# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels share."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy


def column(panel: bpy.types.Panel) -> bpy.types.UILayout:
    layout = panel.layout.column()
    layout.use_property_split = True
    layout.use_property_decorate = False
    return layout


def write(layout: bpy.types.UILayout, *sentences: Any, width: int = 42) -> None:
    """Sentences in pieces that fit the sidebar: Blender's labels do not wrap."""
    for sentence in filter(None, sentences):
        for line in textwrap.wrap(str(sentence), width):
            layout.label(text=line)


def redraw() -> None:
    """Shows what is new in every open sidebar."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()
