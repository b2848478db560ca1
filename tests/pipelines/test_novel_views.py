# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from backend.data.lens import Intrinsics
from backend.errors import Gen3DError
from backend.geometry.export import linear_to_srgb
from backend.pipelines import camera_path, nerf, novel_views, radiance
from backend.settings import RenderSettings
from blender_gen3d.capturing.picture_files import read_exr
from tests.data.scene import cameras, distance_to_surface, placed, similarity

from .runs import Run, finish, on_white, read
from .test_radiance import SCENE

CPU = torch.device("cpu")
IDENTITY = np.eye(4).tolist()


def frames(path: Path) -> list[np.ndarray[Any, Any]]:
    """uint8 [H, W, 3] each."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["source_size"]
    return [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]


# ----------------------------------------------------------------------------------------------------- rendering


@pytest.fixture(scope="module")
def rendered(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The held-out views once more, by way of a camera path."""
    folder = tmp_path_factory.mktemp("rendered")
    poses = trained.written.poses[trained.written.train :]
    (folder / "path.json").write_text(json.dumps(poses.tolist()))
    (folder / "out").mkdir()
    wanted = RenderSettings(str(trained.out), str(folder / "path.json"), device="cpu")
    told, summary = finish(nerf.render(wanted, folder / "out"))
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions) and [told[0].phase, told[-1].phase] == ["prepare", "render"]
    return folder / "out", summary


def test_a_camera_path_sees_what_cameras_there_saw(trained: Run, rendered: tuple[Path, dict[str, Any]]) -> None:
    out, summary = rendered
    assert summary["views"] == {"frames": 3, "width": 48, "height": 48}
    assert summary["files"] == {"views": "views", "film": "turntable.mp4"}
    for index in range(3):
        seen = on_white(read(out / "views" / f"{index:04}.png"))
        before = on_white(read(trained.out / "views" / f"{index:04}.png"))
        assert np.abs(seen - before).max() < 3 / 255


def test_pictures_have_straight_alpha(trained: Run, rendered: tuple[Path, dict[str, Any]]) -> None:
    """Edges are as bright as the object; they are not darkened by what is behind them."""
    truth = trained.written.images[trained.written.train] / 255
    seen = read(rendered[0] / "views" / "0000.png") / 255
    assert seen.shape == (48, 48, 4)
    assert np.mean((seen[..., 3] > 0.5) == (truth[..., 3] > 0.5)) > 0.95
    edge = (seen[..., 3] > 0.2) & (seen[..., 3] < 0.8) & (truth[..., 3] > 0)
    assert edge.sum() > 20
    straight = np.abs(seen[edge][:, :3] - truth[edge][:, :3]).mean()
    darkened = np.abs(seen[edge][:, :3] * seen[edge][:, 3:] - truth[edge][:, :3]).mean()
    assert straight < 0.6 * darkened


def test_straight_alpha_is_what_was_premultiplied() -> None:
    random = np.random.default_rng(0)
    alpha = random.choice([0.0, 0.25, 0.5, 1.0], (8, 9, 1))
    colour = random.random((8, 9, 3))
    straight = novel_views._straight(np.concatenate([colour * alpha, alpha], 2).astype(np.float32))
    np.testing.assert_allclose(straight[..., 3:] / 255, alpha, atol=0.502 / 255)
    np.testing.assert_allclose(straight[..., :3] / 255, np.where(alpha > 0, colour, 0), atol=0.51 / 255)


def test_films_show_the_views_on_white(trained: Run, rendered: tuple[Path, dict[str, Any]]) -> None:
    shown = frames(rendered[0] / "turntable.mp4")
    assert len(shown) == 3
    for index, frame in enumerate(shown):
        view = on_white(read(rendered[0] / "views" / f"{index:04}.png"))
        assert np.abs(frame / 255 - view).mean() < 0.03
    assert [frame.shape for frame in frames(trained.out / "turntable.mp4")] == [(48, 48, 3)] * 2


