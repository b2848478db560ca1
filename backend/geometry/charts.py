# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures over the charts of a UV atlas, whatever they are of."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .mesh import Mesh

GUTTER = 2.0  # texels around each chart that take the value of the nearest point of any chart
CHUNK = 1 << 17  # texels for each call of the value

Value = Callable[[NDArray[np.int32], NDArray[np.float32]], NDArray[np.uint8]]
"""Faces [N] and barycentric coordinates [N, 3] in them to what the picture shows there, uint8 [N, 3]."""


def picture(mesh: Mesh, size: int, value: Value) -> Generator[float, None, NDArray[np.uint8]]:
    """``value`` over the charts of a mesh with ``uvs``, uint8 [size, size, 3], first row at the top. Yields the share
    done, several times a second.

    Texels in the charts are exact; those up to ``GUTTER`` outside take the nearest point of the chart; the rest is
    filled from coarser and coarser means of these, so that neither filtering nor mip-mapping lets a seam show.
    """
    assert mesh.uvs is not None
    made = np.zeros((size, size, 3), dtype=np.uint8)
    covered = np.zeros((size, size), dtype=bool)
    places = np.stack([mesh.uvs[:, 0], 1.0 - mesh.uvs[:, 1]], axis=1) * size
    rows = max(1, (1 << 20) // size)
    for top in range(0, size, rows):
        height = min(rows, size - top)
        face, weights = rasterise(places.astype(np.float32), mesh.faces, top, height, size, GUTTER)
        texels = np.flatnonzero(face.ravel() >= 0)
        band, inside = made[top : top + height].reshape(-1, 3), covered[top : top + height].reshape(-1)
        inside[texels] = True
        for i in range(0, len(texels), CHUNK):
            some = texels[i : i + CHUNK]
            band[some] = value(face.ravel()[some], weights.reshape(-1, 3)[some])
            yield (top + height * (i + len(some)) / len(texels)) / size
    return filled(made, covered)


@njit(cache=True, nogil=True)
def rasterise(
    places: NDArray[np.float32], faces: NDArray[np.int32], top: int, height: int, width: int, gutter: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Face [height, width] and barycentric coordinates [height, width, 3] of the chart point nearest to each texel.

    places: float32 [V, 2], x to the right and y down, in texels; rows ``top`` to ``top + height``. The face is -1 where
    no chart comes within ``gutter`` texels of the texel's middle.
    """
    face = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 3), np.float32)
    nearest = np.full((height, width), np.float32(gutter * gutter))
    for f in range(len(faces)):
        x = places[faces[f], 0]
        y = places[faces[f], 1]
        if y.max() + gutter < top or y.min() - gutter > top + height:
            continue
        area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
        first_row = max(int(y.min() - gutter), top)
        last_row = min(int(y.max() + gutter), top + height - 1)
        for row in range(first_row, last_row + 1):
            for column in range(max(int(x.min() - gutter), 0), min(int(x.max() + gutter), width - 1) + 1):
                px, py = column + 0.5, row + 0.5
                best = nearest[row - top, column]
                w0 = ((x[1] - px) * (y[2] - py) - (x[2] - px) * (y[1] - py)) / area if area != 0.0 else -1.0
                w1 = ((x[2] - px) * (y[0] - py) - (x[0] - px) * (y[2] - py)) / area if area != 0.0 else -1.0
                w2 = 1.0 - w0 - w1
                if w0 >= 0.0 and w1 >= 0.0 and w2 >= 0.0:
                    nearest[row - top, column] = 0.0
                    face[row - top, column] = f
                    weights[row - top, column] = (w0, w1, w2)
                    continue
                for i in range(3):
                    j = (i + 1) % 3
                    dx, dy = x[j] - x[i], y[j] - y[i]
                    length = dx * dx + dy * dy
                    t = ((px - x[i]) * dx + (py - y[i]) * dy) / length if length > 0.0 else 0.0
                    t = min(max(t, 0.0), 1.0)
                    distance = (x[i] + t * dx - px) ** 2 + (y[i] + t * dy - py) ** 2
                    if distance < best:
                        best = distance
                        nearest[row - top, column] = distance
                        face[row - top, column] = f
                        weights[row - top, column] = 0.0
                        weights[row - top, column, i] = 1.0 - t
                        weights[row - top, column, j] = t
    return face, weights


def filled(image: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Texels not covered take the mean of the covered ones near them, from an image of half the size, and so on."""
    height, width = covered.shape
    if covered.all() or max(height, width) == 1:
        return image
    rows, columns = (height + 1) // 2, (width + 1) // 2
    pad = ((0, 2 * rows - height), (0, 2 * columns - width))
    counts = np.pad(covered, pad).reshape(rows, 2, columns, 2).sum(axis=(1, 3), dtype=np.uint16)
    seen = np.pad(image * covered[..., None], (*pad, (0, 0)))
    sums = seen.reshape(rows, 2, columns, 2, 3).sum(axis=(1, 3), dtype=np.uint16)
    half = (sums // np.maximum(counts, 1)[..., None]).astype(np.uint8)
    coarse = filled(half, counts > 0).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(covered[..., None], image, coarse)
