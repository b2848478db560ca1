# SPDX-License-Identifier: GPL-3.0-or-later
"""Antialiasing of rasterised pictures on CUDA, compiled by NVIDIA Warp. ``antialiasing`` says what it does.

One thread a pixel, which takes from its four neighbours what is due to it; only gradients of vertices are added to by
many threads.
"""

from __future__ import annotations

from typing import no_type_check

import warp as wp
from torch import Tensor

from ..fields.warp_launch import launch
from .rasteriser_cuda import corner, corners, middle, volume

wp.set_module_options({"enable_backward": False, "fuse_fp": False})  # decisions as all kernels take them

HALF = wp.constant(wp.float64(0.5))


@wp.func
@no_type_check
def _facing(positions: wp.array3d[wp.float32], faces: wp.array2d[wp.int32], b: wp.int32, f: wp.int32):
    """1 for a front face, -1 for a back face, 0 where it is seen edge-on."""
    p, q, r = corners(positions, faces, b, f)
    determinant = volume(p, q, r)
    return wp.int32(determinant > wp.float64(0.0)) - wp.int32(determinant < wp.float64(0.0))


@wp.func
@no_type_check
def _edge(positions: wp.array3d[wp.float32], faces: wp.array2d[wp.int32], b: wp.int32, f: wp.int32, k: wp.int32):
    """Normal of the plane through the eye and the edge opposite to corner k of a face."""
    return wp.cross(corner(positions, faces, b, f, (k + 1) % 3), corner(positions, faces, b, f, (k + 2) % 3))


@wp.func
@no_type_check
def _at(edge: wp.vec3d, place: wp.vec3d):
    return edge[0] * place[0] + (edge[1] * place[1] + edge[2])


@wp.func
@no_type_check
def _place(i: wp.int32, j: wp.int32, height: wp.int32, width: wp.int32):
    """The direction of a pixel's middle."""
    return wp.vec3d(middle(j, width), -middle(i, height), wp.float64(1.0))


@wp.func
@no_type_check
def _step(axis: wp.int32, height: wp.int32, width: wp.int32):
    """From a pixel's middle to that of the next one, along its axis."""
    if axis == 1:
        return wp.float64(-2.0) / wp.float64(height)
    return wp.float64(2.0) / wp.float64(width)


@wp.func
@no_type_check
def _follow(
    positions: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    adjacent: wp.array2d[wp.int32],
    b: wp.int32,
    start: wp.int32,
    goal: wp.int32,
    place: wp.vec3d,
    step: wp.float64,
    axis: wp.int32,
    limit: wp.int32,
):
    """As in the kernel for CPUs."""
    zero = wp.float64(0.0)
    f = wp.int32(start)
    came = wp.int32(-1)
    facing = _facing(positions, faces, b, f)
    side = wp.float64(facing)
    for _ in range(limit):
        first = wp.float64(wp.INF)
        leaves = wp.int32(-1)
        for k in range(3):
            edge = _edge(positions, faces, b, f, k)
            here = side * _at(edge, place)
            there = here + side * edge[axis] * step
            if there < zero and here > there and (adjacent[f, k] != came or came < 0):
                way = here / (here - there)
                if way < first:
                    first = way
                    leaves = k
        if leaves < 0:
            return wp.int32(-1)
        beyond = wp.int32(adjacent[f, leaves])
        if beyond < 0:
            return 3 * f + leaves
        if _facing(positions, faces, b, beyond) == -facing:
            return 3 * f + leaves
        if beyond == goal:
            return wp.int32(-1)
        came = f
        f = beyond
    return wp.int32(-1)


@wp.kernel
@no_type_check
def _silhouettes(
    face: wp.array3d[wp.int32],
    depth: wp.array3d[wp.float32],
    positions: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    adjacent: wp.array2d[wp.int32],
    limit: wp.int32,
    edges: wp.array4d[wp.int32],
):
    b, i, j = wp.tid()
    height, width = face.shape[1], face.shape[2]
    for axis in range(2):
        code = wp.int32(-1)
        other_i, other_j = i + axis, j + 1 - axis
        if other_i < height and other_j < width:
            f, g = wp.int32(face[b, i, j]), wp.int32(face[b, other_i, other_j])
            if f != g:
                step = _step(axis, height, width)
                if f >= 0 and (g < 0 or depth[b, i, j] <= depth[b, other_i, other_j]):
                    place = _place(i, j, height, width)
                    code = _follow(positions, faces, adjacent, b, f, g, place, step, axis, limit)
                else:
                    place = _place(other_i, other_j, height, width)
                    code = _follow(positions, faces, adjacent, b, g, f, place, -step, axis, limit)
                if code >= 0:
                    p = _edge(positions, faces, b, code / 3, code % 3)
                    steep = wp.abs(p[0]) * wp.float64(height) >= wp.abs(p[1]) * wp.float64(width)
                    if steep == (axis == 1):
                        code = -1
        edges[b, i, j, axis] = code


@wp.func
@no_type_check
def _beyond(
    positions: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    edges: wp.array4d[wp.int32],
    b: wp.int32,
    i: wp.int32,
    j: wp.int32,
    axis: wp.int32,
):
    """How far beyond the border between a pixel and the next one an edge passes, in pixels; 0 where there is none."""
    if i < 0 or j < 0:
        return wp.float32(0.0)
    code = edges[b, i, j, axis]
    if code < 0:
        return wp.float32(0.0)
    height, width = edges.shape[1], edges.shape[2]
    p = _edge(positions, faces, b, code / 3, code % 3)
    way = -_at(p, _place(i, j, height, width)) / (p[axis] * _step(axis, height, width))
    return wp.float32(way - HALF)


