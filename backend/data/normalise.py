# SPDX-License-Identifier: GPL-3.0-or-later
"""Where to train: the similarity that takes a dataset's world to the training box, and the hull inside of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import Gen3DError
from . import hull
from .hull import Silhouette
from .posed_images import PosedImages

PAD = 0.04
GRID = 96
PASSES = 8
TRANSPARENT_SHARE = 0.05
OUTWARD_ROOM = 2.0


def world_to_box(images: PosedImages, scene: str) -> tuple[NDArray[np.float64], bool, tuple[str, ...]]:
    """Similarity [4, 4] from the dataset's world to the training box, whether the scene is unbounded, and notes.

    It scales uniformly and shifts, and never turns: up stays up. Only the train split is looked at.

    Bounded: the box of the object's visual hull, with a margin of 4 %, fills [-1, 1]^3.
    Unbounded: the point the cameras look at becomes the origin and their median distance from it 1, so that what
    they surround lies inside the unit ball, which the contraction leaves as it is, and the rest outside
    (Barron et al., "Mip-NeRF 360", 2022, eq. 10).

    scene: "bounded", "unbounded" or "auto", which takes bounded where at least 5 % of the pixels are transparent.
    Raises Gen3DError where the object is empty or lies outside of all pictures.
    """
    if scene == "unbounded" or (scene == "auto" and not _is_object(images)):
        return _around_focus(images), True, ()
    if not images.has_alpha:
        note = "The pictures have no transparent background; the object is taken to lie where all cameras look."
        return _within_all_views(images), False, (note,)
    views = hull.silhouettes(images)
    seeing = [view for view in views if not view.blank]
    blank = [view.name for view in views if view.blank]
    if len(seeing) < 2:
        raise Gen3DError(
            f"Only {len(seeing)} of the {len(views)} training pictures show anything: the rest is transparent.",
            "Check the alpha channel of the pictures.",
            field="dataset",
        )
    notes = (f"{len(blank)} pictures are wholly transparent, such as {blank[0]}.",) if blank else ()
    return _around_object(seeing), False, notes


def visual_hull(images: PosedImages, world_to_box: NDArray[np.float64], resolution: int = 128) -> NDArray[np.bool_]:
    """Cells of [-1, 1]^3 that may hold part of the object: bool [R, R, R], in the order x, y, z.

    Conservative: each cell that the object touches is set. Pictures without alpha carve nothing; then the cells in
    sight are set.
    """
    views = [view for view in hull.silhouettes(images) if not view.blank]
    box_to_world = np.asarray(np.linalg.inv(world_to_box), np.float64)
    return hull.carve(views, box_to_world, -np.ones(3), 2.0 / resolution, (resolution,) * 3)


def _is_object(images: PosedImages) -> bool:
    if not images.has_alpha:
        return False
    shares = [hull.transparency(images.images[i]).mean() for i in images.splits["train"]]
    return float(np.mean(shares)) >= TRANSPARENT_SHARE


def _around_object(views: list[Silhouette]) -> NDArray[np.float64]:
    """The box of the visual hull, found in a grid that starts beyond the cameras and is drawn closer each time."""
    positions = np.stack([view.camera_to_world[:3, 3] for view in views])
    rays = np.stack([_ray_to_centroid(view) for view in views])
    focus = _nearest_to_rays(positions, rays)
    if not _in_front(focus, positions, rays):
        raise Gen3DError(
            "Most cameras look away from the point that their views have in common.",
            "Give camera-to-world poses in the OpenGL convention: the camera looks down -z, +y is up.",
            field="frames[0].transform_matrix",
        )
    reach = 1.25 * float(np.quantile(np.linalg.norm(positions - focus, axis=1), 0.9))
    grid_to_world = np.asarray(np.linalg.inv(_similarity(focus, reach)), np.float64)
    low, high = -np.ones(3), np.ones(3)
    for _ in range(PASSES):
        cell = (high - low).max() / GRID
        x, y, z = (int(n) for n in np.ceil((high - low) / cell - 1e-6))
        index = np.argwhere(hull.carve(views, grid_to_world, low, cell, (x, y, z)))
        if not len(index):
            raise Gen3DError(
                "The pictures contradict each other: no point in space is covered by the object in all of them.",
                "Check that the camera poses belong to these pictures, in the OpenGL convention.",
                field="frames[0].transform_matrix",
            )
        before = (high - low).max()
        low, high = low + index.min(axis=0) * cell, low + (index.max(axis=0) + 1) * cell
        if (high - low).max() > 0.99 * before:
            break
    half = (high - low).max() / 2 * (1.0 + PAD)
    return _similarity(focus + reach * (low + high) / 2, reach * half)


def _around_focus(images: PosedImages) -> NDArray[np.float64]:
    """The focus of the cameras and their median distance from it; of cameras that look outwards, their middle."""
    poses = images.camera_to_world[images.splits["train"]]
    positions, forward = poses[:, :3, 3], -poses[:, :3, 2]
    focus = _nearest_to_rays(positions, forward)
    if _in_front(focus, positions, forward):
        return _similarity(focus, float(np.median(np.linalg.norm(focus - positions, axis=1))))
    middle = positions.mean(axis=0)
    return _similarity(middle, OUTWARD_ROOM * float(np.linalg.norm(positions - middle, axis=1).max()))


def _within_all_views(images: PosedImages) -> NDArray[np.float64]:
    """Around the focus, what the median camera has in its picture: for an object that fills it."""
    train = images.splits["train"]
    poses, lenses = images.camera_to_world[train], [images.intrinsics[i] for i in train]
    focus = _nearest_to_rays(poses[:, :3, 3], -poses[:, :3, 2])
    slope = np.array([min(lens.width / lens.fl_x, lens.height / lens.fl_y) / 2 for lens in lenses])
    return _similarity(focus, float(np.median(slope * np.linalg.norm(poses[:, :3, 3] - focus, axis=1))))


def _ray_to_centroid(view: Silhouette) -> NDArray[np.float64]:
    """Unit direction [3] in the world, towards the middle of the object in the picture (distortion neglected)."""
    x = (view.centroid[0] - view.lens.cx) / view.lens.fl_x
    y = (view.centroid[1] - view.lens.cy) / view.lens.fl_y
    direction = view.camera_to_world[:3, :3] @ (x, -y, -1.0)
    unit: NDArray[np.float64] = direction / np.linalg.norm(direction)
    return unit


def _nearest_to_rays(origins: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Point [3] with the least sum of distances to lines [N, 3], so that a few wrong ones hardly pull at it.

    Iteratively reweighted least squares. A faint pull towards the point ahead of the cameras, as far as they are
    spread, decides for lines that are parallel.
    """
    middle = origins.mean(axis=0)
    spread = float(np.linalg.norm(origins - middle, axis=1).max())
    ahead = directions.mean(axis=0)
    guess = middle + spread * ahead / max(float(np.linalg.norm(ahead)), 1e-9)
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    weights = np.ones(len(origins))
    point: NDArray[np.float64] = guess
    for _ in range(20):
        pull = 1e-5 * weights.sum()
        left = np.einsum("n,nij->ij", weights, across) + pull * np.eye(3)
        right = np.einsum("n,nij,nj->i", weights, across, origins - middle) + pull * (guess - middle)
        point = middle + np.linalg.solve(left, right)
        distance = np.linalg.norm(np.einsum("nij,nj->ni", across, point - origins), axis=1)
        weights = 1.0 / np.maximum(distance, 1e-3 * spread)
    return point


def _in_front(point: NDArray[np.float64], origins: NDArray[np.float64], directions: NDArray[np.float64]) -> bool:
    return float(np.median(((point - origins) * directions).sum(axis=1))) > 0.0


def _similarity(centre: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """Maps ``centre`` to the origin and a length of ``half`` to 1."""
    result = np.eye(4) / half
    result[:3, 3] = -centre / half
    result[3, 3] = 1.0
    return result
