# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import bpy

from .. import upkeep
from ..bridge import errors, memory, protocol
from ..connection import pump
from ..labels import write

ZERO = {
    "bake_faces": "Faces (All)",
    "distance": "Distance (Fit)",
    "faces": "Faces (All)",
    "fine_iterations": "Fine Iterations (Usual)",
    "fine_rendered": "Fine Rendered (Usual)",
    "guidance": "Guidance (Usual)",
    "height": "Resolution Y (Automatic)",
    "iterations": "Iterations (Usual)",
    "level": "Level (Found)",
    "points": "Points (Usual)",
    "rendered": "Rendered (Usual)",
    "radius": "Radius (Fit)",
    "size": "Size (Usual)",
    "steps": "Steps (Usual)",
    "tetrahedra": "Tetrahedra (Usual)",
    "texture": "Texture (None)",
    "turntable": "Turntable (None)",
    "views": "Views (Usual)",
    "width": "Resolution X (Automatic)",
}


def column(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """For properties: names to the left, values to the right, nothing to animate."""
    made = layout.column()
    made.use_property_split = True
    made.use_property_decorate = False
    return made


def props(
    layout: bpy.types.UILayout, group: bpy.types.PropertyGroup, names: Iterable[str], zero: Mapping[str, str] = ZERO
) -> None:
    """A row for each. One that is 0 says what that stands for."""
    for name in names:
        if name in zero and not getattr(group, name):
            layout.prop(group, name, text=zero[name])
        else:
            layout.prop(group, name)


def big(layout: bpy.types.UILayout, operator: str, icon: str) -> None:
    """The button that a panel is about."""
    row = in_panel(layout.row())
    row.scale_y = 1.4
    row.operator(operator, icon=icon)


def in_panel(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """For buttons that go by what the panel shows: without it, Blender asks them about the viewport beside."""
    layout.operator_context = "INVOKE_DEFAULT"
    return layout


def needed_memory(layout: bpy.types.UILayout, kind: str, params: Mapping[str, Any]) -> None:
    """What a job would need and, where that is known, what there is, and what is done where that is not enough."""
    current, wanted = pump.session(), str(params.get("device", "auto"))
    device = _device(current.client.devices, wanted) if current else None
    # Before a backend has told of its devices: what it takes on a processor, where it takes most.
    what, free = (device["type"], device.get("free")) if device else ("cpu" if wanted == "auto" else wanted, None)
    try:
        there = [] if upkeep.elsewhere else [row.name for row in upkeep.models.installed()]
        fit = memory.fitted(kind, params, what, free, there)
    except errors.Gen3DError:  # told when the job is asked for
        return
    if fit.told:
        write(layout, fit.told, icon="ERROR")
    else:
        left = "" if free is None else f", {gigabytes(free)} free"
        write(layout, f"Needs about {gigabytes(fit.need)}{left}", icon="MEMORY")


def start_backend(layout: bpy.types.UILayout, told: str = "") -> None:
    """The button that starts the backend, or connects to another computer's; above it, if asked, what that is for."""
    text = "Connect" if upkeep.elsewhere else "Start Backend"
    if told:
        write(layout, f"{text} {told}", icon="INFO")
    layout.operator("gen3d.start_backend", text=text, icon="PLAY")


def gigabytes(count: int) -> str:
    return f"{count / memory.GB:.1f} GB"


def running(layout: bpy.types.UILayout, kind: str) -> None:
    """How far the job of a kind is that runs now, and how to stop it."""
    current = pump.session()
    row = next((row for row in pump.active(current) if row.kind == kind), None) if current else None
    if row is not None:
        line = layout.row(align=True)
        progress(line, row)
        line.operator("gen3d.cancel_job", text="", icon="X").job = row.id


def progress(layout: bpy.types.UILayout, row: protocol.JobRow, *, short: bool = False) -> None:
    done = min(1.0, max(0.0, (row.progress or {}).get("fraction") or 0.0))
    layout.progress(factor=done, text=f"{100.0 * done:.0f} %" if short else pump.progress_line(row))


def _device(devices: Iterable[Mapping[str, Any]], wanted: str) -> Mapping[str, Any] | None:
    """The best one of the wanted type: they come best first."""
    return next((device for device in devices if wanted in ("auto", device["type"])), None)
