# SPDX-License-Identifier: GPL-3.0-or-later
"""Materials that show captured colours in every viewport mode and that glTF exporters understand."""

from __future__ import annotations

from collections.abc import Sequence

import bpy


def colour_material(name: str, attribute: str, average: Sequence[float]) -> bpy.types.Material:
    """Matte, coloured by a colour attribute; ``average`` (linear RGB) is what solid shading by material shows."""
    material, shader = _matte(name)
    node = material.node_tree.nodes.new("ShaderNodeVertexColor")
    node.layer_name = attribute
    node.location = (-300.0, 300.0)
    material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    material.diffuse_color = (*average, 1.0)
    return material


def texture_material(name: str, png: bytes, normal_map: bytes | None = None) -> bpy.types.Material:
    """Matte, coloured by a picture (sRGB PNG), its normals bent by a tangent-space map (PNG, green along growing v)
    where there is one. Both are packed into the .blend file."""
    material, shader = _matte(name)
    tree = material.node_tree
    node = _picture(tree, name, png, "sRGB", (-300.0, 300.0))
    tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    if normal_map is not None:
        bent = tree.nodes.new("ShaderNodeNormalMap")
        bent.location = (-200.0, 0.0)
        there = _picture(tree, f"{name} normals", normal_map, "Non-Color", (-500.0, 0.0))
        tree.links.new(there.outputs["Color"], bent.inputs["Color"])
        tree.links.new(bent.outputs["Normal"], shader.inputs["Normal"])
    tree.nodes.active = node  # solid shading by texture shows the active one
    return material


def picture_of(mesh: bpy.types.Mesh) -> bpy.types.Image | None:
    """The picture that is the base colour of a mesh's only material, by its UVs; None where there is none."""
    material = mesh.materials[0] if len(mesh.materials) == 1 and mesh.uv_layers.active else None
    nodes = material.node_tree.nodes if material is not None and material.node_tree else ()
    shader = next((node for node in nodes if node.type == "BSDF_PRINCIPLED"), None)
    links = shader.inputs["Base Color"].links if shader is not None else ()
    node = links[0].from_node if links else None
    image = node.image if node is not None and node.type == "TEX_IMAGE" else None
    return image if image is not None and image.size[0] and image.size[1] else None


def show_colours(colour: str) -> None:
    """Lets solid viewports that show material colours show "vertex" or "texture" colours instead.

    Those that show the other of the two are changed as well: what is new is seen in its colours, what was there is not.
    """
    wanted = {"vertex": "VERTEX", "texture": "TEXTURE"}.get(colour)
    for window in bpy.context.window_manager.windows if wanted else ():
        for area in window.screen.areas:
            if area.type == "VIEW_3D" and area.spaces.active.shading.color_type in ("MATERIAL", "VERTEX", "TEXTURE"):
                area.spaces.active.shading.color_type = wanted


def _matte(name: str) -> tuple[bpy.types.Material, bpy.types.ShaderNode]:
    material = bpy.data.materials.new(name)
    if not material.node_tree:
        material.use_nodes = True
    nodes = material.node_tree.nodes
    shader = next((node for node in nodes if node.type == "BSDF_PRINCIPLED"), None)
    if shader is None:
        shader = nodes.new("ShaderNodeBsdfPrincipled")
        output = next((node for node in nodes if node.type == "OUTPUT_MATERIAL"), None)
        output = output or nodes.new("ShaderNodeOutputMaterial")
        material.node_tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    shader.inputs["Roughness"].default_value = 1.0
    shader.inputs["Specular IOR Level"].default_value = 0.0
    return material, shader


def _picture(
    tree: bpy.types.NodeTree, name: str, png: bytes, space: str, location: tuple[float, float]
) -> bpy.types.ShaderNode:
    image = bpy.data.images.new(name, 8, 8)
    image.pack(data=png, data_len=len(png))
    image.source = "FILE"
    image.colorspace_settings.name = space
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    node.location = location
    return node
