# SPDX-License-Identifier: GPL-3.0-or-later
"""Views of a field in the midst of a scene, compared with the scene's own rendering of the thing itself; turntables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from numpy.typing import NDArray

from . import addon, results, scenes

camera_model = addon.module("capturing.camera_model")
compositing = addon.module("viewing.compositing")
errors = addon.module("bridge").errors
exr = addon.module("backend.data.exr")
importing = addon.module("results.importing")
turntable = addon.module("viewing.turntable")
view_settings = addon.module("viewing.view_settings")
views = addon.module("viewing.views")

RGB = (0.8, 0.25, 0.1)
CENTER, RADIUS = np.array((0.2, -0.1, 0.3)), 0.7  # of the ball, in the box
HOME = np.array(results.BOX_TO_WORLD)


def trained(folder: Path) -> Path:
    """A result that could be of a training. Its field file is empty: here ``Backend`` knows the field."""
    result = results.result(folder, results.coloured_cube()[0])
    (result / "field.safetensors").touch()
    return result


class Backend:
    """Does render jobs of a field that is a shining ball, ray by ray, as the backend's files are."""

    def __init__(self, folder: Path, patience: int = 0) -> None:
        self.folder, self.patience = folder, patience
        self.wanted: dict[str, Any] = {}

    def __call__(self, kind: str, wanted: dict[str, Any]) -> Iterator[Path | None]:
        assert kind == "render"
        self.wanted = wanted
        for _ in range(self.patience):
            yield None
        (self.folder / "exr").mkdir(parents=True)
        path = json.loads(Path(wanted["cameras"]).read_text())
        for number, frame in enumerate(path["frames"]):
            exr.write(self.folder / "exr" / f"{number:04}.exr", self._seen(frame))
        yield self.folder

    def _seen(self, frame: dict[str, Any]) -> dict[str, Any]:
        pose = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-6)
        middle = np.linalg.inv(pose) @ HOME @ (*CENTER, 1.0)
        size = RADIUS * np.linalg.norm(HOME[:3, 0])
        fine = 4  # rays of a pixel, each way
        y, x = (np.mgrid[: frame["h"] * fine, : frame["w"] * fine] + 0.5) / fine
        way = np.stack(((x - frame["cx"]) / frame["fl_x"], -(y - frame["cy"]) / frame["fl_y"], -np.ones_like(x)), -1)
        a, b = (way * way).sum(-1), way @ middle[:3]
        inside = b * b - a * (middle[:3] @ middle[:3] - size * size)
        depth = (b - np.sqrt(np.maximum(inside, 0.0))) / a  # way has length 1 along the view
        blocks = np.where(inside > 0, depth, np.nan).reshape(frame["h"], fine, frame["w"], fine)
        alpha = np.isfinite(blocks).mean((1, 3))
        near = np.nansum(blocks, (1, 3)) / np.maximum(np.isfinite(blocks).sum((1, 3)), 1)
        shades = {name: (alpha * value).astype(np.float16) for name, value in zip("RGB", RGB, strict=True)}
        return {**shades, "A": alpha.astype(np.float16), "Z": np.where(alpha > 0, near, 1e10).astype(np.float32)}


def stage() -> bpy.types.Object:
    """A blue wall behind, a green ball before, a camera with a shifted lens; all of it shines."""
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 32, False
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 128, 88, 75
    scene.view_settings.view_transform = "Standard"
    world = HOME @ (*CENTER, 1.0)
    bpy.ops.mesh.primitive_plane_add(size=40.0, location=(world[0], world[1] + 4.0, 0.0), rotation=(math.pi / 2, 0, 0))
    bpy.context.object.data.materials.append(scenes.emission("wall", (0.1, 0.2, 0.7)))
    scenes.ball((world[0] - 1.0, world[1] - 2.0, world[2] - 0.4), 0.6, (0.1, 0.6, 0.1), name="Before")
    eye = (world[0] + 1.0, world[1] - 7.0, world[2] + 2.0)
    camera = scenes.camera(camera_model.look_at(eye, world[:3]), lens=45.0, shift_x=0.1, shift_y=-0.05)
    scene.camera = camera
    return camera


def state() -> dict[str, Any]:
    """All of the scene that must be restored. Blender keeps its own picture of the last rendering, and gives the output
    a colour space of files when one is first written."""
    found = scenes.dump(bpy.context.scene)
    found.pop("scene.render.image_settings.linear_colorspace_settings.name", None)
    for kind in ("data images", "data all_ids"):
        found[kind] = [name for name, _ in found.get(kind, ()) if name != "Render Result"]
    return found


def rendered(path: Path) -> NDArray[np.float32]:
    bpy.context.scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    return scenes.picture(path)


def made(steps: Any) -> list[Path]:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: list[Path] = end.value
            return found


def go(item: bpy.types.Object, folder: Path, backend: Backend, **plan: Any) -> list[Path]:
    return made(views.render(view_settings.ViewSettings(**plan), item, folder, folder.parent / "home", backend))


