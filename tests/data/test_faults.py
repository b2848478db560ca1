# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a dataset is refused in one error that names the file, the frame and the field."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.data import transforms
from backend.data.posed_images import load
from backend.errors import Gen3DError

from .scene import write_scene
from .test_dialects import edit

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "set"
    write_scene(folder, "ngp", 6, 8)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "set"))


def refused(path: Path | str, field: str | None, *words: str) -> Gen3DError:
    with pytest.raises(Gen3DError) as caught:
        load(path)
    assert caught.value.field == field
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(caught.value.cause) < 500
    return caught.value


def frame(index: int, **values: Any) -> Change:
    return lambda content: content["frames"][index].update(values)


def pose(index: int, change: Callable[[Any], Any]) -> Change:
    def apply(content: dict[str, Any]) -> None:
        entry = content["frames"][index]
        entry["transform_matrix"] = np.asarray(change(np.array(entry["transform_matrix"]))).tolist()

    return apply


def entry(row: int, column: int, value: float) -> Callable[[Any], Any]:
    def change(matrix: Any) -> Any:
        matrix[row, column] = value
        return matrix

    return change


MATRIX = "transform_matrix"
VALUES: list[tuple[Change, str, str]] = [
    # structure
    (lambda c: c.pop("frames"), "frames", "at least one frame"),
    (lambda c: c.update(frames=[]), "frames", "at least one frame"),
    (lambda c: c.update(frames={"0": {}}), "frames", "at least one frame"),
    (lambda c: c["frames"].insert(2, "text"), "frames[2]", "not an object"),
    (lambda c: c["frames"].insert(2, None), "frames[2]", "not an object"),
    # poses
    (frame(4, transform_matrix=None), f"frames[4].{MATRIX}", "4x4"),
    (lambda c: c["frames"][4].pop(MATRIX), f"frames[4].{MATRIX}", "4x4"),
    (pose(1, lambda m: m[:2]), f"frames[1].{MATRIX}", "4x4"),
    (pose(1, lambda m: m[:, :3]), f"frames[1].{MATRIX}", "4x4"),
    (pose(1, lambda m: m.ravel()), f"frames[1].{MATRIX}", "4x4"),
    (frame(1, transform_matrix=[["1", 0, 0, 0]] * 4), f"frames[1].{MATRIX}", "a number, not str"),
    (frame(1, transform_matrix=[[True, 0, 0, 0]] * 4), f"frames[1].{MATRIX}", "a number, not bool"),
    (pose(2, entry(0, 3, float("nan"))), f"frames[2].{MATRIX}", "finite"),
    (pose(3, entry(0, 0, float("inf"))), f"frames[3].{MATRIX}", "finite"),
    (pose(3, entry(1, 3, 1e300)), f"frames[3].{MATRIX}", "beyond"),
    (frame(5, transform_matrix=[[10**400, 0, 0, 0]] * 4), f"frames[5].{MATRIX}", "finite"),
    (pose(0, lambda m: m.T), f"frames[0].{MATRIX}", "last row"),
    (pose(2, lambda m: m @ np.diag((1, 1, -1, 1))), f"frames[2].{MATRIX}", "mirrored"),
    (pose(2, lambda m: m @ np.diag((1, 1.1, 1, 1))), f"frames[2].{MATRIX}", "not a rotation"),
    (pose(2, lambda m: m * np.array((0, 0, 0, 1))), f"frames[2].{MATRIX}", "vanish"),
    (lambda c: c.update(applied_transform=[[1, 0, 0, 0]]), "applied_transform", "4x4"),
    (lambda c: c.update(applied_transform=np.diag((1, 1, -1, 1)).tolist()), "applied_transform", "mirrored"),
    (lambda c: c.update(applied_scale=0), "applied_scale", "no scale"),
    # lenses
    (lambda c: c.update(fl_x=0), "frames[0].fl_x", "no focal length"),
    (lambda c: c.update(fl_x=-30.0), "frames[0].fl_x", "no focal length"),
    (lambda c: c.update(fl_x=float("nan")), "fl_x", "finite"),
    (lambda c: c.update(fl_y="30"), "fl_y", "a number, not str"),
    (frame(3, fl_x=0.0), "frames[3].fl_x", "no focal length"),
    (frame(3, k1=float("inf")), "frames[3].k1", "finite"),
    (frame(3, cx=None), "frames[3].cx", "a number, not NoneType"),
    (frame(2, camera_angle_x=3.2), "frames[2].camera_angle_x", "field of view"),
    (frame(2, w=0), "frames[2].w", "picture size"),
    (frame(2, w=16, h=9), "frames[2].w", "16 x 9, but the picture is 8 x 8"),
    (lambda c: [c.pop(k) for k in ("fl_x", "fl_y", "camera_angle_x")], "frames[0].fl_x", "missing"),
    (lambda c: c.update(camera_model="OPENCV_FISHEYE"), "camera_model", "OPENCV_FISHEYE"),
    (lambda c: c.update(camera_model=["OPENCV"]), "camera_model", "not supported"),
    (frame(1, camera_model="EQUIRECTANGULAR"), "frames[1].camera_model", "pinhole"),
    (lambda c: c.update(is_fisheye=True), "is_fisheye", "not supported"),
    (lambda c: c.update(k4=0.01), "k4", "not supported"),
    # paths
    (frame(1, file_path=None), "frames[1].file_path", "relative path"),
    (frame(1, file_path=["a"]), "frames[1].file_path", "relative path"),
    (frame(1, file_path=" "), "frames[1].file_path", "relative path"),
    (frame(1, file_path="../outside.png"), "frames[1].file_path", "leads out"),
    (frame(1, file_path="images/../../outside.png"), "frames[1].file_path", "leads out"),
    (frame(1, file_path="..\\outside.png"), "frames[1].file_path", "leads out"),
    (frame(1, file_path="/etc/hostname"), "frames[1].file_path", "absolute"),
    (frame(1, file_path="C:\\a.png"), "frames[1].file_path", "absolute"),
    (frame(1, file_path="C:a.png"), "frames[1].file_path", "absolute"),
    (frame(1, file_path="\\\\server\\share\\a.png"), "frames[1].file_path", "absolute"),
    (frame(1, file_path="https://example.org/a.png"), "frames[1].file_path", "web address"),
    (frame(1, file_path="file:///etc/hostname"), "frames[1].file_path", "web address"),
    (frame(1, file_path="images/a\0.png"), "frames[1].file_path", "characters"),
    (frame(1, file_path="images/\ud800.png"), "frames[1].file_path", "characters"),
    (frame(1, mask_path="../mask.png"), "frames[1].mask_path", "leads out"),
    (frame(1, mask_path="nowhere.png"), "frames[1].mask_path", "missing"),
    (lambda c: c.update(train_filenames="images/r_0.png"), "train_filenames", "list of paths"),
    (lambda c: c.update(test_filenames=[3]), "test_filenames", "list of paths"),
]


