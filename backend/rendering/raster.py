# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of triangle meshes, on the CPU.

Triangles are rasterised in homogeneous coordinates (Olano and Greer, "Triangle Scan Conversion using 2D Homogeneous
Coordinates", 1997): with corners a, b, c in the camera's frame and the ray of a sample d = (x, y, -1), the three
determinants [d b c], [a d c], [a b d] are linear in x and y, have one sign where the ray meets the triangle, and are in
the ratio of the barycentric coordinates there, perspective included. Nothing needs clipping. Neighbouring triangles
compute the determinant of their common edge alike but for its sign, so no ray slips between them.

One thread, without the interpreter's lock, so that callers may draw several pictures at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .homogeneous import corner, cross, extent

NEAR = 1e-3
GREY = 0.7
"""Of meshes without colours."""


@dataclass(frozen=True)
class Picture:
    """What a camera sees; the first row is at the top.

    rgba: float32 [H, W, 4], sRGB in 0..1 with straight alpha, (0, 0, 0, 0) where nothing is.
    depth: float32 [H, W], along the camera's line of sight, in the mesh's units; infinite where nothing is.
    normals: float32 [H, W, 3], of unit length, in the mesh's frame, on the camera's side; 0 where nothing is.
    Pixels that are partly covered have the mean depth and normal of what covers them.
    """

    rgba: NDArray[np.float32]
    depth: NDArray[np.float32]
    normals: NDArray[np.float32]

    def over(self, background: ArrayLike) -> NDArray[np.float32]:
        """sRGB [H, W, 3] over a background that is one colour [3] or a picture [H, W, 3]."""
        alpha = self.rgba[..., 3:]
        return self.rgba[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)


def render(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    colours: NDArray[np.float32] | None,
    camera_to_world: NDArray[np.floating],
    *,
    focal: float,
    size: int,
    supersample: int = 2,
    light: ArrayLike | None = None,
    ambient: float = 0.5,
) -> Picture:
    """Draw a mesh: vertices [V, 3], faces [F, 3], colours per face [F, 3] or per vertex [V, 3] as sRGB in 0..1.

    Without colours the mesh is grey. Where F equals V, colours are those of the faces.
    camera_to_world: [4, 4] or [3, 4], an OpenGL camera (looks down -Z, +Y up). ``focal`` in pixels of the picture,
    which is ``size`` pixels square around the line of sight; each pixel is the mean of supersample² samples.
    With ``light``, a direction towards a distant lamp, colours are multiplied by
    ambient + (1 - ambient) max(0, normal · light). Both sides of a triangle are seen.
    IndexError where a face names a vertex that is not there.
    """
    pose = np.asarray(camera_to_world, np.float64)
    corners = np.ascontiguousarray((np.asarray(vertices, np.float64) - pose[:3, 3]) @ pose[:3, :3])
    faces = np.ascontiguousarray(faces, np.int32)
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(corners):
        raise IndexError("a face names a vertex that is not there")
    if colours is None:
        colours = np.full((len(faces), 3), GREY, np.float32)
    lamp = np.zeros(3)
    if light is None:
        ambient = 1.0
    else:
        lamp = np.asarray(light, np.float64)
        lamp = lamp / np.linalg.norm(lamp) @ pose[:3, :3]
    rgba, depth, normals = _draw(
        corners,
        faces,
        np.ascontiguousarray(colours, np.float32),
        len(colours) == len(faces),
        float(focal),
        size,
        supersample,
        lamp,
        float(ambient),
    )
    return Picture(rgba, depth, (normals.reshape(-1, 3) @ pose[:3, :3].T.astype(np.float32)).reshape(normals.shape))


@nb.njit(cache=True)
def _planes(corners, faces, f):  # type: ignore[no-untyped-def]
    """Normals of the planes through the eye and the edges bc, ca, ab, towards the inside; and |[a b c]|."""
    a, b, c = corner(corners, faces[f, 0]), corner(corners, faces[f, 1]), corner(corners, faces[f, 2])
    p, q, r = cross(b, c), cross(c, a), cross(a, b)
    volume = a[0] * p[0] + a[1] * p[1] + a[2] * p[2]
    if volume < 0.0:
        p, q, r = (-p[0], -p[1], -p[2]), (-q[0], -q[1], -q[2]), (-r[0], -r[1], -r[2])
    return p, q, r, abs(volume)


@nb.njit(cache=True)
def _visible(corners, faces, focal, count, nearest, face):  # type: ignore[no-untyped-def]
    """Face seen by each of count² samples, -1 for none, and the inverse of its depth there, 0 for none."""
    middle = count / 2.0
    for f in range(faces.shape[0]):
        p, q, r, volume = _planes(corners, faces, f)
        if volume == 0.0:
            continue  # seen edge-on
        left, top, right, bottom = 0.0, 0.0, float(count), float(count)
        behind = 0
        for k in range(3):
            behind += corners[faces[f, k], 2] > -NEAR
        if behind == 3:
            continue
        if behind == 0:
            left, top, right, bottom = float(count), float(count), 0.0, 0.0
            for k in range(3):
                x, y, z = corner(corners, faces[f, k])
                u, v = middle - focal * x / z, middle + focal * y / z
                left, right = min(left, u), max(right, u)
                top, bottom = min(top, v), max(bottom, v)
        x0, x1 = extent(left, right, count)
        y0, y1 = extent(top, bottom, count)
        for i in range(y0, y1):
            y = (middle - (i + 0.5)) / focal
            dp, dq, dr = p[1] * y - p[2], q[1] * y - q[2], r[1] * y - r[2]
            for j in range(x0, x1):
                x = (j + 0.5 - middle) / focal
                e0, e1, e2 = p[0] * x + dp, q[0] * x + dq, r[0] * x + dr
                if e0 >= 0.0 and e1 >= 0.0 and e2 >= 0.0:
                    near = (e0 + e1 + e2) / volume
                    if nearest[i, j] < near < 1.0 / NEAR:
                        nearest[i, j] = near
                        face[i, j] = f


@nb.njit(cache=True)
def _colour(corners, faces, colours, per_face, f, x, y):  # type: ignore[no-untyped-def]
    if per_face:
        return colours[f, 0], colours[f, 1], colours[f, 2]
    p, q, r, _ = _planes(corners, faces, f)
    e0, e1, e2 = p[0] * x + p[1] * y - p[2], q[0] * x + q[1] * y - q[2], r[0] * x + r[1] * y - r[2]
    total = e0 + e1 + e2
    u, v, w = colours[faces[f, 0]], colours[faces[f, 1]], colours[faces[f, 2]]
    e0, e1, e2 = e0 / total, e1 / total, e2 / total
    return e0 * u[0] + e1 * v[0] + e2 * w[0], e0 * u[1] + e1 * v[1] + e2 * w[1], e0 * u[2] + e1 * v[2] + e2 * w[2]


@nb.njit(cache=True)
def _normal(corners, faces, f):  # type: ignore[no-untyped-def]
    """Unit normal on the side of the eye."""
    a, b, c = corner(corners, faces[f, 0]), corner(corners, faces[f, 1]), corner(corners, faces[f, 2])
    n = cross((b[0] - a[0], b[1] - a[1], b[2] - a[2]), (c[0] - a[0], c[1] - a[1], c[2] - a[2]))
    length = np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) + 1e-300
    if n[0] * a[0] + n[1] * a[1] + n[2] * a[2] > 0.0:
        length = -length
    return n[0] / length, n[1] / length, n[2] / length


