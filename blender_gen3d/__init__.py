# SPDX-License-Identifier: GPL-3.0-or-later
"""Gen3D: captures with Blender's cameras, trains in a backend process, puts the mesh onto the object.

Importable without bpy: client, launcher and everything else that does not draw or render can be used and tested
outside Blender. Blender calls ``register`` and ``unregister``.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent
if not (_HERE / "backend").is_dir():  # in a checkout the backend lies beside the add-on, in the extension inside it
    __path__.append(str(_HERE.parent))


def register() -> None:
    """Adds classes, properties and preferences to Blender."""
    from .registration import register as work

    work()


def unregister() -> None:
    """Takes everything back, the connection to the backend included."""
    from .registration import unregister as work

    work()
