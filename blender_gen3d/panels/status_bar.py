# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the jobs are, in the status bar of Blender's window."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy

from .. import job_list
from ..connection import pump


def register() -> None:
    bpy.types.STATUSBAR_HT_header.append(_draw)


def unregister() -> None:
    bpy.types.STATUSBAR_HT_header.remove(_draw)


def redraw(*_: object) -> None:
    """Blender draws the status bar anew when its text is set. Where a tool has put its own text there, it stays."""
    for window in bpy.context.window_manager.windows:
        if not window.modal_operators:
            with bpy.context.temp_override(window=window):
                window.workspace.status_text_set(None)


def _draw(header: Any, _context: bpy.types.Context) -> None:
    current = pump.session()
    jobs = pump.active(current) if current else []
    if not jobs:
        return
    first, more = jobs[0], f" (+{len(jobs) - 1})" if len(jobs) > 1 else ""
    line = header.layout.row(align=True)
    line.ui_units_x = 14
    name = textwrap.shorten(job_list.title(first), 28, placeholder="…")
    text = f"{name}: {pump.progress_line(first)}{more}"
    line.progress(factor=(first.progress or {}).get("fraction") or 0.0, text=text)
