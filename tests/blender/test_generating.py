# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated results: where they stand, how large they are, rows of them, their points; what the operator says."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from numpy.typing import NDArray

from . import addon, results, scenes

api = addon.module("api")
errors = addon.module("bridge").errors
importing = addon.module("results.importing")
ply = addon.module("results.ply")
protocol = addon.module("bridge").protocol
properties = addon.module("properties")
pump = addon.module("connection.pump")
remote = addon.module("connection.remote")
settings = addon.module("bridge").settings

CURSOR = np.array((3.0, -2.0, 1.5))


def world(item: bpy.types.Object) -> NDArray[np.float64]:
    return np.array([item.matrix_world @ vertex.co for vertex in item.data.vertices])


def bounds(item: bpy.types.Object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    places = world(item)
    return places.min(axis=0), places.max(axis=0)


def clouds() -> list[bpy.types.Object]:
    return [item for item in bpy.data.objects if item.type == "MESH" and not len(item.data.polygons)]


def test_stands_at_the_cursor_upright_in_metres(tmp_path: Path) -> None:
    cursor = bpy.context.scene.cursor
    cursor.location, cursor.rotation_euler = CURSOR, (0.4, 0.5, 0.6)
    done = importing.import_result(results.generated(tmp_path / "r", [(0.5, 0.4, 0.9)]), job="abc")
    item = done.object
    low, high = bounds(item)
    np.testing.assert_allclose(high - low, (0.5, 0.4, 0.9), atol=1e-5)
    np.testing.assert_allclose((low[:2] + high[:2]) / 2.0, CURSOR[:2], atol=1e-5)
    assert low[2] == pytest.approx(CURSOR[2], abs=1e-5)
    np.testing.assert_allclose(item.location, CURSOR, atol=1e-6)
    np.testing.assert_array_equal(item.scale, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(item.rotation_euler, (0.0, 0.0, 0.0))
    np.testing.assert_allclose(world(item), results.CORNERS * (high - low) + (low + high) / 2.0, atol=1e-5)
    assert item.name == "a red block"
    assert item["gen3d_job"] == "abc"
    assert json.loads(item["gen3d"])["prior"] == "embedded"
    assert [collection.name for collection in item.users_collection] == ["Gen3D"]
    assert (done.faces, done.colour, clouds()) == (12, "vertex", [])


def test_a_place_of_ones_own_and_scenes_in_other_units(tmp_path: Path) -> None:
    folder = results.generated(tmp_path / "r", [(0.5, 0.4, 0.9)], points=50)
    bpy.context.scene.unit_settings.scale_length = 0.01
    item = importing.import_result(folder, at=(1.0, 2.0, 3.0), name="In centimetres").object
    low, high = bounds(item)
    np.testing.assert_allclose(high - low, (50.0, 40.0, 90.0), rtol=1e-5)
    np.testing.assert_allclose(item.location, (1.0, 2.0, 3.0))
    assert bounds(clouds()[0])[1][2] - 3.0 == pytest.approx(90.0, rel=0.15)
    bpy.context.scene.unit_settings.system = "NONE"
    low, high = bounds(importing.import_result(folder).object)
    np.testing.assert_allclose(high - low, (0.5, 0.4, 0.9), rtol=1e-5)
    with pytest.raises(errors.Gen3DError, match="no point"):
        importing.import_result(folder, at=(1.0, float("nan"), 0.0))


def test_several_stand_in_a_row(tmp_path: Path) -> None:
    sides = [(0.5, 0.4, 0.9), (1.0, 0.3, 0.2), (0.2, 2.0, 0.6)]
    bpy.context.scene.cursor.location = CURSOR
    done = importing.import_result(results.generated(tmp_path / "r", sides, points=300))
    assert len(done.objects) == 3
    assert done.faces == 36
    edges = [bounds(item) for item in done.objects]
    for (low, high), side in zip(edges, sides, strict=True):
        np.testing.assert_allclose(high - low, side, atol=1e-5)
        assert (low[1] + high[1]) / 2.0 == pytest.approx(CURSOR[1], abs=1e-5)
        assert low[2] == pytest.approx(CURSOR[2], abs=1e-5)
    np.testing.assert_allclose(done.object.location, CURSOR, atol=1e-6)
    gaps = [right[0][0] - left[1][0] for left, right in itertools.pairwise(edges)]
    np.testing.assert_allclose(gaps, [0.5, 0.5], atol=1e-4)
    assert [json.loads(item["gen3d"])["seed"] for item in done.objects] == [5, 6, 7]
    assert {item.name for item in bpy.context.selected_objects} == {item.name for item in done.objects}
    assert bpy.context.view_layer.objects.active == done.object
    collection = bpy.context.scene.collection.children["Gen3D"]
    assert len(collection.objects) == 6
    for cloud, item in zip(clouds(), done.objects, strict=True):
        assert bounds(cloud)[0][1] > bounds(item)[1][1], "behind its mesh"
        assert bounds(cloud)[0][1] > max(high[1] for _, high in edges) - 1e-5, "behind the whole row"
        assert cloud.location.x == pytest.approx(item.location.x, abs=1e-6)
        assert cloud.location.z == pytest.approx(CURSOR[2])


def test_nothing_is_hidden_inside_a_solid(tmp_path: Path) -> None:
    """A new file's cube stands where the cursor is. A room does not hide what is in it, nor a table what is on it."""
    folder = results.generated(tmp_path / "r", [(0.1, 0.2, 0.3)])
    bpy.context.scene.cursor.location = (0.0, 0.0, 0.0)
    bpy.ops.mesh.primitive_cube_add(size=2.0)
    cube = bpy.context.object
    item = importing.import_result(folder).object
    low, high = bounds(item)
    assert low[0] > 1.0 and high[0] < 1.5 and item.location.y == item.location.z == 0.0
    bpy.data.objects.remove(item)
    peeping = importing.import_result(results.generated(tmp_path / "tall", [(0.5, 0.5, 1.5)])).object
    assert bounds(peeping)[0][0] > 1.0, "its head alone would be seen"
    bpy.data.objects.remove(peeping)
    around = importing.import_result(results.generated(tmp_path / "wide", [(3.0, 3.0, 1.0)])).object
    assert around.location.length == 0.0, "most of it is seen"
    bpy.data.objects.remove(around)
    cube.location.z = -1.0
    bpy.context.view_layer.update()
    on_it = importing.import_result(folder).object
    assert on_it.location.length == 0.0
    bpy.data.objects.remove(on_it)
    cube.location.z = 0.0
    cube.data.flip_normals()
    bpy.context.view_layer.update()
    assert importing.import_result(folder).object.location.length == 0.0, "within walls"


def test_points_are_vertices_with_their_colours(tmp_path: Path) -> None:
    importing.import_result(results.generated(tmp_path / "r", [(0.5, 0.4, 0.9)], points=256))
    (cloud,) = clouds()
    assert (len(cloud.data.vertices), len(cloud.data.edges), len(cloud.data.polygons)) == (256, 0, 0)
    expected = np.random.default_rng(0).integers(0, 256, (256, 3))
    attribute = cloud.data.color_attributes.active_color
    assert (attribute.name, attribute.domain) == ("Color", "POINT")
    values = np.empty(256 * 4, np.float32)
    attribute.data.foreach_get("color_srgb", values)
    np.testing.assert_array_equal(np.round(255.0 * values.reshape(-1, 4)[:, :3]), expected)
    places = np.random.default_rng(0).uniform(-0.5, 0.5, (256, 3)) * (0.5, 0.4, 0.9) + (0.0, 0.0, 0.45)
    np.testing.assert_allclose(world(cloud) - np.array(cloud.location), places, atol=1e-5)


def test_points_are_seen_in_a_rendering(tmp_path: Path) -> None:
    """As balls in their colours, by a modifier; without it there is nothing to see."""
    folder = results.generated(tmp_path / "r", [(1.0, 1.0, 1.0)])
    cloud = ply.Cloud(np.zeros((1, 3), np.float32), np.array([[200, 30, 30]], np.uint8))
    meshes = addon.module("results.meshes")
    bpy.data.objects.remove(importing.import_result(folder).object)
    item = bpy.data.objects.new("points", meshes.build_cloud(cloud, "points"))
    bpy.context.scene.collection.objects.link(item)
    meshes.show_points(item, 1.0)
    shown = _rendered(tmp_path / "seen.png")
    np.testing.assert_allclose(shown[30:34, 30:34, :3].mean(axis=(0, 1)), (200, 30, 30), atol=12.0)
    item.modifiers.clear()
    assert _rendered(tmp_path / "seen.png")[32, 32, 1] > 240


def _rendered(path: Path) -> Any:
    """What lies around the origin, from above under a white sky, 64 x 64, sRGB 0 to 255."""
    scene = bpy.context.scene
    scene.world = bpy.data.worlds.new("white")
    if not scene.world.node_tree:
        scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 16, False
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = 64
    scene.camera = scenes.camera(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1]]), lens=90.0)
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    return 255.0 * scenes.picture(path)