@wp.kernel
@no_type_check
def _blend(
    colour: wp.array4d[wp.float32],
    positions: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    edges: wp.array4d[wp.int32],
    out: wp.array4d[wp.float32],
):
    b, i, j = wp.tid()
    left = wp.max(_beyond(positions, faces, edges, b, i, j - 1, 0), 0.0)
    right = wp.max(-_beyond(positions, faces, edges, b, i, j, 0), 0.0)
    above = wp.max(_beyond(positions, faces, edges, b, i - 1, j, 1), 0.0)
    below = wp.max(-_beyond(positions, faces, edges, b, i, j, 1), 0.0)
    for c in range(colour.shape[3]):
        own = colour[b, i, j, c]
        value = wp.float32(own)
        if left > 0.0:
            value += left * (colour[b, i, j - 1, c] - own)
        if right > 0.0:
            value += right * (colour[b, i, j + 1, c] - own)
        if above > 0.0:
            value += above * (colour[b, i - 1, j, c] - own)
        if below > 0.0:
            value += below * (colour[b, i + 1, j, c] - own)
        out[b, i, j, c] = value


@wp.kernel
@no_type_check
def _colour_gradient(
    positions: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    edges: wp.array4d[wp.int32],
    grad_out: wp.array4d[wp.float32],
    grad_colour: wp.array4d[wp.float32],
):
    b, i, j = wp.tid()
    left = _beyond(positions, faces, edges, b, i, j - 1, 0)
    right = _beyond(positions, faces, edges, b, i, j, 0)
    above = _beyond(positions, faces, edges, b, i - 1, j, 1)
    below = _beyond(positions, faces, edges, b, i, j, 1)
    taken = wp.max(left, 0.0) + wp.max(-right, 0.0) + wp.max(above, 0.0) + wp.max(-below, 0.0)
    for c in range(grad_out.shape[3]):
        value = (1.0 - taken) * grad_out[b, i, j, c]
        if left < 0.0:
            value -= left * grad_out[b, i, j - 1, c]
        if right > 0.0:
            value += right * grad_out[b, i, j + 1, c]
        if above < 0.0:
            value -= above * grad_out[b, i - 1, j, c]
        if below > 0.0:
            value += below * grad_out[b, i + 1, j, c]
        grad_colour[b, i, j, c] = value


@wp.kernel
@no_type_check
def _position_gradient(
    colour: wp.array4d[wp.float32],
    positions: wp.array3d[wp.float32],
    faces: wp.array2d[wp.int32],
    edges: wp.array4d[wp.int32],
    grad_out: wp.array4d[wp.float32],
    grad_positions: wp.array3d[wp.float32],
):
    """The formula is derived in the kernel for CPUs."""
    b, i, j = wp.tid()
    height, width = edges.shape[1], edges.shape[2]
    for axis in range(2):
        code = wp.int32(edges[b, i, j, axis])
        if code >= 0:
            other_i, other_j = i + axis, j + 1 - axis
            taker_i, taker_j = i, j
            step = _step(axis, height, width)
            f, k = code / 3, code % 3
            start, end = wp.int32(faces[f, (k + 1) % 3]), wp.int32(faces[f, (k + 2) % 3])
            p = _edge(positions, faces, b, f, k)
            place = _place(i, j, height, width)
            way = -_at(p, place) / (p[axis] * step)
            place[axis] = place[axis] + way * step
            if way > HALF:
                taker_i, taker_j = other_i, other_j
            moved = wp.float32(0.0)
            for c in range(colour.shape[3]):
                change = colour[b, i, j, c] - colour[b, other_i, other_j, c]
                moved += grad_out[b, taker_i, taker_j, c] * change
            by_start = wp.cross(corner(positions, faces, b, f, (k + 2) % 3), place)
            by_end = wp.cross(place, corner(positions, faces, b, f, (k + 1) % 3))
            scale = -wp.float64(moved) / (p[axis] * step)
            for c in range(3):
                wp.atomic_add(grad_positions, b, start, c, wp.float32(scale * by_start[c]))
                wp.atomic_add(grad_positions, b, end, c, wp.float32(scale * by_end[c]))


def silhouettes(
    face: Tensor, depth: Tensor, positions: Tensor, faces: Tensor, adjacent: Tensor, limit: int, edges: Tensor
) -> None:
    """face, depth [B, H, W] -> edges [B, H, W, 2]: 3 f + k for the edge opposite to corner k of face f, -1 for none."""
    launch(_silhouettes, tuple(face.shape), face, depth, positions, faces, adjacent, limit, edges)


def blend(colour: Tensor, positions: Tensor, faces: Tensor, edges: Tensor, out: Tensor) -> None:
    """colour [B, H, W, C], positions [B, V, 3], edges [B, H, W, 2] -> out [B, H, W, C]."""
    launch(_blend, tuple(edges.shape[:3]), colour, positions, faces, edges, out)


def blend_backward(
    colour: Tensor,
    positions: Tensor,
    faces: Tensor,
    edges: Tensor,
    grad_out: Tensor,
    grad_colour: Tensor,
    grad_positions: Tensor,
) -> None:
    """Sets grad_colour [B, H, W, C] and adds to grad_positions [B, V, 3], given grad_out [B, H, W, C].

    The order of the additions, and so the last digits, differ from call to call.
    """
    pixels = tuple(edges.shape[:3])
    launch(_colour_gradient, pixels, positions, faces, edges, grad_out, grad_colour)
    launch(_position_gradient, pixels, colour, positions, faces, edges, grad_out, grad_positions)
