# SPDX-License-Identifier: GPL-3.0-or-later
"""PNG files of 16 bits per channel, read exactly; Pillow would cut colours to 8 bits. (PNG specification, 3rd ed.)"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type: grey, RGB, grey + alpha, RGBA


def is_png16(head: bytes) -> bool:
    """Whether a file that begins with these (at least 26) bytes is such a PNG."""
    return len(head) >= 26 and head.startswith(SIGNATURE) and head[24] == 16


def decode(data: bytes) -> NDArray[np.uint16]:
    """The picture [H, W, 3], or [H, W, 4] where it has alpha (straight) or a transparent colour.

    Raises ValueError or zlib.error for a file that is damaged, cut or interlaced. Never allocates more than the
    stated size needs, whatever the file unpacks to.
    """
    chunks = list(_chunks(data))
    header = dict(chunks).get(b"IHDR", b"")
    if len(header) != 13:
        raise ValueError("no image header")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    if depth != 16 or colour not in CHANNELS or width * height == 0:
        raise ValueError("not a 16-bit picture")
    if interlace:
        raise ValueError("interlaced; save it without interlacing")
    step = 2 * CHANNELS[colour]
    size = height * (1 + width * step)
    raw = zlib.decompressobj().decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"), size)
    if len(raw) != size:
        raise ValueError("the file ends too early")
    rows = np.frombuffer(raw, np.uint8).reshape(height, 1 + width * step)
    samples = np.ascontiguousarray(rows[:, 1:])
    if rows[:, 0].max() > 4:
        raise ValueError("unknown row filter")
    _unfilter(rows[:, 0], samples, step)
    pixels = samples.view(">u2").astype(np.uint16).reshape(height, width, CHANNELS[colour])
    return _coloured(pixels, dict(chunks).get(b"tRNS", b""))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return
        at += 12 + length


def _coloured(pixels: NDArray[np.uint16], key: bytes) -> NDArray[np.uint16]:
    """RGB or RGBA of grey, grey + alpha, RGB or RGBA; ``key`` is the one colour that means transparent, or empty."""
    channels = pixels.shape[2]
    parts = [np.repeat(pixels[..., :1], 3, axis=2) if channels < 3 else pixels[..., :3]]
    if channels in (2, 4):
        parts.append(pixels[..., -1:])
    elif len(key) == 2 * channels:
        other = (pixels != np.frombuffer(key, ">u2")).any(axis=2, keepdims=True)
        parts.append(other.astype(np.uint16) * np.uint16(65535))
    return np.concatenate(parts, axis=2)


@njit(cache=True)
def _unfilter(kinds: NDArray[np.uint8], rows: NDArray[np.uint8], step: int) -> None:
    """Undo the row filters (section 9: none, sub, up, average, Paeth) in place. rows: [H, W * step] bytes."""
    for y in range(rows.shape[0]):
        kind = kinds[y]
        for x in range(rows.shape[1]):
            left = np.int32(rows[y, x - step]) if x >= step else np.int32(0)
            up = np.int32(rows[y - 1, x]) if y > 0 else np.int32(0)
            corner = np.int32(rows[y - 1, x - step]) if x >= step and y > 0 else np.int32(0)
            guess = np.int32(0)
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            elif kind == 4:
                p = left + up - corner
                to_left, to_up, to_corner = abs(p - left), abs(p - up), abs(p - corner)
                if to_left <= to_up and to_left <= to_corner:
                    guess = left
                elif to_up <= to_corner:
                    guess = up
                else:
                    guess = corner
            rows[y, x] = np.uint8((np.int32(rows[y, x]) + guess) & 255)
