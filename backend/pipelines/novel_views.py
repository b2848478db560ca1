# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a trained field from anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..data.film import film
from ..data.validate import MAX_COORDINATE
from ..errors import Gen3DError
from ..rendering.cameras import Cameras
from .radiance import RadianceField, Scene

CHUNK = 2**14
FPS = 24.0


def picture(
    field: RadianceField, cameras: Cameras, index: int, width: int, height: int
) -> Generator[float, None, NDArray[np.float32]]:
    """What camera ``index`` sees, [height, width, 4]: sRGB, premultiplied by the opacity that follows. Yields the share
    done, several times a second, so that who waits can stop."""
    device = cameras.lens.device
    parts: list[Tensor] = []
    total = width * height
    for start in range(0, total, CHUNK):
        flat = torch.arange(start, min(start + CHUNK, total), device=device)
        place = torch.stack([flat % width, flat // width], 1).float() + 0.5
        seen = field.render(*cameras.rays(torch.full_like(flat, index), place))
        parts.append(torch.cat([seen.rgb, seen.opacity[:, None]], 1).cpu())
        yield min(1.0, (start + CHUNK) / total)
    return torch.cat(parts).clamp(0, 1).view(height, width, 4).numpy()


def over(picture: NDArray[np.float32], backdrop: float) -> NDArray[np.float32]:
    """Premultiplied [H, W, 4] on a grey [H, W, 3]."""
    return np.minimum(picture[..., :3] + (1 - picture[..., 3:]) * np.float32(backdrop), np.float32(1))


def backdrop(scene: Scene) -> float:
    """White behind objects, black behind surroundings that stay empty."""
    return 1.0 if scene.alpha else 0.0


def to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[0, 1] -> 0..255, rounded."""
    return (values * 255 + 0.5).astype(np.uint8)


def lens_cameras(scene: Scene, camera_to_world: NDArray[np.float64], width: int, height: int) -> Cameras:
    """Cameras [N, 4, 4] with the training pictures' angle of view across, for pictures of width x height."""
    to_box = scene.world_to_box @ camera_to_world
    to_box[:, :3, :3] /= np.linalg.norm(to_box[:, :3, :3], axis=1, keepdims=True)
    scale = width / scene.width
    fl_x, fl_y, cx, cy = scene.lens
    own = (fl_x * scale, fl_y * scale, cx * scale, height / 2 + (cy - scene.height / 2) * scale)
    lens = torch.tensor([own] * len(to_box), dtype=torch.float32)
    return Cameras(torch.from_numpy(to_box[:, :3].astype(np.float32)), lens)


def turntable(scene: Scene, frames: int) -> NDArray[np.float64]:
    """Camera-to-world [frames, 4, 4]: once around the scene, as far off and as high as the training cameras are."""
    eyes, up = np.array(scene.eyes), np.array(scene.up)
    distance = float(np.median(np.linalg.norm(eyes, axis=1)))
    height = float(np.median(eyes @ up) / distance)
    elevation = math.asin(min(max(height, -0.95), 0.95))
    first = eyes[0] - up * (eyes[0] @ up)
    if np.linalg.norm(first) < 1e-3 * distance:  # straight above
        first = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    ahead = first / np.linalg.norm(first)
    side = np.cross(up, ahead)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    for pose, angle in zip(poses, np.arange(frames) * 2 * math.pi / frames, strict=True):
        around = math.cos(angle) * ahead + math.sin(angle) * side
        back = math.cos(elevation) * around + math.sin(elevation) * up
        right = np.cross(up, back)
        right /= np.linalg.norm(right)
        pose[:3, :4] = np.stack([right, np.cross(back, right), back, distance * back], 1)
    box_to_world = np.array(scene.box_to_world)
    poses = box_to_world @ poses
    poses[:, :3, :3] /= np.linalg.norm(poses[:, :3, :3], axis=1, keepdims=True)
    return poses


def read_camera_path(path: Path) -> NDArray[np.float64]:
    """Camera-to-world [N, 4, 4] from JSON: a list of 4x4 matrices, or frames with a transform_matrix each.

    Raises Gen3DError naming the first entry that is not a rigid pose.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Gen3DError(
            f"{path} cannot be read: {str(error)[:200]}.", "Give a JSON list of 4x4 matrices.", field="cameras"
        ) from error
    if isinstance(content, dict):
        content = content.get("frames")
    if not isinstance(content, list) or not content:
        raise Gen3DError(f"{path} lists no cameras.", "Give a JSON list of 4x4 matrices.", field="cameras")
    entries = [entry.get("transform_matrix") if isinstance(entry, dict) else entry for entry in content]
    return np.stack([_pose(entry, f"{path}, camera {i}") for i, entry in enumerate(entries)])


def _pose(entry: Any, where: str) -> NDArray[np.float64]:
    try:
        matrix = np.array(entry, np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.zeros(0)
    if matrix.shape != (4, 4) or not np.abs(matrix).max() < MAX_COORDINATE:  # NaN is not less, either
        raise Gen3DError(f"{where} is not a 4x4 matrix of finite numbers.", "Correct it.", field="cameras")
    if np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-4:
        raise Gen3DError(
            f"{where} has a last row other than 0 0 0 1.", "Give its position in column 4.", field="cameras"
        )
    rotation = matrix[:3, :3]
    size = np.cbrt(abs(np.linalg.det(rotation)))
    if size < 1e-9 or not np.allclose(rotation.T @ rotation, np.eye(3) * size**2, atol=1e-2 * size**2):
        raise Gen3DError(f"{where} is not a rotation and a position.", "Correct it.", field="cameras")
    if np.linalg.det(rotation) < 0:
        raise Gen3DError(f"{where} mirrors space.", "Flip one axis of its rotation.", field="cameras")
    matrix[:3, :3] /= size
    return matrix


def write_views(
    field: RadianceField, scene: Scene, cameras: Cameras, size: tuple[int, int], out: Path, pngs: bool, movie: bool
) -> Iterator[tuple[int, int, float]]:
    """All cameras as views/0000.png and on (straight alpha where the scene has it), and as turntable.mp4.

    size: width and height. Yields (view, views, share of the whole).
    """
    width, height = size
    count = len(cameras.lens)
    with ExitStack() as stack:
        append = stack.enter_context(film(out / "turntable.mp4", width, height, FPS)) if movie else None
        if pngs:
            (out / "views").mkdir()
        for index in range(count):
            drawing = picture(field, cameras, index, width, height)
            while True:
                try:
                    share = next(drawing)
                except StopIteration as end:
                    seen: NDArray[np.float32] = end.value
                    break
                yield index, count, (index + share) / count
            solid = to_bytes(over(seen, backdrop(scene)))
            if pngs:
                Image.fromarray(_straight(seen) if scene.alpha else solid).save(out / "views" / f"{index:04}.png")
            if append is not None:
                append(solid)


def _straight(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Premultiplied -> straight alpha, as PNG has it."""
    alpha = picture[..., 3:]
    colour = np.where(alpha > 0, picture[..., :3] / np.maximum(alpha, 1e-6), 0)
    return to_bytes(np.concatenate([np.minimum(colour, 1), alpha], 2).astype(np.float32))


def preview(field: RadianceField, scene: Scene, cameras: Cameras, longest: int = 160) -> NDArray[np.uint8]:
    """A small picture from the first camera, uint8 sRGB [H, W, 3]."""
    scale = longest / max(scene.width, scene.height)
    width, height = max(1, round(scene.width * scale)), max(1, round(scene.height * scale))
    small = Cameras(cameras.to_box[:1], cameras.lens[:1] * scale)
    drawing = picture(field, small, 0, width, height)
    while True:
        try:
            next(drawing)
        except StopIteration as end:
            return to_bytes(over(end.value, backdrop(scene)))


def size(scene: Scene, width: int, height: int) -> tuple[int, int]:
    """Width and height where either may be 0: the training pictures', or what keeps their proportions."""
    if width and height:
        return width, height
    if width:
        return width, max(1, round(width * scene.height / scene.width))
    if height:
        return max(1, round(height * scene.width / scene.height)), height
    return scene.width, scene.height
