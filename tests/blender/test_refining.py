# SPDX-License-Identifier: GPL-3.0-or-later
"""Refining and changing objects: what the backend is asked for, and where what comes of it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from . import addon, results

api = addon.module("api")
importing = addon.module("results.importing")
panel = addon.module("panels.results")
refine = addon.module("operators.refine")
settings = addon.module("bridge").settings
upkeep = addon.module("upkeep")

Asked = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """In place of a backend process: what is asked for is checked as the backend would, and a result made by hand."""
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path / "home"))
    places = addon.module("environment.places")
    monkeypatch.setattr(upkeep, "state", places.State("ready", "It is ready"))
    calls: list[dict[str, Any]] = []

    def run(kind: str, wanted: dict[str, Any], **_: Any) -> Path:
        settings.parse(settings.KINDS[kind], wanted)
        calls.append(wanted)
        return results.generated(tmp_path / f"made{len(calls)}", [(2.0, 2.0, 2.0)])

    monkeypatch.setattr(api, "run", run)
    return lambda **more: (bpy.ops.gen3d.refine(**more), calls)[1]


def cube() -> bpy.types.Object:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    item = bpy.context.view_layer.objects["Cube"]
    item.location, item.scale = (1.0, 2.0, 3.0), (1.0, 1.0, 2.0)
    bpy.context.view_layer.objects.active = item
    bpy.context.view_layer.update()
    return item


def test_any_mesh_can_be_textured_by_words(asked: Asked) -> None:
    item = cube()
    plan = bpy.context.scene.gen3d
    plan.results.refine_prompt, plan.results.refine_shape = "a wooden chest", False
    plan.generate.seed, plan.generate.count = 7, 3
    (wanted,) = asked()
    assert (wanted["system"], wanted["prompt"], wanted["seed"]) == ("magic3d", "a wooden chest", 7)
    assert (wanted["count"], wanted["image"], wanted["size"]) == (1, "", pytest.approx(4.0))
    assert wanted["magic3d"]["shape"] is False
    assert Path(wanted["start"]).suffix == ".ply" and Path(wanted["start"]).is_file()
    assert item.name == "Cube" and len(item.data.polygons) == 6, "it stays"
    made = bpy.context.view_layer.objects.active
    assert made != item
    low = np.array([made.matrix_world @ vertex.co for vertex in made.data.vertices]).min(0)
    assert low[2] == pytest.approx(1.0, abs=1e-5), "on the same ground"
    assert low[0] > 2.0, "and beside it"


def test_without_words_it_is_refined_as_what_it_was_made_from(asked: Asked, tmp_path: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    bpy.context.scene.gen3d.generate.prompt = "something else"
    importing.import_result(results.generated(tmp_path / "r", [(1.0, 1.0, 1.0)]), job="job")
    (wanted,) = asked()
    assert wanted["prompt"] == "a red block"
    assert wanted["magic3d"]["coarse"] is False and wanted["magic3d"]["shape"] is True
    assert Path(wanted["start"]).suffix == ".ply"
    *_, edit = asked(prompt="a blue block")
    assert (edit["prompt"], edit["magic3d"]["coarse"]) == ("a blue block", True)


def test_a_field_made_of_words_is_begun_with_itself(asked: Asked, tmp_path: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    own = {"seed": 0, "files": {"mesh": "mesh.glb", "field": "field.safetensors"}, "box_to_world": np.eye(4).tolist()}
    mesh = results.coloured_cube()[0]
    folder = results.result(tmp_path / "r", mesh, kind="generate", settings={"prompt": "a cube"}, objects=[own])
    importing.import_result(folder, job="job")
    (without,) = asked()
    assert Path(without["start"]).suffix == ".ply", "the field has gone"
    (folder / "field.safetensors").touch()
    bpy.context.view_layer.objects.active = next(item for item in bpy.data.objects if item.name.startswith("a cube"))
    *_, wanted = asked()
    assert wanted["start"] == str(folder) and wanted["prompt"] == "a cube"


def test_what_cannot_be_refined_says_why(asked: Asked) -> None:
    item = cube()
    with pytest.raises(RuntimeError, match="not known what Cube shows"):
        asked()
    bpy.context.scene.gen3d.generate.prompt = "a crate"
    assert asked()[0]["prompt"] == "a crate"
    item.data.clear_geometry()
    bpy.context.view_layer.objects.active = item
    with pytest.raises(RuntimeError, match="has no faces"):
        asked()
    bpy.context.view_layer.objects.active = bpy.data.objects["Camera"]
    with pytest.raises(RuntimeError, match="poll"):
        asked()
