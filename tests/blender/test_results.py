# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be made of an imported object: only its mesh is replaced; what the operators ask the backend for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from . import addon, results, scenes

api = addon.module("api")
errors = addon.module("bridge").errors
importing = addon.module("results.importing")
meshes = addon.module("results.meshes")
operators = addon.module("operators.results")
origin = addon.module("results.origin")
panel = addon.module("panels.results")
ply = addon.module("results.ply")
protocol = addon.module("bridge").protocol
pump = addon.module("connection.pump")
settings = addon.module("bridge").settings

FOUND = {"vertices": 8, "faces": 12, "level": 10.0, "colour": "vertex"}
SMALLER = (0.5 * results.CORNERS).astype(np.float32)


def captured(folder: Path, **facts: Any) -> bpy.types.Object:
    """An imported object whose result holds a field."""
    result = results.result(folder, results.coloured_cube()[0], mesh=FOUND, **facts)
    (result / "field.safetensors").touch()
    item = importing.import_result(result, job="job").object
    bpy.context.view_layer.objects.active = item
    return item


def remeshed(folder: Path, **facts: Any) -> Path:
    """The result of a remesh job: the same box, half the cube, other colours."""
    mesh = results.glb(SMALLER, results.CUBE, srgb=np.full((8, 3), 77, np.uint8))
    told = {"kind": "remesh", "settings": {"result": "/r"}, "mesh": {**FOUND, "level": 40.0}}
    return results.result(folder, mesh, **{**told, **facts})


def textured(folder: Path) -> Path:
    uvs = np.random.default_rng(0).random((8, 2)).astype(np.float32)
    picture = results.png(np.full((4, 4, 3), 200, np.uint8))
    return results.result(folder, results.glb(SMALLER, results.CUBE, uvs=uvs, texture=picture), kind="bake")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[tuple[str, dict[str, Any]]]]:
    """In place of a backend process: what is asked for is checked as the backend would, and a given result returned."""
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path / "home"))
    calls: list[tuple[str, dict[str, Any]]] = []

    def answer(result: Path) -> list[tuple[str, dict[str, Any]]]:
        def run(kind: str, wanted: dict[str, Any], **_: Any) -> Path:
            settings.parse(settings.KINDS[kind], wanted)
            calls.append((kind, wanted))
            return result

        monkeypatch.setattr(api, "run", run)
        return calls

    return answer


def places(item: bpy.types.Object) -> Any:
    return np.array([vertex.co for vertex in item.data.vertices])


def test_only_the_mesh_is_replaced(tmp_path: Path) -> None:
    item = captured(tmp_path / "r")
    item.name, item.matrix_world = "Mine", Matrix.Translation((1.0, 2.0, 3.0)) @ Matrix.Scale(0.5, 4)
    item.modifiers.new("Bevel", "BEVEL")
    own = bpy.data.materials.new("Own")
    item.data.materials.append(own)
    before, name, count = item.matrix_world.copy(), item.data.name, len(bpy.data.meshes)
    materials = [material.name for material in item.data.materials]
    done = importing.replace_mesh(item, remeshed(tmp_path / "new"))
    assert done.object == item and done.colour == "vertex"
    np.testing.assert_allclose(places(item), SMALLER)
    assert (item.name, item.data.name, len(bpy.data.meshes)) == ("Mine", name, count)
    assert item.matrix_world == before and item.modifiers[0].name == "Bevel"
    assert [material.name for material in item.data.materials] == materials
    assert origin.field_place(item) == str(tmp_path / "r"), "the field is still the training's"
    assert (origin.facts(item)["kind"], origin.facts(item)["mesh"]["level"]) == ("nerf", 40.0)
    importing.replace_mesh(item, textured(tmp_path / "baked"))
    assert item.data.uv_layers and not item.data.color_attributes
    assert [material.name for material in item.data.materials] != materials


