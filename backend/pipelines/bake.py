# SPDX-License-Identifier: GPL-3.0-or-later
"""Any mesh -> the mesh with a UV atlas and a texture: of its own vertices' colours, or of a saved field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import Gen3DError
from ..geometry import cleanup, export, reading, texture, transfer
from ..geometry.mesh import Mesh
from ..settings import BakeSettings
from . import radiance
from .devices import choose_device
from .meshing import seen_colour
from .progress import Pipeline, Progress, Snapshot, telling

REACH = (0.02, -0.08)  # box units before and behind the surface in which the field's colour is looked for


def bake(settings: BakeSettings, out: Path, resume: Snapshot | None = None) -> Pipeline:
    """GLB, PLY and OBJ of the mesh, with fewer faces if asked, its texture, and a map of the normals it had.

    With a result, the source is in the world of its training; else it stays in whatever coordinates it has.
    """
    yield Progress("prepare", 0, 0, 0.0)
    mesh = _read(Path(settings.source))
    box_to_world = np.eye(4)
    if settings.result:
        device = choose_device(settings.device)
        field, scene = radiance.load(Path(settings.result), device)
        box_to_world = np.array(scene.box_to_world)
        mesh = replace(mesh, vertices=export.to_world(mesh, scene.world_to_box).astype(np.float32))
        colour = seen_colour(field, REACH, device)
    elif mesh.colors is None:
        raise Gen3DError(
            f"{settings.source} has no colours.",
            "Give a mesh with vertex colours, or a result whose field has them.",
            field="source",
        )
    else:
        colour = transfer.colours_of(mesh)
    yield Progress("mesh", 0, 0, 0.02)
    reduced = replace(cleanup.decimate(mesh, settings.faces), colors=None)
    baking = texture.bake(reduced, colour, settings.texture, mesh if settings.normal_map else None)
    baked = yield from telling(baking, Progress("mesh", 0, 0, 0.05), 0.95)
    yield Progress("mesh", 0, 0, 0.96)
    files = export.write_all(baked, box_to_world, out)
    facts = {"vertices": len(baked.vertices), "faces": len(baked.faces), "colour": "texture"}
    return {"box_to_world": box_to_world.tolist(), "files": files, "mesh": facts}


def _read(path: Path) -> Mesh:
    if not path.is_file():
        raise Gen3DError(f"There is no file {path}.", "Give a PLY or GLB file.", field="source")
    mesh = reading.read(path)[0]
    if not len(mesh.faces):
        raise Gen3DError(f"{path} holds points without faces.", "Give a mesh.", field="source")
    return mesh