@pytest.mark.parametrize("transform", ["Standard", "Filmic"])
def test_the_field_stands_in_the_scene_as_the_thing_itself_would(tmp_path: Path, transform: str) -> None:
    """Before the wall, behind the ball, in its own place and colour, whatever the colour management."""
    stage()
    bpy.context.scene.view_settings.view_transform = transform
    item = importing.import_result(trained(tmp_path / "r")).object
    item.hide_render = True
    world = (HOME @ (*CENTER, 1.0))[:3]
    real = scenes.ball(world, RADIUS * np.linalg.norm(HOME[:3, 0]), RGB, name="Real")
    real.data.shade_smooth()
    bpy.ops.object.modifier_add(type="SUBSURF")
    real.modifiers[0].render_levels = 3
    truth = rendered(tmp_path / "truth.png")
    bpy.data.objects.remove(real)
    empty = rendered(tmp_path / "empty.png")
    item.hide_render = False
    before = state()
    (file,) = go(item, tmp_path / "views", Backend(tmp_path / "job"))
    assert state() == before
    assert file == tmp_path / "views" / "0001.png"
    seen = scenes.picture(file)
    assert seen.shape == truth.shape == (66, 96, 4)
    away = np.abs(seen - truth)[..., :3].max(axis=2)
    assert np.abs(empty - truth).max(axis=2).mean() > 0.05, "there is something to get wrong"
    assert away.mean() < 0.01
    assert np.quantile(away, 0.97) < 0.06, "only borders may differ: Blender's pixels are no squares"


def test_a_moved_and_animated_object_is_followed(tmp_path: Path) -> None:
    """By camera and depth, frame by frame; and without the scene, what it does not cover is transparent."""
    camera = stage()
    item = importing.import_result(trained(tmp_path / "r")).object
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 3, 7
    shifted = (
        Matrix.Translation((-1.0, -2.5, 0.0)) @ Matrix.Rotation(0.5, 4, "Z") @ item.matrix_world @ Matrix.Scale(0.5, 4)
    )
    for frame, place in ((3, item.matrix_world.copy()), (7, shifted)):
        item.matrix_world = place
        for path in ("location", "rotation_euler", "scale"):
            item.keyframe_insert(path, frame=frame)
    scene.frame_set(1)
    backend = Backend(tmp_path / "job")
    files = go(item, tmp_path / "views", backend, frames="animation", step=4, with_scene=False)
    assert [path.name for path in files] == ["0003.png", "0007.png"]
    assert scene.frame_current == 1
    assert backend.wanted["exr"] and not backend.wanted["film"]
    pictures = [scenes.picture(path) for path in files]
    for picture, frame in zip(pictures, (3, 7), strict=True):
        scene.frame_set(frame)
        lens = camera_model.intrinsics(96, 66, lens=45.0, shift_x=0.1, shift_y=-0.05)
        middle = np.array(item.matrix_world) @ (*CENTER, 1.0)
        x, y = camera_model.project(middle[:3], lens, np.array(camera.matrix_world))
        rows, columns = np.nonzero(picture[..., 3] > 0.99)
        assert columns.mean() + 0.5 == pytest.approx(x, abs=1.0)
        assert rows.mean() + 0.5 == pytest.approx(y, abs=1.0)
        linear = np.array(RGB)
        srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        np.testing.assert_allclose(picture[round(y), round(x)], (*srgb, 1.0), atol=0.01)
    assert pictures[0][0, 0, 3] == 0.0
    sizes = [np.sqrt((picture[..., 3] > 0.5).sum()) for picture in pictures]
    assert sizes[1] < 0.6 * sizes[0]
    files = go(item, tmp_path / "again", Backend(tmp_path / "other"), frames="animation", step=4)
    wall = scenes.picture(files[1])
    assert wall[..., 3].min() == 1.0
    x, y = camera_model.project(middle[:3], lens, np.array(camera.matrix_world))
    np.testing.assert_allclose(wall[round(y), round(x), :3], srgb, atol=0.02)


def test_formats_that_hold_no_picture_become_png(tmp_path: Path) -> None:
    stage()
    item = importing.import_result(trained(tmp_path / "r")).object
    picture = bpy.context.scene.render.image_settings
    if hasattr(picture, "media_type"):
        picture.media_type = "VIDEO"
    picture.file_format = "FFMPEG"
    (file,) = go(item, tmp_path / "a", Backend(tmp_path / "1"), with_scene=False)
    assert file.suffix == ".png"
    assert picture.file_format == "FFMPEG"
    if hasattr(picture, "media_type"):
        picture.media_type = "IMAGE"
    picture.file_format = "OPEN_EXR"
    (file,) = go(item, tmp_path / "b", Backend(tmp_path / "2"), with_scene=False)
    assert file.suffix == ".exr"
    seen = scenes.picture(file)
    solid = seen[..., 3] > 0.99
    np.testing.assert_allclose(np.median(seen[solid][:, :3], axis=0), RGB, atol=0.01), "linear light"


