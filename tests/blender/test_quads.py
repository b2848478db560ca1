# SPDX-License-Identifier: GPL-3.0-or-later
"""Quads by Blender's own remesher: what stays of shape and colours, and what it cannot do with."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from . import addon, results

importing = addon.module("results.importing")
meshes = addon.module("results.meshes")


def ball(folder: Path, *, textured: bool) -> bpy.types.Object:
    """An imported ball, red on its right side and blue on its left, by its vertices or by a texture."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=4, radius=0.4)
    source = bpy.context.object.data
    positions, faces, _ = meshes.read_mesh(source)
    bpy.data.objects.remove(bpy.context.object)
    right = positions[:, 0] > 0
    if textured:
        picture = np.zeros((4, 8, 3), np.uint8)
        picture[:, :4], picture[:, 4:] = (0, 0, 255), (255, 0, 0)
        uvs = np.stack([np.where(right, 0.75, 0.25), np.full(len(positions), 0.5)], 1).astype(np.float32)
        mesh = results.glb(positions, faces, uvs=uvs, texture=results.png(picture))
    else:
        shades = np.where(right[:, None], (255, 0, 0), (0, 0, 255)).astype(np.uint8)
        mesh = results.glb(positions, faces, srgb=shades)
    return importing.import_result(results.result(folder, mesh), job="job").object


@pytest.mark.parametrize("textured", [False, True])
def test_shape_and_colours_stay(tmp_path: Path, textured: bool) -> None:
    item = ball(tmp_path / "r", textured=textured)
    name, mesh, count = item.data.name, item.data, len(bpy.data.meshes)
    size, place = np.array(item.dimensions), item.matrix_world.copy()
    assert bpy.ops.gen3d.quads("EXEC_DEFAULT", True, faces=800) == {"FINISHED"}
    made = item.data
    assert {len(face.vertices) for face in made.polygons} == {4}
    assert 400 < len(made.polygons) < 1600
    assert (made.name, len(bpy.data.meshes), item.matrix_world) == (name, count, place) and made != mesh
    bpy.context.view_layer.update()
    np.testing.assert_allclose(np.array(item.dimensions), size, rtol=0.05)
    positions, _, colours = meshes.read_mesh(made)
    assert not made.uv_layers and len(made.materials) == 1
    away = np.abs(positions[:, 0]) > 0.15 * np.ptp(positions[:, 0])
    wanted = np.where(positions[:, :1] > 0, (255, 0, 0), (0, 0, 255))
    assert np.abs(colours[away].astype(int) - wanted[away]).max() <= 2


def test_another_object_keeps_the_mesh_that_they_shared(tmp_path: Path) -> None:
    item = ball(tmp_path / "r", textured=False)
    other = bpy.data.objects.new("Other", item.data)
    bpy.ops.gen3d.quads("EXEC_DEFAULT", True, faces=500)
    assert {len(face.vertices) for face in other.data.polygons} == {3} and other.data != item.data


def test_whatever_node_is_active_the_base_colour_counts(tmp_path: Path) -> None:
    """And an attribute of the same name does not come in between."""
    item = ball(tmp_path / "r", textured=True)
    nodes = item.data.materials[0].node_tree.nodes
    nodes.active = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    item.data.color_attributes.new("Color", "BYTE_COLOR", "POINT")
    bpy.ops.gen3d.quads("EXEC_DEFAULT", True, faces=500)
    _, _, colours = meshes.read_mesh(item.data)
    assert set(np.median(colours[colours[:, 0] > 128], axis=0)) == {0.0, 255.0}
    shown = next(node for node in item.data.materials[0].node_tree.nodes if node.type == "VERTEX_COLOR")
    assert shown.layer_name == item.data.color_attributes.active_color.name


def test_a_mesh_without_a_picture_keeps_its_uvs_and_one_of_several_materials_is_refused(tmp_path: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    item = bpy.data.objects["Cube"]
    assert item.data.uv_layers and len(item.data.materials) == 1
    material = item.data.materials[0]
    bpy.ops.gen3d.quads("EXEC_DEFAULT", True, faces=200)
    assert item.data.uv_layers and item.data.materials[0] == material
    item.data.materials.append(bpy.data.materials.new("Other"))
    with pytest.raises(RuntimeError, match="poll"):
        bpy.ops.gen3d.quads("EXEC_DEFAULT", True)


def test_it_is_one_undo_step(tmp_path: Path) -> None:
    item = ball(tmp_path / "r", textured=True)
    name, faces = item.name, len(item.data.polygons)
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.gen3d.quads("EXEC_DEFAULT", True, faces=500)
    bpy.ops.ed.undo()
    before = bpy.data.objects[name].data
    assert len(before.polygons) == faces and before.uv_layers and before.materials[0].node_tree.nodes.active.image


def test_what_it_cannot_do_with_is_said_and_left_as_it_was(tmp_path: Path) -> None:
    item = ball(tmp_path / "r", textured=True)
    mesh = item.data
    extra = mesh.copy()  # three faces at one edge
    extra.clear_geometry()
    materials = len(bpy.data.materials)
    extra.from_pydata([(0, 0, 0), (0, 0, 1), (1, 0, 0), (-1, 0, 0), (0, 1, 0)], [], [(0, 1, 2), (0, 1, 3), (0, 1, 4)])
    item.data = extra
    with pytest.raises(RuntimeError, match="QuadriFlow cannot"):
        bpy.ops.gen3d.quads("EXEC_DEFAULT", True)
    assert item.data == extra and len(extra.polygons) == 3 and len(bpy.data.materials) == materials
    item.shape_key_add(name="Basis")
    with pytest.raises(RuntimeError, match="poll"):
        bpy.ops.gen3d.quads("EXEC_DEFAULT", True)
