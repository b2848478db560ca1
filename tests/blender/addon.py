# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on under test: the extension in GEN3D_ZIP, installed into this Blender, or else the checkout's package."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import bpy

ZIP = os.environ.get("GEN3D_ZIP", "")
PACKAGE = "bl_ext.user_default.gen3d" if ZIP else "blender_gen3d"


def install() -> None:
    """Installs the zip as a user would; with the checkout, registers the package."""
    if ZIP:
        done = bpy.ops.extensions.package_install_files(
            filepath=ZIP, repo="user_default", enable_on_install=True, overwrite=True
        )
        assert "FINISHED" in done
        assert PACKAGE in bpy.context.preferences.addons
    else:
        importlib.import_module(PACKAGE).register()


def module(name: str) -> ModuleType:
    """A module of the add-on, ``module("capture")``."""
    return importlib.import_module(f"{PACKAGE}.{name}")