def test_a_row_is_one_undo_step(tmp_path: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    folder = results.generated(tmp_path / "r", [(1.0, 1.0, 1.0)] * 3, points=10)
    bpy.ops.ed.undo_push(message="before")
    count, trees = len(bpy.data.objects), len(bpy.data.node_groups)
    assert len(api.import_results(folder)) == 3
    assert len(bpy.data.objects) == count + 6
    bpy.ops.ed.undo()
    assert (len(bpy.data.objects), len(bpy.data.node_groups)) == (count, trees)
    bpy.ops.ed.redo()
    assert len(bpy.data.objects) == count + 6
    bpy.ops.ed.undo()
    bpy.ops.gen3d.import_result("EXEC_DEFAULT", True, folder=str(folder), at=(7.0, 0.0, 0.0))
    assert len(bpy.data.objects) == count + 6
    assert bpy.context.view_layer.objects.active.location.x == 7.0
    bpy.ops.ed.undo()
    assert len(bpy.data.objects) == count


def test_nothing_is_imported_from_what_is_wrong(tmp_path: Path) -> None:
    def changed(name: str, **facts: Any) -> Path:
        return results.generated(tmp_path / name, [(1.0, 1.0, 1.0)] * 2, points=10, **facts)

    cut = changed("cut")
    (cut / "points_2.ply").write_bytes((cut / "points_2.ply").read_bytes()[:-7])
    odd = changed("odd")
    facts = json.loads((odd / "result.json").read_text())
    facts["objects"][1]["files"]["points"] = "mesh.glb"
    (odd / "result.json").write_text(json.dumps(facts))
    facts["objects"][1]["files"]["points"] = "../odd/points.ply"
    outside = changed("outside")
    (outside / "result.json").write_text(json.dumps(facts))
    cases = {
        "which objects": changed("none", objects=[]),
        "which objects it": changed("text", objects=["mesh.glb"]),
        "where its object stands": changed("place", objects=[{"files": {"mesh": "mesh.glb"}}]),
        "checksum differs": cut,
        "holds no points of ours": odd,
        "outside its folder": outside,
    }
    before = [len(getattr(bpy.data, kind)) for kind in ("objects", "meshes", "materials", "node_groups")]
    for words, folder in cases.items():
        with pytest.raises(errors.Gen3DError, match=words) as caught:
            importing.import_result(folder)
        assert caught.value.next_step
    assert [len(getattr(bpy.data, kind)) for kind in ("objects", "meshes", "materials", "node_groups")] == before


def test_damaged_clouds_raise_nothing_else(tmp_path: Path) -> None:
    whole = results.ply(np.zeros((9, 3), np.float32), np.zeros((9, 3), np.uint8))
    path, random, sound = tmp_path / "x.ply", np.random.default_rng(3), 0
    for _ in range(1000):
        data = bytearray(whole)
        data[random.integers(0, len(data))] = random.integers(0, 256)
        path.write_bytes(data if random.random() < 0.7 else data[: random.integers(0, len(data))])
        try:
            cloud = ply.read_cloud(path)
        except errors.Gen3DError:
            continue
        sound += 1
        assert cloud.positions.shape == cloud.colors.shape == (len(cloud.positions), 3)
        assert np.isfinite(cloud.positions).all()
    assert sound


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("", "nothing to make yet"), ("  \n ", "nothing to make yet"), ("x" * 2**20, "1048576 characters")],
    ids=["empty", "blank", "a million letters"],
)
def test_bad_prompts_are_reported(prompt: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the operator's error, before any backend is started, and not as a traceback."""
    monkeypatch.setenv("GEN3D_HOME", str(tmp_path))
    with pytest.raises(RuntimeError, match=words) as caught:
        bpy.ops.gen3d.generate(prompt=prompt)
    assert "Traceback" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_the_backend_would_refuse_is_refused_at_once(tmp_path: Path) -> None:
    """Before it is looked for; what is sound comes as far as the missing interpreter."""
    elsewhere = {"home": tmp_path / "home", "python": str(tmp_path / "nothing")}
    with pytest.raises(errors.Gen3DError, match=r"count = 17 is out of range"):
        api.generate("a chair", count=17, **elsewhere)
    with pytest.raises(errors.Gen3DError, match="colour is not a setting"):
        api.generate("a chair", colour="red", **elsewhere)
    assert not (tmp_path / "home").exists()
    with pytest.raises(errors.Gen3DError, match="There is no Python at"):
        api.generate(image=tmp_path / "chair.png", **elsewhere)


def test_a_script_begins_with_a_mesh_of_the_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, also right after it was changed, kept in the home of the backend that is asked."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(api, "run", lambda _kind, wanted, **_: asked.append(wanted))
    item = importing.import_result(results.generated(tmp_path / "r", [(1.0, 1.0, 1.0)])).object
    item.scale = (1.0, 2.0, 3.0)
    item.modifiers.new("Array", "ARRAY")  # another one beside it
    bpy.context.scene.unit_settings.scale_length = 0.5
    api.generate("a crate", system="magic3d", start=item, home=tmp_path / "home", magic3d={"shape": False})
    api.generate("a crate", system="magic3d", start=tmp_path / "crate.glb")
    api.generate("a crate")
    parsed = [settings.parse(settings.GenerateSettings, wanted) for wanted in asked]
    assert [wanted.start for wanted in parsed[1:]] == [str(tmp_path / "crate.glb"), ""]
    assert (parsed[0].system, parsed[0].magic3d.shape) == ("magic3d", False)
    kept = Path(parsed[0].start)
    assert kept.is_relative_to(tmp_path / "home")
    np.testing.assert_allclose(np.ptp(ply.read_cloud(kept).positions, axis=0), (1.0, 1.0, 1.5), rtol=1e-5)


def test_what_nothing_can_begin_as_is_refused(tmp_path: Path) -> None:
    home, camera = tmp_path / "home", bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    points = bpy.data.objects.new("Points", bpy.data.meshes.new("Points"))
    for item, words in ((camera, "Camera is no mesh"), (points, "Points has no faces")):
        with pytest.raises(errors.Gen3DError, match=words) as caught:
            api.generate("a crate", system="magic3d", start=item, home=home)
        assert caught.value.field == "start" and not home.exists()
    remote.choose(home, "127.0.0.1:9", f"{'t' * 43}.{'k' * 43}")
    with pytest.raises(errors.Gen3DError, match="another computer cannot read this one's meshes"):
        api.generate("a crate", system="magic3d", start=points, home=home)


def test_without_a_start_shape_the_tooltip_names_what_a_field_begins_as() -> None:
    told = bpy.context.scene.gen3d.bl_rna.properties["start_object"].description
    assert f"none: as {properties.title('start')} or {properties.title('begin')} says" in told


def test_results_stand_where_the_cursor_was_when_they_were_asked_for(tmp_path: Path) -> None:
    """However long they take, and wherever it has been put meanwhile."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    folder = results.generated(tmp_path / "result", [(1.0, 1.0, 1.0)])
    session = pump.connect(tmp_path / "home", start=False)
    try:
        row = protocol.JobRow(
            "job", session.client.name, "asked", "generate", state="done", seq=1, folder=str(tmp_path)
        )
        session.client._take(row)
        session.to_import["asked"] = (4.0, 5.0, 6.0)
        bpy.context.scene.cursor.location = (-1.0, -1.0, -1.0)
        pump.tick()
        made = bpy.context.view_layer.objects.active
        assert made.name == "a red block"
        np.testing.assert_allclose(np.array(made.location), (4.0, 5.0, 6.0))
        assert not session.to_import
        assert str(folder) == made["gen3d_result"]
    finally:
        pump.disconnect()


def test_half_a_result_is_imported_without_being_told_to_the_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be finished later, and then counts as new."""
    folder = results.generated(tmp_path / "so_far", [(1.0, 1.0, 1.0)])
    session = pump.connect(tmp_path / "home", start=False)
    told: list[str] = []
    monkeypatch.setattr(session.client, "imported", told.append)
    try:
        for state in ("cancelled", "done"):
            row = protocol.JobRow(
                "job", session.client.name, "asked", "generate", state=state, seq=1 + (state == "done"),
                result={"folder": str(folder)},
            )  # fmt: skip
            session.client._take(row)
            pump.pump()
            bpy.ops.gen3d.import_result("EXEC_DEFAULT", folder=str(pump.result_folder(row)), job="job")
            assert told == (["job"] if state == "done" else [])
    finally:
        pump.disconnect()
