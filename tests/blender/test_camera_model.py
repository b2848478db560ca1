# SPDX-License-Identifier: GPL-3.0-or-later
"""The pinhole against Blender's own projection and against pixels, and the sphere of cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from . import addon, scenes

camera_model = addon.module("capturing.camera_model")
capture = addon.module("capturing.capture")
capture_settings = addon.module("capturing.capture_settings")
shots = addon.module("capturing.shots")

CASES: list[dict[str, Any]] = [
    {},
    {"size": (60, 96)},
    {"sensor_fit": "HORIZONTAL", "size": (60, 96)},
    {"sensor_fit": "VERTICAL", "sensor_height": 18.0},
    {"sensor_fit": "VERTICAL", "size": (60, 96)},
    {"shift_x": 0.17, "shift_y": -0.08},
    {"shift_x": -0.1, "shift_y": 0.21, "size": (60, 96)},
    {"sensor_fit": "VERTICAL", "shift_x": 0.12, "shift_y": 0.06},
    {"aspect": (1.0, 1.6)},
    {"aspect": (2.0, 1.0), "shift_x": 0.05, "shift_y": 0.1},
    {"aspect": (1.0, 1.8), "size": (96, 64), "shift_y": 0.1, "shift_x": -0.07},
    {"aspect": (1.5, 1.0), "sensor_fit": "VERTICAL", "shift_x": 0.1},
    {"percentage": 50, "size": (192, 128)},
    {"lens": 20.0, "sensor_width": 22.0},
]


def _prepare(case: dict[str, Any]) -> bpy.types.Object:
    values = dict(case)
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y = values.pop("size", (96, 64))
    render.resolution_percentage = values.pop("percentage", 100)
    render.pixel_aspect_x, render.pixel_aspect_y = values.pop("aspect", (1.0, 1.0))
    pose = camera_model.look_at((3.0, -5.0, 2.0), (0.2, 0.1, 0.4))
    return scenes.camera(pose, **values)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_blenders_projection(case: dict[str, Any]) -> None:
    camera = _prepare(case)
    scene = bpy.context.scene
    lens = shots.lens_of(scene, camera.data)
    points = np.random.default_rng(1).uniform(-1.0, 1.0, (50, 3))
    ours = camera_model.project(points, lens, np.array(camera.matrix_world))
    seen = np.array([world_to_camera_view(scene, camera, Vector(point)) for point in points])
    theirs = np.stack((seen[:, 0] * lens.width, (1.0 - seen[:, 1]) * lens.height), axis=-1)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_rendered_pixels(case: dict[str, Any], tmp_path: Path) -> None:
    """The middle of a small shining ball lies where the written camera says, to a tenth of a pixel."""
    camera = _prepare(case)
    camera.scale = (2.0, 0.5, 3.0)  # must not matter
    other = scenes.camera(camera_model.look_at((-3.0, -5.0, 1.0), (0.2, 0.1, 0.4)), name="Other")
    where = (0.6, -0.3, 0.9)
    scenes.ball(where, 0.06)
    plan = capture_settings.checked({"mode": "cameras", "samples": 64, "test": 0.0})
    for _ in capture.capture(plan, tmp_path / "set", cameras=[camera, other]):
        pass
    frame, lens = _first_frame(tmp_path / "set")
    alpha = scenes.picture(tmp_path / "set" / frame["file_path"])[..., 3]
    assert alpha.shape == (lens.height, lens.width)
    rows, columns = np.mgrid[: lens.height, : lens.width] + 0.5
    middle = np.array([(alpha * columns).sum(), (alpha * rows).sum()]) / alpha.sum()
    np.testing.assert_allclose(middle, camera_model.project(where, lens, frame["transform_matrix"]), atol=0.1)


def _first_frame(folder: Path) -> tuple[dict[str, Any], Any]:
    import json

    content = json.loads((folder / "transforms.json").read_text())
    frame = content["frames"][0]
    values = {**content, **frame}
    lens = camera_model.Intrinsics(*(values[key] for key in ("w", "h", "fl_x", "fl_y", "cx", "cy")))
    return frame, lens


def test_directions_spread_evenly_and_repeat() -> None:
    ways = camera_model.sphere_directions(200, seed=3)
    np.testing.assert_allclose(np.linalg.norm(ways, axis=1), 1.0, atol=1e-12)
    np.testing.assert_array_equal(ways, camera_model.sphere_directions(200, seed=3))
    assert not np.allclose(ways, camera_model.sphere_directions(200, seed=4))
    apart = np.degrees(np.arccos(np.clip(ways @ ways.T, -1.0, 1.0)))
    np.fill_diagonal(apart, 180.0)
    ideal = np.degrees(np.sqrt(4.0 * np.pi / 200))  # side of one view's share of the sphere
    assert apart.min(axis=1).min() > 0.3 * ideal
    probes = np.random.default_rng(0).normal(size=(5000, 3))
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    assert np.degrees(np.arccos((probes @ ways.T).max(axis=1))).max() < 1.3 * ideal
    assert np.linalg.norm(ways.mean(axis=0)) < 0.03


def test_directions_keep_the_elevations() -> None:
    ways = camera_model.sphere_directions(500, elevation_min=10.0, elevation_max=35.0, seed=1)
    elevation = np.degrees(np.arcsin(ways[:, 2]))
    assert 10.0 <= elevation.min() < 11.0
    assert 34.0 < elevation.max() <= 35.0


@pytest.mark.parametrize("eye", [(3.0, 1.0, -2.0), (0.0, 0.0, 4.0), (0.0, 0.0, -4.0), (1e-12, 0.0, 4.0)])
def test_look_at_is_rigid_and_looks_there(eye: tuple[float, float, float]) -> None:
    pose = camera_model.look_at(eye, (0.0, 0.0, 0.0))
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-9)
    assert np.linalg.det(pose[:3, :3]) > 0.0
    np.testing.assert_allclose(-pose[:3, 2] * np.linalg.norm(eye), -np.array(eye), atol=1e-9)


def test_poses_lose_scale_shear_and_mirroring() -> None:
    rigid = camera_model.look_at((3.0, 1.0, 2.0), (0.0, 0.0, 0.0))
    stretched = rigid @ np.diag((2.0, 3.0, 0.5, 1.0))
    np.testing.assert_allclose(camera_model.without_scale(stretched), rigid, atol=1e-12)
    mirrored = camera_model.without_scale(rigid @ np.diag((-1.0, 1.0, 1.0, 1.0)))
    np.testing.assert_allclose(mirrored, rigid, atol=1e-12)


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (80, 80)])
def test_fit_distance_just_holds_the_sphere(size: tuple[int, int]) -> None:
    lens = camera_model.intrinsics(*size, lens=35.0)
    distance = camera_model.fit_distance(lens, 2.0, margin=1.0)
    pose = camera_model.look_at((distance, 0.0, 0.0), (0.0, 0.0, 0.0))
    points = np.random.default_rng(0).normal(size=(200_000, 3))
    points *= 2.0 / np.linalg.norm(points, axis=1, keepdims=True)
    seen = camera_model.project(points, lens, pose)
    reach = np.abs(seen - (lens.cx, lens.cy)).max(axis=0)
    assert 0.99 < reach.max() / (min(size) / 2.0) <= 1.0 + 1e-9


@pytest.mark.parametrize(("count", "val", "test"), [(2, 0.5, 0.5), (10, 0.0, 0.1), (100, 0.1, 0.2), (7, 0.0, 0.0)])
def test_split_shares(count: int, val: float, test: float) -> None:
    names = camera_model.split(count, val, test)
    assert len(names) == count
    assert "train" in names
    if count == 100:
        assert (names.count("val"), names.count("test")) == (10, 20)
    if not val and not test:
        assert set(names) == {"train"}
