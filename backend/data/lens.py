# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera model of a dataset: a pinhole with OpenCV's five distortion coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Intrinsics:
    """One camera's lens, in pixels of the stored picture.

    Column 0 spans 0 to 1, so pixel centres lie at +0.5 and the middle of the picture is (width / 2, height / 2).
    ``distortion`` is k1, k2, p1, p2, k3, OpenCV's order.
    """

    width: int
    height: int
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)


def distort(plane: NDArray[np.float64], distortion: tuple[float, float, float, float, float]) -> NDArray[np.float64]:
    """Where a point [..., 2] of the image plane at depth 1 (x right, y down) appears through the lens [..., 2].

    OpenCV's model ("Camera Calibration and 3D Reconstruction"): radial factor 1 + k1 r² + k2 r⁴ + k3 r⁶, and the
    tangential terms of p1, p2.
    """
    k1, k2, p1, p2, k3 = distortion
    x, y = plane[..., 0], plane[..., 1]
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        (
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        ),
        axis=-1,
    )
