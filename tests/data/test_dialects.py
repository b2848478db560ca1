# SPDX-License-Identifier: GPL-3.0-or-later
"""Every dialect read back: poses, lenses, pixels, masks, splits, and what is noted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.data.posed_images import PosedImages, load
from backend.errors import Gen3DError

from .scene import APPLIED_TRANSFORM, Written, placed, similarity, write_scene

MOVED = similarity(0.7, 3.0, (10.0, -4.0, 2.0))
CURVED = (-0.1, 0.02, 0.001, -0.002, 0.003)


def edit(folder: Path, change: Callable[[dict[str, Any]], object], file: str = "transforms.json") -> None:
    content = json.loads((folder / file).read_text("utf-8"))
    change(content)
    (folder / file).write_text(json.dumps(content), encoding="utf-8")


def assert_same(read: PosedImages, written: Written) -> None:
    assert read.names == written.names
    np.testing.assert_allclose(read.camera_to_world, written.poses, atol=1e-12)
    for lens in read.intrinsics:
        assert (lens.width, lens.height, lens.distortion) == (
            written.lens.width,
            written.lens.height,
            written.lens.distortion,
        )
        for field in ("fl_x", "fl_y", "cx", "cy"):
            assert getattr(lens, field) == pytest.approx(getattr(written.lens, field), rel=1e-12)
    for ours, theirs in zip(read.images, written.images, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dialect", ["nerf", "ngp", "nerfstudio"])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("opaque", [False, True])
def test_round_trip(tmp_path: Path, dialect: str, deep: bool, opaque: bool) -> None:
    written = write_scene(tmp_path, dialect, 9, 12, MOVED, test_views=3, distortion=CURVED, deep=deep, opaque=opaque)
    read = load(tmp_path)
    assert_same(read, written)
    assert read.has_alpha is not opaque
    if dialect == "ngp":
        assert read.splits["test"].tolist() == [0, 8]
        assert read.splits["train"].tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert len(read.notes) == 1
    else:
        assert read.splits["train"].tolist() == list(range(9))
        assert read.splits["test"].tolist() == [9, 10, 11]
        assert read.notes == ()
    for mask in read.masks:
        if dialect == "nerfstudio":
            assert mask is not None
            np.testing.assert_array_equal(mask, np.repeat(np.arange(12) >= 3, 12).reshape(12, 12))
        else:
            assert mask is None


def test_json_file_itself_and_either_split_file_are_accepted(tmp_path: Path) -> None:
    write_scene(tmp_path / "a", "ngp", 6, 8)
    (tmp_path / "a" / "transforms.json").rename(tmp_path / "a" / "cameras.json")
    assert len(load(tmp_path / "a" / "cameras.json").names) == 6
    write_scene(tmp_path / "b", "nerf", 6, 8, test_views=2)
    for split in ("train", "test"):
        assert len(load(str(tmp_path / "b" / f"transforms_{split}.json")).names) == 8


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    written = write_scene(tmp_path, "ngp", 5, 8)
    file = tmp_path / "transforms.json"
    file.write_text(file.read_text("utf-8"), encoding=encoding)
    assert_same(load(tmp_path), written)


def test_every_eighth_by_name_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    write_scene(tmp_path, "ngp", 20, 8)
    edit(tmp_path, lambda c: c["frames"].reverse())
    read = load(tmp_path)
    held_out = sorted(read.names[i] for i in read.splits["test"])
    assert held_out == sorted(read.names)[::8]
    assert sorted(np.concatenate((read.splits["train"], read.splits["test"]))) == list(range(20))


def test_validation_split_stands_in_for_test(tmp_path: Path) -> None:
    write_scene(tmp_path, "nerf", 5, 8, test_views=2)
    (tmp_path / "transforms_test.json").rename(tmp_path / "transforms_val.json")
    read = load(tmp_path)
    assert read.splits["val"].tolist() == read.splits["test"].tolist() == [5, 6]
    assert "validation" in read.notes[0]


def test_three_pictures_are_all_trained_on(tmp_path: Path) -> None:
    write_scene(tmp_path, "ngp", 3, 8)
    read = load(tmp_path)
    assert read.splits["train"].tolist() == [0, 1, 2]
    assert len(read.splits["test"]) == 0
    assert "none is held out" in read.notes[0]


def test_split_lists(tmp_path: Path) -> None:
    """Unlisted frames are left out, strangers noted, and no picture is both trained on and tested."""
    written = write_scene(tmp_path, "nerfstudio", 8, 8, test_views=2)

    def change(content: dict[str, Any]) -> None:
        content["train_filenames"] = ["./" + name for name in written.names[1:8]] + ["gone.png"]
        content["test_filenames"] = list(written.names[7:])

    edit(tmp_path, change)
    read = load(tmp_path)
    assert read.names == written.names[1:]
    assert read.splits["train"].tolist() == [0, 1, 2, 3, 4, 5]
    assert read.splits["test"].tolist() == [6, 7, 8]
    assert any("1 frames stand in none" in note for note in read.notes)
    assert any("gone.png" in note for note in read.notes)


def test_only_a_test_list_leaves_the_rest_for_training(tmp_path: Path) -> None:
    write_scene(tmp_path, "nerfstudio", 6, 8, test_views=2)
    edit(tmp_path, lambda c: c.pop("train_filenames"))
    read = load(tmp_path)
    assert (read.splits["train"].tolist(), read.splits["test"].tolist()) == ([0, 1, 2, 3, 4, 5], [6, 7])


def test_lens_of_a_frame_overrides_the_shared_one(tmp_path: Path) -> None:
    written = write_scene(tmp_path, "ngp", 5, 8)

    def change(content: dict[str, Any]) -> None:
        content["frames"][1] |= {"fl_x": 5.0, "fl_y": 6.0, "cx": 3.0, "k1": 0.25}
        content["frames"][2] |= {"camera_angle_x": 2 * np.arctan(0.5), "camera_angle_y": 2 * np.arctan(0.25)}
        content["frames"][3] |= {"fl_y": 7.0}

    edit(tmp_path, change)
    lenses = load(tmp_path).intrinsics
    assert lenses[0] == written.lens
    assert (lenses[1].fl_x, lenses[1].fl_y, lenses[1].cx, lenses[1].cy) == (5.0, 6.0, 3.0, 4.0)
    assert lenses[1].distortion == (0.25, 0.0, 0.0, 0.0, 0.0)
    assert (lenses[2].fl_x, lenses[2].fl_y) == pytest.approx((8.0, 16.0))
    assert (lenses[3].fl_x, lenses[3].fl_y) == (7.0, 7.0)


def test_lens_of_another_size_is_rescaled_and_noted(tmp_path: Path) -> None:
    write_scene(tmp_path, "ngp", 5, 8, distortion=CURVED)
    shared = {"w": 32, "h": 32, "fl_x": 40.0, "fl_y": 44.0, "cx": 15.0, "cy": 17.0}
    edit(tmp_path, lambda c: c.update(shared))
    read = load(tmp_path)
    lens = read.intrinsics[0]
    assert (lens.width, lens.height, lens.fl_x, lens.fl_y, lens.cx, lens.cy) == (8, 8, 10.0, 11.0, 3.75, 4.25)
    assert lens.distortion == CURVED
    assert "rescaled" in read.notes[0]


def test_missing_pictures_are_skipped_and_listed(tmp_path: Path) -> None:
    written = write_scene(tmp_path, "ngp", 10, 8)
    for i in (2, 7):
        (tmp_path / written.names[i]).unlink()
    read = load(tmp_path)
    present = [i for i in range(10) if i not in (2, 7)]
    assert read.names == tuple(written.names[i] for i in present)
    np.testing.assert_allclose(read.camera_to_world, written.poses[present], atol=1e-12)
    np.testing.assert_array_equal(read.images[2], written.images[3])
    assert read.notes[0] == "2 listed pictures are missing and were skipped: images/r_2.png, images/r_7.png."


def test_suffix_is_found_whatever_it_is_and_never_doubled(tmp_path: Path) -> None:
    written = write_scene(tmp_path, "nerf", 5, 8, test_views=0, opaque=True)
    Image.open(tmp_path / "train/r_1.png").save(tmp_path / "train/r_1.webp", lossless=True)
    (tmp_path / "train/r_1.png").unlink()
    edit(tmp_path, lambda c: c["frames"][0].update(file_path="train\\r_0.png"), "transforms_train.json")
    Image.new("RGB", (8, 8)).save(tmp_path / "train/r_0.png.png")
    read = load(tmp_path)
    for ours, theirs in zip(read.images, written.images, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_applied_transform_and_scale_are_undone(tmp_path: Path) -> None:
    """Stored = scale * (transform @ original), as nerfstudio writes it; the rotation part may itself carry a scale."""
    written = write_scene(tmp_path, "ngp", 6, 8, MOVED)
    applied = similarity(1.1, 0.25, (1.0, 2.0, 3.0)) @ np.vstack((APPLIED_TRANSFORM, (0, 0, 0, 1)))
    stored = placed(written.poses, applied)
    stored[:, :3, 3] *= 0.5

    def change(content: dict[str, Any]) -> None:
        content |= {"applied_transform": applied.tolist(), "applied_scale": 0.5}
        for frame, pose in zip(content["frames"], stored, strict=True):
            frame["transform_matrix"] = pose.tolist()

    edit(tmp_path, change)
    np.testing.assert_allclose(load(tmp_path).camera_to_world, written.poses, atol=1e-9)


def test_scaled_cameras_are_repaired_and_noted(tmp_path: Path) -> None:
    written = write_scene(tmp_path, "ngp", 6, 8, MOVED)

    def change(content: dict[str, Any]) -> None:
        for i, frame in enumerate(content["frames"]):
            matrix = np.array(frame["transform_matrix"])
            matrix[:3, :3] *= (1.0, 2.5, 1e-3)[i % 3]
            frame["transform_matrix"] = matrix.tolist()

    edit(tmp_path, change)
    read = load(tmp_path)
    np.testing.assert_allclose(read.camera_to_world, written.poses, atol=1e-12)
    assert "4 camera matrices carried a scale" in read.notes[0]


def test_rows_of_three_are_completed(tmp_path: Path) -> None:
    written = write_scene(tmp_path, "ngp", 5, 8)
    edit(tmp_path, lambda c: [frame["transform_matrix"].pop() for frame in c["frames"]])
    np.testing.assert_allclose(load(tmp_path).camera_to_world, written.poses, atol=1e-12)


def test_twins_are_noted(tmp_path: Path) -> None:
    write_scene(tmp_path, "ngp", 5, 8)
    edit(tmp_path, lambda c: c["frames"][3].update(transform_matrix=c["frames"][1]["transform_matrix"]))
    assert "1 pictures share their pose with another one." in load(tmp_path).notes


def test_a_dataset_reached_through_a_link_is_confined_to_where_it_leads(tmp_path: Path) -> None:
    written = write_scene(tmp_path / "real", "ngp", 5, 8)
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "images" / "r_1.png").rename(tmp_path / "real" / "moved.png")
    (tmp_path / "real" / "images" / "r_1.png").symlink_to(tmp_path / "real" / "moved.png")
    assert_same(load(tmp_path / "link"), written)
    (tmp_path / "real" / "moved.png").rename(tmp_path / "outside.png")
    (tmp_path / "real" / "images" / "r_1.png").unlink()
    (tmp_path / "real" / "images" / "r_1.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(Gen3DError) as caught:
        load(tmp_path / "link")
    assert caught.value.field == "frames[1].file_path"
