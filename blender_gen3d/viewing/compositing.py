# SPDX-License-Identifier: GPL-3.0-or-later
"""A field's picture in the midst of a scene's: each pixel by its depth, in linear light. Pure maths: needs no bpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..bridge import errors
from ..capturing.picture_files import read_exr

NOTHING = 1e10  # depth where there is no surface, as Blender has it
ALIKE = 1e-4  # squared distance of colours below which they tell little
EVEN = 1e-3  # how far the sides of a uniformly scaled unit cube may differ

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """rgba: float32 [H, W, 4], linear light, premultiplied. depth: float32 [H, W], along the view in scene units."""

    rgba: NDArray[np.float32]
    depth: NDArray[np.float32]


def into_field(box_to_world: ArrayLike, matrix_world: ArrayLike, camera_to_world: ArrayLike) -> tuple[Array, float]:
    """Where the field's own world has a camera of the scene, [4, 4]; and how many scene units are one of that world's.

    box_to_world: the similarity of the field, which brings it to where it was captured. matrix_world: that of the
    object which stands for it in the scene, and which may have been moved, turned and scaled since.
    Raises Gen3DError where that is scaled unevenly or mirrored: no camera sees that.
    """
    place, home = np.asarray(matrix_world, np.float64), np.asarray(box_to_world, np.float64)
    sides = np.linalg.norm(place[:3, :3], axis=0)
    turned = place[:3, :3] / max(sides.mean(), 1e-12)
    if not np.allclose(turned.T @ turned, np.eye(3), atol=EVEN) or np.linalg.det(turned) < 0.0:
        raise errors.Gen3DError(
            "The object is scaled unevenly, sheared or mirrored, which its field cannot be.",
            "Give it the same positive scale along X, Y and Z.",
            field="object",
        )
    scale = float(sides.mean() / np.linalg.norm(home[:3, :3], axis=0).mean())
    pose = home @ np.linalg.inv(place) @ np.asarray(camera_to_world, np.float64)
    pose[:3, :3] *= scale
    return pose, scale


def read_field(path: Path, scale: float) -> Layer:
    """A view that the backend has rendered, its depth times ``scale``. Raises Gen3DError where the file is damaged."""
    channels = _read(path)
    depth = np.where(channels["Z"] < NOTHING, scale * channels["Z"], NOTHING).astype(np.float32)
    return Layer(np.stack([channels[name] for name in "RGBA"], axis=-1), depth)


def read_scene(path: Path) -> Layer:
    """Combined and depth pass of a multi-layer EXR of Blender's. Raises Gen3DError where they are not there."""
    channels = _read(path)

    def channel(ending: str) -> NDArray[np.float32]:
        for name, values in channels.items():
            if name.endswith(ending):
                return values
        raise errors.Gen3DError(
            f"The render engine gives no {ending.partition('.')[0]} pass.",
            "Render with Cycles or EEVEE.",
            field="engine",
        )

    return Layer(np.stack([channel(f"Combined.{name}") for name in "RGBA"], axis=-1), channel("Depth.Z"))


def compose(field: Layer, scene: Layer | None) -> NDArray[np.float32]:
    """Both in one picture [H, W, 4], premultiplied: the nearer one over the other."""
    if scene is None:
        return field.rgba
    rows, columns = (np.flatnonzero((field.rgba[..., 3] > 0.0).any(axis=axis)) for axis in (1, 0))
    whole = scene.rgba.copy()
    if len(rows):
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        whole[part] = _mixed(*(Layer(layer.rgba[part], layer.depth[part]) for layer in (field, scene)))
    return whole


def _mixed(field: Layer, scene: Layer) -> NDArray[np.float32]:
    seen = field.rgba[..., 3:] > 0.0
    nearer = (field.depth < scene.depth)[..., None] & seen
    share, behind = _borders(scene.rgba, nearer, ~nearer & seen)
    left = np.maximum(scene.rgba - share * field.rgba[..., 3:] * behind, 0.0)
    through = share + (1.0 - share) * (1.0 - scene.rgba[..., 3:])
    mixed: NDArray[np.float32] = left + through * field.rgba
    return mixed


def _borders(
    scene: NDArray[np.float32], nearer: NDArray[np.bool_], hidden: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How much of each pixel [H, W, 1] is in front of the scene, and what of the scene [H, W, 4] is behind it there.

    Depth knows no fractions of a pixel, colour does: where the scene hides part of the field, a pixel on the border
    mixes what hides with what was seen beyond. Both are taken from the pixels around that are wholly the one or the
    other, and from where the pixel's colour lies between theirs follows how much of it is which.
    """
    front, back = nearer.astype(np.float32), hidden.astype(np.float32)
    border = (_softened(front) > 0.0) & (_softened(back) > 0.0)
    far, near = (_softened(_softened(np.where(border, 0.0, mask))) for mask in (front, back))
    known = border & (far > 0.0) & (near > 0.0)
    beyond, hiding = (
        _softened(_softened(np.where(border, 0.0, mask) * scene)) / np.maximum(weight, 1e-6)
        for mask, weight in ((front, far), (back, near))
    )
    apart = hiding - beyond
    along = ((scene - beyond) * apart).sum(-1, keepdims=True) + ALIKE * (1.0 - front)
    covered = np.clip(along / ((apart * apart).sum(-1, keepdims=True) + ALIKE), 0.0, 1.0)
    share = np.where(known, 1.0 - covered, front).astype(np.float32)
    return share, np.where(known, beyond, scene).astype(np.float32)


def _softened(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each pixel of [H, W, C] with its neighbours, weighted 1 2 1 each way."""
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2.0 * padded[1:-1] + padded[2:]
    mean: NDArray[np.float32] = (rows[:, :-2] + 2.0 * rows[:, 1:-1] + rows[:, 2:]) / 16.0
    return mean


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        return read_exr(path)
    except (OSError, ValueError) as fault:
        raise errors.Gen3DError(f"{path} cannot be read: {fault}.", "Render the views again.") from fault
