# SPDX-License-Identifier: GPL-3.0-or-later
"""The training box and the hull: nothing of the object is cut off, little else is kept, and the world may move."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.data import hull
from backend.data.normalise import visual_hull, world_to_box
from backend.data.posed_images import Intrinsics, PosedImages, load
from backend.errors import Gen3DError

from .scene import cameras, distance_to_surface, placed, signed_distance, similarity, surface_points, write_scene

Array = NDArray[np.float64]
EXTENT = 0.5  # half of the scene's longest side


def apply(matrix: NDArray[Any], points: NDArray[Any]) -> Array:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3], np.float64)


def read_scene(folder: Path, views: int = 24, size: int = 64, **options: Any) -> PosedImages:
    write_scene(folder, "nerf", views, size, test_views=0, **options)
    images = load(folder)
    everything = np.arange(views)
    return dataclasses.replace(images, splits={"train": everything, "val": everything[:0], "test": everything[:0]})


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> PosedImages:
    return read_scene(tmp_path_factory.mktemp("scene"))


def moved(images: PosedImages, transform: Array) -> PosedImages:
    return dataclasses.replace(images, camera_to_world=placed(images.camera_to_world, transform))


def assert_nothing_cut(images: PosedImages, transform: Array | None = None, resolution: int = 64) -> NDArray[np.bool_]:
    """Every surface point lies in the box and in a cell of the hull; the hull is returned."""
    matrix, unbounded, _ = world_to_box(images, "auto")
    assert not unbounded
    points = apply(matrix, surface_points(4000, transform))
    assert np.abs(points).max() < 1.0
    cells = visual_hull(images, matrix, resolution)
    index = ((points + 1.0) / 2.0 * resolution).astype(np.int64)
    assert cells[tuple(index.T)].all()
    return cells


def test_box_is_tight_and_scales_uniformly(scene: PosedImages) -> None:
    matrix, unbounded, notes = world_to_box(scene, "auto")
    assert not unbounded
    assert notes == ()
    np.testing.assert_array_equal(matrix[:3, :3], np.eye(3) * matrix[0, 0])
    half = 1.0 / matrix[0, 0]
    assert EXTENT < half < 1.2 * EXTENT
    assert np.abs(-matrix[:3, 3] * half - (0.0, 0.0, 0.025)).max() < 0.03


def test_hull_holds_the_surface_and_little_else(scene: PosedImages) -> None:
    cells = assert_nothing_cut(scene)
    matrix, _, _ = world_to_box(scene, "auto")
    index = np.argwhere(cells)
    centres = apply(np.linalg.inv(matrix), (index + 0.5) * (2.0 / 64) - 1.0)
    pixel = 2.4 * 0.7 / 64  # at the object
    outside = np.maximum(signed_distance(centres), 0.0)
    assert np.median(outside) < pixel
    assert cells.mean() < 0.35


def test_moving_and_scaling_the_world_moves_the_box_along(scene: PosedImages) -> None:
    matrix, _, _ = world_to_box(scene, "auto")
    for scale, shift in ((1e-3, (0.0, 0.0, 0.0)), (1.0, (1e4, -3e4, 5.0)), (250.0, (-700.0, 40.0, 8.0))):
        transform = similarity(0.0, scale, shift)
        again, _, _ = world_to_box(moved(scene, transform), "auto")
        np.testing.assert_allclose(again @ transform, matrix, atol=1e-6)
        np.testing.assert_array_equal(
            visual_hull(moved(scene, transform), again, 32), visual_hull(scene, again @ transform, 32)
        )


@pytest.mark.parametrize("angle", [0.4, 1.7, 3.0])
def test_turning_the_world_keeps_the_object_inside(scene: PosedImages, angle: float) -> None:
    transform = similarity(angle, 4.0, (20.0, 1.0, -7.0))
    cells = assert_nothing_cut(moved(scene, transform), transform)
    assert cells.mean() < 0.35
    matrix, _, _ = world_to_box(moved(scene, transform), "auto")
    true_half = np.ptp(surface_points(20_000, transform), axis=0).max() / 2
    assert true_half < 1.0 / matrix[0, 0] < 1.2 * true_half


@pytest.mark.parametrize("resolution", [32, 50, 96, 128])
def test_any_resolution(scene: PosedImages, resolution: int) -> None:
    assert assert_nothing_cut(scene, resolution=resolution).shape == (resolution,) * 3


def test_finer_hulls_lie_within_coarser_ones(scene: PosedImages) -> None:
    matrix, _, _ = world_to_box(scene, "auto")
    coarse, fine = visual_hull(scene, matrix, 32), visual_hull(scene, matrix, 64)
    assert not (fine & ~coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)).any()
    assert fine.mean() < coarse.mean()


def test_coarse_to_fine_keeps_no_more_than_every_cell_at_once(
    scene: PosedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coarse cell may be proven empty where rounding to pixels leaves its part in doubt, never the reverse."""
    matrix, _, _ = world_to_box(scene, "auto")
    staged = visual_hull(scene, matrix, 64)
    monkeypatch.setattr(hull, "COARSEST_GRID", 64)
    at_once = visual_hull(scene, matrix, 64)
    assert not (staged & ~at_once).any()
    assert np.count_nonzero(at_once & ~staged) < 0.03 * np.count_nonzero(staged)


