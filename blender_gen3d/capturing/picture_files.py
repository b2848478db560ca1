# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the OpenEXR of Blender and the backend, reads and writes plain PNG. Numpy only: Blender brings no library for
pictures."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_COLOUR_TYPE = {1: 0, 3: 2, 4: 6}
_EXR_TYPES = {1: "<f2", 2: "<f4"}
MOST_SHRUNK = 1100  # times that zlib can make something smaller
_EXR_BLOCKS = {0: 1, 2: 1, 3: 16}  # rows of a block, by compression: none, ZIP of single rows, ZIP


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


def read_plain_png(data: bytes) -> NDArray[np.uint8]:
    """The picture [H, W, 3] of a PNG of 8-bit RGB whose rows are not filtered, as the backend writes previews.

    Raises ValueError for others and for damaged ones.
    """
    try:
        width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
        start, packed = 8, b""
        while start + 8 <= len(data):
            size, kind = struct.unpack_from(">I4s", data, start)
            packed += data[start + 8 : start + 8 + size] if kind == b"IDAT" else b""
            start += 12 + size
        wanted = height * (1 + 3 * width)
        if (depth, colour) != (8, 2) or wanted > MOST_SHRUNK * len(data):
            raise ValueError("a picture is not plain RGB")
        rows = np.frombuffer(zlib.decompressobj().decompress(packed, wanted), np.uint8)
    except (struct.error, zlib.error) as fault:
        raise ValueError(f"a picture is damaged ({type(fault).__name__})") from fault
    if len(rows) < wanted or rows[:: 1 + 3 * width].any():
        raise ValueError("a picture is cut, or its rows are filtered")
    return rows.reshape(height, 1 + 3 * width)[:, 1:].reshape(height, width, 3)


def read_exr(path: Path) -> dict[str, NDArray[np.float32]]:
    """Channels of a scan-line EXR, full name ("ViewLayer.Depth.Z") to float32 [H, W], top row first.

    One part of half or whole floats, uncompressed or by ZIP, as Blender writes with exr_codec NONE and as the backend
    does; ValueError for others and for damaged files.
    """
    data = path.read_bytes()
    try:
        return _channels(data)
    except (IndexError, KeyError, OverflowError, struct.error, zlib.error, UnicodeDecodeError) as fault:
        raise ValueError(f"{path.name} is damaged ({type(fault).__name__})") from fault
    except ValueError as fault:
        raise ValueError(f"{path.name} {fault}") from fault


def _channels(data: bytes) -> dict[str, NDArray[np.float32]]:
    if data[:4] != b"v/1\x01" or data[5] & 0b11010:  # tiled, deep or several parts
        raise ValueError("is not a plain scan-line EXR")
    position, header = 8, {}
    while data[position]:
        name_end = data.index(0, position)
        kind_end = data.index(0, name_end + 1)
        (size,) = struct.unpack_from("<i", data, kind_end + 1)
        header[data[position:name_end].decode()] = data[kind_end + 5 : kind_end + 5 + size]
        position = kind_end + 5 + size
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    kinds, listed, place = {}, header["channels"], 0
    while listed[place]:
        end = listed.index(0, place)
        (kind,) = struct.unpack_from("<i", listed, end + 1)
        kinds[listed[place:end].decode()] = np.dtype(_EXR_TYPES[kind])
        place = end + 17
    stride = width * sum(kind.itemsize for kind in kinds.values())
    if min(width, height) < 1 or height * stride > MOST_SHRUNK * len(data):
        raise ValueError("is too short for its size")
    rows = _rows(data, position + 1, header["compression"], height, stride, top)
    values, start = {}, 0
    for name, kind in kinds.items():
        end = start + width * kind.itemsize
        values[name] = np.ascontiguousarray(rows[:, start:end]).view(kind).astype(np.float32)
        start = end
    return values


def _rows(data: bytes, table: int, codec: bytes, height: int, stride: int, top: int) -> NDArray[np.uint8]:
    """The bytes [H, stride] of all rows, which lie in blocks: 8-byte offsets in a table, then y, size and content."""
    block = _EXR_BLOCKS[codec[0]]
    if codec[0] == 0:  # all at once: one copy instead of one for each row
        found = np.frombuffer(data, np.uint8, height * (8 + stride), table + 8 * height).reshape(height, -1)
        return found[:, 8:]
    rows = np.empty((height, stride), np.uint8)
    for number in range(-(-height // block)):
        (place,) = struct.unpack_from("<Q", data, table + 8 * number)
        y, size = struct.unpack_from("<ii", data, place)
        target = rows[y - top : y - top + block]
        packed = data[place + 8 : place + 8 + size]
        if size < target.size:
            packed = zlib.decompressobj().decompress(packed, target.size)
            # stored as differences of the even bytes followed by the odd ones
            steps = np.frombuffer(packed, np.uint8, target.size).astype(np.int32)
            steps[1:] -= 128
            split = np.cumsum(steps).astype(np.uint8)
            half = (target.size + 1) // 2
            joined = np.empty(target.size, np.uint8)
            joined[0::2], joined[1::2] = split[:half], split[half:]
        else:
            joined = np.frombuffer(packed, np.uint8, target.size)
        target[:] = joined.reshape(target.shape)
    return rows
