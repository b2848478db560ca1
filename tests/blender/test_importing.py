# SPDX-License-Identifier: GPL-3.0-or-later
"""Results made by hand, imported, looked at, exported again."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Vector
from numpy.typing import NDArray

from tests.patience import patience

from . import addon, results, scenes

camera_model = addon.module("capturing.camera_model")
errors = addon.module("bridge").errors
glb = addon.module("results.glb")
importing = addon.module("results.importing")


def textured_square(normal_map: bytes | None = None, to_uv: Any = ((1, 0), (0, 1))) -> bytes:
    """Two triangles that share no vertex (an atlas seam) under a picture of four colours."""
    square = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], np.float32)
    places = np.array([0, 1, 2, 0, 2, 3])
    uvs = (square[:, :2] @ np.array(to_uv, np.float32).T) * (1, -1) + 0.5  # origin top left
    uvs, picture = uvs[places].astype(np.float32), results.png(four_colours())
    return results.glb(square[places], np.arange(6).reshape(2, 3), uvs=uvs, texture=picture, normal_map=normal_map)


def four_colours() -> NDArray[np.uint8]:
    colours = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [200, 200, 30]]], np.uint8)
    return colours.repeat(8, axis=0).repeat(8, axis=1)


def test_lands_where_it_was_captured(tmp_path: Path) -> None:
    mesh, _ = results.coloured_cube()
    done = importing.import_result(results.result(tmp_path / "r", mesh), job="abc")
    item = done.object
    assert (done.vertices, done.faces, done.colour) == (8, 12, "vertex")
    np.testing.assert_allclose(np.array(item.matrix_world), results.BOX_TO_WORLD, atol=1e-6)
    world = np.array([item.matrix_world @ vertex.co for vertex in item.data.vertices])
    box = np.array(results.BOX_TO_WORLD)
    np.testing.assert_allclose(world, results.CORNERS @ box[:3, :3].T + box[:3, 3], atol=1e-5)
    np.testing.assert_array_equal([list(face.vertices) for face in item.data.polygons], results.CUBE)
    assert [collection.name for collection in item.users_collection] == ["Gen3D"]
    assert bpy.context.view_layer.objects.active == item
    assert item["gen3d_job"] == "abc"
    assert json.loads(item["gen3d"])["seed"] == 3
    outwards = [face.normal @ face.center for face in item.data.polygons]
    assert min(outwards) > 0.0
    assert not any(edge.use_edge_sharp for edge in item.data.edges)
    assert all(face.use_smooth for face in item.data.polygons)


def test_two_imports_share_the_collection(tmp_path: Path) -> None:
    mesh, _ = results.coloured_cube()
    folder = results.result(tmp_path / "r", mesh)
    first, second = importing.import_result(folder), importing.import_result(folder)
    assert first.object != second.object
    assert len(bpy.context.scene.collection.children["Gen3D"].objects) == 2


def test_vertex_colours_are_the_captured_bytes(tmp_path: Path) -> None:
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    positions = np.random.default_rng(0).uniform(-1, 1, (256, 3)).astype(np.float32)
    faces = np.stack((np.arange(254), np.arange(1, 255), np.arange(2, 256)), axis=1)
    folder = results.result(tmp_path / "r", results.glb(positions, faces, srgb=every))
    mesh = importing.import_result(folder).object.data
    attribute = mesh.color_attributes.active_color
    assert (attribute.name, attribute.data_type, attribute.domain) == ("Color", "BYTE_COLOR", "POINT")
    assert mesh.color_attributes[mesh.color_attributes.render_color_index] == attribute
    values = np.empty(256 * 4, np.float32)
    attribute.data.foreach_get("color_srgb", values)
    np.testing.assert_array_equal(np.round(255.0 * values.reshape(-1, 4)[:, :3]), every)
    attribute.data.foreach_get("color", values)
    linear = results.linear16(every)[:, :3] / 65535.0
    np.testing.assert_allclose(values.reshape(-1, 4)[:, :3], linear, atol=2e-4)


def test_texture_lies_the_right_way_up_and_seams_are_joined(tmp_path: Path) -> None:
    done = importing.import_result(results.result(tmp_path / "r", textured_square()))
    mesh = done.object.data
    assert (done.vertices, done.faces, done.colour) == (4, 2, "texture")
    for loop, uv in zip(mesh.loops, mesh.uv_layers.active.uv, strict=True):
        place = mesh.vertices[loop.vertex_index].co
        np.testing.assert_allclose(uv.vector, (place.x + 0.5, place.y + 0.5), atol=1e-6)
    node = done.object.active_material.node_tree.nodes.active
    assert node.type == "TEX_IMAGE"
    assert node.image.packed_file is not None
    assert tuple(node.image.size) == (16, 16)
    corner = np.array(node.image.pixels[:4])[:3] * 255.0
    np.testing.assert_allclose(corner, (30, 30, 200), atol=1.0)


def test_a_normal_map_is_packed_data_that_bends_the_shader(tmp_path: Path) -> None:
    told = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    item = importing.import_result(results.result(tmp_path / "r", textured_square(results.png(told)))).object
    tree = item.active_material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    (bent,) = shader.inputs["Normal"].links
    assert (bent.from_node.type, bent.from_node.space) == ("NORMAL_MAP", "TANGENT")
    (there,) = bent.from_node.inputs["Color"].links
    image = there.from_node.image
    assert image.packed_file is not None and image.colorspace_settings.name == "Non-Color"
    assert tuple(image.size) == (8, 8)
    pixels = np.array(image.pixels).reshape(8, 8, 4)[::-1, :, :3]
    np.testing.assert_array_equal(np.round(255.0 * pixels), told)
    (colour,) = shader.inputs["Base Color"].links
    assert colour.from_node == tree.nodes.active, "which solid shading shows"
    assert colour.from_node.image.colorspace_settings.name == "sRGB"
    again = importing.import_result(results.result(tmp_path / "plain", textured_square())).object
    assert not any(node.type == "NORMAL_MAP" for node in again.active_material.node_tree.nodes)


TURNS = {"upright": ((1, 0), (0, 1)), "turned": ((0, -1), (1, 0)), "mirrored": ((-1, 0), (0, 1))}


@pytest.mark.parametrize("turn", TURNS)
def test_a_normal_map_bends_light_where_it_says(turn: str, tmp_path: Path) -> None:
    """Red along growing u, green along growing v, of however turned a picture: as the backend bakes it."""
    bent = np.array((0.48, 0.6, 0.64))
    flat = np.rint((bent + 1) * 127.5).astype(np.uint8)
    data = textured_square(results.png(np.tile(flat, (8, 8, 1))), TURNS[turn])
    item = importing.import_result(results.result(tmp_path / "r", data)).object
    seen = _normals(item, tmp_path / "seen.png")
    expected = np.array((*(np.array(TURNS[turn]).T @ bent[:2]), bent[2]))  # the transpose leads from the picture back
    np.testing.assert_allclose(seen[8:56, 8:56].reshape(-1, 3), np.tile(expected, (48 * 48, 1)), atol=0.05)


def _normals(item: bpy.types.Object, path: Path) -> Any:
    """What the normal map makes of the normals, seen as ``_rendered`` does, in the object's coordinates."""
    tree = item.active_material.node_tree
    bent = next(node for node in tree.nodes if node.type == "NORMAL_MAP")
    output = next(node for node in tree.nodes if node.type == "OUTPUT_MATERIAL")
    half, shine = tree.nodes.new("ShaderNodeVectorMath"), tree.nodes.new("ShaderNodeEmission")
    half.operation = "MULTIPLY_ADD"
    half.inputs[1].default_value = half.inputs[2].default_value = (0.5, 0.5, 0.5)
    tree.links.new(bent.outputs["Normal"], half.inputs[0])
    tree.links.new(half.outputs["Vector"], shine.inputs["Color"])
    tree.links.new(shine.outputs["Emission"], output.inputs["Surface"])
    stored = _rendered(item, path, "CYCLES")[..., :3] / 255.0
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    return (2.0 * linear - 1.0) @ np.array(item.matrix_world.to_3x3().normalized())


