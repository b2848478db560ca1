# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the poses of a captured dataset in the three dialects that NeRF programs read. Needs no bpy.

nerfstudio     one transforms.json, lists of split file names, depth in millimetres and masks beside the pictures
instant-ngp    transforms.json, or transforms_SPLIT.json where views are held out; the object scaled into the unit box
nerf-synthetic transforms_SPLIT.json with one field of view for all, file names WITHOUT extension (Mildenhall 2020)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bridge import errors
from .camera_model import Intrinsics

SPLITS = ("train", "val", "test")
UNIT_BOX_FILL = 0.9  # share of instant-ngp's unit box that the object's bounding sphere takes


@dataclass(frozen=True)
class View:
    """One picture: its split, its files by role (relative, with extension), its camera (pose [4, 4], OpenGL)."""

    split: str
    files: dict[str, str]
    camera: Intrinsics
    camera_to_world: NDArray[np.float64]


def file_names(dialect: str, split: str, index: int) -> dict[str, str]:
    """Where the picture and the passes of one view go, relative to the dataset: role to path with extension."""
    if dialect == "nerf-synthetic":
        base = f"{split}/r_{index:04d}"
        return {
            "image": f"{base}.png",
            "depth": f"{base}_depth.png",
            "normal": f"{base}_normal.png",
            "mask": f"{base}_mask.png",
        }
    return {
        "image": f"images/{index:04d}.png",
        "depth": f"depth/{index:04d}.png",
        "normal": f"normals/{index:04d}.png",
        "mask": f"masks/{index:04d}.png",
    }


def check(dialect: str, cameras: list[Intrinsics]) -> None:
    """Raises Gen3DError where the dialect cannot say what these cameras are."""
    if dialect != "nerf-synthetic":
        return
    first = cameras[0]
    middle = (0.5 * first.width, 0.5 * first.height)
    if not np.allclose((first.cx, first.cy), middle, atol=1e-3) or not np.isclose(first.fl_x, first.fl_y, rtol=1e-6):
        raise errors.Gen3DError(
            "The nerf-synthetic dialect has no place for lens shift or pixels that are not square.",
            "Choose the nerfstudio dialect.",
            field="capture.dialect",
        )
    if not np.allclose(cameras, first, rtol=1e-6):
        raise errors.Gen3DError(
            "The nerf-synthetic dialect has one field of view for all pictures, but the cameras' lenses differ.",
            "Choose the nerfstudio dialect.",
            field="capture.dialect",
        )


def transforms(dialect: str, views: list[View], center: NDArray[np.float64], radius: float) -> dict[str, Any]:
    """The JSON files of a dataset, file name to content.

    center [3] and radius: bounding sphere of the captured objects in world units, which instant-ngp's scale and
    offset need.
    """
    check(dialect, [view.camera for view in views])
    if dialect == "nerfstudio":
        return {"transforms.json": _nerfstudio(views)}
    used = [split for split in SPLITS if any(view.split == split for view in views)]
    files = {}
    for split in used:
        chosen = [view for view in views if view.split == split]
        name = f"transforms_{split}.json"
        if dialect == "nerf-synthetic":
            files[name] = _nerf_synthetic(chosen)
        else:
            files[name if len(used) > 1 else "transforms.json"] = _instant_ngp(chosen, center, radius)
    return files


def write(folder: Path, files: dict[str, Any]) -> None:
    """Writes JSON files of ``transforms`` into a dataset folder."""
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8", newline="\n")


def _nerf_synthetic(views: list[View]) -> dict[str, Any]:
    return {
        "camera_angle_x": views[0].camera.angle_x,
        "frames": [
            {
                "file_path": "./" + view.files["image"].removesuffix(".png"),
                "transform_matrix": view.camera_to_world.tolist(),
            }
            for view in views
        ],
    }


def _instant_ngp(views: list[View], center: NDArray[np.float64], radius: float) -> dict[str, Any]:
    scale = 0.5 * UNIT_BOX_FILL / radius
    first = views[0].camera
    shared = {"camera_angle_x": first.angle_x, **_pinhole(first), **_undistorted()}
    return {
        **shared,
        "aabb_scale": 1,
        "scale": scale,
        "offset": (0.5 - scale * center).tolist(),
        "frames": [{"file_path": view.files["image"], **_own(view.camera, first), **_pose(view)} for view in views],
    }


def _nerfstudio(views: list[View]) -> dict[str, Any]:
    first = views[0].camera
    frames = []
    for view in views:
        frame = {"file_path": view.files["image"], **_own(view.camera, first), **_pose(view)}
        for role in ("depth", "normal", "mask"):
            if role in view.files:
                frame["mask_path" if role == "mask" else f"{role}_file_path"] = view.files[role]
        frames.append(frame)
    held_out = any(view.split != "train" for view in views)
    names = {
        f"{split}_filenames": [view.files["image"] for view in views if view.split == split]
        for split in SPLITS
        if held_out
    }
    return {
        "camera_model": "OPENCV",
        **_pinhole(first),
        **_undistorted(),
        "applied_transform": np.eye(4)[:3].tolist(),
        **names,
        "frames": frames,
    }


def _pinhole(camera: Intrinsics) -> dict[str, float]:
    return {
        "fl_x": camera.fl_x,
        "fl_y": camera.fl_y,
        "cx": camera.cx,
        "cy": camera.cy,
        "w": camera.width,
        "h": camera.height,
    }


def _undistorted() -> dict[str, float]:
    return {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}


def _own(camera: Intrinsics, shared: Intrinsics) -> dict[str, float]:
    """A view's own intrinsics, where they are not the shared ones."""
    return {} if camera == shared else _pinhole(camera)


def _pose(view: View) -> dict[str, Any]:
    return {"transform_matrix": view.camera_to_world.tolist()}
