# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a scene from many cameras into a posed-image dataset; leaves the scene as it was.

``capture`` is a generator: it yields after every view, and whoever closes it early has cancelled it. Pictures are
RGBA (straight alpha, transparent background) in plain sRGB: Blender's Standard view, without look, exposure, gamma
or dither, so that the numbers in the files are the colours in the scene.

All pictures are taken by one temporary camera that is given the pose and lens of each view: scale, shear, depth of
field and timeline markers of the scene's own cameras cannot come between a picture and its written pose.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from ..bridge import errors
from ..elsewhere import elsewhere
from . import camera_model, capture_passes, dialects, rendering, staging
from .capture_settings import CaptureSettings
from .scene_objects import bounding_sphere, with_children
from .shots import default_cameras, place, shots_of


@dataclass(frozen=True)
class CaptureProgress:
    """So many views of so many are written; ``seconds_left`` from the pace so far, None before the first view."""

    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True)
class Captured:
    """A finished dataset: its folder, number of views, bounding sphere of the objects (world units), seconds taken."""

    folder: Path
    views: int
    center: tuple[float, float, float]
    radius: float
    seconds: float


def capture(
    plan: CaptureSettings,
    folder: Path,
    *,
    objects: Sequence[bpy.types.Object] | None = None,
    cameras: Sequence[bpy.types.Object] | None = None,
    center: Sequence[float] | None = None,
    overwrite: bool = False,
    responsive: bool = False,
) -> Generator[CaptureProgress, None, Captured]:
    """Takes all views of ``plan`` of the current scene and writes the dataset ``folder``, whole or not at all.

    objects: what to capture, children included; by default everything that renders.
    cameras: for the mode "cameras" (default: all of the scene) and "animation" (the first; default: the active one).
    center: middle of the camera sphere in world units; by default as ``plan.around`` says.
    overwrite: replace a dataset that is already in ``folder``.
    responsive: render as a job and yield while it runs (``done`` does not change), for callers inside an event loop.

    Raises Gen3DError when something cannot be captured, before or between views; the scene is restored in any case.
    """
    began = time.monotonic()
    check_target(folder, overwrite)
    if bpy.app.is_job_running("RENDER"):
        raise errors.Gen3DError("Blender is rendering.", "Capture when the rendering has ended.")
    scene = bpy.context.scene
    chosen = with_children(scene, objects)
    middle, radius = bounding_sphere(chosen)
    if cameras is None:
        cameras = default_cameras(scene, plan.mode)
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.part")
    with staging.stage(scene, plan, chosen) as rig:
        shots = shots_of(scene, plan, rig, cameras, aim(scene, plan, center, middle), radius)
        names = camera_model.split(len(shots), plan.val, plan.test)
        views: list[dialects.View] = []
        progress = CaptureProgress(0, len(shots), None)
        try:
            yield progress
            for index, (shot, name) in enumerate(zip(shots, names, strict=True)):
                pose, camera = place(scene, rig, shot)
                dialects.check(plan.dialect, [view.camera for view in views] + [camera])
                if scene.render.engine == "CYCLES":
                    scene.cycles.seed = (plan.seed + index) % 2**31
                files = _wanted(plan, dialects.file_names(plan.dialect, name, index))
                for _ in _take(scene, part, files, responsive):
                    yield progress
                views.append(dialects.View(name, files, camera, pose))
                pace = (time.monotonic() - began) / (index + 1)
                progress = CaptureProgress(index + 1, len(shots), pace * (len(shots) - index - 1))
                yield progress
            dialects.write(part, dialects.transforms(plan.dialect, views, middle, radius))
            _publish(part, folder)
        except (OSError, RuntimeError) as fault:  # Blender's own writing and rendering raise the latter
            reason = getattr(fault, "strerror", None) or str(fault).strip().rstrip(".")
            raise errors.Gen3DError(
                f"The dataset {folder} could not be written: {reason}.",
                "Choose a folder that is writable, on a disk with space, and capture again.",
                field="folder",
            ) from fault
        finally:
            shutil.rmtree(part, ignore_errors=True)
    x, y, z = middle.tolist()
    return Captured(folder, len(views), (x, y, z), radius, time.monotonic() - began)


def wanted(context: bpy.types.Context) -> tuple[list[bpy.types.Object] | None, list[bpy.types.Object] | None]:
    """Objects and cameras that the selection names, as ``capture`` takes them; only cameras: all else is captured."""
    objects = list(context.selected_objects)
    cameras = [item for item in objects if item.type == "CAMERA"]
    return None if len(cameras) == len(objects) else objects, cameras or None


def check_target(folder: Path, overwrite: bool) -> None:
    """Raises Gen3DError unless a dataset may be written to ``folder``: absent, empty, or a dataset to be replaced."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise errors.Gen3DError(f"{folder} is a file.", "Choose another folder for the dataset.", field="folder")
    if any(folder.iterdir()) and not (overwrite and any(folder.glob("transforms*.json"))):
        raise errors.Gen3DError(
            f"{folder} already holds files.",
            "Choose an empty folder, or allow overwriting if it holds an earlier dataset.",
            field="folder",
        )


def aim(
    scene: bpy.types.Scene, plan: CaptureSettings, center: Sequence[float] | None, middle: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The middle of the camera sphere [3]: ``center`` if given, else as the plan says."""
    if center is not None:
        return np.array(center, np.float64)
    return np.array(scene.cursor.location, np.float64) if plan.around == "cursor" else middle


def _wanted(plan: CaptureSettings, files: dict[str, str]) -> dict[str, str]:
    asked = {"image": True, "depth": plan.depth, "normal": plan.normal, "mask": plan.mask}
    return {role: path for role, path in files.items() if asked[role]}


def _take(scene: bpy.types.Scene, part: Path, files: dict[str, str], responsive: bool) -> Iterator[None]:
    """Renders a view, and writes it and its passes."""
    paths = {role: part / path for role, path in files.items()}
    staging.use_png(scene.render.image_settings)
    yield from rendering.render(responsive, paths.pop("image"))
    if paths:
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        staging.use_exr(scene.render.image_settings)
        layers = part / "passes.exr"
        rendering.result().save_render(str(layers), scene=scene)
        yield from elsewhere(lambda: capture_passes.convert(layers, paths), None, responsive)
        layers.unlink()


def _publish(part: Path, folder: Path) -> None:
    """Gives the finished dataset its name, in place of what ``check_target`` allowed to be replaced."""
    old = part.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
