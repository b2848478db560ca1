# SPDX-License-Identifier: GPL-3.0-or-later
"""A dataset of pictures whose cameras are known: what it holds, and how it is read from a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..dataset_size import PICTURE_SUFFIXES
from ..errors import Gen3DError
from . import pictures, transforms, validate
from .lens import Intrinsics
from .transforms import Frame

__all__ = ["Intrinsics", "PosedImages", "load"]

Picture = NDArray[np.uint8] | NDArray[np.uint16]
Item = TypeVar("Item")
Result = TypeVar("Result")
HOLD_OUT = 8
TOO_FEW_TO_HOLD_OUT = 4


@dataclass(frozen=True)
class PosedImages:
    """Pictures and their cameras, in the dataset's own world.

    names: what to call each picture in messages (never to be used as a path).
    images: uint8 or uint16 [H, W, C] each, sRGB as captured; C is 4 (straight alpha) for all if ``has_alpha``,
    else 3 for all. Sizes may differ.
    masks: bool [H, W], True where the picture may be trusted, or None where all of it may.
    camera_to_world: [N, 4, 4], rigid; OpenGL cameras (look down -Z, +Y up).
    splits: indices into the above of "train", "val" and "test"; train is never empty, test only in a set of fewer
    than four pictures, val often.
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


@dataclass(frozen=True)
class _Found:
    """A frame whose picture exists: where it lies, what its header says, whether to turn it upright."""

    frame: Frame
    path: Path
    mask: Path | None
    header: pictures.Header
    upright: bool


def load(path: str | Path) -> PosedImages:
    """The dataset in a folder, or in a transforms JSON file (see ``transforms`` for the dialects).

    Listed pictures that are missing are skipped and noted. Where no test split is stated, the validation split
    serves, or else every eighth picture in the order of the names. Poses refer to pictures as stored; a picture
    with an EXIF rotation is turned only where the stated w and h fit no other way.

    Raises Gen3DError naming the file, the frame and the field of what is wrong: before any picture is decoded
    for everything except damage inside the pictures.
    """
    listed = transforms.read(path)
    notes = list(listed.notes)
    wanted = [i for i, frame in enumerate(listed.frames) if frame.split != ""]
    paths = [_picture_path(listed.folder, listed.frames[i]) for i in wanted]
    missing = [_name(listed.frames[i]) for i, path in zip(wanted, paths, strict=True) if path is None]
    kept = [(i, path) for i, path in zip(wanted, paths, strict=True) if path is not None]
    if not kept:
        raise Gen3DError(
            f"None of the {len(missing)} listed pictures exists, such as {missing[0]}.",
            "Check that the pictures lie where file_path says, relative to the JSON file.",
            field="frames[0].file_path",
        )
    if missing:
        notes.append(f"{len(missing)} listed pictures are missing and were skipped: {_enumerated(missing)}.")
    found = _in_threads(lambda item: _inspect(listed.folder, listed.frames[item[0]], item[1]), kept)
    poses = listed.poses[[i for i, _ in kept]]
    lenses, rescaled = _lenses(found)
    notes += _remarks(found, rescaled) + _check_positions(poses)
    _check_memory(found)
    images = _in_threads(_decode, found)
    masks = _in_threads(_decode_mask, list(zip(found, lenses, strict=True)))
    images, has_alpha = _same_channels(images)
    names = tuple(_name(item.frame) for item in found)
    splits, split_notes = _splits(names, [item.frame.split for item in found])
    return PosedImages(
        names, tuple(images), tuple(masks), tuple(lenses), poses, splits, (*notes, *split_notes), has_alpha
    )


def _name(frame: Frame) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(frame.file_path))[:120].removeprefix("./")


def _enumerated(names: list[str], limit: int = 100) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results in order; the first failure in order is raised and what has not begun is dropped."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def _picture_path(folder: Path, frame: Frame) -> Path | None:
    return validate.confined(folder, frame.file_path, "file_path", frame.place, PICTURE_SUFFIXES)


def _inspect(folder: Path, frame: Frame, path: Path) -> _Found:
    mask = None
    if frame.mask_path is not None:
        mask = validate.confined(folder, frame.mask_path, "mask_path", frame.place)
        if mask is None:
            raise frame.place.error("mask_path", "names a file that is missing", "Add the mask, or remove the entry.")
    head = pictures.header(path, "file_path", frame.place)
    stated = frame.lens.get("w", 0.0), frame.lens.get("h", 0.0)
    stored = float(head.width), float(head.height)
    upright = (
        head.orientation in (5, 6, 7, 8)
        and min(stated) > 0
        and validate.same_aspect(stated, stored[::-1])
        and not validate.same_aspect(stated, stored)
    )
    return _Found(frame, path, mask, head, upright)


