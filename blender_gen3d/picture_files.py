# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the multi-layer EXR that Blender writes and writes plain PNG. Numpy only: Blender brings no picture library."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_COLOUR_TYPE = {1: 0, 3: 2, 4: 6}


def write_png(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Writes uint8 or uint16 [H, W] (grey) or [H, W, 3 | 4], top row first."""
    rows = picture[..., None] if picture.ndim == 2 else picture
    height, width, channels = rows.shape
    depth = 8 * rows.itemsize
    packed = np.ascontiguousarray(rows.astype(f">u{rows.itemsize}")).view(np.uint8).reshape(height, -1)
    filtered = np.concatenate((np.zeros((height, 1), np.uint8), packed), axis=1)  # filter 0 before every row
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPE[channels], 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")):
            file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


def read_exr(path: Path) -> dict[str, NDArray[np.float32]]:
    """Channels of an uncompressed scan-line EXR, full name ("ViewLayer.Depth.Z") to float32 [H, W], top row first.

    Only what Blender writes with exr_codec NONE, 32 bit and one part; ValueError otherwise.
    """
    data = path.read_bytes()
    if data[:4] != b"v/1\x01" or data[5] & 0b11010:  # tiled, deep or several parts
        raise ValueError(f"{path.name} is not a plain scan-line EXR")
    position, header = 8, {}
    while data[position]:
        name_end = data.index(0, position)
        kind_end = data.index(0, name_end + 1)
        (size,) = struct.unpack_from("<i", data, kind_end + 1)
        header[data[position:name_end].decode()] = data[kind_end + 5 : kind_end + 5 + size]
        position = kind_end + 5 + size
    if header["compression"] != b"\0":
        raise ValueError(f"{path.name} is compressed")
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    names, channels = [], header["channels"]
    place = 0
    while channels[place]:
        end = channels.index(0, place)
        if struct.unpack_from("<i", channels, end + 1) != (2,):
            raise ValueError(f"{path.name} holds channels that are not 32-bit floats")
        names.append(channels[place:end].decode())
        place = end + 17
    # after the header: a table of 8-byte offsets, then each row as y (int32), size (int32), all channels in turn
    rows = np.frombuffer(data, np.uint8, height * (8 + 4 * width * len(names)), position + 1 + 8 * height)
    values = np.ascontiguousarray(rows.reshape(height, -1)[:, 8:]).view("<f4").reshape(height, len(names), width)
    return {name: values[:, index] for index, name in enumerate(names)}
