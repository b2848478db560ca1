# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that computes: whether it is there, on what it runs, which weights it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bpy

from .. import upkeep
from ..connection import pump
from ..labels import write
from ..upkeep_ui import draw_backend, draw_task
from .common import start_backend

LINKS = {"connecting": "Connecting", "online": "Connected", "offline": "Not connected", "closed": "Not connected"}


class GEN3D_PT_setup(bpy.types.Panel):
    """Before anything else can be done; it goes when it is done."""

    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_setup"
    bl_label = "Set Up"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        current = pump.session()
        served = current is not None and current.client.link.state == "online" and upkeep.state.kind != "outdated"
        return upkeep.state.kind not in upkeep.INSTALLED and not served and not upkeep.elsewhere

    def draw(self, context: bpy.types.Context) -> None:
        if upkeep.state.kind == "absent":
            write(self.layout, "Gen3D computes in a process of its own. What that needs is installed once.")
        draw_backend(self.layout, context)


class GEN3D_PT_backend(bpy.types.Panel):
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Gen3D"
    bl_idname = "GEN3D_PT_backend"
    bl_label = "Backend"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, _context: bpy.types.Context) -> None:
        layout, current = self.layout, pump.session()
        link = current.client.link.state if current else "offline"
        row = layout.row()
        place = f" to {upkeep.elsewhere}" if upkeep.elsewhere and link == "online" else ""
        row.label(text=LINKS[link] + place, icon="LINKED" if link == "online" else "UNLINKED")
        if link == "online":
            row.operator("gen3d.stop_backend", text="", icon="CANCEL")
        else:
            start_backend(layout)
        if current is not None and current.error is not None and link != "online":
            write(layout, current.error.cause, current.error.next_step, icon="ERROR")
        for device in current.client.devices if current and link == "online" else ():
            _draw_device(layout, device)
        if upkeep.state.kind in upkeep.INSTALLED:  # otherwise the panel above shows it
            draw_task(layout)
        _draw_models(layout)
        layout.operator("preferences.addon_show", text="Preferences…", icon="PREFERENCES").module = PACKAGE


def _draw_device(layout: bpy.types.UILayout, device: Mapping[str, Any]) -> None:
    """Its name; how much of its memory is free."""
    column = layout.column(align=True)
    column.label(text=str(device.get("name") or device.get("id")), icon="MEMORY")
    whole, free = device.get("memory"), device.get("free")
    if whole and free is not None:
        told = f"{free / 2**30:.1f} of {whole / 2**30:.1f} GB free"
        column.progress(factor=min(1.0, max(0.0, 1.0 - free / whole)), text=told)


def _draw_models(layout: bpy.types.UILayout) -> None:
    models = upkeep.models.installed()
    if models:
        names = ", ".join(model.name.removeprefix("embedded/") for model in models)
        write(layout, f"Models: {names}", icon="ASSET_MANAGER")


PACKAGE = __package__.rpartition(".")[0]
