# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths that begin with //, beside the .blend file."""

from __future__ import annotations

import bpy

RELATIVE = (
    {"PATH_SUPPORTS_BLEND_RELATIVE"}
    if "is_path_supports_blend_relative" in bpy.types.Property.bl_rna.properties
    else set[str]()
)
"""The option of properties that may hold such a path: newer Blenders warn where it is missing."""