@pytest.mark.parametrize("change, field, words", VALUES, ids=[f"{i}-{v[1]}" for i, v in enumerate(VALUES)])
def test_value(folder: Path, change: Change, field: str, words: str) -> None:
    (folder.parent / "outside.png").write_bytes((folder / "images" / "r_0.png").read_bytes())
    edit(folder, change)
    refused(folder, field, words, "transforms.json")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'{"frames": "\xe9"}', "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"frames": [' + b"9" * 10**6 + b"]}", "cannot be read"),
        (b"\x80\x04K\x01.", "cannot be read"),
    ],
    ids=["empty", "cut", "list", "null", "utf16-cut", "latin1", "deep", "long-number", "pickle"],
)
def test_json(folder: Path, content: bytes, words: str) -> None:
    (folder / "transforms.json").write_bytes(content)
    refused(folder, "transforms.json", words)


def test_huge_json_is_not_even_opened(folder: Path) -> None:
    with (folder / "transforms.json").open("wb") as file:
        file.truncate(transforms.MAX_JSON_BYTES + 1)
    refused(folder, "transforms.json", "larger than")


def test_a_million_frames(folder: Path) -> None:
    (folder / "transforms.json").write_text('{"frames": [' + "{}," * 999_999 + "{}]}", encoding="utf-8")
    refused(folder, f"frames[{transforms.MAX_FRAMES}]", "1000000 are listed")


@pytest.mark.parametrize("path", ["https://example.org/set", "nowhere", "a\0b", ""])
def test_dataset_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    refused(path, "dataset")


