# SPDX-License-Identifier: GPL-3.0-or-later
"""These tests run inside Blender, or inside a Python that has it as a package; elsewhere nothing is collected."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

if importlib.util.find_spec("bpy") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import bpy

    from . import addon

    addon.install()  # before the test modules import it

    @pytest.fixture(autouse=True)
    def scene() -> Iterator[bpy.types.Scene]:
        """An empty scene of Blender's defaults."""
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
        yield bpy.context.scene
