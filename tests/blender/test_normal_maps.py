# SPDX-License-Identifier: GPL-3.0-or-later
"""Does Blender shade a reduced mesh with its normal map as it shades the one that it was made of?"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from . import addon, scenes

ROOT = Path(__file__).resolve().parents[2]
BAKE = """
import sys
import numpy as np
from pathlib import Path
from backend.geometry import export, surface, texture
from backend.geometry.cleanup import decimate

axis = np.linspace(-1, 1, 128)
places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
distance = np.linalg.norm(places, axis=-1) - 0.6 - 0.05 * np.sin(12 * places).prod(axis=-1)
fine = surface.extract(10.0 - distance, 10.0, (-1, -1, -1), axis[1] - axis[0])
baking = texture.bake(decimate(fine, 1500), lambda points, normals: 0 * points + 0.5, 512, fine)
while True:
    try:
        next(baking)
    except StopIteration as end:
        coarse = end.value
        break
for name, mesh in (("fine", fine), ("coarse", coarse)):
    Path(sys.argv[1], f"{name}.glb").write_bytes(export.glb(mesh, np.eye(4)))
"""


@pytest.mark.skipif(not os.environ.get("GEN3D_PYTHON"), reason="GEN3D_PYTHON names no interpreter of the backend")
def test_the_reduced_mesh_is_shaded_like_the_fine_one(tmp_path: Path) -> None:
    """From two sides: where Cycles' shading normals look."""
    python = os.environ["GEN3D_PYTHON"]
    subprocess.run([python, "-c", BAKE, str(tmp_path)], cwd=ROOT, check=True, timeout=100)
    fine, coarse = (built(tmp_path / f"{name}.glb") for name in ("fine", "coarse"))
    for side in (Matrix.Identity(4), Matrix.Rotation(2.0, 4, "X")):
        views = ((fine, "ShaderNodeNewGeometry"), (coarse, "ShaderNodeNewGeometry"), (coarse, "ShaderNodeNormalMap"))
        truth, bare, mapped = (seen(item, kind, side, tmp_path / "seen.exr") for item, kind in views)
        both = (truth.any(axis=-1)) & bare.any(axis=-1)
        without, with_map = (degrees(found[both], truth[both]).mean() for found in (bare, mapped))
        print(f"{without:.2f} degrees without, {with_map:.2f} with a normal map")
        assert both.mean() > 0.2
        assert with_map < 1.0 and with_map < 0.2 * without


def built(path: Path) -> bpy.types.Object:
    """The mesh as an import makes it."""
    mesh = addon.module("results.meshes").build_mesh(addon.module("results.glb").read_glb(path), path.stem)
    item = bpy.data.objects.new(path.stem, mesh)
    bpy.context.scene.collection.objects.link(item)
    if not mesh.materials:
        mesh.materials.append(scenes.emission(path.stem, (1.0, 1.0, 1.0)))
    return item


def seen(item: bpy.types.Object, kind: str, side: Matrix, path: Path) -> Any:
    """Normals [H, W, 3] as this kind of node has them, from straight above the object turned so; 0 beside it."""
    scene, tree = bpy.context.scene, item.data.materials[0].node_tree
    item.matrix_world = side
    for other in scene.collection.objects:
        other.hide_render = other != item
    node = next((node for node in tree.nodes if node.bl_idname == kind), None) or tree.nodes.new(kind)
    output = next(node for node in tree.nodes if node.type == "OUTPUT_MATERIAL")
    half, shine = tree.nodes.new("ShaderNodeVectorMath"), tree.nodes.new("ShaderNodeEmission")
    half.operation = "MULTIPLY_ADD"
    half.inputs[1].default_value = half.inputs[2].default_value = (0.5, 0.5, 0.5)
    tree.links.new(node.outputs["Normal"], half.inputs[0])
    tree.links.new(half.outputs["Vector"], shine.inputs["Color"])
    tree.links.new(shine.outputs["Emission"], output.inputs["Surface"])
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 1, False
    scene.render.film_transparent = True
    scene.render.resolution_x = scene.render.resolution_y = 256
    scene.camera = scenes.camera(np.array(Matrix.Translation((0.0, 0.0, 5.0))), type="ORTHO", ortho_scale=1.4)
    scene.render.image_settings.file_format, scene.render.image_settings.color_depth = "OPEN_EXR", "32"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    values = scenes.picture(path)
    return np.where(values[..., 3:] == 1.0, 2.0 * values[..., :3] - 1.0, 0.0)


def degrees(a: Any, b: Any) -> Any:
    """Angles between vectors [N, 3]."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.einsum("ni,ni->n", a, b)))
