# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a trained field from anywhere."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..data import exr
from ..data.film import film
from ..data.lens import Intrinsics
from ..errors import Gen3DError
from ..geometry.export import srgb_to_linear
from ..rendering.cameras import Cameras
from ..shares import ended
from .radiance import RadianceField, Scene

CHUNK = 2**14
FPS = 24.0
NOTHING = 1e10  # depth where there is no surface, as Blender has it
SEEN_RAYS, OPAQUE = 2**14, 0.8


def picture(
    field: RadianceField, cameras: Cameras, index: int, width: int, height: int
) -> Generator[float, None, NDArray[np.float32]]:
    """What camera ``index`` sees, [height, width, 5]: sRGB, premultiplied by the opacity that follows, and by which is
    also weighted the distance along the ray, in box units, that comes last.

    Yields the share done, several times a second, so that who waits can stop."""
    device = cameras.lens.device
    parts: list[Tensor] = []
    total = width * height
    for start in range(0, total, CHUNK):
        flat = torch.arange(start, min(start + CHUNK, total), device=device)
        place = torch.stack([flat % width, flat // width], 1).float() + 0.5
        seen = field.render(*cameras.rays(torch.full_like(flat, index), place))
        unit = torch.cat([seen.rgb, seen.opacity[:, None]], 1).clamp(0, 1)
        parts.append(torch.cat([unit, seen.depth[:, None]], 1).cpu())
        yield min(1.0, (start + CHUNK) / total)
    return torch.cat(parts).view(height, width, 5).numpy()


def over(picture: NDArray[np.float32], backdrop: float) -> NDArray[np.float32]:
    """A ``picture`` on a grey, [H, W, 3]."""
    return np.minimum(picture[..., :3] + (1 - picture[..., 3:4]) * np.float32(backdrop), np.float32(1))


def backdrop(scene: Scene) -> float:
    """White behind objects, black behind surroundings that stay empty."""
    return 1.0 if scene.alpha else 0.0


def to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[0, 1] -> 0..255, rounded."""
    return (values * 255 + 0.5).astype(np.uint8)


def lens_cameras(scene: Scene, camera_to_world: NDArray[np.float64], width: int, height: int) -> Cameras:
    """Cameras [N, 4, 4] with the training pictures' angle of view across, for pictures of width x height."""
    return pinholes(scene, camera_to_world, [resized(scene_lens(scene), width, height)] * len(camera_to_world))


def pinholes(scene: Scene, camera_to_world: NDArray[np.float64], lenses: Sequence[Intrinsics]) -> Cameras:
    """Cameras [N, 4, 4] with a lens each."""
    to_box = scene.world_to_box @ camera_to_world
    to_box[:, :3, :3] /= np.linalg.norm(to_box[:, :3, :3], axis=1, keepdims=True)
    rows = [(lens.fl_x, lens.fl_y, lens.cx, lens.cy) for lens in lenses]
    return Cameras(torch.from_numpy(to_box[:, :3].astype(np.float32)), torch.tensor(rows, dtype=torch.float32))


def scene_lens(scene: Scene) -> Intrinsics:
    """That of the first training picture, without its distortion."""
    return Intrinsics(scene.width, scene.height, *scene.lens)


def resized(lens: Intrinsics, width: int, height: int) -> Intrinsics:
    """A lens for pictures of another size, as ``size`` has it: the angle across stays."""
    width, height = size(lens, width, height)
    scale = width / lens.width
    cy = height / 2 + (lens.cy - lens.height / 2) * scale
    return Intrinsics(width, height, lens.fl_x * scale, lens.fl_y * scale, lens.cx * scale, cy)


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


def write_views(
    field: RadianceField,
    scene: Scene,
    cameras: Cameras,
    lenses: Sequence[Intrinsics],
    out: Path,
    *,
    pngs: bool = True,
    movie: bool = False,
    exrs: bool = False,
) -> Iterator[tuple[int, int, float]]:
    """All cameras as views/0000.png and on (straight alpha where the scene has it), as turntable.mp4, and as
    exr/0000.exr and on.

    lenses: those of the cameras, one each. Yields (view, views, share of the whole). Raises Gen3DError for a film of
    views that are not all of one size.
    """
    count, first = len(lenses), lenses[0]
    if movie and any((lens.width, lens.height) != (first.width, first.height) for lens in lenses):
        raise Gen3DError("Views of several sizes make no film.", "Switch the film off.", field="film")
    with ExitStack() as stack:
        append = stack.enter_context(film(out / "turntable.mp4", first.width, first.height, FPS)) if movie else None
        for name in ("views",) * pngs + ("exr",) * exrs:
            (out / name).mkdir()
        for index, lens in enumerate(lenses):
            drawing = picture(field, cameras, index, lens.width, lens.height)
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
            if exrs:
                exr.write(out / "exr" / f"{index:04}.exr", layers(scene, lens, seen))
            if append is not None:
                append(solid)


def layers(scene: Scene, lens: Intrinsics, picture: NDArray[np.float32]) -> dict[str, exr.Channel]:
    """A ``picture`` as OpenEXR has it: R, G, B in linear light, premultiplied by A, all float16; and Z, float32, the
    depth along the view in world units, ``NOTHING`` where there is nothing. All [H, W]."""
    alpha, seen = picture[..., 3], picture[..., 3] > 0
    weight = np.where(seen, alpha, 1)
    light = srgb_to_linear(np.minimum(picture[..., :3] / weight[..., None], 1)) * alpha[..., None]
    x = (np.arange(lens.width) + 0.5 - lens.cx) / lens.fl_x
    y = (np.arange(lens.height) + 0.5 - lens.cy) / lens.fl_y
    unit = np.cbrt(np.linalg.det(np.array(scene.box_to_world)[:3, :3]))
    depth = unit * picture[..., 4] / weight / np.sqrt(1 + x**2 + y[:, None] ** 2)
    half = {name: light[..., i].astype(np.float16) for i, name in enumerate("RGB")}
    return {**half, "A": alpha.astype(np.float16), "Z": np.where(seen, depth, NOTHING).astype(np.float32)}


def _straight(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A ``picture``, premultiplied -> straight alpha, as PNG has it."""
    alpha = picture[..., 3:4]
    colour = np.where(alpha > 0, picture[..., :3] / np.maximum(alpha, 1e-6), 0)
    return to_bytes(np.concatenate([np.minimum(colour, 1), alpha], 2).astype(np.float32))


def preview(field: RadianceField, scene: Scene, cameras: Cameras, longest: int = 160) -> NDArray[np.uint8]:
    """A small picture from the first camera, uint8 sRGB [H, W, 3]."""
    scale = longest / max(scene.width, scene.height)
    width, height = max(1, round(scene.width * scale)), max(1, round(scene.height * scale))
    small = Cameras(cameras.to_box[:1], cameras.lens[:1] * scale)
    return to_bytes(over(ended(picture(field, small, 0, width, height)), backdrop(scene)))


def seen_points(field: RadianceField, scene: Scene, cameras: Cameras, rays: int = SEEN_RAYS) -> NDArray[np.float32]:
    """Where rays that are spread over the pictures of all cameras meet the surface: world coordinates, sRGB, [N, 6]."""
    device = cameras.lens.device
    which = torch.arange(rays, device=device) * len(cameras.lens) // rays
    golden = torch.arange(rays).double()[:, None] * torch.tensor([0.7548776662, 0.5698402910]).double()
    place = (golden % 1 * torch.tensor([scene.width, scene.height])).float().to(device)  # spread evenly
    origins, directions = cameras.rays(which, place)
    seen = field.render(origins, directions)
    hit = seen.opacity > OPAQUE
    share = seen.opacity[hit, None]
    points = origins[hit] + seen.depth[hit, None] / share * directions[hit]
    matrix = np.array(scene.box_to_world)
    world = points.double().cpu().numpy() @ matrix[:3, :3].T + matrix[:3, 3]
    colours: NDArray[np.float32] = (seen.rgb[hit] / share).clamp(0, 1).cpu().numpy()
    return np.concatenate([world.astype(np.float32), colours], 1)


def size(known: Scene | Intrinsics, width: int, height: int) -> tuple[int, int]:
    """Width and height where either may be 0: the known ones, or what keeps their proportions."""
    if width and height:
        return width, height
    if width:
        return width, max(1, round(width * known.height / known.width))
    if height:
        return max(1, round(height * known.width / known.height)), height
    return known.width, known.height
