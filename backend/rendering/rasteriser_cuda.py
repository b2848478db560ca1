# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasterisation of triangle meshes on CUDA, compiled by NVIDIA Warp. ``rasteriser`` says what it does.

One thread a face and view goes over the pixels around it, which suits the small faces of dense meshes. Depth and face
make one number of 64 bits, of which each pixel keeps the least, so that the order of threads does not matter.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from ..fields.warp_launch import launch

# Neighbouring faces must compute their common edge alike, which a fused multiplication and addition would not.
wp.set_module_options({"enable_backward": False, "fuse_fp": False})

NONE = (1 << 63) - 1
EMPTY = wp.constant(wp.int64(NONE))
ROUNDING = wp.constant(wp.float64(1e-6))


@wp.func
@no_type_check
def corner(positions: wp.array3d[wp.float32], faces: wp.array2d[wp.int32], b: wp.int32, f: wp.int32, k: wp.int32):
    """In double precision, in which the product of two single ones is exact."""
    v = faces[f, k]
    return wp.vec3d(wp.float64(positions[b, v, 0]), wp.float64(positions[b, v, 1]), wp.float64(positions[b, v, 2]))


@wp.func
@no_type_check
def corners(positions: wp.array3d[wp.float32], faces: wp.array2d[wp.int32], b: wp.int32, f: wp.int32):
    return corner(positions, faces, b, f, 0), corner(positions, faces, b, f, 1), corner(positions, faces, b, f, 2)


@wp.func
@no_type_check
def volume(a: wp.vec3d, b: wp.vec3d, c: wp.vec3d):
    """The determinant [a b c]: positive for a front face, negative for a back face, 0 where two corners are one."""
    n = wp.cross(b - a, c - a)
    return a[0] * n[0] + a[1] * n[1] + a[2] * n[2]


@wp.func
@no_type_check
def middle(index: wp.int32, count: wp.int32):
    """Where a pixel's middle lies between -1 and 1."""
    return wp.float64(2 * index + 1 - count) / wp.float64(count)


@wp.func
@no_type_check
def _extent(low: wp.float64, high: wp.float64, count: wp.int32):
    """First and one past the last pixel whose middle lies in [low, high], within the picture."""
    half = wp.float64(0.5)
    first = wp.ceil(wp.max(low, wp.float64(0.0)) - half - ROUNDING)
    last = wp.floor(wp.min(high, wp.float64(count)) - half + ROUNDING)
    return wp.max(wp.int32(first), 0), wp.min(wp.int32(last) + 1, count)


@wp.func
@no_type_check
def _at(edge: wp.vec3d, x: wp.float64, y: wp.float64):
    return edge[0] * x + (edge[1] * y + edge[2])


@wp.func
@no_type_check
def _inside(e: wp.float64, edge: wp.vec3d):
    """Of a pixel on the very edge, the one of both neighbours whose side is the right one, or the upper."""
    zero = wp.float64(0.0)
    return e > zero or (e == zero and (edge[0] > zero or (edge[0] == zero and edge[1] > zero)))


@wp.kernel
@no_type_check
def _visible(
    positions: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    cull: wp.int32,
    near: wp.float64,
    nearest: wp.array3d[wp.int64],
):
    view, f = wp.tid()
    height, width = nearest.shape[1], nearest.shape[2]
    a, b, c = corners(positions, faces, view, f)
    whole = volume(a, b, c)
    zero, one = wp.float64(0.0), wp.float64(1.0)
    if not (whole > zero or (whole < zero and cull == 0)):
        return
    if wp.max(a[2], wp.max(b[2], c[2])) <= near:
        return
    i0, j0 = wp.int32(0), wp.int32(0)
    i1, j1 = wp.int32(height), wp.int32(width)
    if wp.min(a[2], wp.min(b[2], c[2])) > near:
        half = wp.float64(0.5) * wp.float64(width)
        ax, bx, cx = (a[0] / a[2] + one) * half, (b[0] / b[2] + one) * half, (c[0] / c[2] + one) * half
        j0, j1 = _extent(wp.min(ax, wp.min(bx, cx)), wp.max(ax, wp.max(bx, cx)), width)
        half = wp.float64(0.5) * wp.float64(height)
        ay, by, cy = (one - a[1] / a[2]) * half, (one - b[1] / b[2]) * half, (one - c[1] / c[2]) * half
        i0, i1 = _extent(wp.min(ay, wp.min(by, cy)), wp.max(ay, wp.max(by, cy)), height)
    side = wp.sign(whole)
    p, q, r = side * wp.cross(b, c), side * wp.cross(c, a), side * wp.cross(a, b)
    for i in range(i0, i1):
        y = -middle(i, height)
        for j in range(j0, j1):
            x = middle(j, width)
            e0, e1, e2 = _at(p, x, y), _at(q, x, y), _at(r, x, y)
            if _inside(e0, p) and _inside(e1, q) and _inside(e2, r):
                depth = wp.float32(side * whole * (one / (e0 + e1 + e2)))
                if wp.float64(depth) > near and wp.isfinite(depth):
                    # positive floats sort as their bits do
                    order = (wp.int64(wp.cast(depth, wp.int32)) << wp.int64(32)) | wp.int64(f)
                    wp.atomic_min(nearest, view, i, j, order)


