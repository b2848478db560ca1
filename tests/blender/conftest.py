# SPDX-License-Identifier: GPL-3.0-or-later
"""These tests run inside Blender, or inside a Python that has it as a package; elsewhere there is nothing to collect."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

if importlib.util.find_spec("bpy") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import bpy

    from . import addon

    @pytest.fixture(scope="session", autouse=True)
    def _installed() -> None:
        addon.install()

    @pytest.fixture(autouse=True)
    def scene() -> Iterator[bpy.types.Scene]:
        """An empty scene of Blender's defaults."""
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
        yield bpy.context.scene