def generated(folder: Path) -> list[bpy.types.Object]:
    """Two objects of words, in a scene of centimetres, each with a field of its own."""
    bpy.context.scene.unit_settings.scale_length = 0.01
    mesh = results.coloured_cube()[0]
    objects: list[dict[str, Any]] = [
        {
            "seed": number,
            "files": {"mesh": "mesh.glb", "field": name},
            "box_to_world": [[0.2, 0, 0, 0.3], [0, 0.2, 0, 0], [0, 0, 0.2, 0.1], [0, 0, 0, 1]],
            "mesh": {**FOUND, "level": 10.0 + number},
        }
        for number, name in enumerate(("field.safetensors", "field_2.safetensors"))
    ]
    result = results.result(folder, mesh, kind="generate", settings={"prompt": "a cube"}, objects=objects)
    for own in objects:
        (result / own["files"]["field"]).touch()
    return list(importing.import_result(result, job="job").objects)


def test_fields_made_of_words_are_meshed_in_the_place_of_their_object(tmp_path: Path, asked: Any) -> None:
    item = generated(tmp_path / "r")[1]
    assert np.allclose(np.ptp(places(item), axis=0), 20.0), "20 cm"
    calls = asked(remeshed(tmp_path / "new"))
    bpy.context.view_layer.objects.active = item
    bpy.context.scene.gen3d.results.density = 1.0
    before = places(item)
    assert bpy.ops.gen3d.remesh() == {"FINISHED"}
    kind, wanted = calls[0]
    assert (kind, wanted["result"]) == ("remesh", str(tmp_path / "r" / "field_2.safetensors"))
    assert wanted["mesh"]["level"] == pytest.approx(22.0), "twice that of this object"
    middle = before.mean(0)
    assert np.allclose(places(item) - middle, 0.5 * (before - middle), atol=1e-4), "half as large, about its middle"

    asked(remeshed(tmp_path / "again", kind="bake"))
    held = places(item)
    assert bpy.ops.gen3d.retexture() == {"FINISHED"}
    assert np.allclose(places(item), held, atol=1e-4)


def test_others_keep_a_mesh_that_they_share(tmp_path: Path) -> None:
    item = captured(tmp_path / "r")
    twin = item.copy()
    bpy.context.scene.collection.objects.link(twin)
    importing.replace_mesh(item, remeshed(tmp_path / "new"))
    np.testing.assert_allclose(places(twin), results.CORNERS)
    np.testing.assert_allclose(places(item), SMALLER)


