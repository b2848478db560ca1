# SPDX-License-Identifier: GPL-3.0-or-later
"""A little lighthouse on its rock, out of coloured parts, and soft light for it. Units: the rock is two wide."""

from __future__ import annotations

import math
from collections.abc import Sequence

import bmesh
import bpy
from mathutils import Euler, Matrix, Vector, noise

Color = tuple[float, float, float]

ROCK: Color = (0.23, 0.19, 0.17)
GRASS: Color = (0.16, 0.36, 0.07)
WHITE: Color = (0.82, 0.80, 0.74)
RED: Color = (0.62, 0.05, 0.035)
SLATE: Color = (0.06, 0.09, 0.14)
GOLD: Color = (0.90, 0.55, 0.08)
WOOD: Color = (0.30, 0.13, 0.05)
BLUE: Color = (0.06, 0.22, 0.55)


def build(location: Sequence[float], rotation: Sequence[float], scale: float) -> bpy.types.Object:
    """The lighthouse as one object with a material for each colour; rotation in radians, XYZ."""
    builder = _Builder()
    _island(builder)
    _tower(builder)
    _house(builder)
    _harbour(builder)
    lighthouse = builder.finish("Lighthouse")
    lighthouse.matrix_world = Matrix.LocRotScale(Vector(location), Euler(rotation), Vector((scale,) * 3))
    bpy.context.view_layer.update()
    return lighthouse


def light(sky: Color = (0.80, 0.90, 1.0)) -> None:
    """An overcast sky of this colour with a large soft sun."""
    world = bpy.data.worlds.new("Sky")
    if not world.node_tree:
        world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (*sky, 1.0)
    background.inputs["Strength"].default_value = 0.75
    bpy.context.scene.world = world
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.data.angle, sun.data.color = 1.6, math.radians(40.0), (1.0, 0.93, 0.82)
    sun.rotation_euler = (math.radians(45.0), 0.0, math.radians(30.0))
    bpy.context.scene.collection.objects.link(sun)


class _Builder:
    """Collects parts in one bmesh, each face with the slot of its colour."""

    def __init__(self) -> None:
        self.mesh = bmesh.new()
        self.slots: dict[Color, int] = {}

    def paint(self, faces: Sequence[bmesh.types.BMFace], color: Color, smooth: bool) -> None:
        slot = self.slots.setdefault(color, len(self.slots))
        for face in faces:
            face.material_index, face.smooth = slot, smooth

    def cone(
        self, color: Color, low: float, high: float, bottom: float, top: float, *, at: Sequence[float] = (0.0, 0.0),
        sides: int = 32, smooth: bool = True,
    ) -> None:  # fmt: skip
        """A round part standing up: from height ``low`` with radius ``bottom`` to ``high`` with radius ``top``."""
        matrix = Matrix.Translation((*at, (low + high) / 2.0))
        made = bmesh.ops.create_cone(
            self.mesh, cap_ends=True, segments=sides, radius1=bottom, radius2=top, depth=high - low, matrix=matrix
        )
        faces = {face for vert in made["verts"] for face in vert.link_faces}
        self.paint([face for face in faces if abs(face.normal.z) < 0.99], color, smooth)
        self.paint([face for face in faces if abs(face.normal.z) >= 0.99], color, False)

    def box(self, color: Color, center: Sequence[float], size: Sequence[float], turn: float = 0.0) -> None:
        matrix = Matrix.LocRotScale(Vector(center), Euler((0.0, 0.0, turn)), Vector(size))
        made = bmesh.ops.create_cube(self.mesh, size=1.0, matrix=matrix)
        self.paint([*{face for vert in made["verts"] for face in vert.link_faces}], color, False)

    def ball(
        self, color: Color, center: Sequence[float], size: Sequence[float], detail: int = 3
    ) -> list[bmesh.types.BMVert]:
        matrix = Matrix.LocRotScale(Vector(center), None, Vector(size))
        made = bmesh.ops.create_icosphere(self.mesh, subdivisions=detail, radius=1.0, matrix=matrix)
        self.paint([*{face for vert in made["verts"] for face in vert.link_faces}], color, True)
        return made["verts"]

    def ring(self, color: Color, height: float, radius: float, thickness: float) -> None:
        """A torus: a circle of quads swept around the tower."""
        sides, around = 8, 40
        rows = []
        for step in range(around):
            turn = 2.0 * math.pi * step / around
            row = []
            for side in range(sides):
                angle = 2.0 * math.pi * side / sides
                reach = radius + thickness * math.cos(angle)
                point = (reach * math.cos(turn), reach * math.sin(turn), height + thickness * math.sin(angle))
                row.append(self.mesh.verts.new(point))
            rows.append(row)
        faces = [
            self.mesh.faces.new(
                (rows[i][j], rows[i - around + 1][j], rows[i - around + 1][j - sides + 1], rows[i][j - sides + 1])
            )
            for i in range(around)
            for j in range(sides)
        ]
        self.paint(faces, color, True)

    def finish(self, name: str) -> bpy.types.Object:
        data = bpy.data.meshes.new(name)
        self.mesh.normal_update()
        self.mesh.to_mesh(data)
        self.mesh.free()
        for color in self.slots:
            data.materials.append(_paint(color))
        made = bpy.data.objects.new(name, data)
        bpy.context.scene.collection.objects.link(made)
        return made


