# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of every kind come out as the values that went in, or near them where the format itself loses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.data import png16
from backend.data.posed_images import PosedImages, load

from .scene import cameras, write_png16, write_scene
from .test_dialects import edit

RGBA = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)


def one_more(folder: Path, name: str, **frame: Any) -> PosedImages:
    """The dataset of a picture of ours and an opaque one besides."""
    Image.new("RGB", (8, 8)).save(folder / "other.png")
    poses = cameras(2).tolist()
    frames = [{"file_path": name, "transform_matrix": poses[0]} | frame]
    frames += [{"file_path": "other.png", "transform_matrix": poses[1]}]
    content = json.dumps({"camera_angle_x": 0.7, "frames": frames})
    (folder / "transforms.json").write_text(content, encoding="utf-8")
    return load(folder)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("filters", [(0,), (1,), (2,), (3,), (4,), (4, 3, 2, 1, 0)])
def test_16_bit_png_is_exact(tmp_path: Path, channels: int, filters: tuple[int, ...]) -> None:
    """Each row filter of the format, in each colour type. The filters are undone against a plain encoder."""
    pixels = np.random.default_rng(0).integers(0, 65536, (7, 5, channels), dtype=np.uint16)
    write_png16(tmp_path / "a.png", pixels, filters)
    read = one_more(tmp_path, "a.png")
    color = pixels[..., :1].repeat(3, axis=2) if channels < 3 else pixels[..., :3]
    assert read.images[0].dtype == np.uint16
    np.testing.assert_array_equal(read.images[0][..., :3], color)
    assert read.has_alpha is (channels in (2, 4))
    if read.has_alpha:
        np.testing.assert_array_equal(read.images[0][..., 3], pixels[..., -1])
        assert read.images[1].shape == (8, 8, 4)
        assert (read.images[1][..., 3] == 255).all()


def test_16_bit_png_of_another_writer_is_exact(tmp_path: Path) -> None:
    """Pillow writes 16-bit grey with filters of its own choice."""
    ramp = (np.arange(64 * 48).reshape(48, 64) * 21 % 65536).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    np.testing.assert_array_equal(png16.decode((tmp_path / "a.png").read_bytes()), np.dstack([ramp] * 3))


def test_16_bit_png_with_a_transparent_color(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 3, (7, 5, 3), dtype=np.uint16)
    pixels[2, 3] = (1, 2, 0)
    write_png16(tmp_path / "a.png", pixels)
    data = (tmp_path / "a.png").read_bytes()
    key = b"\0\0\0\x06tRNS\0\1\0\2\0\0CRC?"
    at = data.index(b"IDAT") - 4
    decoded = png16.decode(data[:at] + key + data[at:])
    transparent = (pixels == (1, 2, 0)).all(axis=2)
    assert transparent[2, 3]
    np.testing.assert_array_equal(decoded[..., :3], pixels)
    np.testing.assert_array_equal(decoded[..., 3], np.where(transparent, 0, 65535))


@pytest.mark.parametrize("mode, suffix", [("RGB", "png"), ("RGBA", "png"), ("RGB", "bmp"), ("RGB", "webp")])
def test_8_bit_is_exact(tmp_path: Path, mode: str, suffix: str) -> None:
    pixels = RGBA[..., : len(mode)]
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", lossless=True)
    np.testing.assert_array_equal(one_more(tmp_path, "a").images[0], pixels)


def test_grey_palette_and_their_transparency(tmp_path: Path) -> None:
    grey = Image.fromarray(RGBA[..., 0])
    grey.save(tmp_path / "a.png")
    np.testing.assert_array_equal(one_more(tmp_path, "a.png").images[0], RGBA[..., :1].repeat(3, axis=2))
    Image.fromarray(RGBA[..., :2].copy(), "LA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(one_more(tmp_path, "a.png").images[0][..., 3], RGBA[..., 1])
    indexed = Image.fromarray(RGBA[..., 0] % 4, "P")
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    indexed.save(tmp_path / "a.png", transparency=2)
    read = one_more(tmp_path, "a.png")
    np.testing.assert_array_equal(read.images[0][..., 3], np.where(RGBA[..., 0] % 4 == 2, 0, 255))
    np.testing.assert_array_equal(read.images[0][..., 0] == 255, RGBA[..., 0] % 4 == 0)


def test_fully_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = RGBA.copy()
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = one_more(tmp_path, "a.png")
    assert not read.has_alpha
    np.testing.assert_array_equal(read.images[0], pixels[..., :3])


def test_cmyk_is_converted_and_noted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    read = one_more(tmp_path, "a.jpg")
    assert np.abs(read.images[0].astype(int) - (255, 0, 0)).max() <= 3
    assert any("CMYK" in note for note in read.notes)


@pytest.mark.parametrize("orientation, turns", [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_rotation(tmp_path: Path, orientation: int, turns: int) -> None:
    """Poses mean pictures as stored, unless the stated size is that of the turned picture."""
    stored = RGBA[..., :3]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.webp", lossless=True, exif=exif)
    for stated in ({}, {"w": 9, "h": 6}):
        read = one_more(tmp_path, "a.webp", **stated)
        np.testing.assert_array_equal(read.images[0], stored)
        assert any("EXIF" in note and "as stored" in note for note in read.notes) is (orientation != 1)
    if turns % 2:
        read = one_more(tmp_path, "a.webp", w=6, h=9, fl_x=7.0)
        np.testing.assert_array_equal(read.images[0], np.rot90(stored, turns))
        assert (read.intrinsics[0].width, read.intrinsics[0].height, read.intrinsics[0].fl_x) == (6, 9, 7.0)
        assert any("turned upright" in note for note in read.notes)


def test_mixed_sizes_and_depths(tmp_path: Path) -> None:
    write_scene(tmp_path, "ngp", 5, 8)
    for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
        edit(tmp_path, lambda c, key=key: c.pop(key))  # type: ignore[misc]
    Image.fromarray(RGBA).save(tmp_path / "images" / "r_1.png")
    write_png16(
        tmp_path / "images" / "r_2.png", np.random.default_rng(0).integers(0, 65536, (3, 4, 4), dtype=np.uint16)
    )
    read = load(tmp_path)
    assert [image.shape for image in read.images[:3]] == [(8, 8, 4), (6, 9, 4), (3, 4, 4)]
    assert [image.dtype for image in read.images[:3]] == [np.uint8, np.uint8, np.uint16]
    for image, lens in zip(read.images, read.intrinsics, strict=True):
        assert image.shape[:2] == (lens.height, lens.width)
        assert lens.fl_x == pytest.approx(lens.width / 2 / np.tan(0.35))
        assert (lens.cx, lens.cy) == (lens.width / 2, lens.height / 2)


@pytest.mark.parametrize("high", [1, 255])
def test_masks(tmp_path: Path, high: int) -> None:
    """0 and 1 as well as 0 and 255; a larger mask of the same aspect is sampled."""
    trusted = RGBA[..., 0] > 128
    Image.fromarray(RGBA[..., :3]).save(tmp_path / "a.png")
    Image.fromarray(trusted.astype(np.uint8) * high).save(tmp_path / "mask.png")
    mask = one_more(tmp_path, "a.png", mask_path="mask.png").masks[0]
    assert mask is not None
    np.testing.assert_array_equal(mask, trusted)
    Image.fromarray((trusted.astype(np.uint8) * high).repeat(3, axis=0).repeat(3, axis=1)).save(tmp_path / "mask.png")
    mask = one_more(tmp_path, "a.png", mask_path="mask.png").masks[0]
    assert mask is not None
    np.testing.assert_array_equal(mask, trusted)
