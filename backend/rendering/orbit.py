# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of cameras that look at something. OpenGL cameras: they look down -Z, +Y is up. The world has Z up."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

TURNS, RISE = "abcdefghijklmnop", 15.0
BEARINGS = [(360.0 / len(TURNS) * turn, RISE * rise) for turn in range(len(TURNS)) for rise in range(7)]
"""Azimuth and elevation, in degrees, in the middle of each ``bearing``."""


def focal_length(fov: float, size: int) -> float:
    """In pixels, of a picture ``size`` pixels wide that spans ``fov`` degrees."""
    return size / 2 / math.tan(math.radians(fov) / 2)


def look_at(
    eye: ArrayLike, target: ArrayLike = (0.0, 0.0, 0.0), up: ArrayLike = (0.0, 0.0, 1.0)
) -> NDArray[np.float64]:
    """Camera to world, [4, 4], of a camera at ``eye`` that sees ``target`` in its middle and ``up`` upwards.

    ``eye`` is not ``target``. Where the line of sight runs along ``up``, +Y is upwards instead.
    """
    eye = np.asarray(eye, np.float64)
    back = eye - np.asarray(target, np.float64)
    back /= np.linalg.norm(back)
    right = np.cross(np.asarray(up, np.float64), back)
    if np.linalg.norm(right) < 1e-9:
        right = np.cross((0.0, 1.0, 0.0), back)
    right /= np.linalg.norm(right)
    return _pose(right, back, eye)


def orbit(
    azimuth: float, elevation: float, distance: float, target: ArrayLike = (0.0, 0.0, 0.0)
) -> NDArray[np.float64]:
    """Camera to world, [4, 4], of a camera at ``distance`` from ``target``, angles in degrees.

    Azimuth 0 is in front: at -Y, looking towards +Y; 90 is at +X. Elevation 90 looks straight down, the front below.
    """
    a, e = math.radians(azimuth), math.radians(elevation)
    right = np.array([math.cos(a), math.sin(a), 0.0])
    back = np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)])
    return _pose(right, back, np.asarray(target, np.float64) + distance * back)


def view_words(azimuth: float, elevation: float) -> str:
    """What a prompt says of a view, angles in degrees (Poole et al., "DreamFusion", 2022, §3.2)."""
    if elevation > 60:
        return "overhead view"
    away = abs((azimuth + 180) % 360 - 180)
    return "front view" if away <= 45 else "back view" if away >= 135 else "side view"


def bearing(azimuth: float, elevation: float) -> str:
    """Just from where a view is, in words that only the embedded prior knows, few enough to fit behind any prompt: a
    letter for the sixteenth of a turn, "a" in front, and how many times 15 degrees above, such as "e2"."""
    return f"{TURNS[round(azimuth / 360 * len(TURNS)) % len(TURNS)]}{max(round(elevation / RISE), 0)}"


def _pose(right: NDArray[np.float64], back: NDArray[np.float64], eye: NDArray[np.float64]) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(back, right), back, eye
    return pose
