# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasterisation of triangle meshes on CPUs, compiled by numba. ``rasteriser`` says what it does.

What is added up per vertex, and the search for the nearest face, is done view by view, one thread each, in the order
of pixels or faces; all else row by row. So nothing depends on the number of threads. Compiled without fast mathematics:
neighbouring faces must compute their common edge alike.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .homogeneous import corner, cross, extent

NOTHING = np.float32(0.0)


@nb.njit(parallel=True, cache=True, error_model="numpy")
def rasterise(positions, faces, cull, near, face, barycentric, depth):  # type: ignore[no-untyped-def]
    """positions [B, V, 3], faces [F, 3] -> face [B, H, W], barycentric [B, H, W, 3], depth [B, H, W]."""
    for b in nb.prange(positions.shape[0]):
        face[b] = -1
        barycentric[b] = NOTHING
        depth[b] = np.float32(np.inf)
        _visible(positions[b], faces, cull, near, face[b], barycentric[b], depth[b])
        for i in range(face.shape[1]):
            for j in range(face.shape[2]):
                if face[b, i, j] < 0:
                    depth[b, i, j] = NOTHING


@nb.njit(cache=True)
def planes(positions, faces, f):  # type: ignore[no-untyped-def]
    """Normals of the planes through the eye and the edges bc, ca, ab, towards the inside of a front face."""
    a, b, c = corner(positions, faces[f, 0]), corner(positions, faces[f, 1]), corner(positions, faces[f, 2])
    return cross(b, c), cross(c, a), cross(a, b)


@nb.njit(cache=True)
def volume(positions, faces, f):  # type: ignore[no-untyped-def]
    """The determinant [a b c]: positive for a front face, negative for a back face, 0 where two corners are one."""
    a, b, c = corner(positions, faces[f, 0]), corner(positions, faces[f, 1]), corner(positions, faces[f, 2])
    n = cross((b[0] - a[0], b[1] - a[1], b[2] - a[2]), (c[0] - a[0], c[1] - a[1], c[2] - a[2]))
    return a[0] * n[0] + a[1] * n[1] + a[2] * n[2]


@nb.njit(cache=True, error_model="numpy")
def _visible(positions, faces, cull, near, face, barycentric, depth):  # type: ignore[no-untyped-def]
    """Faces in their order, each over the pixels around it; where two are equally deep, the first one is seen."""
    height, width = face.shape
    places = _places(positions, height, width)
    columns = np.empty(width)
    for j in range(width):
        columns[j] = (2 * j + 1 - width) / width
    for f in range(faces.shape[0]):
        whole = volume(positions, faces, f)
        if not (whole > 0.0 or (whole < 0.0 and not cull)):
            continue
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        i0, i1, j0, j1 = 0, height, 0, width
        if min(positions[a, 2], min(positions[b, 2], positions[c, 2])) > near:
            u, v, w = places[a], places[b], places[c]
            j0, j1 = extent(min(u[0], min(v[0], w[0])), max(u[0], max(v[0], w[0])), width)
            i0, i1 = extent(min(u[1], min(v[1], w[1])), max(u[1], max(v[1], w[1])), height)
        elif max(positions[a, 2], max(positions[b, 2], positions[c, 2])) <= near:
            continue
        if i0 >= i1 or j0 >= j1:
            continue
        p, q, r = planes(positions, faces, f)
        if whole < 0.0:
            whole = -whole
            p, q, r = (-p[0], -p[1], -p[2]), (-q[0], -q[1], -q[2]), (-r[0], -r[1], -r[2])
        for i in range(i0, i1):
            y = (height - 1 - 2 * i) / height
            p2, q2, r2 = p[1] * y + p[2], q[1] * y + q[2], r[1] * y + r[2]
            for j in range(j0, j1):
                x = columns[j]
                e0, e1, e2 = p[0] * x + p2, q[0] * x + q2, r[0] * x + r2
                if _inside(e0, p) and _inside(e1, q) and _inside(e2, r):
                    total = 1.0 / (e0 + e1 + e2)
                    far = np.float32(whole * total)
                    if near < far < depth[i, j]:
                        depth[i, j] = far
                        face[i, j] = f
                        barycentric[i, j, 0] = e0 * total
                        barycentric[i, j, 1] = e1 * total
                        barycentric[i, j, 2] = e2 * total


