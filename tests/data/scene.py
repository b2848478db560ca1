# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene known in closed form, and datasets of it in every dialect.

Two boxes and two spheres that touch but do not overlap, within about 0.6 of the origin. Because they are disjoint,
the distance to the nearest solid's surface is the exact distance to the scene's surface, inside and outside.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.data.lens import Intrinsics, distort_xy

Array = NDArray[np.float64]

# centre, half extents, colour
BOXES = (
    ((0.0, 0.0, -0.3), (0.5, 0.35, 0.1), (0.85, 0.75, 0.3)),
    ((0.25, -0.18, 0.125), (0.1, 0.1, 0.325), (0.2, 0.35, 0.9)),
)
# centre, radius, colour
SPHERES = (((-0.25, 0.0, 0.02), 0.22, (0.9, 0.15, 0.1)), ((0.25, 0.15, -0.05), 0.15, (0.15, 0.7, 0.25)))
SOLIDS = len(BOXES) + len(SPHERES)
LIGHT = np.array((0.4, -0.5, 0.77))
APPLIED_TRANSFORM = ((0.0, 1.0, 0.0, 0.3), (1.0, 0.0, 0.0, -0.2), (0.0, 0.0, -1.0, 0.1))


@dataclass(frozen=True)
class Written:
    """A dataset as written: its folder, and what a reader must find. poses [N, 4, 4] in the order train, test."""

    folder: Path
    names: tuple[str, ...]
    poses: Array
    lens: Intrinsics
    images: tuple[NDArray[Any], ...]
    train: int


def distance_to_surface(points: Array, transform: Array | None = None) -> Array:
    """Exact unsigned distance [...] of points [..., 3] to the surface, of the scene placed by a similarity."""
    distance: Array = np.abs(signed_distance(points, transform))
    return distance


def signed_distance(points: Array, transform: Array | None = None) -> Array:
    """Exact distance [...] of points [..., 3], negative inside."""
    local, scale = _to_scene(points, transform)
    distance: Array = _distances(local).min(axis=0) * scale
    return distance


def color_at(points: Array, transform: Array | None = None) -> Array:
    """sRGB colour in [0, 1] [..., 3] that the nearest surface point shows; it does not depend on the view."""
    local, _ = _to_scene(points, transform)
    nearest = np.abs(_distances(local)).argmin(axis=0)
    return _shade(local, nearest)


