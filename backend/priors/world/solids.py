# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed solids from three families: turned (lathe), cut (prism) and bent (tube).

Each knows its surface as triangles, counter-clockwise seen from outside, and which points lie inside, exactly. That
is all that is needed to sample the visible surface of a union of them, to draw it and to tell the sign of its
distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

LATHE, PRISM, TUBE = range(3)


@dataclass(frozen=True)
class Solid:
    """vertices float32 [V, 3] and faces int32 [F, 3] in the world; ``to_local`` float32 [3, 4] takes a point of the
    world to where ``outline`` float32 [n, 2 or 4] and ``facts`` (bottom, top, taper) describe the solid.

    LATHE: outline is a polygon (radius, z). PRISM: a polygon (x, y) from z = bottom to top, where it has shrunk by
    the factor taper. TUBE: outline has rows (x, y, z, radius) along a path.
    """

    kind: int
    vertices: Floats
    faces: Ints
    outline: Floats
    facts: tuple[float, float, float]
    to_local: Floats

    def moved(self, matrix: NDArray[np.float64]) -> Solid:
        """The solid after an affine map [4, 4] that does not mirror."""
        vertices = (self.vertices @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
        local = np.vstack([self.to_local, [0, 0, 0, 1]]) @ np.linalg.inv(matrix)
        return replace(self, vertices=vertices, to_local=local[:3].astype(np.float32))

    def at(self, x: float, y: float, z: float) -> Solid:
        matrix = np.eye(4)
        matrix[:3, 3] = x, y, z
        return self.moved(matrix)

    def scaled(self, x: float, y: float, z: float) -> Solid:
        return self.moved(np.diag([x, y, z, 1.0]))

    def turned(self, axis: str, degrees: float) -> Solid:
        """Turned about an axis of the world through its origin, right-handed."""
        first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        matrix = np.eye(4)
        matrix[first, first] = matrix[second, second] = cosine
        matrix[first, second], matrix[second, first] = -sine, sine
        return self.moved(matrix)

    def mirrored(self) -> Solid:
        """Its mirror image, left for right (x → −x)."""
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        local = np.vstack([self.to_local, [0, 0, 0, 1]]) @ flip
        vertices = self.vertices * np.array([-1, 1, 1], np.float32)
        return replace(
            self,
            vertices=vertices,
            faces=np.ascontiguousarray(self.faces[:, ::-1]),
            to_local=local[:3].astype(np.float32),
        )

    def inside(self, points: Floats) -> NDArray[np.bool_]:
        """bool [N] for points float32 [N, 3] of the world."""
        facts = np.array(self.facts, np.float32)
        return _inside(self.kind, np.ascontiguousarray(points, np.float32), self.outline, facts, self.to_local)


_IDENTITY = np.eye(3, 4, dtype=np.float32)


def lathe(profile: Sequence[tuple[float, float]], sides: int = 20) -> Solid:
    """The solid that a closed polygon (radius ≥ 0, z) sweeps when turned about the z axis.

    The polygon runs counter-clockwise in the (radius, z) plane. An edge along the axis makes no surface.
    """
    outline = np.array(profile, np.float32)
    angles = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    vertices = np.concatenate([np.column_stack([ring * r, np.full(sides, z)]) for r, z in profile])
    faces = []
    around = np.arange(sides)
    following = (around + 1) % sides
    for i, (radius, _) in enumerate(profile):
        j = (i + 1) % len(profile)
        low, high = i * sides, j * sides
        if radius > 0:
            faces.append(np.stack([low + around, low + following, high + around], 1))
        if profile[j][0] > 0:
            faces.append(np.stack([low + following, high + following, high + around], 1))
    return Solid(
        LATHE, vertices.astype(np.float32), np.concatenate(faces).astype(np.int32), outline, (0, 0, 0), _IDENTITY
    )


def prism(
    polygon: Sequence[tuple[float, float]] | NDArray[np.float64], bottom: float, top: float, taper: float = 1.0
) -> Solid:
    """A polygon (x, y), counter-clockwise, raised from z = bottom to top, where it is ``taper`` times as large.

    It must be star-shaped as seen from its middle: its caps are fans.
    """
    outline = np.array(polygon, np.float32)
    count = len(outline)
    middle = outline.mean(0)
    low = np.column_stack([np.vstack([outline, middle]), np.full(count + 1, bottom)])
    high = np.column_stack([np.vstack([outline, middle]) * taper, np.full(count + 1, top)])
    around = np.arange(count)
    following = (around + 1) % count
    up = count + 1
    faces = [
        np.stack([around, following, up + around], 1),
        np.stack([following, up + following, up + around], 1),
        np.stack([following, around, np.full(count, count)], 1),
        np.stack([up + around, up + following, np.full(count, up + count)], 1),
    ]
    vertices = np.concatenate([low, high]).astype(np.float32)
    return Solid(PRISM, vertices, np.concatenate(faces).astype(np.int32), outline, (bottom, top, taper), _IDENTITY)


def tube(path: Sequence[Sequence[float]], radius: float | Sequence[float], sides: int = 10) -> Solid:
    """A round bar along a path of points (x, y, z), as thick as ``radius`` says at each of them, with round ends."""
    points = np.array(path, np.float64)
    radii = np.broadcast_to(np.asarray(radius, np.float64), len(points))
    steps = np.diff(points, axis=0)
    steps /= np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-9)
    tangents = np.vstack([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    # Half a ball at both ends, so that the surface is where the distance to the path says.
    bows = [(math.cos(a), math.sin(a)) for a in np.radians([60, 30])]
    begin = [(points[0] - tangents[0] * radii[0] * s, radii[0] * c, tangents[0]) for c, s in bows]
    finish = [(points[-1] + tangents[-1] * radii[-1] * s, radii[-1] * c, tangents[-1]) for c, s in reversed(bows)]
    rings = [*begin, *zip(points, radii, tangents, strict=True), *finish]
    normal = np.cross(tangents[0], [0.0, 0.0, 1.0] if abs(tangents[0][2]) < 0.9 else [1.0, 0.0, 0.0])
    angles = np.linspace(0, 2 * np.pi, sides, endpoint=False)[:, None]
    rows = []
    for centre, size, tangent in rings:
        normal = normal - tangent * (normal @ tangent)
        normal /= np.linalg.norm(normal)
        rows.append(centre + size * (np.cos(angles) * normal + np.sin(angles) * np.cross(tangent, normal)))
    tips = [points[0] - tangents[0] * radii[0], points[-1] + tangents[-1] * radii[-1]]
    vertices = np.concatenate([*rows, np.array(tips)])
    around = np.arange(sides)
    following = (around + 1) % sides
    faces = []
    for i in range(len(rings) - 1):
        low, high = i * sides, (i + 1) * sides
        faces += [np.stack([low + around, low + following, high + around], 1)]
        faces += [np.stack([low + following, high + following, high + around], 1)]
    last, tip = (len(rings) - 1) * sides, len(rings) * sides
    faces += [np.stack([following, around, np.full(sides, tip)], 1)]
    faces += [np.stack([last + around, last + following, np.full(sides, tip + 1)], 1)]
    outline = np.column_stack([points, radii]).astype(np.float32)
    return Solid(
        TUBE, vertices.astype(np.float32), np.concatenate(faces).astype(np.int32), outline, (0, 0, 0), _IDENTITY
    )


# ------------------------------------------------------------------------------------------------- everyday solids


def box(x: float, y: float, z: float, taper: float = 1.0) -> Solid:
    """A box of these sizes that stands on z = 0 around the z axis."""
    return prism([(-x / 2, -y / 2), (x / 2, -y / 2), (x / 2, y / 2), (-x / 2, y / 2)], 0, z, taper)


def cylinder(radius: float, height: float, top: float | None = None, sides: int = 20) -> Solid:
    """A cylinder, or a cone cut off at the radius ``top``, that stands on z = 0."""
    upper = radius if top is None else top
    return lathe(
        [(0, 0), (radius, 0), (upper, height), (0, height)] if upper > 0 else [(0, 0), (radius, 0), (0, height)], sides
    )


def ball(x: float, y: float | None = None, z: float | None = None, sides: int = 20) -> Solid:
    """An ellipsoid of these radii around the origin."""
    angles = np.radians(np.linspace(-90, 90, sides // 2 + 1))
    profile = [(max(float(np.cos(a)), 0.0) if abs(a) < 1.57 else 0.0, float(np.sin(a))) for a in angles]
    return lathe(profile, sides).scaled(x, x if y is None else y, x if z is None else z)


def dome(radius: float, height: float, sides: int = 20) -> Solid:
    """The upper half of an ellipsoid, standing on z = 0."""
    angles = np.radians(np.linspace(0, 90, sides // 3 + 1))
    profile = [
        (0.0, 0.0),
        *((radius * float(np.cos(a)), height * float(np.sin(a))) for a in angles[:-1]),
        (0.0, height),
    ]
    return lathe(profile, sides)


def ring(radius: float, thickness: float, sides: int = 24) -> Solid:
    """A torus around the z axis; thickness is the radius of its bar."""
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    return lathe([(radius + thickness * float(np.cos(a)), thickness * float(np.sin(a))) for a in angles], sides)


def rod(begin: Sequence[float], end: Sequence[float], radius: float, top: float | None = None) -> Solid:
    """A straight bar with round ends."""
    return tube([begin, end], [radius, radius if top is None else top])


def arc(radius: float, begin: float, end: float, thickness: float, steps: int = 9) -> Solid:
    """A bent bar in the xz plane about the origin, from and to these degrees (0 is +x, 90 is up)."""
    angles = np.radians(np.linspace(begin, end, steps))
    return tube([(radius * math.cos(a), 0.0, radius * math.sin(a)) for a in angles], thickness)


# ---------------------------------------------------------------------------------------------------------- inside


@numba.njit(cache=True, nogil=True)
def _in_polygon(x: float, y: float, polygon: Floats) -> bool:
    odd = False
    j = len(polygon) - 1
    for i in range(len(polygon)):
        if (polygon[i, 1] > y) != (polygon[j, 1] > y):
            t = (y - polygon[i, 1]) / (polygon[j, 1] - polygon[i, 1])
            if x < polygon[i, 0] + t * (polygon[j, 0] - polygon[i, 0]):
                odd = not odd
        j = i
    return odd


@numba.njit(cache=True, nogil=True)
def _in_tube(x: float, y: float, z: float, path: Floats) -> bool:
    for i in range(len(path) - 1):
        ax, ay, az = x - path[i, 0], y - path[i, 1], z - path[i, 2]
        bx, by, bz = path[i + 1, 0] - path[i, 0], path[i + 1, 1] - path[i, 1], path[i + 1, 2] - path[i, 2]
        t = min(max((ax * bx + ay * by + az * bz) / max(bx * bx + by * by + bz * bz, 1e-12), 0.0), 1.0)
        dx, dy, dz = ax - t * bx, ay - t * by, az - t * bz
        radius = path[i, 3] + t * (path[i + 1, 3] - path[i, 3])
        if dx * dx + dy * dy + dz * dz < radius * radius:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _inside(kind: int, points: Floats, outline: Floats, facts: Floats, to_local: Floats) -> NDArray[np.bool_]:
    found = np.zeros(len(points), np.bool_)
    for n in range(len(points)):
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        x = to_local[0, 0] * px + to_local[0, 1] * py + to_local[0, 2] * pz + to_local[0, 3]
        y = to_local[1, 0] * px + to_local[1, 1] * py + to_local[1, 2] * pz + to_local[1, 3]
        z = to_local[2, 0] * px + to_local[2, 1] * py + to_local[2, 2] * pz + to_local[2, 3]
        if kind == LATHE:
            found[n] = _in_polygon(math.hypot(x, y), z, outline)
        elif kind == PRISM:
            if facts[0] < z < facts[1]:
                share = (z - facts[0]) / (facts[1] - facts[0])
                shrunk = max(1.0 + share * (facts[2] - 1.0), 1e-6)
                found[n] = _in_polygon(x / shrunk, y / shrunk, outline)
        else:
            found[n] = _in_tube(x, y, z, outline)
    return found
