# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers the add-on's classes with Blender, and takes them back."""

from __future__ import annotations

from typing import Any

import bpy

from . import operators, panels, preferences, properties, pump


def _classes() -> list[type[Any]]:
    return [preferences.Gen3DPreferences, *properties.classes(), *operators.CLASSES, *panels.CLASSES]


@bpy.app.handlers.persistent
def _file_loaded(*_: object) -> None:
    """Results of the previous file are not wanted in this one: they wait in the list of jobs."""
    if current := pump.session():
        current.to_import.clear()


def register() -> None:
    for cls in _classes():
        bpy.utils.register_class(cls)
    properties.register()
    pump.on_change(panels.redraw)
    bpy.app.handlers.load_post.append(_file_loaded)
    if not bpy.app.background:
        bpy.app.timers.register(_attach, first_interval=1.0)


def unregister() -> None:
    if bpy.app.timers.is_registered(_attach):
        bpy.app.timers.unregister(_attach)
    pump.disconnect()
    bpy.app.handlers.load_post.remove(_file_loaded)
    pump.forget(panels.redraw)
    properties.unregister()
    for cls in reversed(_classes()):
        bpy.utils.unregister_class(cls)


def _attach() -> None:
    """Looks once whether a backend of ours runs already, with jobs that an earlier Blender has left behind."""
    folder, python = preferences.backend_places()
    if (folder / "runtime.json").exists():
        operators.common.quietly(lambda: pump.connect(folder, python, start=False))
