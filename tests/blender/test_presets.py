# SPDX-License-Identifier: GPL-3.0-or-later
"""Presets that come with the add-on do what they are named for; one's own are kept, found and deleted."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import bpy
import pytest

from . import addon

bridge = addon.module("bridge")
capture_settings = addon.module("capturing.capture_settings")
presets = addon.module("presets")
properties = addon.module("properties")

KINDS = {
    "generate": ("generate", bridge.settings.GenerateSettings),
    "capture": ("capture", capture_settings.CaptureSettings),
    "train": ("nerf", bridge.settings.NerfSettings),
}
FILES = sorted(Path(presets.SHIPPED).rglob("*.py"))


def chosen(kind: str) -> dict[str, Any]:
    group, cls = KINDS[kind]
    return properties.values(getattr(bpy.context.scene.gen3d, group), cls)


def choose(kind: str, path: Path) -> None:
    done = bpy.ops.script.execute_preset(filepath=str(path), menu_idname=f"GEN3D_PT_{kind}_presets")
    assert done == {"FINISHED"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_those_that_come_along(path: Path) -> None:
    """Are found by Blender, change what the backend takes, and nothing that is one's own."""
    kind = path.parent.name
    assert any(path.parent.samefile(found) for found in bpy.utils.preset_paths(f"gen3d/{kind}"))
    before = chosen(kind)
    getattr(bpy.context.scene.gen3d, KINDS[kind][0]).seed = 5
    choose(kind, path)
    after = chosen(kind)
    assert after["seed"] == 5
    assert {key for key in after if after[key] != before[key]} - presets.OWN or path.stem in ("Standard", "Object")
    bridge.settings.parse(KINDS[kind][1], after, whole=False)  # no preset has a prompt
    assert getattr(bpy.types, f"GEN3D_PT_{kind}_presets").bl_label == path.stem.replace("_", " ")


def test_the_standard_is_what_one_begins_with() -> None:
    before = chosen("generate")
    choose("generate", next(path for path in FILES if path.stem == "Draft"))
    assert chosen("generate") != before
    choose("generate", next(path for path in FILES if path.stem == "Standard"))
    assert chosen("generate") == before


def test_a_draft_is_less_work_for_fields_and_fine_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is usual differs by a factor of thirty with other weights and the paper's preset: there it stays."""
    plan = bpy.context.scene.gen3d.generate
    paths = {path.stem: path for path in FILES}
    plan.system = "dream-fields"
    choose("generate", paths["Draft"])
    assert 0 < plan.iterations < 300 and 0 < plan.rendered < 168 and 0 < plan.views < 4
    choose("generate", paths["Fine"])
    assert (plan.iterations > 300, plan.rendered, plan.views) == (True, 0, 0)
    for system, preset in (("dreamfusion", "fast"), ("dream-fields", "paper")):
        plan.system, plan.preset = system, preset
        choose("generate", paths["Fine"])
        assert (plan.iterations, plan.rendered, plan.views) == (0, 0, 0)


def test_files_that_things_begin_as_are_in_no_preset() -> None:
    kept = presets.GEN3D_OT_generate_preset_add.preset_values
    assert "bpy.context.scene.gen3d.generate.iterations" in kept
    assert not {f"bpy.context.scene.gen3d.generate.{name}" for name in presets.OWN} & set(kept)
    assert "start" in presets.OWN


@pytest.mark.parametrize("kind", list(KINDS))
def test_ones_own(kind: str) -> None:
    """Hold every setting, nested ones and angles included, but not what is being made."""
    group, cls = KINDS[kind]
    plan = getattr(bpy.context.scene.gen3d, group)
    changed = {"faces": 77} if kind == "generate" else {"elevation_min": -12.5} if kind == "capture" else {}
    properties.assign(plan, changed | ({"mesh": {"faces": 77}} if kind == "train" else {}))
    wanted = chosen(kind)
    add = getattr(bpy.ops.gen3d, f"{kind}_preset_add")
    assert add(name="Test of Gen3D") == {"FINISHED"}
    try:
        path = Path(bpy.utils.preset_find("Test_of_Gen3D", f"gen3d/{kind}"))
        for spec in fields(cls):
            plan.property_unset(spec.name)
        plan.seed = 9
        assert chosen(kind) != wanted
        choose(kind, path)
        assert chosen(kind) == wanted | {"seed": 9}
    finally:
        assert add(name="Test of Gen3D", remove_name=True) == {"FINISHED"}
    assert not path.exists()
