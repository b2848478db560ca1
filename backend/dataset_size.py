# SPDX-License-Identifier: GPL-3.0-or-later
"""How many pictures a dataset has, and of what size, from its JSON and the head of one of them.

Standard library only: Blender asks for it while it draws a panel, before anything of the dataset is checked. So
nothing here raises, nothing is read again until its JSON changes, and no picture is decoded.
"""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

PICTURE_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".PNG", ".JPG", ".JPEG")
NAMES = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
MAX_JSON_BYTES = 4 * 2**20  # a larger one takes too long to read while a panel is drawn
TRIED = 8  # pictures: the first ones may be missing
INDEX = 8  # bytes by which training finds a pixel that its mask lets through

Head = tuple[int, int, int, bool]
"""Width and height in pixels, channels, whether of 16 bits."""


@dataclass(frozen=True)
class Size:
    """frames: all that are listed, and so kept in memory; trained: those of them that are trained with; pixels of each
    picture, as of the first; channels: 3, or 4 with alpha; deep: of 16 bits; masked: with masks beside them."""

    frames: int
    trained: int
    pixels: int
    channels: int
    deep: bool
    masked: bool

    def kept(self) -> int:
        """Bytes of the pictures as ``posed_images`` has them, in the computer's memory."""
        return self.frames * self.pixels * (self.channels * (2 if self.deep else 1) + self.masked)

    def drawn_from(self) -> int:
        """Bytes of the copy that ``training_pixels`` draws from, in the memory of the device."""
        return self.trained * self.pixels * (self.channels * (4 if self.deep else 1) + INDEX * self.masked)


def of(dataset: str) -> Size | None:
    """That of the dataset in a folder, or in a transforms file; None where it cannot be told."""
    try:
        path = Path(dataset).expanduser()
        files = [path] if path.is_file() else _files(path) if dataset else []
        return _size(tuple((str(file), file.stat().st_mtime_ns) for file in files)) if files else None
    except (OSError, ValueError, RuntimeError):
        return None


def _files(folder: Path) -> list[Path]:
    whole = folder / "transforms.json"
    return [whole] if whole.is_file() else [path for name in NAMES if (path := folder / name).is_file()]


@lru_cache(maxsize=16)
def _size(files: tuple[tuple[str, int], ...]) -> Size | None:
    """Of JSON files, each with the time of its last change."""
    frames, trained, masked, head = 0, 0, False, None
    for name, _ in files:
        content = _json(Path(name))
        listed = [entry for entry in _list(content, "frames") if isinstance(entry, dict)]
        apart = [*_list(content, "val_filenames"), *_list(content, "test_filenames")]
        frames += len(listed)
        if Path(name).name not in NAMES[1:]:
            trained += max(0, len(listed) - len(apart))
        masked |= any("mask_path" in entry for entry in listed)
        head = head or _first_head(Path(name).parent, listed[:TRIED])
    if head is None:
        return None
    width, height, channels, deep = head
    return Size(frames, trained, width * height, channels, deep, masked)


def _json(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_JSON_BYTES else None
        return content if isinstance(content, dict) else {}
    return {}


def _list(content: dict[str, Any], name: str) -> list[Any]:
    found = content.get(name)
    return found if isinstance(found, list) else []


def _first_head(folder: Path, frames: list[dict[str, Any]]) -> Head | None:
    """That of the first picture which can be read."""
    folder = folder.resolve()
    for entry in frames:
        relative = str(entry.get("file_path")).replace("\\", "/")
        for suffix in PICTURE_SUFFIXES:
            with suppress(OSError, ValueError, RuntimeError, struct.error):
                path = (folder / (relative + suffix)).resolve()
                if os.path.isfile(path) and path.is_relative_to(folder):
                    with open(path, "rb") as file:
                        return _head(file)
    return None


def _head(file: BinaryIO) -> Head | None:
    """Of a PNG, JPEG, WebP or BMP file; None for another. Raises struct.error for a file that is cut."""
    start = file.read(30)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height, depth, colour = struct.unpack_from(">IIBB", start, 16)
        return width, height, 4 if colour in (4, 6) else 3, depth == 16
    if start.startswith(b"\xff\xd8"):
        return _jpeg(file)
    if start.startswith(b"BM"):
        width, height = struct.unpack_from("<ii", start, 18)
        return abs(width), abs(height), 3, False
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _webp(start)
    return None


def _jpeg(file: BinaryIO) -> Head | None:
    """From segment to segment, to the one that begins the picture."""
    file.seek(2)
    while True:
        mark, kind, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF:
            return None
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            _, height, width = struct.unpack(">BHH", file.read(5))
            return width, height, 3, False
        file.seek(length - 2, os.SEEK_CUR)


def _webp(start: bytes) -> Head | None:
    match start[12:16]:
        case b"VP8X":
            width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
            return width, height, 4 if start[20] & 0x10 else 3, False
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", start, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 4 if bits >> 28 & 1 else 3, False
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", start, 26)
            return width & 0x3FFF, height & 0x3FFF, 3, False
    return None