@pytest.mark.parametrize("kind", ["vertex", "texture"])
def test_rendered_colours_are_the_captured_ones(kind: str, tmp_path: Path) -> None:
    """Under an even white light a matte surface shows its own colour: base colour times light of 1."""
    if kind == "vertex":
        square = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], np.float32)
        srgb = np.full((4, 3), (30, 30, 200), np.uint8)
        data = results.glb(square, np.array([[0, 1, 2], [0, 2, 3]]), srgb=srgb)
    else:
        data = textured_square()
    item = importing.import_result(results.result(tmp_path / "r", data)).object
    pixels = _rendered(item, tmp_path / "seen.png", "CYCLES")
    np.testing.assert_allclose(pixels[40:60, 4:24, :3].mean(axis=(0, 1)), (30, 30, 200), atol=3.0)


def _rendered(item: bpy.types.Object, path: Path, engine: str) -> Any:
    """The object from above its own +Z under a white sky, 64 x 64, sRGB 0 to 255; it fills the picture."""
    scene = bpy.context.scene
    scene.world = bpy.data.worlds.new("white")
    if not scene.world.node_tree:
        scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    scene.render.engine, scene.cycles.use_denoising = engine, False
    scene.cycles.samples = 16
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = 64
    center = np.array(item.matrix_world.translation)
    pose = camera_model.look_at(center + np.array((0.0, 0.0, 5.0)), center)
    pose[:3, :3] = np.array(item.matrix_world.to_3x3().normalized())
    scene.camera = scenes.camera(pose, lens=36.0 * 5.0 / 2.0)
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    return 255.0 * scenes.picture(path)