@nb.njit(cache=True, nogil=True)
def _draw(corners, faces, colours, per_face, focal, size, supersample, lamp, ambient):  # type: ignore[no-untyped-def]
    count = size * supersample
    focal = focal * supersample
    nearest = np.zeros((count, count))
    face = np.full((count, count), -1, np.int32)
    _visible(corners, faces, focal, count, nearest, face)
    rgba = np.zeros((size, size, 4), np.float32)
    depth = np.full((size, size), np.float32(np.inf))
    normals = np.zeros((size, size, 3), np.float32)
    sums = np.zeros(7)
    for i in range(size):
        for j in range(size):
            hits = 0
            sums[:] = 0.0
            for k in range(supersample * supersample):
                row, column = i * supersample + k // supersample, j * supersample + k % supersample
                f = face[row, column]
                if f < 0:
                    continue
                hits += 1
                x, y = (column + 0.5 - count / 2.0) / focal, (count / 2.0 - (row + 0.5)) / focal
                n = _normal(corners, faces, f)
                lit = max(0.0, n[0] * lamp[0] + n[1] * lamp[1] + n[2] * lamp[2])
                shade = ambient + (1.0 - ambient) * lit
                colour = _colour(corners, faces, colours, per_face, f, x, y)
                for c in range(3):
                    sums[c] += colour[c] * shade
                    sums[3 + c] += n[c]
                sums[6] += 1.0 / nearest[row, column]
            if hits > 0:
                length = np.sqrt(sums[3] ** 2 + sums[4] ** 2 + sums[5] ** 2)
                for c in range(3):
                    rgba[i, j, c] = sums[c] / hits
                    normals[i, j, c] = sums[3 + c] / max(length, 1e-12)
                rgba[i, j, 3] = hits / (supersample * supersample)
                depth[i, j] = sums[6] / hits
    return rgba, depth, normals
