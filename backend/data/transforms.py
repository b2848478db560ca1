# SPDX-License-Identifier: GPL-3.0-or-later
"""The dialects of transforms.json: NeRF-synthetic, Instant-NGP, nerfstudio.

NeRF-synthetic: ``transforms_train.json``, ``_val``, ``_test``; ``camera_angle_x``; ``file_path`` without suffix.
Instant-NGP: one ``transforms.json``; ``fl_x fl_y cx cy w h k1 k2 p1 p2``; listed pictures may be missing.
nerfstudio: the same with lens values per frame, ``mask_path``, ``train_filenames`` (``val_``, ``test_``), and
``applied_transform`` / ``applied_scale``, which are undone here so that results land in the original world.
``aabb_scale``, ``scale`` and ``offset`` choose a training box; ours is found from the pictures, so they are not used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Gen3DError
from . import validate
from .validate import Place

SPLITS = ("train", "val", "test")
MAX_FRAMES = 100_000
MAX_JSON_BYTES = 128 * 2**20
LENS_FIELDS = ("w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y", "k1", "k2", "p1", "p2", "k3")
FOCAL_FIELDS = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y")
PINHOLE_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")


@dataclass(frozen=True)
class Frame:
    """One entry of ``frames``: its place for messages, its paths as written, its lens values, its split if stated."""

    place: Place
    file_path: object
    mask_path: object
    lens: dict[str, float]
    split: str | None


@dataclass(frozen=True)
class Transforms:
    """All frames of a dataset. ``poses``: rigid camera-to-world [N, 4, 4] in the original world."""

    folder: Path
    frames: tuple[Frame, ...]
    poses: NDArray[np.float64]
    notes: tuple[str, ...]


def read(path: str | Path) -> Transforms:
    """The frames of the dataset in a folder, or of a transforms file.

    Of a folder, ``transforms.json`` is read, else ``transforms_train.json`` with its ``_val`` and ``_test``.
    Raises Gen3DError naming file, frame and field of what is wrong. No picture is opened.
    """
    files = _files(path)
    folder = files[0][1].parent
    frames: list[Frame] = []
    poses: list[NDArray[np.float64]] = []
    notes: list[str] = []
    for split, file in files:
        listed, listed_poses, listed_notes = _read_file(file, split)
        frames += listed
        poses.append(listed_poses)
        notes += listed_notes
    return Transforms(folder, tuple(frames), np.concatenate(poses), tuple(notes))


def _files(path: str | Path) -> list[tuple[str | None, Path]]:
    """(split or None, resolved JSON file) of a dataset."""
    shown = str(path)[:200]
    if "://" in shown:
        raise Gen3DError(f"{shown} is a web address.", "Download the dataset and give its folder.", field="dataset")
    try:
        real = Path(path).expanduser().resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise Gen3DError(f"{shown} does not exist.", "Give the dataset's folder.", field="dataset") from None
    named = real.name if real.is_file() else None
    folder = real if named is None else real.parent
    if named is not None and named not in {f"transforms_{split}.json" for split in SPLITS}:
        return [(None, real)]
    found: list[tuple[str | None, Path]] = []
    if named is None and (folder / "transforms.json").is_file():
        found = [(None, folder / "transforms.json")]
    elif (folder / "transforms_train.json").is_file():
        candidates = [(split, folder / f"transforms_{split}.json") for split in SPLITS]
        found = [(split, file) for split, file in candidates if file.is_file()]
    if not found:
        raise Gen3DError(
            f"{shown} holds neither transforms.json nor transforms_train.json.",
            "Give the folder that holds one of them, or the JSON file itself.",
            field="dataset",
        )
    for _, file in found:
        if file.resolve().parent != folder:
            raise Gen3DError(
                f"{file.name} is a link out of the dataset's folder.", "Copy the file into it.", field="dataset"
            )
    return found


def _read_file(file: Path, split: str | None) -> tuple[list[Frame], NDArray[np.float64], list[str]]:
    top = Place(file.name)
    content = _json(file)
    listed = content.get("frames")
    if not isinstance(listed, list) or not listed:
        raise top.error("frames", "is not a list with at least one frame", "Export the cameras again.")
    if len(listed) > MAX_FRAMES:
        raise top.error(
            f"frames[{MAX_FRAMES}]", f"is one too many: {len(listed)} are listed", f"Keep at most {MAX_FRAMES} frames."
        )
    shared = _lens(content, top)
    members = _split_lists(content, top)
    frames, matrices = [], []
    for i, entry in enumerate(listed):
        place = Place(file.name, i)
        if not isinstance(entry, dict):
            raise Gen3DError(
                f"{file.name}: frames[{i}] is not an object.", "Export the cameras again.", field=f"frames[{i}]"
            )
        own = _lens(entry, place)
        kept = {k: v for k, v in shared.items() if k not in FOCAL_FIELDS or not own.keys() & set(FOCAL_FIELDS)}
        path = entry.get("file_path")
        member = split if members is None else members.get(_plain(str(path)), members[""])
        frames.append(Frame(place, path, entry.get("mask_path"), kept | own, member))
        matrices.append(validate.matrix(entry.get("transform_matrix"), "transform_matrix", place))
    poses, notes = _original_world(content, np.stack(matrices), [f.place for f in frames], top)
    if members is not None:
        notes += _unlisted(members, frames, file.name)
    return frames, poses, notes


def _json(file: Path) -> dict[str, Any]:
    again = "Export the dataset again, or correct the file."
    if file.stat().st_size > MAX_JSON_BYTES:
        raise Gen3DError(
            f"{file.name} is larger than {MAX_JSON_BYTES >> 20} MiB.", "Split the dataset.", field=file.name
        )
    try:
        # From bytes, so that json itself detects UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise Gen3DError(
            f"{file.name} is not valid JSON: {error.msg} in line {error.lineno}.", again, field=file.name
        ) from None
    except (ValueError, RecursionError):
        raise Gen3DError(f"{file.name} cannot be read as JSON text.", again, field=file.name) from None
    except OSError as error:
        raise Gen3DError(f"{file.name} cannot be read: {error.strerror}.", "Check it.", field=file.name) from None
    if not isinstance(content, dict):
        raise Gen3DError(f"{file.name} does not hold a JSON object.", again, field=file.name)
    return content


def _lens(entry: dict[str, Any], place: Place) -> dict[str, float]:
    """The lens values stated in a frame or for all frames; refuses a lens that is no distorted pinhole."""
    pinhole = "Undistort the pictures to a pinhole (for example with COLMAP's image_undistorter) and export again."
    model = entry.get("camera_model", "OPENCV")
    if model not in PINHOLE_MODELS:
        raise place.error("camera_model", f"{str(model)[:40]!r} is not supported", pinhole)
    for field in ("is_fisheye", "ftheta_p0", "latlong", "k4", "k5", "k6"):
        if entry.get(field):
            raise place.error(field, "describes a lens that is not supported", pinhole)
    return {field: validate.number(entry[field], field, place) for field in LENS_FIELDS if field in entry}


def _plain(path: str) -> str:
    return str(PurePosixPath(path.replace("\\", "/")))


def _split_lists(content: dict[str, Any], top: Place) -> dict[str, str] | None:
    """Which split each listed path belongs to, under "" that of the unlisted ("": none); None if there are no lists.

    A picture in several lists goes to the last of train, val, test, so that none is trained on and tested too.
    """
    members: dict[str, str] = {}
    for split in SPLITS:
        field = f"{split}_filenames"
        paths = content.get(field, [])
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise top.error(field, "is not a list of paths", "List the file_path of each frame of the split.")
        members |= {_plain(path): split for path in paths}
    if not members:
        return None
    members[""] = "" if "train" in members.values() else "train"
    return members


def _unlisted(members: dict[str, str], frames: list[Frame], file: str) -> list[str]:
    notes = []
    unused = sum(frame.split == "" for frame in frames)
    if unused:
        notes.append(f"{file}: {unused} frames stand in none of the split lists and were left out.")
    known = {_plain(frame.file_path) for frame in frames if isinstance(frame.file_path, str)}
    strangers = sorted(set(members) - known - {""})
    if strangers:
        notes.append(f"{file}: {len(strangers)} paths in the split lists have no frame, such as {strangers[0][:80]}.")
    return notes


def _original_world(
    content: dict[str, Any], matrices: NDArray[np.float64], places: list[Place], top: Place
) -> tuple[NDArray[np.float64], list[str]]:
    """Rigid poses with ``applied_transform`` and ``applied_scale`` undone: stored = scale * (transform @ original)."""
    notes = []
    poses, scales = validate.similarities(matrices, "transform_matrix", places)
    scaled = int(np.count_nonzero(np.abs(scales - 1.0) > 1e-3))
    if scaled:
        notes.append(f"{top.file}: {scaled} camera matrices carried a scale, which was removed.")
    if "applied_scale" in content:
        scale = validate.number(content["applied_scale"], "applied_scale", top)
        if not 1e-9 < scale < validate.MAX_COORDINATE:
            raise top.error("applied_scale", f"= {scale:g} is no scale", "Correct it, or leave it out.")
        poses[:, :3, 3] /= scale
    if "applied_transform" in content:
        applied = validate.matrix(content["applied_transform"], "applied_transform", top)
        rigid, factor = validate.similarities(applied[None], "applied_transform", [top])
        rotation = rigid[0, :3, :3].T
        poses[:, :3, 3] = (poses[:, :3, 3] - applied[:3, 3]) @ rotation.T / factor[0]
        poses[:, :3, :3] = rotation @ poses[:, :3, :3]
    return poses, notes
