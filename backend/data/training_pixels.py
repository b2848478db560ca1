# SPDX-License-Identifier: GPL-3.0-or-later
"""A dataset as training sees it: cameras in the training box, and pixels drawn at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import Gen3DError
from ..rendering.cameras import Cameras
from .posed_images import Picture, PosedImages


def cameras(images: PosedImages, world_to_box: NDArray[np.float64], index: Sequence[int] | None = None) -> Cameras:
    """The cameras of pictures ``index`` (all if None) in the training box. ``world_to_box``: similarity [4, 4]."""
    chosen = range(len(images.images)) if index is None else index
    scale = np.cbrt(np.linalg.det(world_to_box[:3, :3]))
    poses = world_to_box @ images.camera_to_world[list(chosen)]
    poses[:, :3, :3] /= scale
    lenses = [images.intrinsics[i] for i in chosen]
    lens = torch.tensor([(k.fl_x, k.fl_y, k.cx, k.cy) for k in lenses], dtype=torch.float32)
    distorts = any(any(k.distortion) for k in lenses)
    distortion = torch.tensor([k.distortion for k in lenses], dtype=torch.float32) if distorts else None
    return Cameras(torch.from_numpy(poses[:, :3].astype(np.float32)), lens, distortion)


def as_float(picture: Picture) -> NDArray[np.float32]:
    """uint8 or uint16 -> [0, 1]."""
    return picture.astype(np.float32) / np.float32(np.iinfo(picture.dtype).max)


class TrainingPixels:
    """All trusted pixels of the train split, on one device."""

    def __init__(self, images: PosedImages, world_to_box: NDArray[np.float64], device: torch.device) -> None:
        """Raises Gen3DError where the masks leave no pixel."""
        train = images.splits["train"].tolist()
        self.count = len(train)
        self.cameras = cameras(images, world_to_box, train).to(device)
        pictures = [images.images[i] for i in train]
        deep = any(picture.dtype == np.uint16 for picture in pictures)
        self.peak = 65535.0 if deep else 255.0
        flat = [_as_deep(p).astype(np.int32) if deep else p for p in pictures]
        self.values = torch.from_numpy(np.concatenate([p.reshape(-1, p.shape[2]) for p in flat])).to(device)
        sizes = [p.shape[0] * p.shape[1] for p in pictures]
        self.starts = torch.tensor([0, *np.cumsum(sizes)[:-1]], dtype=torch.int64, device=device)
        self.widths = torch.tensor([p.shape[1] for p in pictures], dtype=torch.int64, device=device)
        masks = [images.masks[i] for i in train]
        self.trusted: Tensor | None = None
        if any(mask is not None for mask in masks):
            known = [np.ones(n, np.bool_) if m is None else m.reshape(-1) for m, n in zip(masks, sizes, strict=True)]
            self.trusted = torch.from_numpy(np.nonzero(np.concatenate(known))[0]).to(device)
            if not len(self.trusted):
                raise Gen3DError(
                    "The masks leave no pixel of the training pictures.",
                    "Make them white where the pictures are to be used.",
                    field="dataset",
                )

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Random pixels: image of each [count], place (x, y) of its middle [count, 2], value [count, 3 or 4] in [0, 1].

        Values are sRGB and, where the pictures have it, straight alpha.
        """
        device = self.values.device
        total = len(self.values) if self.trusted is None else len(self.trusted)
        flat = torch.randint(total, (count,), generator=generator, device=device)
        if self.trusted is not None:
            flat = self.trusted[flat]
        image = torch.searchsorted(self.starts, flat, right=True) - 1
        within, width = flat - self.starts[image], self.widths[image]
        place = torch.stack([within % width, within // width], 1).float() + 0.5
        return image, place, self.values[flat].float() / self.peak


def _as_deep(picture: Picture) -> NDArray[np.uint16]:
    return picture if picture.dtype == np.uint16 else picture.astype(np.uint16) * np.uint16(257)  # type: ignore[return-value]