@wp.kernel
@no_type_check
def _fragments(
    positions: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    nearest: wp.array3d[wp.int64],
    face: wp.array3d[wp.int32],
    barycentric: wp.array4d[wp.float32],
    depth: wp.array3d[wp.float32],
):
    view, i, j = wp.tid()
    f = wp.int32(-1)
    far = wp.float32(0.0)
    weights = wp.vec3d()
    if nearest[view, i, j] != EMPTY:
        f = wp.int32(nearest[view, i, j] & wp.int64(0xFFFFFFFF))
        a, b, c = corners(positions, faces, view, f)
        x, y = middle(j, face.shape[2]), -middle(i, face.shape[1])
        edges = wp.vec3d(_at(wp.cross(b, c), x, y), _at(wp.cross(c, a), x, y), _at(wp.cross(a, b), x, y))
        total = wp.float64(1.0) / (edges[0] + edges[1] + edges[2])
        weights = edges * total
        far = wp.float32(volume(a, b, c) * total)
    face[view, i, j] = f
    depth[view, i, j] = far
    for k in range(3):
        barycentric[view, i, j, k] = wp.float32(weights[k])


@wp.kernel
@no_type_check
def _surface_gradient(
    positions: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    face: wp.array3d[wp.int32],
    barycentric: wp.array4d[wp.float32],
    depth: wp.array3d[wp.float32],
    grad_barycentric: wp.array4d[wp.float32],
    grad_depth: wp.array3d[wp.float32],
    grad_point: wp.array4d[wp.float32],
):
    """The formula is derived in ``rasteriser``."""
    view, i, j = wp.tid()
    f = face[view, i, j]
    moved = wp.vec3d()
    if f >= 0:
        a, b, c = corners(positions, faces, view, f)
        mean = grad_depth[view, i, j] * depth[view, i, j]
        for k in range(3):
            mean += grad_barycentric[view, i, j, k] * barycentric[view, i, j, k]
        moved += wp.float64(mean - grad_barycentric[view, i, j, 0]) * wp.cross(b, c)
        moved += wp.float64(mean - grad_barycentric[view, i, j, 1]) * wp.cross(c, a)
        moved += wp.float64(mean - grad_barycentric[view, i, j, 2]) * wp.cross(a, b)
        moved /= volume(a, b, c)
    for k in range(3):
        grad_point[view, i, j, k] = wp.float32(moved[k])


@wp.kernel
@no_type_check
def _interpolate(
    attributes: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    face: wp.array3d[wp.int32],
    barycentric: wp.array4d[wp.float32],
    out: wp.array4d[wp.float32],
):
    view, i, j = wp.tid()
    f = face[view, i, j]
    own = wp.min(view, attributes.shape[0] - 1)
    for c in range(out.shape[3]):
        value = wp.float32(0.0)
        if f >= 0:
            for k in range(3):
                value += barycentric[view, i, j, k] * attributes[own, faces[f, k], c]
        out[view, i, j, c] = value


@wp.kernel
@no_type_check
def _barycentric_gradient(
    attributes: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    face: wp.array3d[wp.int32],
    grad_out: wp.array4d[wp.float32],
    grad_barycentric: wp.array4d[wp.float32],
):
    view, i, j = wp.tid()
    f = face[view, i, j]
    own = wp.min(view, attributes.shape[0] - 1)
    for k in range(3):
        total = wp.float32(0.0)
        if f >= 0:
            for c in range(grad_out.shape[3]):
                total += grad_out[view, i, j, c] * attributes[own, faces[f, k], c]
        grad_barycentric[view, i, j, k] = total


@wp.kernel
@no_type_check
def _spread(
    values: wp.array4d[wp.float32],
    faces: wp.array2d[wp.int32],
    face: wp.array3d[wp.int32],
    barycentric: wp.array4d[wp.float32],
    out: wp.array3d[wp.float32],
):
    view, i, j = wp.tid()
    f = face[view, i, j]
    if f >= 0:
        for k in range(3):
            for c in range(values.shape[3]):
                wp.atomic_add(out, view, faces[f, k], c, barycentric[view, i, j, k] * values[view, i, j, c])


def rasterise(
    positions: Tensor, faces: Tensor, cull: bool, near: float, face: Tensor, barycentric: Tensor, depth: Tensor
) -> None:
    """positions [B, V, 3], faces [F, 3] -> face [B, H, W], barycentric [B, H, W, 3], depth [B, H, W]."""
    nearest = torch.full(face.shape, NONE, device=face.device)
    launch(_visible, (len(positions), len(faces)), positions, faces, int(cull), near, nearest)
    launch(_fragments, tuple(face.shape), positions, faces, nearest, face, barycentric, depth)


def surface_gradient(
    positions: Tensor,
    faces: Tensor,
    face: Tensor,
    barycentric: Tensor,
    depth: Tensor,
    grad_barycentric: Tensor,
    grad_depth: Tensor,
    grad_point: Tensor,
) -> None:
    """How the loss changes where the seen points move, grad_point [B, H, W, 3]."""
    known = (positions, faces, face, barycentric, depth)
    launch(_surface_gradient, tuple(face.shape), *known, grad_barycentric, grad_depth, grad_point)


def interpolate(attributes: Tensor, faces: Tensor, face: Tensor, barycentric: Tensor, out: Tensor) -> None:
    """attributes [1 or B, V, C] -> out [B, H, W, C]."""
    launch(_interpolate, tuple(face.shape), attributes, faces, face, barycentric, out)


def barycentric_gradient(
    attributes: Tensor, faces: Tensor, face: Tensor, grad_out: Tensor, grad_barycentric: Tensor
) -> None:
    """Of an interpolation: grad_barycentric [B, H, W, 3] from grad_out [B, H, W, C]."""
    launch(_barycentric_gradient, tuple(face.shape), attributes, faces, face, grad_out, grad_barycentric)


def spread(values: Tensor, faces: Tensor, face: Tensor, barycentric: Tensor, out: Tensor) -> None:
    """Adds the values of pixels [B, H, W, C], by barycentric coordinates, to those of corners: out [B, V, C].

    The order of the additions, and so the last digits, differ from call to call.
    """
    launch(_spread, tuple(face.shape), values, faces, face, barycentric, out)
