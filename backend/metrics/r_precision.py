# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP R-Precision: how often a picture of a result leads back to its own caption among all captions.

Introduced by Park et al. 2021, used for objects by Jain et al. 2022 ("Dream Fields", §5): R = 1, the nearest caption by
cosine. Once with colours, and once for the bare shape, shaded without a texture (Poole et al. 2022, "DreamFusion",
§4). A value means something beside others of the same CLIP and the same captions only; the CLIP should not be one that
guided the making.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..geometry.mesh import Mesh
from ..rendering.orbit import focal_length, orbit
from ..rendering.raster import render

VIEWS = 4
SIZE = 224  # pixels
FIRST, ELEVATION, FOV = 30.0, 30.0, 40.0  # degrees: where the views begin, how high they are, how wide they see
MARGIN = 1.05
AMBIENT = 0.4
WHITE = 1.0
SPLAT = 2.0  # half the width of a point, in median distances to the nearest


class Encoder(Protocol):
    """What gives words and pictures vectors in one space; of any length."""

    def encode_text(self, texts: Sequence[str], /) -> Tensor:
        """[N, D]."""

    def encode_image(self, pixels: Tensor, /) -> Tensor:
        """float sRGB [B, 3, H, W] in 0..1 -> [B, D]."""


@dataclass(frozen=True)
class RPrecision:
    """Percent of the views whose own caption is the nearest; ``captions`` is how many there were to choose from."""

    colour: float
    geometry: float
    views: int
    captions: int


@torch.inference_mode()
def r_precision(
    objects: Iterable[tuple[Mesh, str]], captions: Sequence[str], encoder: Encoder, views: int = VIEWS
) -> RPrecision:
    """Looks at every object, Z up, from ``views`` sides; its own caption must be among the captions.

    Equal captions count as one. Objects without faces are drawn as points.
    """
    pool = list(dict.fromkeys(captions))
    words = encoder.encode_text(pool)
    shares = []
    for mesh, caption in objects:
        own = pool.index(caption)
        shares.append(
            [
                hits(encoder.encode_image(portraits(look, views)), words, own)
                for look in (mesh, replace(mesh, colors=None))
            ]
        )
    colour, geometry = 100 * np.mean(shares, axis=0)
    return RPrecision(float(colour), float(geometry), views, len(pool))


def hits(pictures: Tensor, captions: Tensor, own: int) -> float:
    """Share of the rows [N, D] whose nearest row of ``captions`` [P, D] by cosine is ``own``."""
    nearest = (pictures.float() @ torch.nn.functional.normalize(captions.float(), dim=-1).T).argmax(-1)
    return float((nearest == own).float().mean())


def portraits(mesh: Mesh, views: int = VIEWS, size: int = SIZE) -> Tensor:
    """Pictures of a mesh or cloud from evenly spaced sides, on white: float sRGB [views, 3, size, size] in 0..1.

    The lamp is above the viewer's left shoulder. Without colours the mesh is grey.
    """
    drawn = mesh if len(mesh.faces) else splats(mesh)
    low, high = drawn.vertices.min(0), drawn.vertices.max(0)
    middle = (low + high).astype(np.float64) / 2
    radius = max(float(np.linalg.norm(drawn.vertices - middle, axis=1).max()), 1e-9)
    vertices = ((drawn.vertices - middle) / radius).astype(np.float32)
    colours = None if drawn.colors is None else (drawn.colors / 255.0).astype(np.float32)
    if colours is not None and len(drawn.faces) == len(vertices):  # they would be taken for those of the faces
        vertices, colours = (np.concatenate([rows, np.zeros((1, 3), np.float32)]) for rows in (vertices, colours))
    pictures = []
    for i in range(views):
        pose = orbit(FIRST + 360.0 * i / views, ELEVATION, MARGIN / np.sin(np.radians(FOV / 2)))
        lamp = pose[:3] @ (-0.4, 0.6, 1.0, 0.0)
        picture = render(
            vertices,
            drawn.faces,
            colours,
            pose,
            focal=focal_length(FOV, size),
            size=size,
            light=lamp,
            ambient=AMBIENT,
        )
        pictures.append(picture.over((WHITE, WHITE, WHITE)))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def splats(cloud: Mesh) -> Mesh:
    """Every point of a cloud as an octahedron, about as large as hides what lies behind the surface."""
    corners = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
    faces = np.array([[x, y, z] for x in (0, 1) for y in (2, 3) for z in (4, 5)], np.int32)
    faces[[1, 2, 4, 7]] = faces[[1, 2, 4, 7], ::-1]  # seen from outside, counter-clockwise
    count = len(cloud.vertices)
    nearest = cKDTree(cloud.vertices).query(cloud.vertices, k=min(2, count))[0].reshape(count, -1)[:, -1]
    radius = np.float32(SPLAT * max(float(np.median(nearest)), 1e-6))
    return Mesh(
        (cloud.vertices[:, None] + radius * corners).reshape(-1, 3),
        (6 * np.arange(count, dtype=np.int32)[:, None, None] + faces).reshape(-1, 3),
        None if cloud.colors is None else np.repeat(cloud.colors, 6, axis=0),
    )
