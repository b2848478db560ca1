# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: its backend, the weights on this machine, where data is kept, and a backend elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import bpy

from . import upkeep
from .bridge import home
from .environment.builds import BUILDS
from .environment.installation import Wanted
from .paths import RELATIVE
from .upkeep_ui import draw_backend, draw_models

BUILD_ITEMS = [
    ("auto", "Automatic", "What suits this computer's graphics hardware and driver"),
    *((build.name, build.title, f"About {build.disk / 1e3:.0f} GB on the disk") for build in BUILDS.values()),
]


def _changed(_preferences: bpy.types.AddonPreferences, _context: bpy.types.Context) -> None:
    upkeep.look(*backend_places())


class Gen3DPreferences(bpy.types.AddonPreferences):
    bl_idname = __package__ or "blender_gen3d"

    torch: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Torch", description="The build of torch that the backend is installed with", items=BUILD_ITEMS
    )
    base_python: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Base Python",
        description="Python 3.11 to 3.13 that the backend's environment is made from; empty: Blender's own, or one "
        "that is found",
        subtype="FILE_PATH",
        options=RELATIVE,
    )
    wheels: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Packages Folder",
        description="Folder with all packages as wheels, for a computer without internet; empty: they are downloaded",
        subtype="DIR_PATH",
        options=RELATIVE,
    )
    home: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Data Folder",
        description="Where the backend, jobs, results and weights are kept; empty: the operating system's place for a "
        "user's data",
        subtype="DIR_PATH",
        options=RELATIVE,
        update=_changed,
    )
    python: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Python of the Backend",
        description="Interpreter that has the backend's packages already; empty: the installed environment's",
        subtype="FILE_PATH",
        options=RELATIVE,
        update=_changed,
    )

    def draw(self, context: bpy.types.Context) -> None:
        draw_backend(self.layout.box(), context)
        header, body = self.layout.panel("gen3d_install_options", default_closed=True)
        header.label(text="Installation")
        if body:
            _props(body, self, "torch", "base_python", "wheels", "python")
        draw_models(self.layout)
        header, body = self.layout.panel("gen3d_places", default_closed=True)
        header.label(text="Data and Another Computer")
        if body:
            _props(body, self, "home")
            row = body.row()
            where = upkeep.elsewhere
            row.label(text=f"Jobs run on the backend at {where}" if where else "Jobs run on this computer")
            row.operator("gen3d.use_remote", text="Change…" if where else "Use Another Computer…")
            if where:
                row.operator("gen3d.use_local")


def _props(layout: bpy.types.UILayout, owner: Gen3DPreferences, *names: str) -> None:
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    for name in names:
        column.prop(owner, name)


def _chosen() -> Gen3DPreferences | None:
    addons = bpy.context.preferences.addons
    name = Gen3DPreferences.bl_idname
    return addons[name].preferences if name in addons else None


def backend_places() -> tuple[Path, str]:
    """Home folder and interpreter ("" for the installed one), from the preferences or their defaults."""
    chosen = _chosen()
    folder = Path(bpy.path.abspath(chosen.home)).absolute() if chosen and chosen.home else home.user_home()
    return folder, bpy.path.abspath(chosen.python) if chosen and chosen.python else ""


def wanted() -> Wanted:
    """What the backend is to be installed with."""
    chosen = _chosen()
    online = bpy.app.online_access
    if chosen is None:
        return Wanted(own=sys.executable, online=online)
    base, wheels = (bpy.path.abspath(path) if path else "" for path in (chosen.base_python, chosen.wheels))
    return Wanted(base=base, own=sys.executable, torch=chosen.torch, wheels=wheels, online=online)
