# SPDX-License-Identifier: GPL-3.0-or-later
"""How the backend's installation and the weights are shown, in the preferences and in the sidebar."""

from __future__ import annotations

import bpy

from . import upkeep
from .labels import write
from .model_list import Model, Models

_STATES = {
    "embedded": ("Comes with Gen3D", "CHECKMARK"),
    "installed": ("Installed", "CHECKMARK"),
    "local": ("Your own files", "CHECKMARK"),
    "partial": ("Interrupted", "TIME"),
    "missing": ("Its files are gone", "ERROR"),
    "absent": ("Not installed", "BLANK1"),
}
_TITLES = {"point-e": "Point-E", "clip": "CLIP", "hub": "From the Hub"}


def draw_backend(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The state of the installation, and what can be done about it."""
    kind = upkeep.state.kind
    icon = "CHECKMARK" if kind in upkeep.INSTALLED else "ERROR" if kind in ("broken", "outdated") else "INFO"
    if not (upkeep.busy() and kind in ("absent", "partial")):  # what runs now says more
        write(layout, f"{_heading(kind)}: {upkeep.state.text}", icon=icon)
    draw_task(layout)
    if not upkeep.busy():
        row = layout.row()
        row.scale_y = 1.4 if kind in ("absent", "partial") else 1.0
        if kind in ("absent", "partial", "outdated"):
            text = {"partial": "Go On Installing", "outdated": "Update Backend"}.get(kind, "Install Backend")
            row.operator("gen3d.install_backend", text=text, icon="IMPORT")
        if kind in ("ready", "broken"):
            row.operator("gen3d.repair_backend", text="Repair", icon="TOOL_SETTINGS")
        if kind != "absent":
            row.operator("gen3d.remove_backend", text="Remove", icon="TRASH")
    draw_permission(layout, context)


def draw_permission(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Asks for access to the internet, where it is missed."""
    if bpy.app.online_access or upkeep.busy() or upkeep.state.kind == "own":
        return
    told = "Installing and downloading weights need access to the internet, which Blender does not allow now. "
    if bpy.app.online_access_override:
        return write(layout, f"{told}It was started in offline mode.", icon="INTERNET_OFFLINE")
    write(layout, f"{told}Nothing is ever sent by Gen3D.", icon="INTERNET_OFFLINE")
    layout.prop(context.preferences.system, "use_online_access", text="Allow Online Access")


def draw_task(layout: bpy.types.UILayout) -> None:
    """What runs now, or why the last thing has failed; and the log of the last installation."""
    task, error = upkeep.task, upkeep.error()
    if task is not None and upkeep.busy():
        column = layout.column(align=True)
        row = column.row()
        row.progress(factor=task.step.fraction or 0.0, text=task.title)
        row.operator("gen3d.cancel_upkeep", text="", icon="X")
        write(column, task.line())
    elif error is not None:
        column = layout.column(align=True)
        column.alert = True
        write(column, error.cause, error.next_step, icon="ERROR")
    if upkeep.log.is_file():
        layout.operator("gen3d.open_install_log", icon="TEXT")


def draw_models(layout: bpy.types.UILayout) -> None:
    """The model manager."""
    header, body = layout.panel("gen3d_models", default_closed=False)
    header.label(text="Models")
    if not body:
        return
    row = body.row()
    row.operator("gen3d.refresh_models", icon="FILE_REFRESH")
    row.operator("gen3d.verify_models", icon="CHECKMARK")
    row.operator("gen3d.use_model", text="Use Local Files…", icon="FILE_FOLDER").name = ""
    row.operator("gen3d.install_models", text="Install from Hub…", icon="URL").names = ""
    known = upkeep.models
    if known.verified:
        _draw_verified(body, known)
    if not known.rows:
        body.label(text="The models are listed once the backend is installed")
    for name, members in known.sets.items():
        missing = [row for row in known.rows if row.name in members and row.state in ("absent", "partial")]
        if missing:
            size = sum(row.size for row in missing)
            chosen = body.operator(
                "gen3d.install_models", text=f"Install All of {_TITLES.get(name, name)} ({_size(size)})", icon="IMPORT"
            )
            chosen.names = name
    for system in dict.fromkeys(model.system for model in known.rows):
        box = body.box().column(align=True)
        box.label(text=_TITLES.get(system, system.capitalize()))
        for model in (model for model in known.rows if model.system == system):
            _draw_model(box.row(), model, bool(known.damaged.get(model.name)))


def _draw_verified(layout: bpy.types.UILayout, known: Models) -> None:
    """What came of it."""
    if names := sorted(known.damaged):
        write(layout, f"Damaged: {', '.join(names)}. Install them again.", icon="ERROR")
    else:
        write(layout, "All weights that are installed are as they were when they came.", icon="CHECKMARK")


def _draw_model(row: bpy.types.UILayout, model: Model, damaged: bool) -> None:
    told, icon = ("Damaged", "ERROR") if damaged else _STATES.get(model.state, (model.state, "QUESTION"))
    split = row.split(factor=0.34)
    split.label(text=model.name.removeprefix("embedded/"), icon=icon)
    size = split.split(factor=0.2)  # columns of one width in every row
    size.label(text=_size(model.size))
    licence = size.split(factor=0.45)
    licence.label(text=model.licence)
    facts = licence.row()
    facts.label(text=told)
    if model.state in ("absent", "partial", "missing") or damaged:
        facts.operator("gen3d.install_models", text="", icon="IMPORT").names = model.name
    if model.state in ("absent", "partial"):
        facts.operator("gen3d.use_model", text="", icon="FILE_FOLDER").name = model.name
    if model.state in ("installed", "local", "partial", "missing"):
        facts.operator("gen3d.remove_model", text="", icon="TRASH").name = model.name


def _heading(kind: str) -> str:
    return {"broken": "The backend is broken", "outdated": "The backend is of another version"}.get(kind, "Backend")


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