def _lenses(found: list[_Found]) -> tuple[list[Intrinsics], list[str]]:
    """Lens of each picture, and the names of those whose lens was rescaled from another size."""
    lenses, rescaled = [], []
    for item in found:
        size = (item.header.width, item.header.height)
        width, height = size[::-1] if item.upright else size
        lens, changed = validate.intrinsics(item.frame.lens, width, height, item.frame.place)
        lenses.append(lens)
        if changed:
            rescaled.append(_name(item.frame))
    return lenses, rescaled


def _remarks(found: list[_Found], rescaled: list[str]) -> list[str]:
    notes = []
    if rescaled:
        notes.append(
            f"{len(rescaled)} pictures are not of the stated size w x h; their lens values were rescaled, "
            f"from {rescaled[0]} on."
        )
    for upright, done in ((True, "turned upright, as w and h say"), (False, "taken as stored")):
        turned = [_name(f.frame) for f in found if f.header.orientation != 1 and f.upright is upright]
        if turned:
            notes.append(f"{len(turned)} pictures carry an EXIF rotation and were {done}, from {turned[0]} on.")
    printed = [_name(f.frame) for f in found if f.header.mode == "CMYK"]
    if printed:
        notes.append(f"{len(printed)} CMYK pictures were converted to RGB without their profile.")
    return notes


def _check_positions(poses: NDArray[np.float64]) -> list[str]:
    positions = poses[:, :3, 3]
    if np.ptp(positions, axis=0).max() <= 1e-7 * (1e-6 + np.abs(positions).max()):
        raise Gen3DError(
            "All cameras stand at the same place, so that no depth can be seen.",
            "Take pictures from at least two places, better from forty.",
            field="frames[0].transform_matrix",
        )
    twins = len(poses) - len(np.unique(poses.reshape(len(poses), 16), axis=0))
    return [f"{twins} pictures share their pose with another one."] if twins else []


def _check_memory(found: list[_Found]) -> None:
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not known on this system
        available = 16 * 2**30
    needed = sum(item.header.bytes for item in found)
    if needed > available // 2:
        raise Gen3DError(
            f"The {len(found)} pictures need {needed / 2**30:.1f} GiB of memory; half of this machine's is "
            f"{available / 2**31:.1f} GiB.",
            "Scale the pictures down, or list fewer frames.",
            field="frames",
        )


def _decode(item: _Found) -> Picture:
    return pictures.decode(item.path, item.frame.place, deep=item.header.deep, upright=item.upright)


def _decode_mask(pair: tuple[_Found, Intrinsics]) -> NDArray[np.bool_] | None:
    item, lens = pair
    if item.mask is None:
        return None
    return pictures.decode_mask(item.mask, item.frame.place, lens.width, lens.height)


def _same_channels(images: list[Picture]) -> tuple[list[Picture], bool]:
    """All with alpha if any pixel of the set is transparent, else all without."""
    has_alpha = any(
        image.shape[2] == 4 and bool((image[..., 3] != np.iinfo(image.dtype).max).any()) for image in images
    )
    if not has_alpha:
        return [image if image.shape[2] == 3 else image[..., :3].copy() for image in images], False
    return [image if image.shape[2] == 4 else _opaque(image) for image in images], True


def _opaque(image: Picture) -> Picture:
    result = np.full((*image.shape[:2], 4), np.iinfo(image.dtype).max, image.dtype)
    result[..., :3] = image
    return result


def _splits(names: tuple[str, ...], stated: list[str | None]) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Indices by split, and what had to be assumed."""
    splits = {
        split: np.array([i for i, own in enumerate(stated) if (own or "train") == split], np.int64)
        for split in transforms.SPLITS
    }
    train, notes = splits["train"], []
    if not len(train):
        raise Gen3DError("No picture of the train split exists.", "Add them, or correct the splits.", field="frames")
    if not len(splits["test"]):
        if len(splits["val"]):
            splits["test"] = splits["val"]
            notes.append("There is no test split; the validation split serves as test.")
        elif len(train) >= TOO_FEW_TO_HOLD_OUT:
            order = sorted(train, key=lambda i: names[i])
            splits["test"] = np.array(sorted(order[::HOLD_OUT]), np.int64)
            splits["train"] = np.setdiff1d(train, splits["test"])
            notes.append(f"There is no test split; every {HOLD_OUT}th picture by name is held out for it.")
        else:
            notes.append(f"With only {len(train)} pictures, none is held out for a test.")
    return splits, notes