def surface_points(count: int, transform: Array | None = None, seed: int = 0) -> Array:
    """Points [count, 3] on the surfaces of all solids, an equal number (nearly) on each, box corners among them."""
    random = np.random.default_rng(seed)
    share = -(-count // SOLIDS)
    parts = []
    for centre, half, _ in BOXES:
        local = random.uniform(-1.0, 1.0, (share, 3))
        local[np.arange(share), random.integers(0, 3, share)] = random.choice((-1.0, 1.0), share)
        local[:8] = np.stack(np.meshgrid(*[(-1.0, 1.0)] * 3), axis=-1).reshape(-1, 3)[:share]
        parts.append(np.array(centre) + local * half)
    for centre, radius, _ in SPHERES:
        direction = random.normal(size=(share, 3))
        parts.append(np.array(centre) + radius * direction / np.linalg.norm(direction, axis=1, keepdims=True))
    points = np.concatenate(parts)[:count]
    return points if transform is None else points @ transform[:3, :3].T + transform[:3, 3]


def similarity(angle: float = 0.0, scale: float = 1.0, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Array:
    """Rotation by ``angle`` about the axis (1, 2, 3), then scaling, then shift, as a 4x4 matrix."""
    axis = np.array((1.0, 2.0, 3.0)) / np.sqrt(14.0)
    cross = np.cross(np.eye(3), axis)
    result = np.eye(4)
    result[:3, :3] = scale * (np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross)
    result[:3, 3] = shift
    return result


def cameras(views: int, radius: float = 2.4, target: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Array:
    """Camera-to-world [views, 4, 4] (OpenGL) spread evenly over a sphere, looking at its centre."""
    index = np.arange(views)
    z = 1.0 - (2.0 * index + 1.0) / views
    around = index * np.pi * (3.0 - np.sqrt(5.0))
    back = np.stack((np.sqrt(1.0 - z * z) * np.cos(around), np.sqrt(1.0 - z * z) * np.sin(around), z), axis=1)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (views, 1, 1))
    poses[:, :3, :3] = np.stack((right, np.cross(back, right), back), axis=2)
    poses[:, :3, 3] = np.array(target) + radius * back
    return poses


def placed(poses: Array, transform: Array | None) -> Array:
    """The cameras after the whole world has been moved by a similarity: still rigid."""
    if transform is None:
        return poses
    scale = np.cbrt(np.linalg.det(transform[:3, :3]))
    result = poses.copy()
    result[:, :3, :3] = transform[:3, :3] / scale @ poses[:, :3, :3]
    result[:, :3, 3] = poses[:, :3, 3] @ transform[:3, :3].T + transform[:3, 3]
    return result


def pixel_rays(lens: Intrinsics, pixels: Array) -> Array:
    """Unit directions [..., 3] in OpenGL camera axes of pixel positions [..., 2], the lens undone by iteration."""
    seen = (pixels - (lens.cx, lens.cy)) / (lens.fl_x, lens.fl_y)
    plane = seen
    for _ in range(30):
        plane = plane + seen - np.stack(distort_xy(plane[..., 0], plane[..., 1], *lens.distortion), axis=-1)
    rays = np.stack((plane[..., 0], -plane[..., 1], -np.ones_like(plane[..., 0])), axis=-1)
    unit: Array = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return unit


def render(
    pose: Array, lens: Intrinsics, transform: Array | None = None, samples: int = 3, opaque: bool = False
) -> Array:
    """The scene as seen by a camera: sRGB and straight alpha in [0, 1], float64 [H, W, 4].

    Alpha is the share of ``samples`` x ``samples`` rays of the pixel that hit, colour the mean over those.
    ``opaque`` puts a background that depends on the direction alone behind it, as far scenery does.
    """
    offset = (np.arange(samples) + 0.5) / samples
    y, x, v, u = np.meshgrid(np.arange(lens.height), np.arange(lens.width), offset, offset, indexing="ij")
    directions = pixel_rays(lens, np.stack((x + u, y + v), axis=-1)) @ pose[:3, :3].T
    origin, scale = _to_scene(pose[:3, 3], transform)
    local = directions if transform is None else directions @ transform[:3, :3] / scale
    times = _intersections(origin, local)
    nearest = times.argmin(axis=0)
    first = times.min(axis=0)
    hit = np.isfinite(first)
    color = 0.5 + 0.3 * np.sin(directions * (3.0, 5.0, 7.0)) if opaque else np.zeros_like(directions)
    color[hit] = _shade(origin + local[hit] * first[hit, None], nearest[hit])
    weight = np.ones_like(first) if opaque else hit.astype(np.float64)
    alpha = weight.mean(axis=(2, 3))
    mean = (color * weight[..., None]).mean(axis=(2, 3)) / np.maximum(alpha, 1e-9)[..., None]
    return np.concatenate((mean, alpha[..., None]), axis=-1)


def write_scene(
    folder: Path,
    dialect: str = "nerf",
    views: int = 24,
    size: int = 48,
    transform: Array | None = None,
    *,
    test_views: int = 4,
    distortion: tuple[float, float, float, float, float] = (0.0,) * 5,
    deep: bool = False,
    opaque: bool = False,
    radius: float = 2.4,
    angle: float = 0.7,
) -> Written:
    """Writes the scene as a dataset; ``transform`` moves scene and cameras together.

    dialect "nerf": split files, no suffixes. "ngp": one file, ``views`` pictures, no splits (``test_views`` is 0).
    "nerfstudio": lens per frame, split lists, masks, and an ``applied_transform`` that the reader has to undo.
    ``deep`` writes 16-bit pictures, ``opaque`` a background instead of alpha; the pictures are ``size`` x ``size``.
    """
    test_views = 0 if dialect == "ngp" else test_views
    focal = size / 2 / np.tan(angle / 2)
    lens = Intrinsics(size, size, focal, focal, size / 2, size / 2, distortion)
    everything = np.arange(views + test_views)
    test = np.linspace(1, max(views + test_views - 2, 1), test_views).astype(np.int64)
    local = cameras(views + test_views, radius)[np.concatenate((np.setdiff1d(everything, test), test))]
    poses = placed(local, transform)
    images, names = [], []
    for i, pose in enumerate(poses):
        part = "images" if dialect == "ngp" else ("train" if i < views else "test")
        names.append(f"{part}/r_{i if i < views else i - views}")
        image = _quantised(render(pose, lens, transform, opaque=opaque), deep)
        images.append(image[..., :3] if opaque else image)
        target = folder / f"{names[-1]}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_png16(target, images[-1]) if deep else Image.fromarray(images[-1]).save(target)
    if dialect != "nerf":
        names = [f"{name}.png" for name in names]
    writer = {"nerf": _write_nerf, "ngp": _write_ngp, "nerfstudio": _write_nerfstudio}[dialect]
    writer(folder, names, poses, lens, angle, views)
    return Written(folder, tuple(names), poses, lens, tuple(images), views)


def write_png16(path: Path, image: NDArray[np.uint16], filters: tuple[int, ...] = (0,)) -> None:
    """A 16-bit PNG of [H, W, 1-4]; row y is filtered by ``filters[y % len(filters)]`` (0 to 4)."""
    height, width, channels = image.shape
    rows = image.astype(">u2").tobytes()
    stride, step = width * channels * 2, channels * 2
    before, packed = bytes(stride), b""
    for y in range(height):
        row, kind = rows[y * stride : (y + 1) * stride], filters[y % len(filters)]
        packed += bytes((kind,)) + bytes(
            (row[x] - _guess(kind, row[x - step] if x >= step else 0, before[x], before[x - step] if x >= step else 0))
            % 256
            for x in range(stride)
        )
        before = row
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(packed)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def _guess(kind: int, left: int, up: int, corner: int) -> int:
    paeth = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
    return (0, left, up, (left + up) // 2, paeth)[kind]


def _quantised(image: Array, deep: bool) -> NDArray[Any]:
    return (image * 65535 + 0.5).astype(np.uint16) if deep else (image * 255 + 0.5).astype(np.uint8)


def _write_nerf(folder: Path, names: list[str], poses: Array, lens: Intrinsics, angle: float, train: int) -> None:
    for split, part in (("train", slice(0, train)), ("test", slice(train, None))):
        frames = [
            {"file_path": f"./{name}", "transform_matrix": pose.tolist()}
            for name, pose in zip(names[part], poses[part], strict=True)
        ]
        content = {"camera_angle_x": angle, "frames": frames} | _distortion_fields(lens)
        if frames:
            (folder / f"transforms_{split}.json").write_text(json.dumps(content), encoding="utf-8")


def _write_ngp(folder: Path, names: list[str], poses: Array, lens: Intrinsics, angle: float, train: int) -> None:
    frames = [
        {"file_path": name, "sharpness": 30.0, "transform_matrix": pose.tolist()}
        for name, pose in zip(names, poses, strict=True)
    ]
    content = {"camera_angle_x": angle, "aabb_scale": 4, "scale": 0.33, "offset": [0.5, 0.5, 0.5], "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content | _lens_fields(lens)), encoding="utf-8")


def _write_nerfstudio(folder: Path, names: list[str], poses: Array, lens: Intrinsics, angle: float, train: int) -> None:
    applied = np.vstack((APPLIED_TRANSFORM, (0.0, 0.0, 0.0, 1.0)))
    mask = np.full((lens.height, lens.width), 255, np.uint8)
    mask[: lens.height // 4] = 0
    Image.fromarray(mask).save(folder / "mask.png")
    frames = [
        {"file_path": name, "mask_path": "mask.png", "transform_matrix": (applied @ pose).tolist()} | _lens_fields(lens)
        for name, pose in zip(names, poses, strict=True)
    ]
    content = {
        "camera_model": "OPENCV",
        "applied_transform": applied[:3].tolist(),
        "train_filenames": names[:train],
        "test_filenames": names[train:],
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(content), encoding="utf-8")


def _lens_fields(lens: Intrinsics) -> dict[str, float]:
    fields = {"fl_x": lens.fl_x, "fl_y": lens.fl_y, "cx": lens.cx, "cy": lens.cy, "w": lens.width, "h": lens.height}
    return fields | _distortion_fields(lens)


def _distortion_fields(lens: Intrinsics) -> dict[str, float]:
    named = zip(("k1", "k2", "p1", "p2", "k3"), lens.distortion, strict=True)
    return {name: value for name, value in named if value}


def _to_scene(points: Array, transform: Array | None) -> tuple[Array, float]:
    """Points in the scene's own coordinates, and how much larger the placed scene is."""
    if transform is None:
        return points, 1.0
    scale = float(np.cbrt(np.linalg.det(transform[:3, :3])))
    return (points - transform[:3, 3]) @ transform[:3, :3] / scale**2, scale


def _distances(points: Array) -> Array:
    """Signed distance [SOLIDS, ...] to each solid."""
    parts = []
    for centre, half, _ in BOXES:
        beyond = np.abs(points - centre) - half
        outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=-1)
        parts.append(outside + np.minimum(beyond.max(axis=-1), 0.0))
    parts += [np.linalg.norm(points - centre, axis=-1) - radius for centre, radius, _ in SPHERES]
    return np.stack(parts)


def _intersections(origin: Array, directions: Array) -> Array:
    """Distance [SOLIDS, ...] along unit directions [..., 3] to each solid from outside; inf where it is missed."""
    times = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for centre, half, _ in BOXES:
            low = (np.array(centre) - half - origin) / directions
            high = (np.array(centre) + half - origin) / directions
            enter = np.minimum(low, high).max(axis=-1)
            leave = np.maximum(low, high).min(axis=-1)
            times.append(np.where((enter <= leave) & (enter > 0.0), enter, np.inf))
        for centre, radius, _ in SPHERES:
            away = origin - np.array(centre)
            along = directions @ away
            root = along**2 - away @ away + radius**2
            enter = -along - np.sqrt(root)
            times.append(np.where((root >= 0.0) & (enter > 0.0), enter, np.inf))
    return np.stack(times)


def _shade(points: Array, solid: NDArray[np.int64]) -> Array:
    """Colour [..., 3] of surface points [..., 3] of the given solids: striped paint under one fixed light."""
    color, normal = np.zeros(points.shape), np.zeros(points.shape)
    for i, (box_centre, half, paint) in enumerate(BOXES):
        local = (points - box_centre) / half
        face = np.abs(local).argmax(axis=-1)[..., None]
        flat = np.where(np.arange(3) == face, np.sign(local), 0.0)
        chosen = (solid == i)[..., None]
        color, normal = np.where(chosen, paint, color), np.where(chosen, flat, normal)
    for i, (centre, radius, paint) in enumerate(SPHERES, start=len(BOXES)):
        chosen = (solid == i)[..., None]
        color, normal = np.where(chosen, paint, color), np.where(chosen, (points - centre) / radius, normal)
    light = 0.65 + 0.3 * (normal @ LIGHT)
    stripes = 1.0 + 0.08 * np.sin(25.0 * points.sum(axis=-1))
    shaded: Array = np.clip(color * (light * stripes)[..., None], 0.0, 1.0)
    return shaded
