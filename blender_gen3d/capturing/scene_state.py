# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers what a capture is going to change in a scene, and puts it back."""

from __future__ import annotations

from typing import Any

import bpy

_PASSES = 4  # setting one property may reset another (a file format resets its colour depth), so go round again


class SceneState:
    """Watches RNA structs; ``restore`` gives every watched property that differs its old value back."""

    def __init__(self) -> None:
        self._watched: list[tuple[bpy.types.bpy_struct, dict[str, Any]]] = []

    def watch(self, struct: bpy.types.bpy_struct, *names: str) -> None:
        """Remembers the named properties, or all plain ones (numbers, texts, choices, switches) of the struct."""
        names = names or tuple(
            prop.identifier
            for prop in struct.bl_rna.properties
            if not prop.is_readonly and prop.type in {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"}
        )
        self._watched.append((struct, {name: _plain(getattr(struct, name)) for name in names}))

    def restore(self) -> None:
        """Puts everything back. Never raises: what the user deleted meanwhile has no state to restore."""
        for _ in range(_PASSES):
            if not any([_put_back(struct, values) for struct, values in self._watched]):
                return


def _put_back(struct: bpy.types.bpy_struct, values: dict[str, Any]) -> bool:
    """Sets what differs; True where something did."""
    differed = False
    for name, value in values.items():
        try:
            if _plain(getattr(struct, name)) != value:
                differed = True
                setattr(struct, name, value)
        except (ReferenceError, TypeError, ValueError, AttributeError):
            continue
    return differed


def _plain(value: Any) -> Any:
    """A value that does not change when the struct does: arrays become tuples."""
    if isinstance(value, str | set | bpy.types.bpy_struct) or not hasattr(value, "__len__"):
        return value
    return tuple(value)
