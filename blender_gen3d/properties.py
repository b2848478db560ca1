# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender properties made from the settings' dataclasses: same names, limits, choices, defaults and explanations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints

import bpy

from .bridge import settings
from .capturing.capture_settings import CaptureSettings
from .paths import RELATIVE
from .viewing.view_settings import ResultSettings, TurntableSettings, ViewSettings

INT_LIMIT = 2**31 - 1

# What Blender shows a number as. Angles are radians here, as Blender has them, and degrees in the settings.
SUBTYPES = {
    "bake_size": "PIXEL",
    "distance": "DISTANCE",
    "elevation": "ANGLE",
    "elevation_max": "ANGLE",
    "elevation_min": "ANGLE",
    "floaters": "FACTOR",
    "height": "PIXEL",
    "lens": "DISTANCE_CAMERA",
    "normal_views": "FACTOR",
    "radius": "DISTANCE",
    "seconds": "TIME_ABSOLUTE",
    "size": "DISTANCE",
    "test": "FACTOR",
    "texture": "PIXEL",
    "val": "FACTOR",
    "width": "PIXEL",
}
# What is shown of names and choices where their own words, capitalised, would not do.
TITLES = {
    "around": "Center",
    "auto": "Automatic",
    "bake_faces": "Faces",
    "bake_normals": "Normal Map",
    "bake_size": "Texture Size",
    "begin": "Begin As",
    "cpu": "CPU",
    "cuda": "CUDA",
    "cursor": "3D Cursor",
    "dialect": "Format",
    "dreamfusion": "DreamFusion",
    "elevation_max": "Max",
    "elevation_min": "Elevation Min",
    "height": "Resolution Y",
    "instant-ngp": "Instant-NGP",
    "inversion": "Textual Inversion",
    "lora": "LoRA",
    "lora_scale": "LoRA Strength",
    "magic3d": "Magic3D",
    "mps": "Apple GPU (Metal)",
    "nerf-synthetic": "NeRF Synthetic",
    "point-e": "Point·E",
    "quads": "Faces",
    "refine_prompt": "Prompt",
    "refine_shape": "Change Shape",
    "seconds": "Time",
    "start": "Start File",
    "step": "Every Nth Frame",
    "style_scale": "Style Strength",
    "text_to_image": "Text to Image",
    "val": "Validation",
    "width": "Resolution X",
}


# What choices mean; "setting.choice" where it depends on what is chosen.
EXPLAINED = {
    "cpu": "This computer's processor",
    "cuda": "An NVIDIA graphics card, or an AMD one with ROCm",
    "mps": "The graphics of an Apple processor",
    "device.auto": "The best device that the backend has",
    "begin.auto": "Points with the embedded priors, fog with published weights",
    "fog": "A ball of fog in the middle",
    "points": "What Point·E makes of the same words, which keeps things from having several faces",
    "weighting.auto": "As suits the model: that of the paper",
    "sigma2": "The more noise, the more; that of the paper",
    "uniform": "All noise levels alike",
    "signal-noise": "Most in the middle",
    "scene.auto": "One object where the pictures have transparent backgrounds, else a whole surrounding",
    "objects": "The middle of the objects that are captured",
    "cursor": "Where the 3D cursor is",
    "cycles": "Cycles, whatever the scene is set to",
    "scene": "The engine that the scene is set to",
    "current": "The frame that is shown now",
    "point-e": "Points, and a surface around them: seconds",
    "dream-fields": "A radiance field that CLIP guides: minutes",
    "dreamfusion": "A radiance field that a text-to-image model guides: minutes",
    "magic3d": "Such a field, and then a fine mesh of it with a texture: minutes",
    "fast": "Hash grid: minutes",
    "paper": "The network and the number of steps of the paper: a GPU's hours",
    "sphere": "Cameras all around, on a sphere",
    "animation": "The scene's camera, frame by frame",
    "cameras": "The selected cameras, or all of the scene",
    "bounded": "One object, in a box",
    "unbounded": "A whole surrounding, as far as one sees",
    "nerf-synthetic": "transforms_train.json and the like, one field of view for all",
    "instant-ngp": "transforms.json, or one for each split, with the object in the unit box",
    "nerfstudio": "One transforms.json, with depth and masks beside the pictures",
}


def classes() -> list[type[Any]]:
    """The property groups, in the order in which they must be registered."""
    return [
        Gen3DDreamFields,
        Gen3DDreamFusion,
        Gen3DMagic3D,
        Gen3DGenerate,
        Gen3DCapture,
        Gen3DMesh,
        Gen3DNerf,
        Gen3DViews,
        Gen3DTurntable,
        Gen3DResults,
        Gen3DSettings,
    ]


def values(group: bpy.types.PropertyGroup, cls: type[Any]) -> dict[str, Any]:
    """What the settings' ``parse`` wants. Blender keeps floats in single precision: the digits beyond are noise."""
    hints = get_type_hints(cls)
    found: dict[str, Any] = {}
    for spec in fields(cls):
        value = getattr(group, spec.name)
        if is_dataclass(hints[spec.name]):
            value = values(value, hints[spec.name])
        if isinstance(value, float):
            value = math.degrees(value) if SUBTYPES.get(spec.name) == "ANGLE" else value
            value = float(f"{value:.7g}")
        found[spec.name] = value
    return found


