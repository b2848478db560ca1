# SPDX-License-Identifier: GPL-3.0-or-later
"""A solid around a cloud of surface points, without a model: what a ball cannot reach that rolls outside the points.

That is the alpha shape's complement of empty balls (Edelsbrunner and Mücke, "Three-dimensional alpha shapes", 1994),
on a grid: it needs no normals, closes every gap narrower than the ball, keeps thin parts, and fills what is enclosed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from . import bilateral

NEIGHBOUR = 4  # the spacing of points is the distance to the so-manieth nearest
BALL = 2.8  # radius of the ball, in spacings
WIDER = 1.7  # how much larger a ball is tried
OPENED, BODY = 3.0, 0.02  # by that many times more within it is taken for a body, if that is such a share of the cube
STRAY = 3.0  # points farther from their neighbours than so many spacings are left out
SMOOTH = 1.3  # cells
DEEP = 0.02  # what lies deeper, in a cube of side one, is in a solid body
AROUND = 9  # points that agree on a colour


def without_strays(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """bool [N]: which points [N, 3] have neighbours about as near as the others have."""
    away = _spacing(points)
    kept: NDArray[np.bool_] = away <= STRAY * np.median(away)
    return kept


def enclosure(points: NDArray[np.float32], size: int, side: float) -> NDArray[np.float32]:
    """Signed distances [size, size, size], negative inside, on a grid that spans a cube of that side at the origin.

    points: float32 [N, 3], N > 4, all over the surface and scattered by less than their spacing. Those of solid bodies
    are put in order first. Sheets and rods keep their scatter, which is what makes them thick.
    """
    cell = side / (size - 1)
    radius = max(BALL * float(np.median(_spacing(points))), 2 * cell)
    raw = _rolled(points, size, side, radius)
    # Where most points are crowded on small parts, the ball falls in between the others: a body opens that a larger
    # ball would find closed.
    least = max(OPENED * (raw < -DEEP).sum(), BODY * raw.size)
    if float(np.prod(np.ptp(points, axis=0) / cell + 1)) > least:  # else it could not find so much within
        wider = _rolled(points, size, side, WIDER * radius)
        if (wider < -DEEP).sum() > least:
            raw, radius = wider, WIDER * radius
    axis, deep = np.linspace(-side / 2, side / 2, size), np.argwhere(raw < -DEEP)
    if not len(deep) or len(points) <= bilateral.NEIGHBOURS:
        return raw
    above = cKDTree(axis[deep]).query(points)[0]
    share = np.clip((2 * DEEP - above) / (0.5 * DEEP), 0, 1)[:, None]
    settled = points + (bilateral.filtered(points) - points) * share
    return _rolled(settled.astype(np.float32), size, side, radius)


def _rolled(points: NDArray[np.float32], size: int, side: float, radius: float) -> NDArray[np.float32]:
    """Signed distances to what a ball of this radius leaves."""
    cell = side / (size - 1)
    margin = int(np.ceil(radius / cell)) + 1  # room for the ball to roll around what touches the border
    axis = (np.arange(-margin, size + margin) * cell - side / 2).astype(np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    free = np.isinf(cKDTree(points).query(grid, distance_upper_bound=radius, workers=-1)[0]).reshape((len(axis),) * 3)
    regions, _ = ndimage.label(free)
    centres = regions == regions[0, 0, 0]
    reached = ndimage.distance_transform_edt(~centres)[margin:-margin, margin:-margin, margin:-margin] * cell
    return np.asarray(ndimage.gaussian_filter(radius - reached, SMOOTH), np.float32)


def usual_colours(
    points: NDArray[np.float32], colours: NDArray[np.uint8], places: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Of the points around each place [N, 3], the colour [N, 3] that differs least from those of the others.

    A stray colour has no say, and borders stay sharp: nothing is mixed.
    """
    around = cKDTree(points).query(places, k=min(AROUND, len(points)))[1].reshape(len(places), -1)
    found = colours[around].astype(np.int32)
    differences = np.abs(found[:, :, None] - found[:, None]).sum((2, 3))
    agreed: NDArray[np.uint8] = colours[around[np.arange(len(places)), differences.argmin(1)]]
    return agreed


def _spacing(points: NDArray[np.float32]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = cKDTree(points).query(points, k=NEIGHBOUR + 1)[0][:, NEIGHBOUR]
    return found
