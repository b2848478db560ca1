# SPDX-License-Identifier: GPL-3.0-or-later
"""One picture of the current scene, in one go or with Blender's window alive meanwhile.

Blender writes the file as a part of rendering, so that where rendering is a job the window does not wait for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bpy

from ..bridge import errors


def render(responsive: bool, path: Path) -> Iterator[None]:
    """Renders the scene into ``path``, absolute, in its format: in one go, or as a job of Blender's with a yield
    whenever it is not ready yet. The scene keeps that path: who has set it up for rendering gives it back its own.

    Raises Gen3DError where Blender does not render, or is stopped, OSError or RuntimeError where it does not write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_to(path)
    if responsive:
        yield from _job()
    elif "FINISHED" not in bpy.ops.render.render(write_still=True):
        raise errors.Gen3DError("Blender could not render a view.", "Render one picture with F12 to see why.")
    if not path.exists():
        raise OSError(f"Blender did not write {path.name}")


def _job() -> Iterator[None]:
    ended: list[str] = []

    def completed(*_: object) -> None:
        ended.append("completed")

    def cancelled(*_: object) -> None:
        ended.append("cancelled")

    shown = bpy.context.preferences.view
    before = shown.render_display_type
    shown.render_display_type = "NONE"  # no window for each view
    bpy.app.handlers.render_complete.append(completed)
    bpy.app.handlers.render_cancel.append(cancelled)
    try:
        bpy.ops.render.render("INVOKE_DEFAULT", write_still=True)
        while not ended or bpy.app.is_job_running("RENDER"):
            yield
    finally:
        shown.render_display_type = before
        bpy.app.handlers.render_complete.remove(completed)
        bpy.app.handlers.render_cancel.remove(cancelled)
    if "cancelled" in ended:  # by whoever stopped it, or by an engine that could not go on
        raise errors.Gen3DError("Blender has stopped rendering a view.", "Render one picture with F12 to see why.")


def _write_to(path: Path) -> None:
    """Makes this the file of the current scene's renderings."""
    render, name = bpy.context.scene.render, str(path)
    if bpy.app.version >= (5, 0, 0):  # which fills in what stands in braces
        name = name.replace("{", "{{").replace("}", "}}")
    render.filepath, render.use_file_extension = name, False


def result() -> bpy.types.Image:
    """What has been rendered last."""
    return bpy.data.images["Render Result"]
