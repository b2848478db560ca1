# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth, normal and mask of a view: switched on in the view layer, taken out of Blender's multi-layer EXR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from ..bridge import errors
from .picture_files import read_exr, write_png
from .scene_state import SceneState

FARTHEST = 65.535  # metres that fit 16-bit millimetres
MASK_INDEX = 1


def enable(
    scene: bpy.types.Scene, layer: bpy.types.ViewLayer, chosen: Sequence[bpy.types.Object], state: SceneState
) -> None:
    """Switches the passes on and numbers the chosen objects, so that the mask can tell them from the others."""
    layer.use_pass_z = layer.use_pass_normal = layer.use_pass_object_index = True
    for item in scene.objects:
        state.watch(item, "pass_index")
        item.pass_index = MASK_INDEX if item in chosen else 0


def convert(layers: Path, files: dict[str, Path]) -> None:
    """Writes the asked-for passes ("depth", "normal", "mask") of an EXR as PNG files."""
    channels = read_exr(layers)
    if "depth" in files:
        write_png(files["depth"], millimetres(_channel(channels, "Depth.Z")))
    if "normal" in files:
        axes = np.stack([_channel(channels, f"Normal.{axis}") for axis in "XYZ"], axis=-1)
        write_png(files["normal"], np.round(255.0 * np.clip(0.5 * axes + 0.5, 0.0, 1.0)).astype(np.uint8))
    if "mask" in files:
        seen = np.round(_channel(channels, "IndexOB.X", "Object Index.X")) == MASK_INDEX
        write_png(files["mask"], np.where(seen, 255, 0).astype(np.uint8))


def millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Depth in world units (metres) as uint16 millimetres; 0 where there is no surface, or one beyond 65.535 m.

    Raises Gen3DError where all surfaces are too far: the file would say nothing.
    """
    near = depth <= FARTHEST
    if not near.any() and (depth < 1e9).any():  # Blender writes 1e10 for "no surface"
        raise errors.Gen3DError(
            f"The nearest surface is {depth.min():g} away, but depth in 16-bit millimetres ends at {FARTHEST:g}.",
            "Scale the scene down, or capture without depth.",
            field="capture.depth",
        )
    return np.where(near, np.round(1000.0 * depth.clip(0.0, FARTHEST)), 0.0).astype(np.uint16)


def _channel(channels: dict[str, NDArray[np.float32]], *endings: str) -> NDArray[np.float32]:
    for name, values in channels.items():
        if name.endswith(endings):
            return values
    raise errors.Gen3DError(
        f"The render engine gives no {endings[0].split('.')[0]} pass.", "Capture with Cycles.", field="capture.engine"
    )