def test_without_a_path_there_is_a_turntable_of_the_size_asked_for(trained: Run, tmp_path: Path) -> None:
    wanted = RenderSettings(str(trained.out), frames=2, width=20, height=31, film=False, device="cpu")
    _, summary = finish(nerf.render(wanted, tmp_path))
    assert summary["files"] == {"views": "views"}
    assert [path.name for path in tmp_path.iterdir()] == ["views"]
    assert sorted(path.name for path in (tmp_path / "views").iterdir()) == ["0000.png", "0001.png"]
    seen = read(tmp_path / "views" / "0001.png")
    assert seen.shape == (31, 20, 4) and 0.05 < seen[..., 3].mean() / 255 < 0.6


def test_lenses_and_depth_are_those_of_the_camera(trained: Run, tmp_path: Path) -> None:
    """What is seen through an off-centre lens at its depth, taken back into the world, is the object's surface."""
    pose = trained.written.poses[trained.written.train]
    lens = {"w": 60, "h": 44, "fl_x": 70.0, "fl_y": 62.0, "cx": 34.0, "cy": 20.0}
    (tmp_path / "path.json").write_text(json.dumps({"frames": [{"transform_matrix": pose.tolist(), **lens}]}))
    wanted = RenderSettings(
        str(trained.out), str(tmp_path / "path.json"), png=False, exr=True, film=False, device="cpu"
    )
    _, summary = finish(nerf.render(wanted, tmp_path))
    assert summary["files"] == {"exr": "exr"}
    assert summary["views"] == {"frames": 1, "width": 60, "height": 44}
    seen = read_exr(tmp_path / "exr" / "0000.exr")
    solid = seen["A"] > 0.95
    assert 0.1 < solid.mean() < 0.9
    assert (seen["Z"][seen["A"] == 0] == novel_views.NOTHING).all()
    y, x = np.nonzero(solid)
    z = seen["Z"][solid].astype(np.float64)
    local = np.stack([(x + 0.5 - 34.0) / 70.0 * z, -(y + 0.5 - 20.0) / 62.0 * z, -z], 1)
    away = distance_to_surface(local @ pose[:3, :3].T + pose[:3, 3])
    assert np.median(away) < 0.06, "a little training leaves a soft surface"
    assert np.quantile(away, 0.9) < 0.15


def test_open_exr_has_the_light_of_the_png(trained: Run, tmp_path: Path) -> None:
    wanted = RenderSettings(str(trained.out), frames=1, exr=True, film=False, device="cpu")
    finish(nerf.render(wanted, tmp_path))
    seen = read_exr(tmp_path / "exr" / "0000.exr")
    png = read(tmp_path / "views" / "0000.png") / 255
    np.testing.assert_allclose(seen["A"], png[..., 3], atol=0.003)
    solid = png[..., 3] > 0.5
    for channel, name in enumerate("RGB"):
        straight = linear_to_srgb(seen[name][solid] / seen["A"][solid])
        np.testing.assert_allclose(straight, png[solid, channel], atol=0.006)


def test_views_of_several_sizes_make_no_film(trained: Run, tmp_path: Path) -> None:
    lens = {"w": 20, "h": 20, "fl_x": 30.0, "fl_y": 30.0, "cx": 10.0, "cy": 10.0}
    pose = trained.written.poses[0].tolist()
    frames = [{"transform_matrix": pose, **lens}, {"transform_matrix": pose, **lens, "h": 24}]
    (tmp_path / "path.json").write_text(json.dumps({"frames": frames}))
    wanted = RenderSettings(str(trained.out), str(tmp_path / "path.json"), device="cpu")
    (tmp_path / "out").mkdir()
    with pytest.raises(Gen3DError, match="several sizes") as caught:
        finish(nerf.render(wanted, tmp_path / "out"))
    assert caught.value.field == "film"
    finish(nerf.render(replace(wanted, film=False), tmp_path / "out"))
    assert [read(path).shape[:2] for path in sorted((tmp_path / "out/views").iterdir())] == [(20, 20), (24, 20)]


def test_a_render_that_is_stopped_leaves_no_half_a_film(trained: Run, tmp_path: Path) -> None:
    pipeline = nerf.render(RenderSettings(str(trained.out), frames=4, device="cpu"), tmp_path)
    while next(pipeline).step < 2:
        pass
    pipeline.close()
    assert not (tmp_path / "turntable.mp4").exists()


