# SPDX-License-Identifier: GPL-3.0-or-later
"""A dataset of pictures whose cameras are known: what it holds, and how it is read from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .lens import Intrinsics

__all__ = ["Intrinsics", "PosedImages", "load"]

Picture = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class PosedImages:
    """Pictures and their cameras, in the dataset's own world.

    names: what to call each picture in messages (never to be used as a path).
    images: uint8 or uint16 [H, W, C] each, sRGB as captured; C is 4 (straight alpha) for all if ``has_alpha``,
    else 3 for all. Sizes may differ.
    masks: bool [H, W], True where the picture may be trusted, or None where all of it may.
    camera_to_world: [N, 4, 4], rigid; OpenGL cameras (look down -Z, +Y up).
    splits: indices into the above of "train", "val" and "test"; train is never empty.
    notes: what was repaired, skipped or assumed, one sentence each, for the user.
    """

    names: tuple[str, ...]
    images: tuple[Picture, ...]
    masks: tuple[NDArray[np.bool_] | None, ...]
    intrinsics: tuple[Intrinsics, ...]
    camera_to_world: NDArray[np.float64]
    splits: dict[str, NDArray[np.int64]]
    notes: tuple[str, ...]
    has_alpha: bool


def load(path: str | Path) -> PosedImages:
    """The dataset in a folder, or in a transforms JSON file."""
    raise NotImplementedError(path)
