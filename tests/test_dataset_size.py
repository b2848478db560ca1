# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a dataset's size is what reading it takes; nothing raises, and nothing is read twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backend import dataset_size
from backend.data.posed_images import load
from backend.data.training_pixels import TrainingPixels

from .data.scene import cameras, write_png16

KINDS = {
    "grey.png": 3, "rgb.png": 3, "rgba.png": 4, "rgb.jpg": 3, "rgb.bmp": 3, "lossy.webp": 3, "rgb.webp": 3,
    "rgba.webp": 4, "alpha.webp": 4,
}  # fmt: skip


def dataset(folder: Path, names: list[str], **more: Any) -> Path:
    frames = [
        {"file_path": name, "transform_matrix": pose.tolist()}
        for name, pose in zip(names, cameras(len(names)), strict=True)
    ]
    (folder / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames, **more}))
    return folder


def picture(path: Path) -> Path:
    """19 x 13 pixels, the upper left one transparent where the format can say so."""
    mode = {"grey": "L", "rgba": "RGBA", "alpha": "RGBA"}.get(path.stem, "RGB")
    made = Image.new(mode, (19, 13), 90 if mode == "L" else (9, 99, 200, 255)[: len(mode)])
    if mode == "RGBA":
        made.putpixel((0, 0), (9, 99, 200, 7))
    if path.suffix == ".webp":
        made.save(path, lossless=path.stem in ("rgb", "rgba"))
    else:
        made.save(path)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_is_measured_by_its_head(tmp_path: Path, name: str) -> None:
    picture(tmp_path / name)
    found = dataset_size.of(str(dataset(tmp_path, [name] * 4)))
    assert found == dataset_size.Size(4, 4, 19 * 13, KINDS[name], deep=False, masked=False)
    kept = load(tmp_path).images
    assert sum(image.nbytes for image in kept) == found.kept()


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_what_training_holds(tmp_path: Path, deep: bool, masked: bool) -> None:
    if deep:
        pixels = np.random.default_rng(0).integers(0, 65536, (13, 19, 4), dtype=np.uint16)
        write_png16(tmp_path / "a.png", pixels, (0,))
    else:
        picture(tmp_path / "rgba.png").rename(tmp_path / "a.png")
    names = [f"{number}.png" for number in range(6)]
    for name in names:
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
    dataset(tmp_path, names, train_filenames=names[:4], test_filenames=names[4:])
    if masked:
        Image.new("L", (19, 13), 255).save(tmp_path / "mask.png")
        content = json.loads((tmp_path / "transforms.json").read_text())
        for frame in content["frames"]:
            frame["mask_path"] = "mask.png"
        (tmp_path / "transforms.json").write_text(json.dumps(content))
    found = dataset_size.of(str(tmp_path))
    read = load(tmp_path)
    masks = sum(mask.nbytes for mask in read.masks if mask is not None)
    assert found is not None and found.kept() == sum(image.nbytes for image in read.images) + masks
    held = TrainingPixels(read, np.eye(4), torch.device("cpu"))
    trusted = 0 if held.trusted is None else held.trusted.nbytes
    assert found.drawn_from() == held.values.nbytes + trusted


def test_splits_in_files_of_their_own(tmp_path: Path) -> None:
    """And the suffix left out, as NeRF-synthetic has them; the first picture of all may be missing."""
    picture(tmp_path / "rgba.png")
    for split, names in (("train", ["gone", "rgba", "rgba"]), ("val", ["rgba"]), ("test", ["rgba"] * 5)):
        dataset(tmp_path, names)
        (tmp_path / "transforms.json").rename(tmp_path / f"transforms_{split}.json")
    found = dataset_size.of(str(tmp_path))
    assert found == dataset_size.Size(9, 3, 19 * 13, 4, deep=False, masked=False)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "rgb.png")
    read: list[Path] = []
    json_of = dataset_size._json

    def noted(path: Path) -> dict[str, Any]:
        read.append(path)
        return json_of(path)

    monkeypatch.setattr(dataset_size, "_json", noted)
    for _ in range(3):
        assert dataset_size.of(str(dataset(tmp_path, ["rgb.png"] * 4) if not read else tmp_path)) is not None
    assert len(read) == 1
    dataset(tmp_path, ["rgb.png"] * 7)
    os.utime(tmp_path / "transforms.json", ns=(1, 1))
    found = dataset_size.of(str(tmp_path / "transforms.json"))
    assert found is not None and (found.frames, len(read)) == (7, 2)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "[" * 100_000, '{"frames": 3}', '{"frames": [3, {}, {"file_path": 7}]}',
     '{"frames": [{"file_path": "../outside.png"}]}', '{"frames": [{"file_path": "\\u0000"}]}',
     '{"frames": [{"file_path": "cut.png"}, {"file_path": "cut.jpg"}, {"file_path": "text.png"}]}',
     '{"frames": [{"file_path": "cut.jpg"}], "val_filenames": 5, "test_filenames": [[]]}'],
)  # fmt: skip
def test_nothing_raises(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    picture(tmp_path / "outside.png")
    (folder / "cut.png").write_bytes(picture(folder / "rgb.png").read_bytes()[:20])
    (folder / "cut.jpg").write_bytes(picture(folder / "rgb.jpg").read_bytes()[:30])
    (folder / "text.png").write_text("no picture")
    (folder / "transforms.json").write_text(content)
    assert dataset_size.of(str(folder)) is None


@pytest.mark.parametrize("path", ["", "nowhere", "\0", "~nobody/x", "https://example.org/x"])
def test_what_is_no_dataset_is_not_told(path: str) -> None:
    assert dataset_size.of(path) is None
