# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras that are drawn are those that a capture then uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from . import addon, scenes

api = addon.module("api")
camera_model = addon.module("capturing.camera_model")
capture_preview = addon.module("capture_preview")
errors = addon.module("bridge").errors

LINES = 11  # of one camera
QUICK = {"width": 24, "height": 16, "samples": 1}


def planned(**values: Any) -> Any:
    for name, value in (QUICK | values).items():
        setattr(bpy.context.scene.gen3d.capture, name, value)
    return capture_preview.planned(bpy.context)


def drawn(cameras: Any) -> NDArray[np.float32]:
    return cameras.lines.reshape(-1, LINES, 2, 3)


def written(folder: Path) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = json.loads((folder / "transforms.json").read_text("utf-8"))["frames"]
    return frames


def compare(cameras: Any, folder: Path, lens: Any = None) -> None:
    """Eyes, corners of the pictures and colours, against what was written."""
    facts = json.loads((folder / "transforms.json").read_text("utf-8"))
    frames = facts["frames"]
    assert cameras.counts.total() == len(frames) == len(drawn(cameras))
    colours = cameras.colours.reshape(-1, LINES, 2, 4)
    for lines, colour, frame in zip(drawn(cameras), colours, frames, strict=True):
        pose = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(lines[:4, 0], np.tile(pose[:3, 3], (4, 1)), atol=1e-5)
        own = {key: frame.get(key, facts.get(key)) for key in ("fl_x", "fl_y", "cx", "cy")}
        seen = camera_model.project(lines[:4, 1], camera_model.Intrinsics(24, 16, **own), pose)
        np.testing.assert_allclose(seen, [(0, 0), (24, 0), (24, 16), (0, 16)], atol=1e-3)
        name = next(name for name in ("train", "test", "val") if frame["file_path"] in facts[f"{name}_filenames"])
        np.testing.assert_allclose(colour, np.broadcast_to(capture_preview.COLOURS[name], colour.shape))
        assert lines[-1, 1] @ pose[:3, 1] > (lines[:4, 1] @ pose[:3, 1]).max(), "the roof is above"


def test_on_a_sphere(tmp_path: Path) -> None:
    scenes.ball((3.0, -2.0, 1.0), 0.7)
    values = {"mode": "sphere", "views": 9, "lens": 35.0, "val": 0.2, "test": 0.2, "seed": 3}
    cameras = planned(**values)
    api.capture(tmp_path / "set", **QUICK, **values)
    compare(cameras, tmp_path / "set")


def test_around_the_cursor_at_a_distance(tmp_path: Path) -> None:
    scenes.ball((3.0, -2.0, 1.0), 0.7)
    bpy.context.scene.cursor.location = (1.0, 1.0, 1.0)
    cameras = planned(mode="sphere", views=5, radius=4.0, around="cursor", upper_half=True)
    eyes = drawn(cameras)[:, 0, 0]
    np.testing.assert_allclose(np.linalg.norm(eyes - 1.0, axis=1), 4.0, rtol=1e-5)
    assert eyes[:, 2].min() > 1.0


def test_of_the_scene_with_lenses_of_their_own(tmp_path: Path) -> None:
    ball = scenes.ball((0.0, 0.0, 0.0), 0.5)
    for index, lens in enumerate((24.0, 50.0, 85.0)):
        eye = (3.0 - index, -2.0, 1.0 + index)
        made = scenes.camera(camera_model.look_at(eye, (0.0, 0.0, 0.0)), name=f"C{index}", lens=lens, shift_x=0.1)
        made.scale = (2.0, 2.0, 2.0)
    ball.select_set(True)
    cameras = planned(mode="cameras")
    api.capture(tmp_path / "set", objects=[ball], mode="cameras", **QUICK)
    compare(cameras, tmp_path / "set")


def test_along_an_animation_and_back_again(tmp_path: Path) -> None:
    scenes.ball((0.0, 0.0, 0.0), 0.5)
    scene = bpy.context.scene
    parent = bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    scene.camera = scenes.camera(camera_model.look_at((3.0, 0.0, 1.0), (0.0, 0.0, 0.0)))
    scene.camera.parent = parent
    scene.frame_start, scene.frame_end = 1, 9
    for frame, angle in ((1, 0.0), (9, 2.0)):
        parent.rotation_euler.z = angle
        parent.keyframe_insert("rotation_euler", frame=frame)
    scene.frame_set(4)
    cameras = planned(mode="animation", step=2)
    assert scene.frame_current == 4
    api.capture(tmp_path / "set", mode="animation", step=2, **QUICK)
    compare(cameras, tmp_path / "set")


def test_of_very_many_some_are_drawn_and_all_are_counted() -> None:
    scenes.ball((0.0, 0.0, 0.0), 0.5)
    cameras = planned(mode="sphere", views=5000, test=0.1)
    assert len(drawn(cameras)) == capture_preview.MOST
    assert (cameras.counts["test"], cameras.counts["train"]) == (500, 4500)


def test_what_cannot_be_captured_is_said() -> None:
    """In the panel, in the words of the capture; and gone when there is something, or nothing is to be shown."""
    status = bpy.context.window_manager.gen3d
    status.show_cameras = True
    try:
        assert "shows a surface" in capture_preview.cameras().problem.cause
        scenes.ball((0.0, 0.0, 0.0), 0.5)
        bpy.ops.gen3d.update_cameras()
        assert capture_preview.cameras().problem is None
        assert capture_preview.cameras().counts.total() == 100
    finally:
        status.show_cameras = False
    assert capture_preview.cameras() is None
