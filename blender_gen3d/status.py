# SPDX-License-Identifier: GPL-3.0-or-later
"""What is going on in this Blender: belongs to no file, and starts anew with each.

Window managers are saved with files all the same; ``clear`` removes what came with one.
"""

from __future__ import annotations

from typing import Any

import bpy

from . import capture_preview, job_list, thumbnails
from .connection import pump
from .viewports import redraw


def _show_chosen(_status: bpy.types.PropertyGroup, context: bpy.types.Context) -> None:
    thumbnails.show(job_list.chosen(context))


def _listen(status: bpy.types.PropertyGroup, _context: bpy.types.Context) -> None:
    pump.listen_to(status.everyone)


def _redraw(_status: bpy.types.PropertyGroup, _context: bpy.types.Context) -> None:
    redraw()


def _update_cameras(_status: bpy.types.PropertyGroup, _context: bpy.types.Context) -> None:
    capture_preview.update()


class Gen3DJob(bpy.types.PropertyGroup):
    """A row of the list of jobs. Its name is the job's id; all else is looked up."""


class Gen3DStatus(bpy.types.PropertyGroup):
    capturing: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    captured: bpy.props.FloatProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    viewing: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    viewed: bpy.props.FloatProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    jobs: bpy.props.CollectionProperty(type=Gen3DJob)  # type: ignore[valid-type]
    job_index: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Job",
        description="The job of which more is told below the list",
        update=_show_chosen,
    )
    everyone: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Show Other Blenders' Jobs",
        description="List what other Blenders and scripts have made in the same data folder, too",
        update=_listen,
    )
    show_points: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Show Live Points",
        description="Draw what a running job has made so far as points in the viewport, where the result will stand",
        default=True,
        update=_redraw,
    )
    show_cameras: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Show Cameras",
        description="Draw the cameras of the capture in the viewport: those for training in orange, for tests in blue, "
        "for validation in green",
        update=_update_cameras,
    )


def classes() -> list[type[Any]]:
    return [Gen3DJob, Gen3DStatus]


def register() -> None:
    bpy.types.WindowManager.gen3d = bpy.props.PointerProperty(type=Gen3DStatus)


def unregister() -> None:
    clear()
    del bpy.types.WindowManager.gen3d


def clear() -> None:
    """As in a new Blender; what is known of jobs is listed again."""
    status = bpy.context.window_manager.gen3d
    for name in ("capturing", "captured", "viewing", "viewed", "jobs", "job_index", "everyone"):
        status.property_unset(name)
    job_list.start()