@nb.njit(cache=True, error_model="numpy")
def _places(positions, height, width):  # type: ignore[no-untyped-def]
    """Where vertices are seen [V, 2], in pixels from the left and the top; anything for those not before the eye."""
    places = np.empty((positions.shape[0], 2))
    for v in range(positions.shape[0]):
        inverse = 1.0 / np.float64(positions[v, 2])
        places[v, 0] = (positions[v, 0] * inverse + 1.0) * (0.5 * width)
        places[v, 1] = (1.0 - positions[v, 1] * inverse) * (0.5 * height)
    return places


@nb.njit(cache=True)
def _inside(e, edge):  # type: ignore[no-untyped-def]
    """Of a pixel on the very edge, the one of both neighbours whose side is the right one, or the upper."""
    return e > 0.0 or (e == 0.0 and (edge[0] > 0.0 or (edge[0] == 0.0 and edge[1] > 0.0)))


@nb.njit(parallel=True, cache=True, error_model="numpy")
def surface_gradient(  # type: ignore[no-untyped-def]
    positions, faces, face, barycentric, depth, grad_barycentric, grad_depth, grad_point
):
    """How the loss changes where the seen points move, grad_point [B, H, W, 3], given how it changes with barycentric
    coordinates [B, H, W, 3] and depth [B, H, W]. The formula is derived in ``rasteriser``."""
    height, width = face.shape[1], face.shape[2]
    for row in nb.prange(face.shape[0] * height):
        b, i = row // height, row % height
        for j in range(width):
            f = face[b, i, j]
            if f < 0:
                grad_point[b, i, j] = NOTHING
                continue
            p, q, r = planes(positions[b], faces, f)
            whole = volume(positions[b], faces, f)
            weights, given = barycentric[b, i, j], grad_barycentric[b, i, j]
            mean = given[0] * weights[0] + given[1] * weights[1] + given[2] * weights[2]
            mean += grad_depth[b, i, j] * depth[b, i, j]
            g0, g1, g2 = (mean - given[0]) / whole, (mean - given[1]) / whole, (mean - given[2]) / whole
            for k in range(3):
                grad_point[b, i, j, k] = g0 * p[k] + g1 * q[k] + g2 * r[k]


@nb.njit(parallel=True, cache=True)
def interpolate(attributes, faces, face, barycentric, out):  # type: ignore[no-untyped-def]
    """attributes [1 or B, V, C] -> out [B, H, W, C]."""
    height, width, channels = out.shape[1], out.shape[2], out.shape[3]
    for row in nb.prange(out.shape[0] * height):
        b, i = row // height, row % height
        values = attributes[b if attributes.shape[0] > 1 else 0]
        for j in range(width):
            f = face[b, i, j]
            if f < 0:
                out[b, i, j] = NOTHING
                continue
            u, v, w = values[faces[f, 0]], values[faces[f, 1]], values[faces[f, 2]]
            x, y, z = barycentric[b, i, j, 0], barycentric[b, i, j, 1], barycentric[b, i, j, 2]
            for c in range(channels):
                out[b, i, j, c] = x * u[c] + y * v[c] + z * w[c]


@nb.njit(parallel=True, cache=True)
def barycentric_gradient(attributes, faces, face, grad_out, grad_barycentric):  # type: ignore[no-untyped-def]
    """Of an interpolation: grad_barycentric [B, H, W, 3] from grad_out [B, H, W, C]."""
    height, width, channels = grad_out.shape[1], grad_out.shape[2], grad_out.shape[3]
    for row in nb.prange(grad_out.shape[0] * height):
        b, i = row // height, row % height
        values = attributes[b if attributes.shape[0] > 1 else 0]
        for j in range(width):
            for k in range(3):
                total = NOTHING
                if face[b, i, j] >= 0:
                    corner = values[faces[face[b, i, j], k]]
                    for c in range(channels):
                        total += grad_out[b, i, j, c] * corner[c]
                grad_barycentric[b, i, j, k] = total


@nb.njit(parallel=True, cache=True)
def spread(values, faces, face, barycentric, out):  # type: ignore[no-untyped-def]
    """Adds the values of pixels [B, H, W, C], by barycentric coordinates, to those of corners: out [B, V, C]."""
    for b in nb.prange(values.shape[0]):
        for i in range(values.shape[1]):
            for j in range(values.shape[2]):
                if face[b, i, j] < 0:
                    continue
                for k in range(3):
                    corner = out[b, faces[face[b, i, j], k]]
                    for c in range(values.shape[3]):
                        corner[c] += barycentric[b, i, j, k] * values[b, i, j, c]
