# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers the add-on's classes with Blender, and takes them back."""

from __future__ import annotations

from typing import Any

import bpy

from . import (
    capture_preview,
    job_list,
    live_view,
    operators,
    panels,
    preferences,
    presets,
    properties,
    status,
    thumbnails,
    upkeep,
    viewports,
)
from .bridge import home
from .connection import pump

DRAWING = () if bpy.app.background else (live_view, capture_preview, panels.status_bar)  # where there is a window
PARTS = (properties, status, presets, thumbnails, *DRAWING)
LISTENERS = (job_list.take, thumbnails.take, live_view.take, viewports.redraw, panels.status_bar.redraw)


def _classes() -> list[type[Any]]:
    own: list[type[Any]] = [preferences.Gen3DPreferences, *properties.classes(), *status.classes()]
    return [*own, *operators.CLASSES, *presets.CLASSES, *panels.CLASSES]


@bpy.app.handlers.persistent
def _file_loaded(*_: object) -> None:
    status.clear()
    if current := pump.session():
        current.file_loaded()


@bpy.app.handlers.persistent
def _file_saved(*_: object) -> None:
    if current := pump.session():
        current.file_saved()


def register() -> None:
    for cls in _classes():
        bpy.utils.register_class(cls)
    for part in PARTS:
        part.register()
    for call in LISTENERS:
        pump.on_news(call)
    bpy.app.handlers.load_post.append(_file_loaded)
    bpy.app.handlers.save_post.append(_file_saved)
    upkeep.look(*preferences.backend_places())
    if not bpy.app.background:
        bpy.app.timers.register(_attach, first_interval=1.0, persistent=True)


def unregister() -> None:
    if bpy.app.timers.is_registered(_attach):
        bpy.app.timers.unregister(_attach)
    upkeep.stop()
    pump.disconnect()
    bpy.app.handlers.save_post.remove(_file_saved)
    bpy.app.handlers.load_post.remove(_file_loaded)
    for call in LISTENERS:
        pump.forget(call)
    for part in reversed(PARTS):
        part.unregister()
    for cls in reversed(_classes()):
        bpy.utils.unregister_class(cls)


def _attach() -> None:
    """Looks once whether there is a backend of ours, or jobs that an earlier Blender has left behind; and which weights
    there are."""
    folder, python = preferences.backend_places()
    if upkeep.elsewhere or home.runtime_file(folder).exists() or home.list_of_jobs(folder).exists():
        operators.common.quietly(lambda: pump.connect(folder, python, start=False))
    if upkeep.state.kind in upkeep.USABLE:
        operators.models.list_models()
