# SPDX-License-Identifier: GPL-3.0-or-later
"""A quick picture of a point cloud, for previews."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

AZIMUTH, ELEVATION = math.radians(-60), math.radians(20)  # of the eye: in front (−Y), to the right, and above
BACKGROUND = 236


def draw(
    points: NDArray[np.floating], colours: NDArray[np.uint8], size: int = 192, reach: float = 0.62
) -> NDArray[np.uint8]:
    """uint8 sRGB [size, size, 3] of points [N, 3] (Z up) and colours [N, 3], seen without perspective.

    ``reach``: half of what the picture shows of the world; points beyond it are not seen.
    """
    side = np.array([-math.sin(AZIMUTH), math.cos(AZIMUTH), 0.0])
    eye = np.array(
        [math.cos(ELEVATION) * math.cos(AZIMUTH), math.cos(ELEVATION) * math.sin(AZIMUTH), math.sin(ELEVATION)]
    )
    up = np.cross(eye, side)
    order = np.argsort(points @ eye)  # the nearest last, over all others
    across, down = points[order] @ side, -(points[order] @ up)
    picture = np.full((size, size, 3), BACKGROUND, np.uint8)
    dot = max(1, size // 64)
    corner = np.stack([down, across], 1) * (size / 2 / reach) + (size - dot) / 2
    seen = np.isfinite(corner).all(1) & (corner >= 0).all(1) & (corner <= size - dot).all(1)
    row, column = np.rint(corner[seen]).astype(int).T
    for i in range(dot):
        for j in range(dot):
            picture[row + i, column + j] = colours[order][seen]
    return picture