def _island(builder: _Builder) -> None:
    """A rough boulder, flattened, green where it looks up."""
    verts = builder.ball(ROCK, (0.0, 0.0, 0.0), (1.0, 0.86, 0.42), detail=5)
    for vert in verts:
        rough = noise.fractal(3.0 * vert.co, 1.0, 2.0, 4)
        vert.co *= 1.0 + 0.10 * rough
        vert.co.z = min(vert.co.z, 0.30 + 0.02 * rough)
    builder.mesh.normal_update()
    faces = {face for vert in verts for face in vert.link_faces}
    top = [face for face in faces if face.normal.z > 0.75 and face.calc_center_median().z > 0.22]
    builder.paint(top, GRASS, True)


def _tower(builder: _Builder) -> None:
    """Bands in two colours, a gallery with a railing, a lantern under a roof."""
    bands, foot, head, radius_foot, radius_head = 5, 0.25, 1.65, 0.33, 0.21
    for band in range(bands):
        low, high = (foot + (head - foot) * (band + step) / bands for step in (0, 1))
        wide, narrow = (radius_foot + (radius_head - radius_foot) * (band + step) / bands for step in (0, 1))
        builder.cone(RED if band % 2 == 0 else WHITE, low, high, wide, narrow)
    builder.cone(SLATE, 1.65, 1.72, 0.23, 0.34)
    builder.ring(WHITE, 1.90, 0.32, 0.018)
    for post in range(8):
        turn = 2.0 * math.pi * post / 8
        at = (0.32 * math.cos(turn), 0.32 * math.sin(turn))
        builder.cone(WHITE, 1.72, 1.90, 0.015, 0.015, at=at, sides=8)
    builder.cone(GOLD, 1.72, 1.98, 0.16, 0.16, sides=8, smooth=False)
    builder.cone(RED, 1.98, 2.24, 0.25, 0.02)
    builder.ball(GOLD, (0.0, 0.0, 2.27), (0.05, 0.05, 0.05))
    builder.box(WOOD, (0.0, -0.32, 0.40), (0.16, 0.08, 0.28))
    for height, turn in ((0.80, 0.3), (1.18, 2.2), (1.42, 4.3)):
        reach = radius_foot + (radius_head - radius_foot) * (height - foot) / (head - foot)
        builder.box(SLATE, (reach * math.cos(turn), reach * math.sin(turn), height), (0.025, 0.09, 0.14), turn)