def test_previews_are_small_pictures_of_the_first_camera(trained: Run) -> None:
    field, scene = radiance.load(trained.out, CPU)
    poses = trained.written.poses[trained.written.train :]
    seen = novel_views.preview(field, scene, novel_views.lens_cameras(scene, poses, 48, 48), longest=24)
    assert seen.shape == (24, 24, 3) and seen.dtype == np.uint8
    whole = on_white(read(trained.out / "views" / "0000.png")).reshape(24, 2, 24, 2, 3).mean((1, 3))
    assert np.abs(seen / 255 - whole).mean() < 0.04


@pytest.mark.parametrize(
    ("asked", "expected"),
    [((0, 0), (40, 30)), ((80, 0), (80, 60)), ((0, 15), (20, 15)), ((7, 99), (7, 99)), ((1, 0), (1, 1))],
)
def test_sizes_keep_the_proportions_unless_both_are_given(asked: tuple[int, int], expected: tuple[int, int]) -> None:
    assert novel_views.size(SCENE, *asked) == expected


def test_the_angle_across_stays_whatever_the_size() -> None:
    pose = similarity(0.4, 1.0, (3.0, 2.0, 1.0))[None]
    for width, height in ((40, 30), (80, 60), (80, 20)):
        found = novel_views.lens_cameras(SCENE, pose, width, height)
        places = torch.tensor([[0.0, height / 2], [float(width), height / 2], [width / 2, height / 2]])
        origins, (left, right, middle) = found.rays(torch.zeros(3, dtype=torch.int64), places)
        angle = math.acos(float(left @ right))
        assert angle == pytest.approx(2 * math.atan(20 / 50), rel=1e-4)
        np.testing.assert_allclose(middle, -pose[0, :3, 2], atol=1e-6)
        box = (pose[0, :3, 3] - (1.0, -3.0, 0.5)) / 2
        np.testing.assert_allclose(origins[0], box, atol=1e-6)


# ---------------------------------------------------------------------------------------------------- turntables


