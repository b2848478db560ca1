# SPDX-License-Identifier: GPL-3.0-or-later
"""Visual-hull carving: where an object can be, judged by the transparent pixels around it.

Laurentini, "The visual hull concept for silhouette-based image understanding" (1994). Carving is conservative: a
cell goes only if its whole footprint, and a margin, is background in more views than may be wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

from .lens import Intrinsics, distort_xy
from .posed_images import PosedImages

SILHOUETTE_SIDE = 256
TRANSPARENT = 0.005  # alpha below this is none: lossy alpha flickers by one level of 255
MARGIN = 1.5  # reduced pixels: half a diagonal of the pixel that is asked, half a diagonal of the nearest one
SEEN_AT_LEAST, SEEN_FAIRLY, SEEN_WELL = 0.2, 0.3, 0.6  # shares of the best-seen cell's views
LARGE = 0.1  # of the largest part's volume
WRONG_SHARE, MAX_WRONG = 0.06, 2
COARSEST_GRID = 32
DISTORTED_FOOTPRINT = 1.2
OCTANTS = np.indices((2, 2, 2)).reshape(3, -1).T

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Silhouette:
    """What one view says of empty space.

    name: of its picture. clearance: [h, w] distance in pixels to the nearest pixel that is not background; beyond
    the border nothing is known, so the border counts as object. centroid: pixel position of the object's middle.
    blank: no object in sight. lens: of the reduced picture. camera_to_world: [4, 4], rigid.
    """

    name: str
    clearance: NDArray[np.float32]
    centroid: tuple[float, float]
    blank: bool
    lens: Intrinsics
    camera_to_world: NDArray[np.float64]


def transparency(image: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Which pixels [H, W] of a picture are background; none where it has no alpha."""
    if image.shape[2] == 3:
        return np.zeros(image.shape[:2], np.bool_)
    transparent: NDArray[np.bool_] = image[..., 3] <= TRANSPARENT * np.iinfo(image.dtype).max
    return transparent


def silhouettes(images: PosedImages) -> list[Silhouette]:
    """One for each picture of the train split, in its order: what is held out must not shape the result."""
    return [_silhouette(images, int(i)) for i in images.splits["train"]]


