# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender properties made from the settings' dataclasses: same names, limits, choices, defaults and explanations."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints

import bpy

from .bridge import settings
from .capture_settings import CaptureSettings

INT_LIMIT = 2**31 - 1


def classes() -> list[type[Any]]:
    """The property groups, in the order in which they must be registered."""
    return [Gen3DGenerate, Gen3DCapture, Gen3DMesh, Gen3DNerf, Gen3DSettings, Gen3DStatus]


def values(group: bpy.types.PropertyGroup, cls: type[Any]) -> dict[str, Any]:
    """What the settings' ``parse`` wants. Blender keeps floats in single precision: the digits beyond are noise."""
    hints = get_type_hints(cls)
    found: dict[str, Any] = {}
    for spec in fields(cls):
        value = getattr(group, spec.name)
        if is_dataclass(hints[spec.name]):
            value = values(value, hints[spec.name])
        found[spec.name] = float(f"{value:.7g}") if isinstance(value, float) else value
    return found


def _group(name: str, cls: type[Any], nested: dict[str, Any] | None = None) -> Any:
    """A PropertyGroup class with one property for each field; ``nested`` are the groups of fields with fields."""
    hints = get_type_hints(cls)
    made = {spec.name: _property(spec, hints[spec.name], (nested or {}).get(spec.name)) for spec in fields(cls)}
    return type(name, (bpy.types.PropertyGroup,), {"__annotations__": made, "__doc__": cls.__doc__})


def _property(spec: Field[Any], kind: Any, group: Any) -> Any:
    title = spec.name.replace("_", " ").capitalize()
    if group is not None:
        return bpy.props.PointerProperty(type=group, name=title)
    told = spec.metadata["help"]
    shared: dict[str, Any] = {"name": title, "description": told[:1].upper() + told[1:]}
    if spec.default is not MISSING:
        shared["default"] = spec.default
    if spec.metadata["choices"]:
        items = [(choice, choice.replace("-", " ").capitalize(), "") for choice in spec.metadata["choices"]]
        return bpy.props.EnumProperty(items=items, **shared)
    low, high = spec.metadata["low"], spec.metadata["high"]
    if kind is bool:
        return bpy.props.BoolProperty(**shared)
    if kind is int:
        return bpy.props.IntProperty(min=int(low), max=min(int(high), INT_LIMIT), **shared)
    if kind is float:
        return bpy.props.FloatProperty(min=low, max=high, **shared)
    subtype = {"path": "DIR_PATH", "file": "FILE_PATH"}.get(spec.metadata["subtype"], "NONE")
    return bpy.props.StringProperty(subtype=subtype, **shared)


Gen3DGenerate = _group("Gen3DGenerate", settings.GenerateSettings)
Gen3DCapture = _group("Gen3DCapture", CaptureSettings)
Gen3DMesh = _group("Gen3DMesh", settings.MeshSettings)
Gen3DNerf = _group("Gen3DNerf", settings.NerfSettings, {"mesh": Gen3DMesh})


class Gen3DSettings(bpy.types.PropertyGroup):
    """What the panel asks for, kept with the scene."""

    generate: bpy.props.PointerProperty(type=Gen3DGenerate)  # type: ignore[valid-type]
    capture: bpy.props.PointerProperty(type=Gen3DCapture)  # type: ignore[valid-type]
    nerf: bpy.props.PointerProperty(type=Gen3DNerf)  # type: ignore[valid-type]
    import_when_done: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Import when done", description="Bring the mesh into the scene as soon as it is finished", default=True
    )


class Gen3DStatus(bpy.types.PropertyGroup):
    """What is going on in this window, never saved."""

    capturing: bpy.props.StringProperty()  # type: ignore[valid-type]


def register() -> None:
    bpy.types.Scene.gen3d = bpy.props.PointerProperty(type=Gen3DSettings)
    bpy.types.WindowManager.gen3d = bpy.props.PointerProperty(type=Gen3DStatus)


def unregister() -> None:
    del bpy.types.WindowManager.gen3d
    del bpy.types.Scene.gen3d
