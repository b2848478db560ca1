# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks on every value a dataset brings; each fault is said with its file, its frame and its field."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from ..errors import Gen3DError
from .lens import Intrinsics

MAX_COORDINATE = 1e9
MAX_SHEAR = 0.02


@dataclass(frozen=True)
class Place:
    """Where in a dataset a value stands: the JSON file, and the index in its ``frames`` (None: outside of them)."""

    file: str
    frame: int | None = None

    def error(self, field: str, problem: str, next_step: str) -> Gen3DError:
        """The error "FILE: frames[I].FIELD PROBLEM."."""
        entry = field if self.frame is None else f"frames[{self.frame}].{field}"
        return Gen3DError(f"{self.file}: {entry} {problem}.", next_step, field=entry)


def number(value: object, field: str, place: Place) -> float:
    """A finite number; integers of any length are accepted while a float can hold them."""
    if type(value) not in (int, float):
        raise place.error(field, f"must be a number, not {type(value).__name__}", "Correct the value in the file.")
    try:
        result = float(value)  # type: ignore[arg-type]
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise place.error(field, "is not a finite number", "Correct the value, or remove the entry.")
    return result


def matrix(value: object, field: str, place: Place) -> NDArray[np.float64]:
    """A finite 4x4 matrix [4, 4] with last row 0 0 0 1, from 4x4 numbers or 3x4 (the last row is then added)."""
    if not isinstance(value, list) or len(value) not in (3, 4):
        raise place.error(field, "is not a 4x4 matrix", "Give four rows of four numbers, camera to world.")
    rows = [row if isinstance(row, list) else [] for row in value]
    if any(len(row) != 4 for row in rows):
        raise place.error(field, "is not a 4x4 matrix", "Give four rows of four numbers, camera to world.")
    result = np.eye(4)
    result[: len(rows)] = [[number(entry, field, place) for entry in row] for row in rows]
    if np.abs(result).max() > MAX_COORDINATE:
        raise place.error(
            field, f"holds a number beyond {MAX_COORDINATE:.0e}", "Correct the camera's pose, or remove the frame."
        )
    if np.abs(result[3] - (0, 0, 0, 1)).max() > 1e-4:
        raise place.error(
            field, "has a last row other than 0 0 0 1", "Give camera-to-world matrices with the position in column 4."
        )
    return result