EXPORT = """
import bpy, os, sys
bpy.ops.wm.open_mainfile(filepath=sys.argv[-2])
bpy.ops.export_scene.gltf(filepath=sys.argv[-1])
os._exit(0)
"""


def test_blenders_own_readers_take_the_normal_map(tmp_path: Path) -> None:
    """Of GLB and of OBJ as the backend writes them: the same nodes, the same pixels, once OBJ's are said to be data."""
    told = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    (tmp_path / "a.glb").write_bytes(textured_square(results.png(told)))
    (tmp_path / "a_normals.png").write_bytes(results.png(told))
    (tmp_path / "a.mtl").write_text("newmtl surface\nmap_Bump -bm 1 a_normals.png\nnorm a_normals.png\n")
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\n"
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\nusemtl surface\n{corners}f 1/1 2/2 3/3\n")
    for name, reader in (("a.glb", bpy.ops.import_scene.gltf), ("a.obj", bpy.ops.wm.obj_import)):
        reader(filepath=str(tmp_path / name))
        tree = bpy.context.object.active_material.node_tree
        shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
        bent = shader.inputs["Normal"].links[0].from_node
        assert bent.type == "NORMAL_MAP" and bent.inputs["Strength"].default_value == 1.0
        image = bent.inputs["Color"].links[0].from_node.image
        if name == "a.obj":
            image.colorspace_settings.name = "Non-Color"
        assert image.colorspace_settings.name == "Non-Color"
        pixels = np.array(image.pixels).reshape(8, 8, 4)[::-1, :, :3]
        np.testing.assert_array_equal(np.round(255.0 * pixels), told)


@pytest.mark.parametrize("kind", ["vertex", "texture", "normal map"])
def test_colours_survive_a_gltf_export(kind: str, tmp_path: Path) -> None:
    """Exported in a process of its own, because some versions crash at their end after an export."""
    told = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    normals = results.png(told) if kind == "normal map" else None
    data = results.coloured_cube()[0] if kind == "vertex" else textured_square(normals)
    importing.import_result(results.result(tmp_path / "r", data))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "saved.blend"))
    (tmp_path / "export.py").write_text(EXPORT)
    arguments = [str(tmp_path / "export.py"), "--", str(tmp_path / "saved.blend"), str(tmp_path / "again.glb")]
    program = bpy.app.binary_path
    start = [program, "--background", "--python"] if program else [sys.executable]
    done = subprocess.run([*start, *arguments], capture_output=True, text=True, timeout=100)
    assert (tmp_path / "again.glb").exists(), done.stdout + done.stderr
    whole = (tmp_path / "again.glb").read_bytes()
    (size,) = struct.unpack_from("<I", whole, 12)
    gltf = json.loads(whole[20 : 20 + size])
    attributes = gltf["meshes"][0]["primitives"][0]["attributes"]
    if kind != "vertex":
        again = glb.read_glb(tmp_path / "again.glb")
        assert again.texture is not None and (again.normal_map is None) == (kind == "texture")
        (tmp_path / "texture.png").write_bytes(again.texture)
        texture = np.round(255.0 * scenes.picture(tmp_path / "texture.png")[..., :3])
        np.testing.assert_array_equal(texture, four_colours())
        if again.normal_map is not None:
            (tmp_path / "normals.png").write_bytes(again.normal_map)
            np.testing.assert_array_equal(np.round(255.0 * scenes.picture(tmp_path / "normals.png")[..., :3]), told)
            assert gltf["materials"][0]["normalTexture"].get("scale", 1.0) == 1.0
        return
    body = whole[28 + size :]
    index = attributes["COLOR_0"]
    colours = glb._unit(glb._accessor(gltf, body, index))[:, :3]
    positions = glb._accessor(gltf, body, attributes["POSITION"], 3)
    srgb = results.coloured_cube()[1]
    expected = results.linear16(srgb)[:, :3] / 65535.0
    for place, colour in zip(positions, colours, strict=True):
        local = np.array((place[0], -place[2], place[1]))  # Y up to Z up
        corner = np.abs(results.CORNERS - local).sum(axis=1).argmin()
        np.testing.assert_allclose(colour, expected[corner], atol=0.006)


