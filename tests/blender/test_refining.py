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
ply = addon.module("results.ply")
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
    item = next(item for item in bpy.data.objects if item.name.startswith("a cube"))

    def start(prompt: str = "a blue cube") -> str:
        bpy.context.view_layer.objects.active = item
        bpy.context.view_layer.update()
        return str(asked(prompt=prompt)[-1]["start"])

    assert start().endswith(".ply"), "the field has gone"
    (folder / "field.safetensors").touch()
    item.location.x += 3.0
    assert start() == str(folder)
    assert start("").endswith(".ply"), "refined, it begins as the surface that is seen"
    bpy.context.scene.gen3d.results.refine_shape = False
    assert start().endswith(".ply"), "and painted, it is the shape that stays"
    bpy.context.scene.gen3d.results.refine_shape = True
    item.rotation_euler.z = 0.5
    assert start().endswith(".ply")
    item.rotation_euler.z = 0.0
    assert start() == str(folder)
    item.data.vertices[0].co.z += 0.1
    assert start().endswith(".ply")


def test_a_texture_goes_along_and_so_do_units(asked: Asked, tmp_path: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    bpy.context.scene.unit_settings.scale_length = 0.01
    picture = results.png(np.full((4, 4, 3), (200, 30, 10), np.uint8))
    uvs = np.full((8, 2), 0.5, np.float32)
    mesh = results.glb(results.CORNERS, results.CUBE, uvs=uvs, texture=picture)
    own = {"seed": 0, "files": {"mesh": "mesh.glb"}, "box_to_world": np.eye(4).tolist()}
    importing.import_result(
        results.result(tmp_path / "r", mesh, kind="generate", settings={"prompt": "x"}, objects=[own])
    )
    item = bpy.context.view_layer.objects.active
    before = len(item.data.color_attributes)
    assert np.max(np.array(item.dimensions)) == pytest.approx(100.0)
    (wanted,) = asked()
    assert wanted["size"] == pytest.approx(1.0)
    cloud = ply.read_cloud(Path(wanted["start"]))
    assert np.ptp(cloud.positions, axis=0).max() == pytest.approx(1.0)
    np.testing.assert_array_equal(cloud.colors, np.tile((200, 30, 10), (len(cloud.colors), 1)))
    assert len(item.data.color_attributes) == before, "the object itself stays as it is"


def test_what_was_chosen_for_another_system_is_left_alone(asked: Asked) -> None:
    cube()
    plan = bpy.context.scene.gen3d.generate
    plan.prompt, plan.weights, plan.guidance, plan.seed = "a crate", "base300M", 9.0, 5
    assert (asked()[-1]["weights"], asked()[-1]["guidance"], asked()[-1]["seed"]) == ("auto", 0.0, 5)
    plan.system, plan.weights = "magic3d", "owner/pipeline"
    bpy.context.view_layer.objects.active = bpy.data.objects["Cube"]
    *_, wanted = asked()
    assert (wanted["weights"], wanted["guidance"]) == ("owner/pipeline", 9.0)


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
