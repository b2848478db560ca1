# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of settings to choose from and to add to, through Blender's own presets.

Those that come with the add-on are in ``shipped/presets``; those of the user are in Blender's folder for presets.
What is being made (words, picture, dataset, seed) belongs to no preset.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import bpy
from bl_operators.presets import AddPresetBase
from bl_ui.utils import PresetPanel

from .bridge import settings
from .capturing.capture_settings import CaptureSettings

SHIPPED = str(Path(__file__).parent / "shipped")
OWN = {
    "prompt", "negative_prompt", "image", "start", "dataset", "seed", "count", "size", "weights", "text_to_image",
    "device", "lora", "lora_scale", "inversion", "token", "style", "style_adapter", "style_scale",
}  # fmt: skip


def _values(group: str, cls: type[Any]) -> list[str]:
    """Paths from ``bpy`` on, for Blender to evaluate: on Python 3.13 some versions of it forget what they defined."""
    return [f"bpy.context.scene.gen3d.{group}.{spec.name}" for spec in fields(cls) if spec.name not in OWN]


class GEN3D_PT_generate_presets(PresetPanel, bpy.types.Panel):
    bl_description = "Sets of settings: how good it is to be, and how long it takes; your own, too"
    bl_label = "Standard"  # what the defaults are; Blender puts the name of what is chosen here
    preset_subdir = "gen3d/generate"
    preset_operator = "script.execute_preset"
    preset_add_operator = "gen3d.generate_preset_add"


class GEN3D_PT_capture_presets(PresetPanel, bpy.types.Panel):
    bl_description = "Sets of settings for this panel; your own, too"
    bl_label = "Presets"
    preset_subdir = "gen3d/capture"
    preset_operator = "script.execute_preset"
    preset_add_operator = "gen3d.capture_preset_add"


class GEN3D_PT_train_presets(PresetPanel, bpy.types.Panel):
    bl_description = "Sets of settings for this panel; your own, too"
    bl_label = "Presets"
    preset_subdir = "gen3d/train"
    preset_operator = "script.execute_preset"
    preset_add_operator = "gen3d.train_preset_add"


class GEN3D_OT_generate_preset_add(AddPresetBase, bpy.types.Operator):
    """Keep these settings under a name, or delete those of that name"""

    bl_idname = "gen3d.generate_preset_add"
    bl_label = "Add Generate Preset"
    preset_menu = "GEN3D_PT_generate_presets"
    preset_subdir = "gen3d/generate"
    preset_values = _values("generate", settings.GenerateSettings)


class GEN3D_OT_capture_preset_add(AddPresetBase, bpy.types.Operator):
    """Keep these settings under a name, or delete those of that name"""

    bl_idname = "gen3d.capture_preset_add"
    bl_label = "Add Capture Preset"
    preset_menu = "GEN3D_PT_capture_presets"
    preset_subdir = "gen3d/capture"
    preset_values = _values("capture", CaptureSettings)


class GEN3D_OT_train_preset_add(AddPresetBase, bpy.types.Operator):
    """Keep these settings under a name, or delete those of that name"""

    bl_idname = "gen3d.train_preset_add"
    bl_label = "Add Train Preset"
    preset_menu = "GEN3D_PT_train_presets"
    preset_subdir = "gen3d/train"
    preset_values = _values("nerf", settings.NerfSettings)


CLASSES = (
    GEN3D_PT_generate_presets,
    GEN3D_PT_capture_presets,
    GEN3D_PT_train_presets,
    GEN3D_OT_generate_preset_add,
    GEN3D_OT_capture_preset_add,
    GEN3D_OT_train_preset_add,
)


def register() -> None:
    bpy.utils.register_preset_path(SHIPPED)


def unregister() -> None:
    bpy.utils.unregister_preset_path(SHIPPED)