def _house(builder: _Builder) -> None:
    """The keeper's house, with a gable roof and a chimney."""
    x, y = 0.52, 0.12
    builder.box(WHITE, (x, y, 0.40), (0.40, 0.48, 0.30))
    ridge = [(x, y - 0.28, 0.78), (x, y + 0.28, 0.78)]
    eaves = [(x + side, y + end, 0.52) for side in (-0.25, 0.25) for end in (-0.28, 0.28)]
    low = [(px, py, pz - 0.03) for px, py, pz in eaves]
    points = [builder.mesh.verts.new(point) for point in (*ridge, *eaves, *low)]
    corners = [
        (0, 1, 3, 2), (1, 0, 4, 5), (2, 3, 7, 6), (5, 4, 8, 9), (0, 2, 6, 8, 4), (1, 5, 9, 7, 3), (6, 7, 9, 8),
    ]  # fmt: skip
    builder.paint([builder.mesh.faces.new([points[i] for i in corner]) for corner in corners], BLUE, False)
    builder.box(RED, (x + 0.11, y + 0.12, 0.76), (0.08, 0.08, 0.18))
    builder.box(WOOD, (x + 0.20, y - 0.10, 0.36), (0.03, 0.12, 0.22))
    builder.box(SLATE, (x + 0.20, y + 0.12, 0.42), (0.03, 0.11, 0.11))
    builder.box(SLATE, (x, y - 0.24, 0.42), (0.12, 0.03, 0.11))


def _harbour(builder: _Builder) -> None:
    """A bush, two firs, boulders and a jetty."""
    for at, height in (((-0.55, 0.25), 0.55), ((-0.38, 0.46), 0.40)):
        builder.cone(WOOD, 0.22, 0.34, 0.035, 0.035, at=at, sides=10)
        for step in range(3):
            low = 0.30 + 0.24 * step * height / 0.55
            builder.cone(GRASS, low, low + 0.5 * height, 0.17 - 0.04 * step, 0.01, at=at, sides=20)
    builder.ball(GRASS, (-0.42, -0.32, 0.34), (0.13, 0.12, 0.11))
    for center, size in (((0.55, -0.48, 0.24), 0.15), ((-0.72, -0.12, 0.26), 0.11)):
        for vert in builder.ball(ROCK, center, (size, 0.8 * size, 0.7 * size), detail=3):
            vert.co += 0.025 * noise.noise_vector(9.0 * vert.co)
    builder.box(WOOD, (0.05, -0.98, 0.16), (0.24, 0.62, 0.05))
    for x in (-0.05, 0.15):
        builder.cone(WOOD, -0.25, 0.30, 0.03, 0.03, at=(x, -1.24), sides=10)


def _paint(color: Color) -> bpy.types.Material:
    """Matte paint of a slightly uneven colour; rock and grass more so, gold a little shiny."""
    material = bpy.data.materials.new("Paint")
    if not material.node_tree:
        material.use_nodes = True
    tree = material.node_tree
    shader = tree.nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = 0.45 if color == GOLD else 0.9
    shader.inputs["Specular IOR Level"].default_value = 0.3 if color == GOLD else 0.1
    place = tree.nodes.new("ShaderNodeTexCoord")
    pattern = tree.nodes.new("ShaderNodeTexNoise")
    pattern.inputs["Scale"].default_value = 7.0
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    strength = 0.45 if color in (ROCK, GRASS) else 0.12
    for element, factor in zip(ramp.color_ramp.elements, (1.0 - strength, 1.0 + strength), strict=True):
        element.color = (*(min(1.0, factor * part) for part in color), 1.0)
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.35, 0.65
    tree.links.new(place.outputs["Object"], pattern.inputs["Vector"])
    tree.links.new(pattern.outputs[0], ramp.inputs[0])
    tree.links.new(ramp.outputs[0], shader.inputs["Base Color"])
    return material