def _silhouette(images: PosedImages, i: int) -> Silhouette:
    lens, mask = images.intrinsics[i], images.masks[i]
    block = -(-max(lens.width, lens.height) // SILHOUETTE_SIDE)
    small = Intrinsics(
        -(-lens.width // block),
        -(-lens.height // block),
        lens.fl_x / block,
        lens.fl_y / block,
        lens.cx / block,
        lens.cy / block,
        lens.distortion,
    )
    object_or_unknown = ~transparency(images.images[i])
    solid = _any_in_block(object_or_unknown if mask is None else object_or_unknown & mask, block)
    unknown = solid if mask is None else solid | _any_in_block(~mask, block)
    y, x = np.nonzero(solid)
    centroid = (float(x.mean()) + 0.5, float(y.mean()) + 0.5) if len(x) else (small.width / 2, small.height / 2)
    clearance = distance_transform_edt(~np.pad(unknown, 1, constant_values=True))[1:-1, 1:-1].astype(np.float32)
    return Silhouette(images.names[i], clearance, centroid, not len(x), small, images.camera_to_world[i])


def _any_in_block(pixels: NDArray[np.bool_], block: int) -> NDArray[np.bool_]:
    """Whether any pixel of each block x block is set; blocks at the right and lower border may be cut."""
    if block == 1:
        return pixels
    rows = np.logical_or.reduceat(pixels, np.arange(0, pixels.shape[0], block), axis=0)
    reduced: NDArray[np.bool_] = np.logical_or.reduceat(rows, np.arange(0, pixels.shape[1], block), axis=1)
    return reduced


def carve(
    views: list[Silhouette], box_to_world: NDArray[np.float64], low: NDArray[np.float64], cell: float, shape: Shape
) -> NDArray[np.bool_]:
    """Which cells of a grid may hold part of the object: bool [X, Y, Z] = ``shape``.

    Cell (i, j, k) is the cube of side ``cell`` whose lowest corner is ``low`` + cell * (i, j, k), all in box
    coordinates. Coarser grids are carved first and only what remains is looked at closely.

    Loose parts of what remains are kept if some of their cells are in sight of at least 60 % as many views as the
    best-seen cell, or of 30 % if the part is large. That drops what lies in front of single cameras, where next to
    no view can speak, and keeps what sticks out of many pictures.
    """
    steps = 0
    while max(shape) >> steps > COARSEST_GRID:
        steps += 1
    sides = [-(-side >> steps) + 1 for side in shape]
    index = np.indices(sides).reshape(3, -1).T
    for step in range(steps, -1, -1):
        index = index[(index << step < shape).all(axis=1)]
        side = cell * 2**step
        seen = _sight(views, box_to_world, low + (index + 0.5) * side, side * math.sqrt(0.75))
        enough = seen >= max(2.0, SEEN_AT_LEAST * seen.max(initial=0))
        index, seen = index[enough], seen[enough]
        if step:
            index = (2 * index[:, None, :] + OCTANTS).reshape(-1, 3)
    return _well_seen_parts(index, seen, shape)


def _well_seen_parts(index: NDArray[np.int64], seen: NDArray[np.int32], shape: Shape) -> NDArray[np.bool_]:
    kept = np.zeros(shape, np.bool_)
    kept[tuple(index.T)] = True
    parts, count = label(kept, np.ones((3, 3, 3)))
    part = parts[tuple(index.T)]
    best = np.zeros(count + 1, np.int32)
    np.maximum.at(best, part, seen)
    volume = np.bincount(part, minlength=count + 1)
    large = volume >= LARGE * volume.max()
    good = best >= np.where(large, SEEN_FAIRLY, SEEN_WELL) * best.max()
    kept[tuple(index[~good[part]].T)] = False
    return kept


def _sight(
    views: list[Silhouette], box_to_world: NDArray[np.float64], points: NDArray[np.float64], radius: float
) -> NDArray[np.int32]:
    """In how many views each cell around ``points`` [M, 3] is in sight: [M], 0 where it is found empty.

    ``radius`` of the sphere that encloses a cell. A cell is empty if more views say so than may be wrong (a bad pose,
    a slip in the alpha): 6 % of those that see it, two at most.
    """
    order = np.argsort(np.arange(len(views)) * 0.6180339887 % 1.0)  # neighbours in time say the same: mix
    mixed = [views[i] for i in order]
    box_to_camera = np.stack([np.linalg.inv(view.camera_to_world) @ box_to_world for view in mixed])
    lenses = np.array(
        [(v.lens.fl_x, v.lens.fl_y, v.lens.cx, v.lens.cy, v.lens.reach, *v.lens.distortion) for v in mixed]
    )
    clearances = np.concatenate([view.clearance.ravel() for view in mixed])
    sizes = np.array([view.clearance.shape for view in mixed])
    starts = np.concatenate(([0], np.cumsum(sizes.prod(axis=1))[:-1]))
    scales = np.cbrt(np.linalg.det(box_to_camera[:, :3, :3]))
    seen = np.zeros(len(points), np.int32)
    _count_views(points, box_to_camera, scales * radius, lenses, clearances, sizes, starts, seen)
    return seen


_distort = njit(distort_xy)


@njit(cache=True)
def _count_views(
    points: NDArray[np.float64],
    box_to_camera: NDArray[np.float64],
    radii: NDArray[np.float64],
    lenses: NDArray[np.float64],
    clearances: NDArray[np.float32],
    sizes: NDArray[np.int64],
    starts: NDArray[np.int64],
    seen: NDArray[np.int32],
) -> None:
    """``_sight`` with all views flattened: radii [N] of a cell in camera units, lenses [N, 10] (focal lengths,
    centre, reach, distortion), sizes [N, 2] (h, w) and starts [N] of each view's part of ``clearances``."""
    for m in range(len(points)):
        in_sight, empty = 0, 0
        for n in range(len(radii)):
            to = box_to_camera[n]
            x = to[0, 0] * points[m, 0] + to[0, 1] * points[m, 1] + to[0, 2] * points[m, 2] + to[0, 3]
            y = to[1, 0] * points[m, 0] + to[1, 1] * points[m, 1] + to[1, 2] * points[m, 2] + to[1, 3]
            depth = -(to[2, 0] * points[m, 0] + to[2, 1] * points[m, 1] + to[2, 2] * points[m, 2] + to[2, 3])
            if depth <= radii[n]:
                continue  # behind the camera, or all around it
            x, y = x / depth, -y / depth
            reach = np.sqrt(x * x + y * y)
            if reach > lenses[n, 4]:
                continue
            # A sphere's image is longest away from the axis; a distorting lens may magnify it somewhat.
            footprint = max(lenses[n, 0], lenses[n, 1]) * radii[n] * np.sqrt(1.0 + reach * reach) / (depth - radii[n])
            if lenses[n, 4] < np.inf:
                x, y = _distort(x, y, lenses[n, 5], lenses[n, 6], lenses[n, 7], lenses[n, 8], lenses[n, 9])
                footprint *= DISTORTED_FOOTPRINT
            u, v = x * lenses[n, 0] + lenses[n, 2], y * lenses[n, 1] + lenses[n, 3]
            height, width = sizes[n]
            if u <= -footprint or v <= -footprint or u >= width + footprint or v >= height + footprint:
                continue
            in_sight += 1
            if u < 0 or v < 0 or u >= width or v >= height:
                continue
            if clearances[starts[n] + int(v) * width + int(u)] > footprint + MARGIN:
                empty += 1
                if empty > MAX_WRONG:
                    break
        if empty <= MAX_WRONG and empty <= WRONG_SHARE * in_sight:
            seen[m] = in_sight
