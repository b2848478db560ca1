# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths: where views are to be rendered from, and through which lens."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.lens import Intrinsics
from ..data.validate import MAX_COORDINATE
from ..errors import Gen3DError

LARGEST = 16_384  # pixels a side
LENS = ("w", "h", "fl_x", "fl_y", "cx", "cy")


@dataclass(frozen=True)
class CameraPath:
    """camera_to_world: rigid OpenGL poses [N, 4, 4]; lenses: one each, or None where the path does not say."""

    camera_to_world: NDArray[np.float64]
    lenses: tuple[Intrinsics, ...] | None = None


def read(path: Path) -> CameraPath:
    """A path from JSON: a list of 4x4 matrices, or "frames" with a "transform_matrix" each.

    Frames may have lenses of their own, or share one that stands beside "frames": "w", "h", "fl_x", "fl_y", "cx" and
    "cy" in pixels, as in datasets. Raises Gen3DError naming the first camera that is not a rigid pose or has no lens
    where others have one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Gen3DError(
            f"{path} cannot be read: {str(error)[:200]}.", "Give a JSON list of 4x4 matrices.", field="cameras"
        ) from error
    shared = content if isinstance(content, dict) else {}
    frames = shared.get("frames") if isinstance(content, dict) else content
    if not isinstance(frames, list) or not frames:
        raise Gen3DError(f"{path} lists no cameras.", "Give a JSON list of 4x4 matrices.", field="cameras")
    entries = [entry if isinstance(entry, dict) else {"transform_matrix": entry} for entry in frames]
    where = [f"{path}, camera {i}" for i in range(len(entries))]
    poses = [_pose(entry.get("transform_matrix"), name) for entry, name in zip(entries, where, strict=True)]
    lenses = None
    if any(key in holder for holder in (shared, *entries) for key in LENS):
        lenses = tuple(_lens({**shared, **entry}, name) for entry, name in zip(entries, where, strict=True))
    return CameraPath(np.stack(poses), lenses)


def _lens(entry: dict[str, Any], where: str) -> Intrinsics:
    values: list[Any] = [entry.get(name) for name in LENS]
    numbers = [float(v) for v in values if type(v) in (int, float) and abs(v) < 1e9]
    if len(numbers) == len(LENS) and all(map(math.isfinite, numbers)):
        width, height, fl_x, fl_y, cx, cy = numbers
        whole = width.is_integer() and height.is_integer()
        if whole and 1 <= width <= LARGEST and 1 <= height <= LARGEST and fl_x > 0 and fl_y > 0:
            return Intrinsics(int(width), int(height), fl_x, fl_y, cx, cy)
    raise Gen3DError(
        f"{where} has no lens that can be: {', '.join(f'{n} = {v!r:.30}' for n, v in zip(LENS, values, strict=True))}.",
        f"Give {', '.join(LENS)} in pixels, for each frame or for all.",
        field="cameras",
    )


def _pose(entry: Any, where: str) -> NDArray[np.float64]:
    try:
        matrix = np.array(entry, np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.zeros(0)
    if matrix.shape != (4, 4) or not np.abs(matrix).max() < MAX_COORDINATE:  # NaN is not less, either
        raise Gen3DError(f"{where} is not a 4x4 matrix of finite numbers.", "Correct it.", field="cameras")
    if np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-4:
        raise Gen3DError(
            f"{where} has a last row other than 0 0 0 1.", "Give its position in column 4.", field="cameras"
        )
    rotation = matrix[:3, :3]
    size = np.cbrt(abs(np.linalg.det(rotation)))
    if size < 1e-9 or not np.allclose(rotation.T @ rotation, np.eye(3) * size**2, atol=1e-2 * size**2):
        raise Gen3DError(f"{where} is not a rotation and a position.", "Correct it.", field="cameras")
    if np.linalg.det(rotation) < 0:
        raise Gen3DError(f"{where} mirrors space.", "Flip one axis of its rotation.", field="cameras")
    matrix[:3, :3] /= size
    return matrix