@pytest.mark.parametrize("height", [-1.5, 0.0, 1.0])
@pytest.mark.parametrize("moved", [False, True])
def test_turntables_go_around_the_middle_upright(height: float, moved: bool) -> None:
    transform = similarity(1.2, 5.0, (10.0, 20.0, -5.0)) if moved else np.eye(4)
    scale = 5.0 if moved else 1.0
    local = cameras(9)
    local[:, :3, 3] = [(2 * math.cos(a), 2 * math.sin(a), height) for a in range(9)]
    scene = replace(SCENE, box_to_world=transform.tolist(), eyes=[tuple(eye) for eye in local[:, :3, 3].tolist()])
    poses = novel_views.turntable(scene, 12)
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.swapaxes(1, 2), np.tile(np.eye(3), (12, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)

    middle, up = transform[:3, 3], transform[:3, 2] / scale
    away = poses[:, :3, 3] - middle
    distance = math.hypot(2, height) * scale
    np.testing.assert_allclose(np.linalg.norm(away, axis=1), distance)
    np.testing.assert_allclose(rotations[:, :, 2], away / distance, atol=1e-9)  # looks down -z, at the middle
    np.testing.assert_allclose(rotations[:, :, 0] @ up, 0, atol=1e-9)
    assert (rotations[:, :, 1] @ up > 0).all()
    np.testing.assert_allclose(away @ up, height * scale, atol=1e-9)
    np.testing.assert_allclose(poses[0, :3, 3], placed(local, transform)[0, :3, 3], atol=1e-9)
    steps = np.linalg.norm(np.diff(np.concatenate([away, away[:1]]), axis=0), axis=1)
    np.testing.assert_allclose(steps, 2 * 2 * scale * math.sin(math.pi / 12))


def test_turntables_of_cameras_straight_above_are_not_straight_above() -> None:
    poses = novel_views.turntable(replace(SCENE, eyes=[(0.0, 0.0, 3.0)]), 5)
    assert np.isfinite(poses).all()
    np.testing.assert_allclose(np.linalg.det(poses[:, :3, :3]), 1)


# -------------------------------------------------------------------------------------------------- camera paths


def pose(**entries: Any) -> list[list[Any]]:
    """The identity with other entries, named as in ``r0c3``."""
    matrix: list[list[Any]] = np.eye(4).tolist()
    for name, value in entries.items():
        matrix[int(name[1])][int(name[3])] = value
    return matrix


BAD: dict[str, str] = {
    "not JSON": "[[1, 0",
    "nothing": "",
    "empty": "[]",
    "a number": "5",
    "no frames": '{"other": 1}',
    "frames are a number": '{"frames": 5}',
    "frames are empty": '{"frames": []}',
    "frame without matrix": '{"frames": [{"file_path": "x"}]}',
    "3x3": json.dumps([np.eye(3).tolist()]),
    "one matrix alone": json.dumps(IDENTITY),
    "ragged": json.dumps([[*IDENTITY[:3], [0, 0]]]),
    "text": json.dumps([["a"] * 4] * 4),
    "mirrored": json.dumps([pose(r0c0=-1.0)]),
    "second is mirrored": json.dumps([IDENTITY, pose(r1c1=-1.0)]),
    "sheared": json.dumps([pose(r0c1=0.5)]),
    "flat": json.dumps([pose(r0c0=0.0)]),
    "zero": json.dumps([np.zeros((4, 4)).tolist()]),
    "NaN": json.dumps([pose(r0c3=math.nan)]),
    "infinite": json.dumps([pose(r0c0=math.inf)]),
    "huge": json.dumps([pose(r0c0=1e200, r1c1=1e200, r2c2=1e200)]),
    "integer too long": json.dumps([pose(r0c3=10**400)]),
    "transposed": json.dumps([pose(r3c0=2.0)]),
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_camera_path_that_is_none_is_one_clear_error(trained: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "path.json"
    path.write_text(BAD[kind])
    (tmp_path / "out").mkdir()
    with pytest.raises(Gen3DError) as error:
        finish(nerf.render(RenderSettings(str(trained.out), str(path), device="cpu"), tmp_path / "out"))
    assert error.value.field == "cameras"
    assert "path.json" in str(error.value) and "\n" not in str(error.value)
    assert ("camera 1" in str(error.value)) == (kind == "second is mirrored")
    assert not list((tmp_path / "out").iterdir())


def test_a_camera_path_that_is_not_text_or_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xfd")
    for path in (tmp_path / "bytes.json", tmp_path / "missing.json", tmp_path):
        with pytest.raises(Gen3DError):
            camera_path.read(path)


def test_camera_paths_are_lists_or_frames_and_lose_their_scale(tmp_path: Path) -> None:
    poses = np.stack([similarity(0.3, 1.0, (1.0, 2.0, 3.0)), similarity(2.0, 1.0, (-4.0, 0.0, 1.0))])
    scaled = poses.copy()
    scaled[1, :3, :3] *= 2.5
    for content in (scaled.tolist(), {"frames": [{"transform_matrix": matrix} for matrix in scaled.tolist()]}):
        (tmp_path / "path.json").write_text(json.dumps(content))
        path = camera_path.read(tmp_path / "path.json")
        np.testing.assert_allclose(path.camera_to_world, poses, atol=1e-12)
        assert path.lenses is None


def test_frames_have_lenses_of_their_own_or_one_for_all(tmp_path: Path) -> None:
    lens = {"w": 64, "h": 48, "fl_x": 50.0, "fl_y": 51, "cx": 30.0, "cy": 25.5}
    frames: list[dict[str, Any]] = [{"transform_matrix": IDENTITY}, {"transform_matrix": IDENTITY, "fl_x": 70.0}]
    (tmp_path / "path.json").write_text(json.dumps({**lens, "frames": frames}))
    lenses = camera_path.read(tmp_path / "path.json").lenses
    assert lenses == (Intrinsics(64, 48, 50.0, 51.0, 30.0, 25.5), Intrinsics(64, 48, 70.0, 51.0, 30.0, 25.5))
    for broken in ({"w": 0}, {"fl_y": -1.0}, {"cx": None}, {"h": 10.5}, {"fl_x": True}, {"w": 10**9}, {"cy": "5"}):
        (tmp_path / "path.json").write_text(json.dumps({**lens, **broken, "frames": frames[:1]}))
        with pytest.raises(Gen3DError, match="camera 0 has no lens"):
            camera_path.read(tmp_path / "path.json")
    (tmp_path / "path.json").write_text(json.dumps({"frames": [{**frames[0], **lens}, frames[0]]}))
    with pytest.raises(Gen3DError, match="camera 1 has no lens"):
        camera_path.read(tmp_path / "path.json")
