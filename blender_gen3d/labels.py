# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences in a narrow place: Blender's labels do not wrap."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy

PIXELS = 6.3  # width of a letter of Blender's interface, on average, at a scale of 1


def write(layout: bpy.types.UILayout, *sentences: Any, icon: str = "NONE", width: int = 0) -> None:
    """Sentences in pieces that fit the region. ``icon`` stands before the first one; ``width``: letters, if not all."""
    lines = layout.column(align=True)
    lines.scale_y = 0.8
    letters = width or _letters(4 if icon != "NONE" else 0)
    for sentence in filter(None, sentences):
        for line in textwrap.wrap(str(sentence), letters):
            lines.label(text=line, icon=icon)
            icon = "BLANK1" if icon != "NONE" else icon


def _letters(taken: int) -> int:
    """How many letters a line of the region has room for, about."""
    region, scale = bpy.context.region, bpy.context.preferences.system.ui_scale
    return max(20, int((region.width / scale - 50) / PIXELS) - taken) if region else 42