def test_nothing_changes_where_the_result_is_wrong(tmp_path: Path) -> None:
    item = captured(tmp_path / "r")
    empty = results.glb(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    blocks = (len(bpy.data.meshes), len(bpy.data.materials))
    for words, folder in {
        "no surface": results.result(tmp_path / "empty", empty),
        "no finished result": tmp_path / "absent",
    }.items():
        with pytest.raises(errors.Gen3DError, match=words):
            importing.replace_mesh(item, folder)
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(errors.Gen3DError, match="object mode"):
        importing.replace_mesh(item, remeshed(tmp_path / "new"))
    bpy.ops.object.mode_set(mode="OBJECT")
    np.testing.assert_allclose(places(item), results.CORNERS)
    assert (len(bpy.data.meshes), len(bpy.data.materials)) == blocks


@pytest.mark.parametrize(("density", "level"), [(0.0, 0.0), (2.0, 40.0), (-1.0, 5.0)])
def test_the_surface_slider_is_in_doublings_of_the_found_level(
    tmp_path: Path, asked: Any, density: float, level: float
) -> None:
    item = captured(tmp_path / "r")
    calls = asked(remeshed(tmp_path / "new"))
    plan = bpy.context.scene.gen3d.results
    plan.density, plan.mesh.faces, plan.mesh.resolution = density, 1234, 96
    for _ in range(2):  # the second time from the same level, not from the one of the mesh that is there now
        assert bpy.ops.gen3d.remesh() == {"FINISHED"}
    assert calls[0] == calls[1]
    kind, wanted = calls[0]
    assert (kind, wanted["result"]) == ("remesh", str(tmp_path / "r"))
    assert (wanted["mesh"]["level"], wanted["mesh"]["faces"], wanted["mesh"]["resolution"]) == (level, 1234, 96)
    np.testing.assert_allclose(places(item), SMALLER)


def test_baking_hands_over_the_mesh_as_it_is_now(tmp_path: Path, asked: Any) -> None:
    item = captured(tmp_path / "r")
    item.data.transform(Matrix.Translation((0.25, 0.0, 0.0)))
    calls = asked(textured(tmp_path / "new"))
    bpy.context.scene.gen3d.results.bake_size, bpy.context.scene.gen3d.results.bake_normals = 512, True
    assert bpy.ops.gen3d.bake() == {"FINISHED"}
    kind, wanted = calls[0]
    assert (kind, wanted["texture"], wanted["normal_map"], wanted.get("result", "")) == ("bake", 512, True, "")
    source = Path(wanted["source"])
    assert source.parent == tmp_path / "home" / "inputs"
    head, _, body = source.read_bytes().partition(b"end_header\n")
    assert b"element vertex 8\n" in head and b"element face 12\n" in head
    rows = np.frombuffer(body, np.dtype([("place", "<f4", 3), ("color", "u1", 3)]), 8)
    np.testing.assert_allclose(rows["place"], results.CORNERS + np.array((0.25, 0.0, 0.0)), atol=1e-6)
    np.testing.assert_array_equal(rows["color"], results.coloured_cube()[1])
    triangles = np.frombuffer(body, np.dtype([("n", "u1"), ("corners", "<i4", 3)]), 12, 8 * 15)
    assert {tuple(sorted(row)) for row in triangles["corners"].tolist()} == {
        tuple(sorted(row)) for row in results.CUBE.tolist()
    }
    assert item.data.uv_layers
    reason = operators.refused(item, field=False)
    assert not reason and not bpy.ops.gen3d.bake.poll(), "there are no vertex colors any more"


def test_the_field_gets_the_mesh_in_its_own_world(tmp_path: Path, asked: Any) -> None:
    item = captured(tmp_path / "r")
    item.matrix_world = Matrix.Translation((9.0, 9.0, 9.0))
    calls = asked(textured(tmp_path / "new"))
    assert bpy.ops.gen3d.retexture() == {"FINISHED"}
    wanted = calls[0][1]
    assert wanted["result"] == str(tmp_path / "r")
    body = Path(wanted["source"]).read_bytes().partition(b"end_header\n")[2]
    found = np.frombuffer(body, "<f4", 24).reshape(8, 3)
    home = np.array(results.BOX_TO_WORLD)
    np.testing.assert_allclose(found, results.CORNERS @ home[:3, :3].T + home[:3, 3], atol=1e-5)


def test_colours_of_face_corners_are_those_of_their_vertices() -> None:
    mesh = bpy.data.meshes.new("quads")
    mesh.from_pydata(
        [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (2, 0, 0), (2, 1, 0)], [], [(0, 1, 2, 3), (1, 4, 5, 2)]
    )
    colours = mesh.color_attributes.new("Painted", "FLOAT_COLOR", "CORNER")
    shades = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)  # one face black, one white
    values = np.repeat(shades[:, None], 4, axis=1)
    colours.data.foreach_set("color_srgb", values.ravel())
    mesh.color_attributes.active_color = colours
    positions, faces, found = meshes.read_mesh(mesh)
    assert (positions.shape, faces.shape) == ((6, 3), (4, 3))
    np.testing.assert_allclose(found[:, 0], [0, 128, 128, 0, 255, 255], atol=1)
    mesh.color_attributes.remove(colours)
    assert meshes.read_mesh(mesh)[2] is None


def test_reasons_are_given(tmp_path: Path) -> None:
    captured(tmp_path / "r")
    assert bpy.ops.gen3d.remesh.poll() and bpy.ops.gen3d.retexture.poll() and bpy.ops.gen3d.bake.poll()
    generated = importing.import_result(results.generated(tmp_path / "g", [(1.0, 1.0, 1.0)])).object
    assert "no trained field" in operators.refused(generated, field=True)
    assert operators.refused(generated, field=False) == ""
    assert "imported" in operators.refused(scenes.ball((0.0, 0.0, 0.0), 1.0), field=True)
    assert operators.refused(None, field=False) and operators.refused(scenes.camera(), field=False)
    bpy.context.view_layer.objects.active = generated
    bpy.ops.object.mode_set(mode="EDIT")
    assert "object mode" in operators.refused(generated, field=False)
    bpy.ops.object.mode_set(mode="OBJECT")


