# SPDX-License-Identifier: GPL-3.0-or-later
"""What a capture writes, and that it leaves no trace in the scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from . import addon, scenes

camera_model = addon.module("capturing.camera_model")
capture_module = addon.module("capturing.capture")
capture_settings = addon.module("capturing.capture_settings")
errors = addon.module("bridge").errors

SMALL = {"width": 24, "height": 16, "samples": 2, "views": 5}


def take(folder: Path, *, objects: Any = None, cameras: Any = None, **values: Any) -> Any:
    """Runs a capture to its end."""
    plan = capture_settings.checked({**SMALL, **values})
    steps = capture_module.capture(plan, folder, objects=objects, cameras=cameras)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def content(folder: Path, name: str = "transforms.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def awkward_scene() -> bpy.types.Object:
    """A scene whose every setting differs from what a capture wants."""
    scene = bpy.context.scene
    ball = scenes.ball((0.0, 0.0, 0.0), 1.0, (0.2, 0.4, 0.8))
    floor = scenes.ball((0.0, 0.0, -9.0), 8.0, (1.0, 0.0, 0.0), "Floor")
    floor.pass_index = 7
    camera = scenes.camera(camera_model.look_at((4.0, 0.0, 1.0), (0.0, 0.0, 0.0)))
    scene.camera = camera
    marker = scene.timeline_markers.new("bound", frame=3)
    marker.camera = camera
    scene.frame_set(3, subframe=0.25)
    render = scene.render
    picture = render.image_settings
    if hasattr(picture, "media_type"):
        picture.media_type = "MULTI_LAYER_IMAGE"
    picture.file_format = "OPEN_EXR_MULTILAYER"
    picture.color_depth = "16"
    picture.exr_codec = "DWAA"
    picture.color_management = "OVERRIDE"
    picture.view_settings.view_transform = "Raw"
    render.engine = "BLENDER_WORKBENCH"
    render.resolution_x, render.resolution_y, render.resolution_percentage = 333, 222, 37
    render.pixel_aspect_x = 1.5
    render.filepath = "//somewhere/else_"
    render.use_border = render.use_multiview = render.use_stamp = render.use_motion_blur = True
    render.dither_intensity = 1.7
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Punchy"
    scene.view_settings.exposure, scene.view_settings.gamma = 1.5, 0.8
    scene.view_settings.use_curve_mapping = True
    scene.cycles.samples, scene.cycles.seed, scene.cycles.use_denoising = 77, 5, True
    scene.view_layers.new("Second").use = True
    bpy.context.view_layer.objects.active = floor
    floor.select_set(True)
    ball.select_set(False)
    bpy.context.view_layer.update()
    return ball


@pytest.mark.parametrize("passes", [False, True])
def test_restores_the_scene(passes: bool, tmp_path: Path) -> None:
    ball = awkward_scene()
    before = scenes.dump(bpy.context.scene)
    take(tmp_path / "set", objects=[ball], depth=passes, normal=passes, mask=passes)
    assert scenes.dump(bpy.context.scene) == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_restores_the_scene_when_closed_midway(tmp_path: Path) -> None:
    ball = awkward_scene()
    before = scenes.dump(bpy.context.scene)
    steps = capture_module.capture(capture_settings.checked({**SMALL, "depth": True}), tmp_path / "set", objects=[ball])
    for _ in range(3):
        next(steps)
    assert scenes.dump(bpy.context.scene) != before
    steps.close()
    assert scenes.dump(bpy.context.scene) == before
    assert not any(tmp_path.iterdir())


def test_restores_the_scene_after_an_error_midway(tmp_path: Path) -> None:
    """The lens changes along the animation, which this dialect cannot say: an error after views were rendered."""
    awkward_scene()
    camera = bpy.context.scene.camera
    for frame, lens in ((1, 50.0), (2, 50.0), (3, 80.0)):
        camera.data.lens = lens
        camera.data.keyframe_insert("lens", frame=frame)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, 4
    scene.render.pixel_aspect_x = 1.0
    scene.frame_set(3, subframe=0.25)
    before = scenes.dump(scene)
    with pytest.raises(errors.Gen3DError, match="lenses differ") as caught:
        take(tmp_path / "set", cameras=[camera], mode="animation", dialect="nerf-synthetic", width=0, height=0)
    assert caught.value.field == "capture.dialect"
    assert scenes.dump(scene) == before
    assert not any(tmp_path.iterdir())


def test_colours_are_exact(tmp_path: Path) -> None:
    """A flat light of a known sRGB colour arrives as that colour, whatever view transform the scene uses."""
    srgb = np.array([200, 90, 31])
    linear = ((srgb / 255.0 + 0.055) / 1.055) ** 2.4
    ball = awkward_scene()
    ball.data.materials[0] = scenes.emission("flat", linear)
    take(tmp_path / "set", objects=[ball], samples=4)
    pixels = 255.0 * scenes.picture(tmp_path / "set/images/0000.png")
    inside = pixels[pixels[..., 3] > 254.5]
    assert len(inside) > 40
    assert np.abs(inside[:, :3] - srgb).max() <= 1.0
    edge = pixels[(pixels[..., 3] > 60.0) & (pixels[..., 3] < 254.5)]
    assert np.abs(edge[:, :3] - srgb).max() <= 4.0, "alpha is straight: edges keep the colour"
    assert (pixels[..., 3] < 0.5).any(), "the background is transparent"


def test_objects_fill_the_picture(tmp_path: Path) -> None:
    ball = scenes.ball((7.0, -3.0, 2.0), 0.7)
    ball.scale = (0.5, 0.5, 0.5)
    bpy.context.view_layer.update()
    done = take(tmp_path / "set", objects=[ball], samples=16, width=64, height=64, views=6)
    np.testing.assert_allclose(done.center, (7.0, -3.0, 2.0), atol=1e-3)
    assert done.radius == pytest.approx(0.35, rel=1e-3)
    for frame in content(tmp_path / "set")["frames"]:
        alpha = scenes.picture(tmp_path / "set" / frame["file_path"])[..., 3]
        width = alpha.max(axis=0).nonzero()[0]
        assert 58 <= width[-1] - width[0] + 1 <= 64


def test_isolation_keeps_the_others_light(tmp_path: Path) -> None:
    """A matte ball between two shining ones: alone in the picture, but lit by them."""
    ball = scenes.ball((0.0, 0.0, 0.0), 1.0)
    ball.data.materials[0] = bpy.data.materials.new("matte")
    for side in (-4.0, 4.0):
        scenes.ball((side, 0.0, 0.0), 2.0, (5.0, 0.0, 0.0), "Lamp")
    take(tmp_path / "alone", objects=[ball], samples=16)
    take(tmp_path / "all", objects=[ball], samples=16, isolate=False, radius=15.0)
    alone = scenes.picture(tmp_path / "alone/images/0000.png")
    assert (alone[..., 3] < 0.5).mean() > 0.3
    lit = alone[alone[..., 3] > 0.99]
    assert lit[:, 0].mean() > 0.2
    assert lit[:, 2].mean() < 0.1
    assert (scenes.picture(tmp_path / "all/images/0000.png")[..., 0] > 0.99).any()


def test_passes_measure_the_scene(tmp_path: Path) -> None:
    ball = scenes.ball((0.0, 0.0, 0.0), 1.0)
    ball.modifiers.new("round", "SUBSURF").levels = 2
    wall = scenes.ball((0.0, 0.0, 0.0), 4.0, (0.1, 0.1, 0.1), "Wall")
    folder = tmp_path / "set"
    take(folder, objects=[ball], depth=True, normal=True, mask=True, isolate=False, radius=3.0, width=65, height=65)
    wall.hide_render = True
    data = content(folder)
    lens = camera_model.Intrinsics(*(data[key] for key in ("w", "h", "fl_x", "fl_y", "cx", "cy")))
    for frame in data["frames"]:
        pose = np.array(frame["transform_matrix"])
        depth = np.round(65535.0 * scenes.picture(folder / frame["depth_file_path"])[..., 0])
        normal = 2.0 * scenes.picture(folder / frame["normal_file_path"])[..., :3] - 1.0
        mask = scenes.picture(folder / frame["mask_path"])[..., 0]
        nearest = 3.0 - np.linalg.norm([vertex.co for vertex in ball.data.vertices], axis=1).mean()
        assert abs(depth[32, 32] / 1000.0 - nearest) < 0.1
        assert set(np.unique(mask)) == {0.0, 1.0}
        assert mask[32, 32] == 1.0
        assert mask[0, 0] == 0.0
        assert depth[0, 0] > 2500.0, "the wall behind"
        np.testing.assert_allclose(normal[32, 32], pose[:3, 2], atol=0.15)
        rows, columns = np.nonzero(mask)
        z = depth[rows, columns] / 1000.0
        local = np.stack(((columns + 0.5 - lens.cx) / lens.fl_x * z, -(rows + 0.5 - lens.cy) / lens.fl_y * z, -z), -1)
        world = local @ pose[:3, :3].T + pose[:3, 3]
        distance = np.linalg.norm(world, axis=1)
        assert np.percentile(np.abs(distance - 1.0), 80) < 0.06, "depth is along the view, not along the ray"


def test_far_surfaces_have_no_depth_and_only_far_ones_are_refused(tmp_path: Path) -> None:
    ball = scenes.ball((0.0, 0.0, 0.0), 100.0)
    with pytest.raises(errors.Gen3DError, match="millimetres"):
        take(tmp_path / "set", objects=[ball], depth=True, radius=300.0)


def test_animation_takes_every_nth_frame_and_ignores_markers(tmp_path: Path) -> None:
    scene = bpy.context.scene
    ball = scenes.ball((0.0, 0.0, 0.0), 0.5)
    moving, other = scenes.camera(), scenes.camera(camera_model.look_at((0, 0, 9), (0, 0, 0)), name="Other")
    poses = {}
    for frame in range(1, 9):
        moving.matrix_world = Matrix(camera_model.look_at((4.0, frame - 4.0, 1.0), (0, 0, 0)).tolist())
        moving.keyframe_insert("location", frame=frame)
        moving.keyframe_insert("rotation_euler", frame=frame)
        poses[frame] = np.array(moving.matrix_basis)
    scene.timeline_markers.new("switch", frame=4).camera = other
    scene.frame_start, scene.frame_end = 1, 8
    scene.frame_set(2)
    scene.camera = moving
    take(tmp_path / "set", objects=[ball], mode="animation", step=3, test=0.0, width=64, height=48)
    frames = content(tmp_path / "set")["frames"]
    assert len(frames) == 3
    for frame, number in zip(frames, (1, 4, 7), strict=True):
        np.testing.assert_allclose(frame["transform_matrix"], poses[number], atol=1e-5)
        alpha = scenes.picture(tmp_path / "set" / frame["file_path"])[..., 3]
        rows, columns = np.nonzero(alpha > 0.5)
        assert abs(rows.mean() + 0.5 - 24.0) < 0.6
        assert abs(columns.mean() + 0.5 - 32.0) < 0.6
    assert scene.camera == moving
    assert scene.frame_current == 2


@pytest.mark.parametrize("val", [0.0, 0.25])
def test_nerf_synthetic_has_no_extensions_and_split_files(val: float, tmp_path: Path) -> None:
    ball = scenes.ball((0.0, 0.0, 0.0), 1.0)
    take(tmp_path / "set", objects=[ball], dialect="nerf-synthetic", views=8, val=val, test=0.25)
    sizes = {"train": 4, "val": 2, "test": 2} if val else {"train": 6, "test": 2}
    assert {path.name for path in (tmp_path / "set").glob("*.json")} == {f"transforms_{name}.json" for name in sizes}
    for name, size in sizes.items():
        data = content(tmp_path / "set", f"transforms_{name}.json")
        assert len(data["frames"]) == size
        assert data["camera_angle_x"] == pytest.approx(2.0 * np.arctan(18.0 / 50.0))
        for frame in data["frames"]:
            assert not frame["file_path"].endswith(".png")
            assert (tmp_path / "set" / (frame["file_path"] + ".png")).is_file()


def test_instant_ngp_puts_the_object_into_the_unit_box(tmp_path: Path) -> None:
    ball = scenes.ball((5.0, 6.0, -7.0), 2.0)
    take(tmp_path / "set", objects=[ball], dialect="instant-ngp", test=0.0)
    data = content(tmp_path / "set")
    points = np.array([vertex.co for vertex in ball.data.vertices]) + np.array((5.0, 6.0, -7.0))
    boxed = points * data["scale"] + data["offset"]
    assert boxed.min() > 0.04
    assert boxed.max() < 0.96
    np.testing.assert_allclose((boxed.min(axis=0) + boxed.max(axis=0)) / 2.0, 0.5, atol=1e-5)
    assert boxed.max() - boxed.min() == pytest.approx(0.9, abs=0.01)
    assert all((tmp_path / "set" / frame["file_path"]).is_file() for frame in data["frames"])
    assert {"fl_x", "fl_y", "cx", "cy", "w", "h", "aabb_scale", "camera_angle_x"} <= data.keys()


def test_nerfstudio_lists_its_splits_and_own_lenses(tmp_path: Path) -> None:
    scenes.ball((0.0, 0.0, 0.0), 1.0)
    cameras = [
        scenes.camera(camera_model.look_at(eye, (0, 0, 0)), name=f"Camera {lens}", lens=lens)
        for eye, lens in (((5, 0, 0), 35.0), ((0, 5, 0), 50.0), ((0, 0, 5), 50.0), ((3, 3, 3), 35.0))
    ]
    take(tmp_path / "set", mode="cameras", cameras=cameras, test=0.25)
    data = content(tmp_path / "set")
    lists = [data[f"{name}_filenames"] for name in ("train", "val", "test")]
    assert [len(names) for names in lists] == [3, 0, 1]
    assert sorted(lists[0] + lists[1] + lists[2]) == sorted(frame["file_path"] for frame in data["frames"])
    focal = [{**data, **frame}["fl_x"] for frame in data["frames"]]
    np.testing.assert_allclose(focal, [24 * 35 / 36, 24 * 50 / 36, 24 * 50 / 36, 24 * 35 / 36])
    assert data["applied_transform"] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]


def test_written_folders_are_readable_and_whole(tmp_path: Path) -> None:
    ball = scenes.ball((0.0, 0.0, 0.0), 1.0)
    folder = tmp_path / "ein Ordner mit Ümläut"
    take(folder, objects=[ball])
    with pytest.raises(errors.Gen3DError, match="already holds files"):
        take(folder, objects=[ball])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/precious.txt").write_text("mine")
    plan = capture_settings.checked(SMALL)
    with pytest.raises(errors.Gen3DError, match="already holds files"):
        next(capture_module.capture(plan, tmp_path / "other", objects=[ball], overwrite=True))
    fewer = capture_settings.checked({**SMALL, "views": 3})
    list(capture_module.capture(fewer, folder, objects=[ball], overwrite=True))
    assert len(list((folder / "images").iterdir())) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, "other"]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    ball = awkward_scene()
    before = scenes.dump(bpy.context.scene)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(errors.Gen3DError, match="could not be written") as caught:
        take(tmp_path / "file" / "set", objects=[ball])
    assert caught.value.field == "folder"
    assert scenes.dump(bpy.context.scene) == before


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"views": 1}, "capture.views"),
        ({"mode": "drone"}, "capture.mode"),
        ({"lens": float("nan")}, "capture.lens"),
        ({"width": 64, "height": 0}, "capture.width"),
        ({"elevation_min": 50.0, "elevation_max": 20.0}, "capture.elevation_max"),
        ({"upper_half": True, "elevation_max": 0.0}, "capture.elevation_max"),
        ({"colour": "red"}, "capture.colour"),
    ],
)
def test_settings_are_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.Gen3DError) as caught:
        capture_settings.checked({**SMALL, **values})
    assert caught.value.field == field


def test_what_cannot_be_captured_is_said(tmp_path: Path) -> None:
    with pytest.raises(errors.Gen3DError, match="surface"):
        take(tmp_path / "set")
    ball = scenes.ball((0.0, 0.0, 0.0), 1.0)
    empty = bpy.data.objects.new("Nothing", bpy.data.meshes.new("Nothing"))
    bpy.context.scene.collection.objects.link(empty)
    bpy.context.view_layer.update()
    with pytest.raises(errors.Gen3DError, match="no visible surface"):
        take(tmp_path / "set", objects=[empty])
    with pytest.raises(errors.Gen3DError, match="none"):
        take(tmp_path / "set", mode="cameras")
    flat = scenes.camera(name="Flat", type="ORTHO")
    with pytest.raises(errors.Gen3DError, match="Flat is not a perspective camera"):
        take(tmp_path / "set", mode="cameras", cameras=[flat, flat])
    with pytest.raises(errors.Gen3DError, match="not a perspective camera"):
        take(tmp_path / "set", mode="cameras", cameras=[ball, ball])
    assert not any(tmp_path.iterdir())


def test_children_and_instances_belong_to_the_object(tmp_path: Path) -> None:
    """An empty with a mesh beneath, and an empty that instances a collection."""
    parent = bpy.data.objects.new("Parent", None)
    bpy.context.scene.collection.objects.link(parent)
    child = scenes.ball((3.0, 0.0, 0.0), 1.0)
    child.parent = parent
    bpy.context.view_layer.update()
    assert take(tmp_path / "children", objects=[parent]).center == pytest.approx((3.0, 0.0, 0.0), abs=1e-3)
    group = bpy.data.collections.new("Group")
    inner = scenes.ball((0.0, 0.0, 0.0), 1.0, name="Inner")
    group.objects.link(inner)
    bpy.context.scene.collection.objects.unlink(inner)
    instance = bpy.data.objects.new("Instance", None)
    instance.instance_type, instance.instance_collection = "COLLECTION", group
    instance.location = (0.0, 8.0, 0.0)
    bpy.context.scene.collection.objects.link(instance)
    bpy.context.view_layer.update()
    done = take(tmp_path / "instances", objects=[instance])
    assert done.center == pytest.approx((0.0, 8.0, 0.0), abs=1e-3)
    assert scenes.picture(tmp_path / "instances/images/0000.png")[..., 3].mean() > 0.2
