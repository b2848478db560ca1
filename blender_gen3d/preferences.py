# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the backend's Python and the user's data are."""

from __future__ import annotations

from pathlib import Path

import bpy

from .bridge import home


class Gen3DPreferences(bpy.types.AddonPreferences):
    bl_idname = __package__ or "blender_gen3d"

    python: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Python of the backend",
        description="Interpreter that has the backend's packages; empty: the one that build.py dev-install made",
        subtype="FILE_PATH",
    )
    home: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Data folder",
        description="Where jobs and results are kept; empty: the operating system's place for a user's data",
        subtype="DIR_PATH",
    )

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.prop(self, "python")
        self.layout.prop(self, "home")


def backend_places() -> tuple[Path, str]:
    """Home folder and interpreter ("" for the installed one), from the preferences or their defaults."""
    addons = bpy.context.preferences.addons
    name = Gen3DPreferences.bl_idname
    chosen = addons[name].preferences if name in addons else None
    folder = Path(bpy.path.abspath(chosen.home)).absolute() if chosen and chosen.home else home.user_home()
    return folder, bpy.path.abspath(chosen.python) if chosen and chosen.python else ""
