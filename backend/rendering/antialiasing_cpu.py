# SPDX-License-Identifier: GPL-3.0-or-later
"""Antialiasing of rasterised pictures on CPUs, compiled by numba. ``antialiasing`` says what it does.

Edges are searched row by row; what is added up, at pixels and at vertices, is so view by view in the order of pixels,
so that nothing depends on the number of threads.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .homogeneous import corner, cross
from .rasteriser_cpu import planes, volume

ZERO = np.float32(0.0)


@nb.njit(parallel=True, cache=True, error_model="numpy")
def silhouettes(face, depth, positions, faces, adjacent, limit, edges):  # type: ignore[no-untyped-def]
    """face, depth [B, H, W] -> edges [B, H, W, 2]: 3 f + k for the edge opposite to corner k of face f, -1 for none."""
    height, width = face.shape[1], face.shape[2]
    for b_i in nb.prange(face.shape[0] * height):
        b, i = b_i // height, b_i % height
        for j in range(width):
            for axis in range(2):
                edges[b, i, j, axis] = -1
                other_i, other_j = i + axis, j + 1 - axis
                if other_i == height or other_j == width:
                    continue
                f, g = face[b, i, j], face[b, other_i, other_j]
                if f == g:
                    continue
                step = -2.0 / height if axis else 2.0 / width
                if f >= 0 and (g < 0 or depth[b, i, j] <= depth[b, other_i, other_j]):
                    x, y = (2 * j + 1 - width) / width, (height - 1 - 2 * i) / height
                else:
                    x, y = (2 * other_j + 1 - width) / width, (height - 1 - 2 * other_i) / height
                    f, g, step = g, f, -step
                code = _follow(positions[b], faces, adjacent, f, g, x, y, step, axis, limit)
                if code >= 0:
                    start, end = _ends(faces, code)
                    p = cross(corner(positions[b], start), corner(positions[b], end))
                    steep = abs(p[0]) * height >= abs(p[1]) * width
                    if steep != (axis == 1):
                        edges[b, i, j, axis] = code


@nb.njit(cache=True, error_model="numpy")
def _follow(positions, faces, adjacent, f, goal, x, y, step, axis, limit):  # type: ignore[no-untyped-def]
    """The silhouette edge at which the surface ends that is followed from (x, y) in face f by a step along an axis, or
    -1 where it goes on to face ``goal``, or as far as the step."""
    facing = np.sign(volume(positions, faces, f))
    came = -1
    for _ in range(limit):
        first, leaves = np.inf, -1
        for k, edge in enumerate(planes(positions, faces, f)):
            here = facing * (edge[0] * x + (edge[1] * y + edge[2]))
            there = here + facing * edge[axis] * step
            if there < 0.0 and here > there and (adjacent[f, k] != came or came < 0):
                way = here / (here - there)
                if way < first:
                    first, leaves = way, k
        if leaves < 0:
            return -1
        beyond = adjacent[f, leaves]
        if beyond < 0 or np.sign(volume(positions, faces, beyond)) == -facing:
            return 3 * f + leaves
        if beyond == goal:
            return -1
        came, f = f, beyond
    return -1


@nb.njit(cache=True)
def _ends(faces, code):  # type: ignore[no-untyped-def]
    f, k = code // 3, code % 3
    return faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]


@nb.njit(cache=True, error_model="numpy")
def _crossing(positions, faces, code, i, j, axis, height, width):  # type: ignore[no-untyped-def]
    """How far beyond the border of both pixels an edge passes, in pixels; its ends; where they are crossed, as a
    direction; and how steeply."""
    start, end = _ends(faces, code)
    p = cross(corner(positions, start), corner(positions, end))
    x, y = (2 * j + 1 - width) / width, (height - 1 - 2 * i) / height
    step = -2.0 / height if axis else 2.0 / width
    slope = p[axis] * step
    way = -(p[0] * x + (p[1] * y + p[2])) / slope
    place = (x, y + way * step, 1.0) if axis else (x + way * step, y, 1.0)
    return np.float32(way - 0.5), start, end, place, slope


@nb.njit(parallel=True, cache=True, error_model="numpy")
def blend(colour, positions, faces, edges, out):  # type: ignore[no-untyped-def]
    """colour [B, H, W, C], positions [B, V, 3], edges [B, H, W, 2] -> out [B, H, W, C]."""
    height, width = edges.shape[1], edges.shape[2]
    for b in nb.prange(edges.shape[0]):
        out[b] = colour[b]
        for i in range(height):
            for j in range(width):
                for axis in range(2):
                    code = edges[b, i, j, axis]
                    if code < 0:
                        continue
                    beyond = _crossing(positions[b], faces, code, i, j, axis, height, width)[0]
                    one, other = colour[b, i, j], colour[b, i + axis, j + 1 - axis]
                    taker = out[b, i + axis, j + 1 - axis] if beyond > ZERO else out[b, i, j]
                    for c in range(colour.shape[3]):
                        taker[c] += beyond * (one[c] - other[c])


@nb.njit(parallel=True, cache=True, error_model="numpy")
def blend_backward(colour, positions, faces, edges, grad_out, grad_colour, grad_positions):  # type: ignore[no-untyped-def]
    """Sets grad_colour [B, H, W, C] and adds to grad_positions [B, V, 3], given grad_out [B, H, W, C].

    A pixel's e = p · d, with the edge's plane p = start × end, changes by p_axis step on the way s to the other one:
    s = -e / (p_axis step). At the place m where p · m = 0 so is ds = -(m · dp) / (p_axis step).
    """
    height, width = edges.shape[1], edges.shape[2]
    for b in nb.prange(edges.shape[0]):
        grad_colour[b] = grad_out[b]
        for i in range(height):
            for j in range(width):
                for axis in range(2):
                    code = edges[b, i, j, axis]
                    if code < 0:
                        continue
                    beyond, start, end, place, slope = _crossing(positions[b], faces, code, i, j, axis, height, width)
                    other_i, other_j = i + axis, j + 1 - axis
                    given = grad_out[b, other_i, other_j] if beyond > ZERO else grad_out[b, i, j]
                    moved = ZERO
                    for c in range(colour.shape[3]):
                        moved += given[c] * (colour[b, i, j, c] - colour[b, other_i, other_j, c])
                        grad_colour[b, i, j, c] += beyond * given[c]
                        grad_colour[b, other_i, other_j, c] -= beyond * given[c]
                    by_start = cross(corner(positions[b], end), place)
                    by_end = cross(place, corner(positions[b], start))
                    for c in range(3):
                        grad_positions[b, start, c] -= moved / slope * by_start[c]
                        grad_positions[b, end, c] -= moved / slope * by_end[c]