def test_half_a_million_triangles_take_less_than_two_seconds(tmp_path: Path) -> None:
    side = 502
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    positions = np.concatenate((grid, np.sin(5 * grid[:, :1])), axis=1).astype(np.float32)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.concatenate(
        (np.stack((corner, corner + side, corner + 1), 1), np.stack((corner + 1, corner + side, corner + side + 1), 1))
    )
    srgb = np.random.default_rng(0).integers(0, 256, (len(positions), 3)).astype(np.uint8)
    folder = results.result(tmp_path / "r", results.glb(positions, faces, srgb=srgb))
    began = time.perf_counter()
    done = importing.import_result(folder)
    seconds = time.perf_counter() - began
    print(f"imported {done.faces} triangles in {seconds:.2f} s")
    assert done.faces == len(faces) > 500_000
    assert seconds < patience(2.0)


def test_nothing_is_imported_from_what_is_wrong(tmp_path: Path) -> None:
    mesh, _ = results.coloured_cube()
    empty = results.glb(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    sheared = np.array(results.BOX_TO_WORLD)
    sheared[0, 0] = 1.0
    cases = {
        "no surface": results.result(tmp_path / "empty", empty),
        "checksum": results.result(tmp_path / "sum", mesh, sha256={"mesh.glb": "0" * 64}),
        "no finished result": tmp_path / "absent",
        "format": results.result(tmp_path / "format", mesh, format=2),
        "box_to_world": results.result(tmp_path / "place", mesh, box_to_world=sheared.tolist()),
        "not a similarity": results.result(tmp_path / "nan", mesh, box_to_world=[[1, 2], [3]]),
        "outside its folder": results.result(tmp_path / "escape", mesh, files={"mesh": "../sum/mesh.glb"}),
        "holds no mesh": results.result(tmp_path / "none", mesh, files={}),
        "damaged": results.result(tmp_path / "cut", mesh[:-40]),
    }
    blocks = _blocks()
    for words, folder in cases.items():
        with pytest.raises(errors.Gen3DError, match=words) as caught:
            importing.import_result(folder)
        assert caught.value.next_step
    assert _blocks() == blocks


def _blocks() -> dict[str, int]:
    kinds = ("objects", "meshes", "materials", "images", "collections")
    return {kind: len(getattr(bpy.data, kind)) for kind in kinds}


def test_damaged_glb_files_raise_nothing_else(tmp_path: Path) -> None:
    """Random byte flips and cuts end in a mesh of sound indices or in the one documented error."""
    whole = results.glb(results.CORNERS, results.CUBE, srgb=np.zeros((8, 3), np.uint8))
    path = tmp_path / "x.glb"
    random = np.random.default_rng(5)
    for _ in range(1500):
        data = bytearray(whole)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            data[place] = random.integers(0, 256)
        path.write_bytes(data if random.random() < 0.7 else data[: random.integers(0, len(data))])
        try:
            mesh = glb.read_glb(path)
        except errors.Gen3DError:
            continue
        assert mesh.faces.size == 0 or 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.positions)
        assert np.isfinite(mesh.positions).all()


def test_waits_for_object_mode(tmp_path: Path) -> None:
    mesh, _ = results.coloured_cube()
    folder = results.result(tmp_path / "r", mesh)
    scenes.ball((0.0, 0.0, 0.0), 1.0)
    bpy.ops.object.mode_set(mode="EDIT")
    before = _blocks()
    with pytest.raises(errors.Gen3DError, match="object mode") as caught:
        importing.import_result(folder)
    assert "edit" in caught.value.cause
    assert _blocks() == before
    bpy.ops.object.mode_set(mode="OBJECT")
    assert importing.import_result(folder).object.matrix_world.translation == Vector((5.0, -3.0, 1.0))