@pytest.mark.parametrize("views, wrong", [(20, 1), (40, 2)])
def test_a_wrong_pose_or_two_cut_nothing(tmp_path: Path, views: int, wrong: int) -> None:
    images = read_scene(tmp_path, views, 48)
    poses = images.camera_to_world.copy()
    for i in range(wrong):
        poses[i, :3, :3] = similarity(0.4, 1.0)[:3, :3] @ poses[i, :3, :3]
    assert_nothing_cut(dataclasses.replace(images, camera_to_world=poses))


def test_blank_pictures_are_passed_over_and_noted(scene: PosedImages) -> None:
    blank = [np.zeros_like(scene.images[0])] * 3
    images = dataclasses.replace(scene, images=(*blank, *scene.images[3:]))
    assert_nothing_cut(images)
    assert "3 pictures are wholly transparent" in world_to_box(images, "auto")[2][0]
    with pytest.raises(Gen3DError, match="transparent"):
        world_to_box(dataclasses.replace(scene, images=tuple(blank * 8)), "auto")


def test_object_that_fills_and_leaves_the_pictures(tmp_path: Path) -> None:
    """No picture shows the whole object: what lies outside of a picture is not carved by it."""
    images = read_scene(tmp_path, 40, 48, radius=2.0, angle=0.4)
    on_border = [bool((image[[0, -1], :, 3] > 0).any() or (image[:, [0, -1], 3] > 0).any()) for image in images.images]
    assert np.mean(on_border) > 0.7
    assert_nothing_cut(images)


def test_views_from_above_only(tmp_path: Path) -> None:
    images = read_scene(tmp_path, 60, 48)
    above = np.flatnonzero(images.camera_to_world[:, 2, 3] > 0.3)
    images = dataclasses.replace(images, splits=images.splits | {"train": above})
    cells = assert_nothing_cut(images)
    assert cells.mean() < 0.35


def test_held_out_pictures_have_no_say(scene: PosedImages) -> None:
    train = np.arange(0, 24, 2)
    images = dataclasses.replace(scene, splits=scene.splits | {"train": train, "test": np.arange(1, 24, 2)})
    blanked = tuple(image if i in train else np.zeros_like(image) for i, image in enumerate(scene.images))
    turned = images.camera_to_world.copy()
    turned[1::2, :3, 3] += 100.0
    other = dataclasses.replace(images, images=blanked, camera_to_world=turned)
    for kind in ("auto", "bounded", "unbounded"):
        expected = world_to_box(images, kind)
        actual = world_to_box(other, kind)
        np.testing.assert_array_equal(actual[0], expected[0])
        assert actual[1:] == expected[1:]
    matrix = world_to_box(images, "auto")[0]
    np.testing.assert_array_equal(visual_hull(other, matrix, 32), visual_hull(images, matrix, 32))


def test_untrusted_pixels_carve_nothing(scene: PosedImages) -> None:
    """Half of each picture is wiped transparent and masked as not to be trusted."""
    masks, images = [], []
    for i, image in enumerate(scene.images):
        mask = np.ones(image.shape[:2], np.bool_)
        mask[:, 32:] = i % 2 == 0
        mask[:, :32] = i % 2 == 1
        masks.append(mask)
        images.append(image * mask[..., None])
    assert_nothing_cut(dataclasses.replace(scene, images=tuple(images), masks=tuple(masks)))


def test_lens_distortion_is_followed(tmp_path: Path) -> None:
    images = read_scene(tmp_path, 24, 64, distortion=(-0.3, 0.1, 0.005, -0.005, 0.0), angle=0.9, radius=2.0)
    cells = assert_nothing_cut(images)
    assert cells.mean() < 0.35


def test_large_pictures_are_reduced_without_cutting(tmp_path: Path) -> None:
    """Sides that are no multiple of the block, and a thin object: one point, one pixel."""
    side = 2 * hull.SILHOUETTE_SIDE + 37
    lens = Intrinsics(side, side - 5, 700.0, 700.0, side / 2 + 3, side / 2 - 4)
    point, poses = np.array((0.11, -0.07, 0.05)), cameras(16)
    pictures = []
    for pose in poses:
        local = np.linalg.inv(pose) @ (*point, 1.0)
        image = np.zeros((lens.height, lens.width, 4), np.uint8)
        row, column = lens.cy + 700.0 * local[1] / local[2], lens.cx - 700.0 * local[0] / local[2]
        image[int(row), int(column)] = 255
        pictures.append(image)
    train = {"train": np.arange(16), "val": np.arange(0), "test": np.arange(0)}
    images = PosedImages(("",) * 16, tuple(pictures), (None,) * 16, (lens,) * 16, poses, train, (), True)
    matrix, _, _ = world_to_box(images, "bounded")
    there = apply(matrix, point)
    assert np.abs(there).max() < 1.0
    assert 1.0 / matrix[0, 0] < 0.05
    assert visual_hull(images, matrix, 32)[tuple(((there + 1) * 16).astype(int))]


