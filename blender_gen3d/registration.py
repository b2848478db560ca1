# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers the add-on's classes with Blender, and takes them back."""

from __future__ import annotations


def register() -> None:
    pass


def unregister() -> None:
    pass
