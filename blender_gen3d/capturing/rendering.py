# SPDX-License-Identifier: GPL-3.0-or-later
"""One picture of the current scene, in one go or with Blender's window alive meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import bpy

from ..bridge import errors


def render(responsive: bool) -> Iterator[None]:
    """Renders the scene: in one go, or as a job of Blender's with a yield whenever it is not ready yet.

    Raises Gen3DError where Blender does not render, or is stopped.
    """
    if not responsive:
        if "FINISHED" not in bpy.ops.render.render():
            raise errors.Gen3DError("Blender could not render a view.", "Render one picture with F12 to see why.")
        return
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
        bpy.ops.render.render("INVOKE_DEFAULT")
        while not ended or bpy.app.is_job_running("RENDER"):
            yield
    finally:
        shown.render_display_type = before
        bpy.app.handlers.render_complete.remove(completed)
        bpy.app.handlers.render_cancel.remove(cancelled)
    if "cancelled" in ended:  # by whoever stopped it, or by an engine that could not go on
        raise errors.Gen3DError("Blender has stopped rendering a view.", "Render one picture with F12 to see why.")


def result() -> bpy.types.Image:
    """What has been rendered last."""
    return bpy.data.images["Render Result"]
