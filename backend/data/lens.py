# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera model of a dataset: a pinhole with OpenCV's five distortion coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


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

    @property
    def reach(self) -> float:
        """How far off its axis, on the plane at depth 1, the lens is to be believed: 1.5 times the furthest corner.

        Further out the polynomial may fold back into the picture. Infinite without distortion.
        """
        if not any(self.distortion):
            return math.inf
        across = max(self.cx, self.width - self.cx) / self.fl_x
        down = max(self.cy, self.height - self.cy) / self.fl_y
        return 1.5 * math.hypot(across, down)


def distort_xy(x: Any, y: Any, k1: float, k2: float, p1: float, p2: float, k3: float) -> tuple[Any, Any]:
    """Where a point of the image plane at depth 1 (x right, y down; numbers or arrays) appears through the lens.

    OpenCV's model ("Camera Calibration and 3D Reconstruction"): radial factor 1 + k1 r² + k2 r⁴ + k3 r⁶, and the
    tangential terms of p1, p2.
    """
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return (
        x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
        y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
    )