def test_stopping_early_restores_the_scene_and_ends_the_asking(tmp_path: Path) -> None:
    stage()
    item = importing.import_result(trained(tmp_path / "r")).object
    before = state()
    steps = views.render(
        view_settings.ViewSettings(), item, tmp_path / "v", tmp_path / "home", Backend(tmp_path / "job", 10)
    )
    told = [next(steps) for _ in range(3)]
    assert told[-1].free and "Waiting" in told[-1].told
    steps.close()
    assert state() == before
    assert not (tmp_path / "v").exists()


def test_what_is_in_the_way_is_said(tmp_path: Path) -> None:
    camera = stage()
    result = trained(tmp_path / "r")
    item = importing.import_result(result).object
    bpy.context.view_layer.objects.active = item

    def problem(words: str) -> None:
        with pytest.raises(errors.Gen3DError, match=words) as caught:
            go(item, tmp_path / "v", Backend(tmp_path / "job"))
        assert caught.value.next_step

    item.scale = (1.0, 2.0, 1.0)
    bpy.context.view_layer.update()
    problem("scaled unevenly")
    item.scale = (2.0, 2.0, 2.0)
    item.data.transform(Matrix.Scale(8.0, 4))
    problem("has been applied")
    item.data.transform(Matrix.Scale(1 / 8.0, 4))
    lens: Any = camera.data
    lens.type = "ORTHO"
    problem("not a perspective camera")
    (result / "field.safetensors").unlink()
    problem("is not at")
    bpy.context.scene.camera = None
    assert not bpy.ops.gen3d.render_views.poll()
    bpy.context.scene.camera = camera
    assert bpy.ops.gen3d.render_views.poll()
    bpy.context.view_layer.objects.active = camera
    assert not bpy.ops.gen3d.render_views.poll()


def test_turntables_go_around_once_and_see_everything() -> None:
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = 160, 90
    far = scenes.ball((3.0, 2.0, 1.0), 0.5, name="Far")
    scenes.ball((1.0, 2.0, 1.0), 0.5, name="Near")
    far.select_set(True)
    scene.frame_start = 11
    plan = scene.gen3d.turntable
    plan.frames, plan.elevation = 24, math.radians(30.0)
    assert bpy.ops.gen3d.add_turntable() == {"FINISHED"}
    camera = scene.camera
    assert camera.animation_data.action.name == "Gen3D Turntable"
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (11, 34, 11)
    middle, eyes, turns = np.array((2.0, 2.0, 1.0)), [], []
    for frame in range(11, 35):
        scene.frame_set(frame)
        pose = np.array(camera.matrix_world)
        eyes.append(pose[:3, 3] - middle)
        turns.append(camera.rotation_euler.z)
        np.testing.assert_allclose(pose[:3, 2], eyes[-1] / np.linalg.norm(eyes[-1]), atol=1e-5)
        lens = camera_model.intrinsics(160, 90, lens=50.0)
        poles = middle + np.array(((-1.5, 0.0, 0.0), (1.5, 0.0, 0.0), (0.0, 0.0, 0.5)))
        places = camera_model.project(poles, lens, pose)
        assert (places > 0).all() and (places < (160, 90)).all()
    away = np.linalg.norm(eyes, axis=1)
    np.testing.assert_allclose(away, away[0], rtol=1e-5)
    np.testing.assert_allclose(np.array(eyes)[:, 2] / away, 0.5, atol=1e-5)
    assert eyes[0][1] < 0 and abs(eyes[0][0]) < 1e-4, "it begins in front"
    steps = np.diff(turns)
    np.testing.assert_allclose(steps, 2 * math.pi / 24, atol=1e-4)


def test_a_turntable_is_one_undo_step() -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    bpy.ops.ed.undo_push(message="before")
    names = {item.name for item in bpy.data.objects}
    bpy.ops.gen3d.add_turntable("EXEC_DEFAULT", True)
    assert len(bpy.data.objects) == len(names) + 1
    bpy.ops.ed.undo()
    assert {item.name for item in bpy.data.objects} == names
    assert not bpy.data.actions


def test_pictures_are_shown_and_play_with_the_scene(tmp_path: Path) -> None:
    """In an image editor: one picture; a film, with the scene brought to its first frame; the first one of a few."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    area = bpy.context.window_manager.windows[0].screen.areas[0]
    area.type = "IMAGE_EDITOR"
    files = [tmp_path / f"{frame:04}.png" for frame in (5, 6, 7, 20)]
    for number, file in enumerate(files):
        file.write_bytes(results.png(np.full((2, 3, 3), 10 * number, np.uint8)))
    space, scene = area.spaces.active, bpy.context.scene
    views.show(files[:1])
    assert (space.image.source, scene.frame_current) == ("FILE", 1)
    views.show(files)
    assert (space.image.source, scene.frame_current) == ("FILE", 1)
    views.show(files[:3])
    user = space.image_user
    assert space.image.source == "SEQUENCE"
    assert (user.frame_start, user.frame_offset, user.frame_duration, scene.frame_current) == (5, 4, 3, 5)
    scene.frame_set(6)
    views.show(files[:3])
    assert scene.frame_current == 6