@pytest.mark.parametrize("facts", ["[]", "{", "7", json.dumps({"kind": "remesh", "settings": [1]}), "[" * 9999])
def test_properties_of_strange_files_are_no_trouble(tmp_path: Path, facts: str) -> None:
    item = captured(tmp_path / "r")
    item[origin.FACTS], item[origin.RESULT], item[origin.AWAITS] = facts, 5.0, ["x"]
    assert origin.facts(item) == {} or origin.field_place(item) == ""
    assert operators.refused(item, field=True)
    assert panel.describe(item)[0] == "8 vertices, 12 faces"


def test_a_remeshed_result_that_was_imported_has_the_same_field(tmp_path: Path) -> None:
    captured(tmp_path / "r")
    again = importing.import_result(remeshed(tmp_path / "new", settings={"result": str(tmp_path / "r")})).object
    assert origin.field_place(again) == str(tmp_path / "r")


def test_what_is_known_is_told(tmp_path: Path) -> None:
    item = captured(tmp_path / "r")
    told = panel.describe(item)
    assert told == [
        "8 vertices, 12 faces",
        "Captured, with a trained field",
        "PSNR 30.0 dB on views that were held out",
    ]
    generated = importing.import_result(results.generated(tmp_path / "g", [(1.0, 1.0, 1.0)] * 2)).objects[1]
    assert panel.describe(generated)[1:] == ["Generated: a red block", "Seed 6"]


def test_the_waiting_object_gets_the_mesh_when_the_job_is_done(tmp_path: Path) -> None:
    """By the timer, as one undo step, once; without that object, the result becomes a new one."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    item = captured(tmp_path / "r")
    item.name = "Mine"
    remeshed(tmp_path / "result")
    bpy.ops.ed.undo_push(message="before")
    session = pump.connect(tmp_path / "home", start=False)
    try:

        def done(request: str) -> None:
            row = protocol.JobRow(
                f"job-{request}", session.client.name, request, "remesh", state="done", seq=1, folder=str(tmp_path)
            )
            session.client._take(row)
            pump.tick()

        item[origin.AWAITS] = "asked"
        session.want("asked", None)
        count = len(bpy.data.objects)
        done("asked")
        item = bpy.data.objects["Mine"]
        np.testing.assert_allclose(places(item), SMALLER)
        assert len(bpy.data.objects) == count
        assert item.get(origin.AWAITS) is None and not session.to_import
        bpy.ops.ed.undo()
        np.testing.assert_allclose(places(bpy.data.objects["Mine"]), results.CORNERS)
        session.want("other", None)
        done("other")
        assert len(bpy.data.objects) == count + 1
    finally:
        pump.disconnect()


def test_a_bake_is_one_undo_step(tmp_path: Path, asked: Any) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    captured(tmp_path / "r").name = "Mine"
    asked(textured(tmp_path / "new"))
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.gen3d.bake("EXEC_DEFAULT", True) == {"FINISHED"}
    assert bpy.data.objects["Mine"].data.uv_layers
    bpy.ops.ed.undo()
    assert not bpy.data.objects["Mine"].data.uv_layers
    assert bpy.data.objects["Mine"].data.color_attributes


def test_panels_draw_for_every_kind_of_object(tmp_path: Path) -> None:
    """Also for none: nothing that is drawn may be missing."""

    class Layout(SimpleNamespace):
        def __getattr__(self, name: str) -> Any:
            return lambda *values, **more: self._seen(name, values) or self

        def _seen(self, name: str, values: tuple[Any, ...]) -> None:
            if name == "prop":
                assert values[1] in values[0].bl_rna.properties

    drawn = [*addon.module("panels.results").CLASSES, *addon.module("panels.views").CLASSES]
    for item in (None, scenes.camera(), captured(tmp_path / "r")):
        bpy.context.view_layer.objects.active = item
        for kind in drawn:
            kind.draw(SimpleNamespace(layout=Layout()), bpy.context)
            assert kind.bl_label == kind.bl_label.title().replace(" From ", " from ")


def test_a_backend_that_cannot_read_our_files_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = captured(tmp_path / "result")
    assert operators.refused(item, field=True) == ""
    monkeypatch.setattr(addon.module("upkeep"), "elsewhere", "10.0.0.1:5000")
    assert "another computer" in operators.refused(item, field=True)
    assert not bpy.ops.gen3d.remesh.poll()
