# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import numpy as np
import pytest

from backend.priors.world.solids import PRISM, Solid, arc, ball, box, cylinder, dome, lathe, prism, ring, rod, tube

SOLIDS = {
    "box": box(0.5, 0.7, 0.3),
    "wedge": box(0.5, 0.7, 0.3, 0.2),
    "cylinder": cylinder(0.4, 0.8),
    "cone": cylinder(0.4, 0.8, 0.0),
    "ball": ball(0.4, 0.3, 0.2),
    "dome": dome(0.4, 0.3),
    "ring": ring(0.4, 0.1),
    "cup": lathe([(0, 0), (0.3, 0), (0.4, 0.8), (0.34, 0.8), (0.24, 0.1), (0, 0.1)]),
    "star": prism(
        [(r * math.cos(a), r * math.sin(a)) for r, a in zip([0.5, 0.2] * 5, np.arange(10) * math.pi / 5, strict=True)],
        -0.1,
        0.2,
        0.6,
    ),
    "rod": rod((-0.3, 0.1, 0), (0.4, 0.2, 0.5), 0.1, 0.06),
    "arc": arc(0.4, -90, 90, 0.08),
    "bent": tube([(0, 0, 0), (0.3, 0, 0.1), (0.5, 0.1, 0.2)], [0.1, 0.08, 0.05]),
}
MOVED = {
    f"{name} moved": s.scaled(1.2, 0.7, 1.1).turned("y", 30).turned("x", -50).at(0.1, 0, -0.2)
    for name, s in SOLIDS.items()
}
MIRRORED = {f"{name} mirrored": s.at(0.3, 0, 0).mirrored() for name, s in SOLIDS.items()}
ALL = pytest.mark.parametrize(
    "solid", [*SOLIDS.values(), *MOVED.values(), *MIRRORED.values()], ids=[*SOLIDS, *MOVED, *MIRRORED]
)


def winding_number(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Solid angles of all triangles as seen from each point, over 4π (van Oosterom and Strackee, 1983)."""
    corners = solid.vertices[solid.faces].astype(np.float64)[None] - points[:, None, None]
    a, b, c = corners[:, :, 0], corners[:, :, 1], corners[:, :, 2]
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    top = np.einsum("nfi,nfi->nf", a, np.cross(b, c))
    dots = [np.einsum("nfi,nfi->nf", u, v) for u, v in ((a, b), (b, c), (c, a))]
    bottom = la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb
    return np.asarray(np.arctan2(top, bottom).sum(1) / (2 * np.pi))


@ALL
def test_what_is_inside_is_what_the_triangles_enclose(solid: Solid) -> None:
    rng = np.random.default_rng(0)
    low, high = solid.vertices.min(0), solid.vertices.max(0)
    points = rng.uniform(low - 0.05, high + 0.05, (6000, 3)).astype(np.float32)
    enclosed = winding_number(solid, points) > 0.5
    inside = solid.inside(points)
    assert enclosed.sum() > 100
    # Round solids are drawn with flat sides: between those and the true surface the two may differ.
    flat = solid.kind == PRISM
    assert (inside != enclosed).sum() <= (0 if flat else 0.13) * enclosed.sum()


@ALL
def test_every_surface_is_closed_and_faces_outwards(solid: Solid) -> None:
    # Corners that lie on each other are one: the rings of a turned solid meet on its axis.
    _, same = np.unique(np.round(solid.vertices, 5), axis=0, return_inverse=True)
    faces = same.reshape(-1)[solid.faces]
    faces = faces[[len(set(face)) == 3 for face in faces.tolist()]]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forth, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 1).all()
    assert {tuple(edge) for edge in forth.tolist()} == {tuple(edge[::-1]) for edge in forth.tolist()}
    corners = solid.vertices[solid.faces].astype(np.float64)
    assert np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() > 0


def test_closed_forms() -> None:
    points = np.random.default_rng(1).uniform(-1, 1, (4000, 3)).astype(np.float32)
    x, y, z = points.T
    radius = np.linalg.norm(points, axis=1)
    clear = np.abs(radius - 0.6) > 0.02
    assert (ball(0.6, sides=64).inside(points) == (radius < 0.6))[clear].all()
    inside = (np.abs(x) < 0.25) & (np.abs(y) < 0.35) & (z > 0) & (z < 0.3)
    assert (box(0.5, 0.7, 0.3).inside(points) == inside).all()
    assert (
        box(0.5, 0.7, 0.3).turned("z", 90).inside(points)
        == ((np.abs(y) < 0.25) & (np.abs(x) < 0.35) & (z > 0) & (z < 0.3))
    ).all()
    away = np.hypot(np.hypot(x, y) - 0.5, z)
    assert (ring(0.5, 0.2).inside(points) == (away < 0.2))[np.abs(away - 0.2) > 0.02].all()
