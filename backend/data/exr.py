# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures as OpenEXR, which every compositor reads: colours in half floats, depth in whole ones, compressed by ZIP.

After "The OpenEXR File Layout" (openexr.com): one part, scan lines in blocks of 16. Reordering the bytes and taking
their differences before zlib, as the format asks, makes smooth pictures a third of their size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 16  # rows
HALF, FLOAT = 1, 2
ZIP = 3

Channel = NDArray[np.float16] | NDArray[np.float32]


def write(path: Path, channels: Mapping[str, Channel]) -> None:
    """Writes channels ("R", "G", "B", "A", "Z"), all float16 or float32 [H, W], top row first."""
    names = sorted(channels)
    height, width = channels[names[0]].shape
    kinds = {name: HALF if channels[name].dtype == np.float16 else FLOAT for name in names}
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iIii", kinds[name], 0, 1, 1) for name in names
    )  # name, type, linear flag and padding, sampling
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = (
        ("channels", "chlist", listed + b"\0"),
        ("compression", "compression", bytes([ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
    )
    header = b"v/1\x01" + struct.pack("<i", 2)
    header += b"".join(
        f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value for name, kind, value in attributes
    )
    header += b"\0"
    little = {HALF: "<f2", FLOAT: "<f4"}
    rows = np.concatenate(
        [np.ascontiguousarray(channels[name], little[kinds[name]]).view(np.uint8) for name in names], axis=1
    )
    blocks = [_block(rows[y : y + BLOCK].ravel(), y) for y in range(0, height, BLOCK)]
    places = len(header) + 8 * len(blocks) + np.cumsum([0, *map(len, blocks[:-1])])
    path.write_bytes(b"".join((header, places.astype("<u8").tobytes(), *blocks)))


def _block(data: NDArray[np.uint8], top: int) -> bytes:
    """Every other byte first, then the others; differences; zlib. As it is where that would not be smaller."""
    split = np.concatenate((data[0::2], data[1::2]))
    split[1:] = split[1:] - split[:-1] + np.uint8(128)
    packed = zlib.compress(split.tobytes(), 4)
    if len(packed) >= data.size:
        packed = data.tobytes()
    return struct.pack("<ii", top, len(packed)) + packed