def assign(group: bpy.types.PropertyGroup, wanted: Mapping[str, Any]) -> None:
    """Puts settings, as ``values`` gives them, back into the properties; what is unknown here is left out."""
    for name, value in wanted.items():
        if name not in group.bl_rna.properties:
            continue
        if isinstance(value, Mapping):
            assign(getattr(group, name), value)
            continue
        if SUBTYPES.get(name) == "ANGLE":
            value = math.radians(value)
        with suppress(TypeError, ValueError):  # a choice of another version
            setattr(group, name, value)


def _group(name: str, cls: type[Any], nested: dict[str, Any] | None = None) -> Any:
    """A PropertyGroup class with one property for each field; ``nested`` are the groups of fields with fields."""
    hints = get_type_hints(cls)
    made = {spec.name: _property(spec, hints[spec.name], (nested or {}).get(spec.name)) for spec in fields(cls)}
    return type(name, (bpy.types.PropertyGroup,), {"__annotations__": made, "__doc__": cls.__doc__})


def _property(spec: Field[Any], kind: Any, group: Any) -> Any:
    shown = title(spec.name)
    if group is not None:
        return bpy.props.PointerProperty(type=group, name=shown)
    told = spec.metadata["help"]
    shared: dict[str, Any] = {"name": shown, "description": told[:1].upper() + told[1:]}
    if spec.default is not MISSING:
        shared["default"] = spec.default
    if spec.metadata["choices"]:
        items = [(choice, title(choice), _explained(spec.name, choice)) for choice in spec.metadata["choices"]]
        return bpy.props.EnumProperty(items=items, **shared)
    low, high = spec.metadata["low"], spec.metadata["high"]
    if kind is bool:
        return bpy.props.BoolProperty(**shared)
    unit = SUBTYPES.get(spec.name, "NONE")
    if kind is int:
        return bpy.props.IntProperty(min=int(low), max=min(int(high), INT_LIMIT), subtype=unit, **shared)
    if kind is float:
        if unit == "ANGLE":
            low, high, shared["default"] = map(math.radians, (low, high, spec.default))
        return bpy.props.FloatProperty(min=low, max=high, subtype=unit, **shared)
    subtype = {"path": "DIR_PATH", "file": "FILE_PATH"}.get(spec.metadata["subtype"], "NONE")
    options = {"ANIMATABLE"} if subtype == "NONE" else {"ANIMATABLE", *RELATIVE}
    return bpy.props.StringProperty(subtype=subtype, options=options, **shared)


def _explained(name: str, choice: str) -> str:
    return EXPLAINED.get(f"{name}.{choice}") or EXPLAINED.get(choice, "")


def title(name: str) -> str:
    """What a setting or a choice is called."""
    return TITLES.get(name) or name.replace("_", " ").replace("-", " ").title()


Gen3DDreamFields = _group("Gen3DDreamFields", settings.DreamFieldsSettings)
Gen3DDreamFusion = _group("Gen3DDreamFusion", settings.DreamFusionSettings)
Gen3DMagic3D = _group("Gen3DMagic3D", settings.Magic3DSettings)
Gen3DGenerate = _group(
    "Gen3DGenerate",
    settings.GenerateSettings,
    {"dream_fields": Gen3DDreamFields, "dreamfusion": Gen3DDreamFusion, "magic3d": Gen3DMagic3D},
)
Gen3DCapture = _group("Gen3DCapture", CaptureSettings)
Gen3DMesh = _group("Gen3DMesh", settings.MeshSettings)
Gen3DViews = _group("Gen3DViews", ViewSettings)
Gen3DTurntable = _group("Gen3DTurntable", TurntableSettings)
Gen3DResults = _group("Gen3DResults", ResultSettings, {"mesh": Gen3DMesh})
Gen3DNerf = _group("Gen3DNerf", settings.NerfSettings, {"mesh": Gen3DMesh})


class Gen3DSettings(bpy.types.PropertyGroup):
    """What the panel asks for, kept with the scene."""

    generate: bpy.props.PointerProperty(type=Gen3DGenerate)  # type: ignore[valid-type]
    capture: bpy.props.PointerProperty(type=Gen3DCapture)  # type: ignore[valid-type]
    nerf: bpy.props.PointerProperty(type=Gen3DNerf)  # type: ignore[valid-type]
    views: bpy.props.PointerProperty(type=Gen3DViews)  # type: ignore[valid-type]
    turntable: bpy.props.PointerProperty(type=Gen3DTurntable)  # type: ignore[valid-type]
    results: bpy.props.PointerProperty(type=Gen3DResults)  # type: ignore[valid-type]
    start_object: bpy.props.PointerProperty(  # type: ignore[valid-type]
        name="Start Shape",
        description="Mesh that a field begins as, with its vertex colors; none: as Start File or Begin As says, "
        "under Advanced",
        type=bpy.types.Object,
        poll=lambda _self, item: item.type == "MESH",
    )
    capture_folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Output",
        description="Folder in which each capture gets a new folder of its own; empty: beside the .blend file",
        subtype="DIR_PATH",
        options={"ANIMATABLE", *RELATIVE},
    )
    views_folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Output",
        description="Folder in which each rendering of views gets a new folder of its own; empty: beside the .blend "
        "file",
        subtype="DIR_PATH",
        options={"ANIMATABLE", *RELATIVE},
    )
    import_when_done: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Import When Done", description="Bring the mesh into the scene as soon as it is finished", default=True
    )


def register() -> None:
    bpy.types.Scene.gen3d = bpy.props.PointerProperty(type=Gen3DSettings)


def unregister() -> None:
    del bpy.types.Scene.gen3d