def test_folder_without_transforms_names_what_it_looked_for(tmp_path: Path) -> None:
    refused(tmp_path, "dataset", "transforms.json", "transforms_train.json")
    write_scene(tmp_path, "nerf", 4, 8, test_views=2)
    (tmp_path / "transforms_train.json").unlink()
    refused(tmp_path, "dataset", "transforms_train.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_a_file_is_never_opened(folder: Path) -> None:
    (folder / "images" / "r_0.png").unlink()
    os.mkfifo(folder / "images" / "r_0.png")
    assert "r_0.png" in load(folder).notes[0]
    (folder / "transforms.json").unlink()
    os.mkfifo(folder / "transforms.json")
    refused(folder, "dataset")


def test_transforms_file_linked_from_elsewhere(folder: Path) -> None:
    (folder / "transforms.json").rename(folder.parent / "elsewhere.json")
    (folder / "transforms.json").symlink_to(folder.parent / "elsewhere.json")
    refused(folder, "dataset", "link")


def test_all_pictures_missing(folder: Path) -> None:
    shutil.rmtree(folder / "images")
    refused(folder, "frames[0].file_path", "None of the 6 listed pictures")


def test_train_pictures_missing(tmp_path: Path) -> None:
    write_scene(tmp_path, "nerf", 4, 8, test_views=2)
    shutil.rmtree(tmp_path / "train")
    refused(tmp_path, "frames", "train split")


def test_cameras_all_at_one_place(folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for item in content["frames"]:
            for row, value in zip(item["transform_matrix"], (3.0, 1.0, -2.0), strict=False):
                row[3] = value

    edit(folder, change)
    refused(folder, f"frames[0].{MATRIX}", "same place")


def test_a_single_picture(folder: Path) -> None:
    edit(folder, lambda c: c.update(frames=c["frames"][:1]))
    refused(folder, f"frames[0].{MATRIX}", "same place")


def test_fault_in_a_split_file_names_that_file(tmp_path: Path) -> None:
    write_scene(tmp_path, "nerf", 4, 8, test_views=2)
    edit(tmp_path, frame(1, transform_matrix=[]), "transforms_test.json")
    refused(tmp_path, f"frames[1].{MATRIX}", "transforms_test.json")


def damaged(kind: str, good: bytes) -> bytes:
    return {"empty": b"", "cut": good[: len(good) // 2], "text": b"<html>404</html>", "head": good[:30]}[kind]


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "head"])
@pytest.mark.parametrize("deep", [False, True])
def test_damaged_picture(tmp_path: Path, kind: str, deep: bool) -> None:
    write_scene(tmp_path, "ngp", 5, 32, deep=deep)
    picture = tmp_path / "images" / "r_3.png"
    picture.write_bytes(damaged(kind, picture.read_bytes()))
    refused(tmp_path, "frames[3].file_path", "r_3.png", "cannot be read")


def test_pixel_bomb_is_refused_by_its_header(folder: Path) -> None:
    picture = folder / "images" / "r_2.png"
    for side in (9_000, 20_000, 2_000_000):
        data = bytearray(picture.read_bytes())
        struct.pack_into(">II", data, 16, side, side)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
        picture.write_bytes(data)
        refused(folder, "frames[2].file_path", "million pixels")


def test_more_pictures_than_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 3000}[name])
    refused(folder, "frames", "6 pictures need")


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "EPS"])
def test_other_formats(folder: Path, kind: str) -> None:
    Image.new("RGB", (8, 8)).save(folder / "images" / "r_2.png", kind)
    refused(folder, "frames[2].file_path", "PNG, JPEG, WebP or BMP")


def test_message_stays_short_and_on_one_line(folder: Path) -> None:
    edit(folder, frame(1, camera_model="x\n" * 10_000, file_path="y\n" * 10_000))
    refused(folder, "frames[1].camera_model")


def test_json_holding_numbers_as_names_of_frames(folder: Path) -> None:
    content = json.loads((folder / "transforms.json").read_text("utf-8"))
    content["frames"][0]["file_path"] = "z\n" * 200
    (folder / "transforms.json").write_text(json.dumps(content), encoding="utf-8")
    read = load(folder)
    assert len(read.names) == 5
    assert all(note.isprintable() for note in read.notes)