def test_cameras_that_look_away_are_refused(scene: PosedImages) -> None:
    """Poses in the OpenCV convention look the other way."""
    flipped = scene.camera_to_world @ np.diag((1.0, -1.0, -1.0, 1.0))
    with pytest.raises(Gen3DError, match="OpenGL"):
        world_to_box(dataclasses.replace(scene, camera_to_world=flipped), "bounded")


def test_auto_takes_alpha_for_an_object_and_its_lack_for_a_surrounding(tmp_path: Path, scene: PosedImages) -> None:
    opaque = read_scene(tmp_path, 12, 24, opaque=True)
    assert world_to_box(scene, "auto")[1] is False
    assert world_to_box(opaque, "auto")[1] is True
    assert world_to_box(scene, "unbounded")[1] is True
    matrix, unbounded, notes = world_to_box(opaque, "bounded")
    assert not unbounded
    assert "no transparent background" in notes[0]
    assert np.abs(apply(matrix, surface_points(2000))).max() < 1.0


def test_unbounded_puts_the_focus_at_the_origin_and_the_cameras_around_radius_one(scene: PosedImages) -> None:
    transform = similarity(1.0, 7.0, (30.0, -20.0, 10.0))
    matrix, unbounded, _ = world_to_box(moved(scene, transform), "unbounded")
    assert unbounded
    positions = apply(matrix, moved(scene, transform).camera_to_world[:, :3, 3])
    np.testing.assert_allclose(np.linalg.norm(positions, axis=1), 1.0, atol=1e-4)
    np.testing.assert_allclose(apply(matrix, transform[:3, 3]), 0.0, atol=1e-4)


def test_unbounded_focus_withstands_a_few_wrong_views(scene: PosedImages) -> None:
    poses = scene.camera_to_world.copy()
    poses[:3, :3, 3] += (50.0, 20.0, -10.0)
    matrix, _, _ = world_to_box(dataclasses.replace(scene, camera_to_world=poses), "unbounded")
    assert np.linalg.norm(matrix[:3, 3]) < 0.02
    assert 1.0 / matrix[0, 0] == pytest.approx(2.4, rel=0.05)


@pytest.mark.parametrize("kind", ["outward", "parallel", "one line"])
def test_unbounded_with_cameras_that_share_no_focus(scene: PosedImages, kind: str) -> None:
    """The box stays finite, and moves and scales with the world; the cameras lie within the unit ball."""
    poses = scene.camera_to_world.copy()
    if kind == "outward":
        poses = poses @ np.diag((1.0, -1.0, -1.0, 1.0))
    elif kind == "parallel":
        poses[:, :3, :3] = np.eye(3)
    else:
        poses[:, :3, :3] = poses[0, :3, :3]
        poses[:, :3, 3] = np.linspace(-1.0, 1.0, 24)[:, None] * poses[0, :3, 2]
    matrix, _, _ = world_to_box(dataclasses.replace(scene, camera_to_world=poses), "unbounded")
    radii = np.linalg.norm(apply(matrix, poses[:, :3, 3]), axis=1)
    assert np.median(radii) == pytest.approx(0.5 if kind == "outward" else 1.0, abs=0.01)
    transform = similarity(0.5, 40.0, (100.0, 0.0, -30.0))
    again, _, _ = world_to_box(dataclasses.replace(scene, camera_to_world=placed(poses, transform)), "unbounded")
    far = np.linalg.norm(apply(again, placed(poses, transform)[:, :3, 3]), axis=1)
    np.testing.assert_allclose(far, radii, atol=1e-6)


def test_the_scene_measures_itself_exactly() -> None:
    """The oracle of these tests: surface points are at distance 0; the distance is that to the nearest of many."""
    transform = similarity(0.8, 2.0, (1.0, 2.0, 3.0))
    surface = surface_points(40_000, transform)
    assert distance_to_surface(surface, transform).max() < 1e-12
    queries = transform[:3, 3] + np.random.default_rng(1).uniform(-1.5, 1.5, (50, 3))
    brute = np.linalg.norm(queries[:, None] - surface, axis=2).min(axis=1)
    exact = distance_to_surface(queries, transform)
    assert (exact <= brute + 1e-12).all()
    np.testing.assert_allclose(exact, brute, atol=0.05)
