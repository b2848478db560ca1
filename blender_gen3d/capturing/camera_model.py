# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's camera as a pinhole, and cameras spread over a sphere. Pure maths: needs no bpy.

A camera pose is a camera-to-world matrix of the OpenGL kind, as Blender's own cameras are: it looks down its -Z,
+Y is up in the picture. Pixel coordinates have their origin in the picture's top left corner, pixel centres at +0.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import default_rng  # here, as it takes 40 ms that nobody should wait for in mid-work
from numpy.typing import ArrayLike, NDArray

GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))
JITTER = 0.35  # share of a Fibonacci cell by which a direction may move


class Intrinsics(NamedTuple):
    """Pinhole of one picture: size, focal lengths and principal point, all in pixels."""

    width: int
    height: int
    fl_x: float
    fl_y: float
    cx: float
    cy: float

    @property
    def angle_x(self) -> float:
        """Horizontal field of view in radians, principal point in the middle."""
        return float(2.0 * np.arctan(0.5 * self.width / self.fl_x))


def intrinsics(
    width: int,
    height: int,
    *,
    lens: float,
    sensor_width: float = 36.0,
    sensor_height: float = 24.0,
    sensor_fit: str = "AUTO",
    shift_x: float = 0.0,
    shift_y: float = 0.0,
    pixel_aspect_x: float = 1.0,
    pixel_aspect_y: float = 1.0,
) -> Intrinsics:
    """The pinhole of a perspective Blender camera (lens and sensor in millimetres).

    Blender measures lens, sensor and shift along one side of the picture, the "fitted" one: with AUTO the longer
    side as displayed, always against the sensor *width*. Pixel aspect stretches pixels, so it changes which side is
    the longer one and makes the two focal lengths differ.
    """
    aspect = pixel_aspect_y / pixel_aspect_x
    horizontal = sensor_fit == "HORIZONTAL" or (sensor_fit == "AUTO" and width >= aspect * height)
    sensor = sensor_height if sensor_fit == "VERTICAL" else sensor_width
    fitted = width if horizontal else aspect * height  # the fitted side, in widths of a pixel
    fl_x = lens * fitted / sensor
    return Intrinsics(
        width=width,
        height=height,
        fl_x=fl_x,
        fl_y=fl_x / aspect,
        cx=0.5 * width - shift_x * fitted,
        cy=0.5 * height + shift_y * fitted / aspect,
    )


def project(points: ArrayLike, camera: Intrinsics, camera_to_world: ArrayLike) -> NDArray[np.float64]:
    """Pixel coordinates [..., 2] of world points [..., 3] in front of a camera [4, 4]."""
    pose = np.asarray(camera_to_world, np.float64)
    seen = (np.asarray(points, np.float64) - pose[:3, 3]) @ pose[:3, :3]
    return np.stack(
        (camera.cx - camera.fl_x * seen[..., 0] / seen[..., 2], camera.cy + camera.fl_y * seen[..., 1] / seen[..., 2]),
        axis=-1,
    )


def without_scale(matrix: ArrayLike) -> NDArray[np.float64]:
    """The rigid pose [4, 4] of a camera whose object matrix may be scaled, sheared or mirrored.

    Viewing direction and position are kept; "up" is the matrix's own, made square to it.
    """
    pose = np.array(matrix, np.float64)
    back = pose[:3, 2] / np.linalg.norm(pose[:3, 2])
    right = np.cross(pose[:3, 1], back)
    right /= np.linalg.norm(right)
    pose[:3, :3] = np.stack((right, np.cross(back, right), back), axis=1)
    pose[3] = (0.0, 0.0, 0.0, 1.0)
    return pose


def look_at(position: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Poses [..., 4, 4] of cameras at ``position`` [..., 3] that look at ``target`` [3], Z up (Y up where they look
    along Z)."""
    eye = np.asarray(position, np.float64)
    back = eye - np.asarray(target, np.float64)
    back /= np.linalg.norm(back, axis=-1, keepdims=True)
    up = np.where(np.abs(back[..., 2:]) > 1.0 - 1e-9, (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    right = np.cross(up, back)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    pose = np.zeros((*eye.shape[:-1], 4, 4))
    pose[..., :3, :] = np.stack((right, np.cross(back, right), back, eye), axis=-1)
    pose[..., 3, 3] = 1.0
    return pose


def sphere_directions(
    count: int, *, elevation_min: float = -90.0, elevation_max: float = 90.0, seed: int = 0
) -> NDArray[np.float64]:
    """Well-spread unit vectors [count, 3] between two elevations in degrees: a jittered Fibonacci sphere.

    Equal steps in height are equal areas of a sphere (Archimedes), the golden angle spreads them around it; the
    jitter, a share of one cell, keeps the views from lining up. The same seed gives the same directions.
    """
    low, high = np.sin(np.radians((elevation_min, elevation_max)))
    wobble = default_rng(seed).uniform(-JITTER, JITTER, (2, count))
    z = low + (high - low) * (np.arange(count) + 0.5 + wobble[0]) / count
    ring = np.sqrt(1.0 - z * z)
    cell = np.sqrt(2.0 * np.pi * max(high - low, 1e-6) / count)  # side of one cell on the unit sphere
    azimuth = GOLDEN_ANGLE * np.arange(count) + wobble[1] * cell / np.maximum(ring, cell)
    return np.stack((ring * np.cos(azimuth), ring * np.sin(azimuth), z), axis=-1)


def fit_distance(camera: Intrinsics, radius: float, margin: float = 1.05) -> float:
    """How far from its centre a camera must stand to see a whole sphere, which then fills the shorter side."""
    half = min(camera.width / camera.fl_x, camera.height / camera.fl_y) / 2.0
    return float(margin * radius * np.sqrt(1.0 + half * half) / half)


def split(count: int, val: float, test: float) -> list[str]:
    """Which of "train", "val" and "test" each view belongs to: held-out views evenly spread, one at least trains."""
    names = ["train"] * count
    for name, share in (("test", test), ("val", val)):
        free = [index for index, taken in enumerate(names) if taken == "train"]
        wanted = min(round(share * count) or (share > 0.0), len(free) - 1)
        for place in range(wanted):
            names[free[int((place + 0.5) * len(free) / wanted)]] = name
    return names
