# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backend.data.lens import Intrinsics
from backend.data.posed_images import PosedImages
from backend.data.training_pixels import TrainingPixels, as_float, cameras
from backend.errors import Gen3DError

from .scene import cameras as around
from .scene import placed, similarity

CPU = torch.device("cpu")
SIZES = ((5, 7), (16, 3), (4, 4), (9, 2))  # height, width


def scattered(
    channels: int, dtypes: tuple[Any, ...] = (np.uint8,) * 4, masked: bool = False, distortion: float = 0.0
) -> PosedImages:
    """Random pictures of many sizes; the last but one is held out."""
    random = np.random.default_rng(0)
    images: list[NDArray[Any]] = [
        random.integers(0, np.iinfo(dtype).max, (*size, channels), dtype=dtype, endpoint=True)
        for size, dtype in zip(SIZES, dtypes, strict=True)
    ]
    masks = tuple(random.random(size) < 0.4 if masked and i != 1 else None for i, size in enumerate(SIZES))
    lenses = tuple(
        Intrinsics(w, h, 10.0 + i, 11.0 + i, w / 2, h / 3, (distortion * (i == 3), 0.0, 0.0, 0.0, 0.0))
        for i, (h, w) in enumerate(SIZES)
    )
    splits = {"train": np.array([0, 1, 3]), "val": np.array([], np.int64), "test": np.array([2])}
    names = tuple(f"picture {i}" for i in range(4))
    return PosedImages(names, tuple(images), masks, lenses, around(4), splits, (), channels == 4)


def drawn(images: PosedImages, count: int = 4000) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    pixels = TrainingPixels(images, np.eye(4), CPU)
    image, place, value = pixels.sample(count, torch.Generator().manual_seed(0))
    return image.numpy(), place.numpy(), value.numpy()


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    "dtypes", [(np.uint8,) * 4, (np.uint16,) * 4, (np.uint8, np.uint16, np.uint8, np.uint8)], ids=["8", "16", "mixed"]
)
def test_every_sample_is_the_pixel_it_says(channels: int, dtypes: tuple[Any, ...]) -> None:
    images = scattered(channels, dtypes)
    image, place, value = drawn(images)
    assert value.shape == (4000, channels) and value.dtype == np.float32
    np.testing.assert_array_equal(place % 1, 0.5)
    train = [0, 1, 3]
    for i, (x, y), got in zip(image, np.floor(place).astype(int), value, strict=True):
        np.testing.assert_allclose(got, as_float(images.images[train[i]])[y, x], rtol=0, atol=1e-7)


def test_every_pixel_of_the_train_split_is_as_likely() -> None:
    images = scattered(3)
    image, place, _ = drawn(images, 83_000)
    seen = {(int(i), int(x), int(y)) for i, (x, y) in zip(image, np.floor(place), strict=True)}
    assert len(seen) == 7 * 5 + 3 * 16 + 2 * 9
    shares = np.bincount(image) / len(image)
    np.testing.assert_allclose(shares, np.array([35, 48, 18]) / 101, atol=0.01)


def test_only_trusted_pixels_are_drawn_and_all_of_them() -> None:
    images = scattered(4, masked=True)
    image, place, _ = drawn(images, 20_000)
    found = {(int(i), int(x), int(y)) for i, (x, y) in zip(image, np.floor(place), strict=True)}
    wanted = set()
    for own, i in enumerate((0, 1, 3)):
        mask = images.masks[i]
        trusted = np.ones(SIZES[i], np.bool_) if mask is None else mask
        wanted |= {(own, int(x), int(y)) for y, x in np.argwhere(trusted)}
    assert found == wanted


def test_no_trusted_pixel_at_all_is_an_error() -> None:
    images = scattered(4)
    masks = tuple(np.zeros(size, np.bool_) for size in SIZES)
    blind = PosedImages(
        images.names, images.images, masks, images.intrinsics, images.camera_to_world, images.splits, (), True
    )
    with pytest.raises(Gen3DError) as error:
        TrainingPixels(blind, np.eye(4), CPU)
    assert error.value.field == "dataset"


def test_cameras_are_rigid_in_the_box_and_see_what_they_saw() -> None:
    images = scattered(3)
    world_to_box = similarity(0.8, 0.3, (1.0, -2.0, 0.5))
    found = cameras(images, world_to_box, [3, 1])
    expected = placed(images.camera_to_world[[3, 1]], world_to_box)
    np.testing.assert_allclose(found.to_box, expected[:, :3], atol=1e-6)
    np.testing.assert_allclose(found.lens, [(13, 14, 1, 3), (11, 12, 1.5, 16 / 3)], rtol=1e-6)
    assert found.distortion is None
    assert len(cameras(images, world_to_box).lens) == 4


def test_a_lens_that_distorts_is_told_for_all() -> None:
    found = cameras(scattered(3, distortion=0.1), np.eye(4))
    assert found.distortion is not None
    np.testing.assert_allclose(found.distortion[:, 0], (0, 0, 0, 0.1))


def test_values_span_zero_to_one() -> None:
    np.testing.assert_array_equal(as_float(np.array([0, 255], np.uint8)), (0.0, 1.0))
    np.testing.assert_array_equal(as_float(np.array([0, 65535], np.uint16)), (0.0, 1.0))