def similarities(
    matrices: NDArray[np.float64], field: str, places: list[Place]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rigid part [N, 4, 4] and scale [N] of matrices that are similarities, or nearly so.

    The nearest rotation (polar decomposition) replaces the upper left 3x3; the position is left alone.
    Raises Gen3DError for a mirrored, sheared or vanishing one.
    """
    u, stretch, vt = np.linalg.svd(matrices[:, :3, :3])
    scale = stretch.mean(axis=1)
    for i in np.flatnonzero(stretch[:, 2] < 1e-9):
        raise places[i].error(field, "has no rotation: its axes vanish", "Correct the pose, or remove the frame.")
    for i in np.flatnonzero(stretch[:, 0] - stretch[:, 2] > MAX_SHEAR * scale):
        raise places[i].error(
            field, "is not a rotation: its axes are sheared or scaled unequally", "Give rigid camera-to-world matrices."
        )
    rotation = u @ vt
    for i in np.flatnonzero(np.linalg.det(rotation) < 0):
        raise places[i].error(
            field, "is mirrored (determinant -1)", "Give right-handed OpenGL axes: x right, y up, looking down -z."
        )
    rigid = matrices.copy()
    rigid[:, :3, :3] = rotation
    return rigid, scale


def intrinsics(values: dict[str, float], width: int, height: int, place: Place) -> tuple[Intrinsics, bool]:
    """The lens for a picture of the given size, and whether it had to be rescaled from another size.

    Raises Gen3DError for a focal length or angle that is missing or out of range, and where the stated size
    (w, h) has another aspect than the picture.
    """
    w, h = values.get("w", 0.0), values.get("h", 0.0)
    for name, size in (("w", w), ("h", h)):
        if name in values and size < 1:
            raise place.error(name, f"= {size:g} is not a picture size", "Give the size in pixels, or leave it out.")
    if w and h and not same_aspect((w, h), (width, height)):
        raise place.error(
            "w", f"and h say {w:g} x {h:g}, but the picture is {width} x {height}", "Correct the size or the picture."
        )
    x_scale = width / w if w else (height / h if h else 1.0)
    y_scale = height / h if h else x_scale
    fl_x = _focal("x", values, width, x_scale, place)
    fl_y = _focal("y", values, height, y_scale, place)
    if fl_x is None and fl_y is None:
        raise place.error("fl_x", "is missing, and camera_angle_x too", "Give one of them: pixels, or radians.")
    lens = Intrinsics(
        width,
        height,
        fl_x if fl_x is not None else fl_y or 0.0,
        fl_y if fl_y is not None else fl_x or 0.0,
        values["cx"] * x_scale if "cx" in values else width / 2,
        values["cy"] * y_scale if "cy" in values else height / 2,
        (
            values.get("k1", 0.0),
            values.get("k2", 0.0),
            values.get("p1", 0.0),
            values.get("p2", 0.0),
            values.get("k3", 0.0),
        ),
    )
    return lens, x_scale != 1.0 or y_scale != 1.0


def same_aspect(stated: tuple[float, float], actual: tuple[float, float]) -> bool:
    """Whether two sizes (width, height) are the same picture scaled, each side rounded to whole pixels."""
    return abs(stated[0] * actual[1] - stated[1] * actual[0]) <= max(stated) + max(actual)


def _focal(axis: str, values: dict[str, float], size: int, scale: float, place: Place) -> float | None:
    length, angle = values.get(f"fl_{axis}"), values.get(f"camera_angle_{axis}")
    if length is not None:
        if not 1e-3 < length < MAX_COORDINATE:
            raise place.error(f"fl_{axis}", f"= {length:g} is no focal length", "Give it in pixels, more than 0.")
        return length * scale
    if angle is not None:
        if not 1e-4 < angle < math.pi - 1e-4:
            raise place.error(
                f"camera_angle_{axis}", f"= {angle:g} is no field of view", "Give the full angle in radians, below pi."
            )
        return size / 2 / math.tan(angle / 2)
    return None


def confined(folder: Path, name: object, field: str, place: Place, suffixes: tuple[str, ...] = ("",)) -> Path | None:
    """The regular file that ``name`` means beneath ``folder`` (a resolved path), or None if there is none.

    The suffixes are tried in turn. Raises Gen3DError for anything that is not a relative path, and for a file
    that lies outside of the folder, by ``..`` or through a symbolic link.
    """
    keep_inside = "Put the file beneath the dataset's folder and give its path relative to it."
    if not isinstance(name, str) or not name.strip():
        raise place.error(field, "must be a relative path", keep_inside)
    if "\0" in name or any(0xD800 <= ord(c) <= 0xDFFF for c in name):
        raise place.error(field, "holds characters that no file name can have", "Rename the file.")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):
        raise place.error(field, "is a web address", "Download the file; " + keep_inside[0].lower() + keep_inside[1:])
    relative = name.replace("\\", "/")
    if relative.startswith("/") or PureWindowsPath(relative).drive:
        raise place.error(field, "is an absolute path", keep_inside)
    if os.path.normpath(relative).split(os.sep)[0] == "..":
        raise place.error(field, "leads out of the dataset's folder", keep_inside)
    for suffix in suffixes:
        candidate = folder / (relative + suffix)
        if os.path.isfile(candidate):
            if not Path(os.path.realpath(candidate)).is_relative_to(folder):
                raise place.error(field, "leads out of the dataset's folder through a link", keep_inside)
            return candidate
    return None
