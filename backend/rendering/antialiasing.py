# SPDX-License-Identifier: GPL-3.0-or-later
"""Differentiable antialiasing of rasterised pictures (Laine et al., "Modular Primitives for High-Performance
Differentiable Rendering", 2020, §3.4). It is what makes silhouettes, and so all of a shape, follow a picture.

Where two pixels beside or below each other see different faces, and a silhouette edge passes between their middles,
at the part s of the way from the first to the second, the first's surface ends there. If s > 1/2 it reaches into the
second pixel, which takes s - 1/2 of the first's colour; else the first takes 1/2 - s of the second's. Along a straight
edge the sum of both colours is so linear in s. Every edge parts pixels of one direction only, that which it crosses
more steeply: a moving edge then changes the picture's mean by what it sweeps over.

A silhouette edge has one face, or a front and a back face; a face that is seen edge-on, or has no area, is neither.
The paper looks for it among the edges of the nearer of the two faces that are seen. Here the surface is followed
further, from face to face along the way to the other pixel: at a silhouette it is seen at so flat an angle that on a
fine mesh several faces lie between the last one that a pixel's middle sees and the edge.

``antialias_reference`` is the definition in plain torch. The kernels for CPUs (numba) and CUDA (Warp) compute the same
and are tested against it; any other device uses it as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .rasteriser import Fragments, check, edge_planes, pixel_middle

FACES = 32
"""Through how many a surface is followed at most."""


def adjacency(faces: Tensor) -> Tensor:
    """int32 [F, 3]: the face across the edge opposite to each corner of faces int32 [F, 3]; -1 where there is none, or
    more than one."""
    start, end = faces[:, [1, 2, 0]].flatten().long(), faces[:, [2, 0, 1]].flatten().long()
    key, order = (torch.minimum(start, end) << 32 | torch.maximum(start, end)).sort()
    same = torch.nn.functional.pad(key[1:] == key[:-1], (1, 2))  # as the one before; the last two compare as different
    paired = (~same[:-2] & same[1:-1] & ~same[2:]).nonzero()[:, 0]
    across = torch.full_like(key, -1)
    across[order[paired]], across[order[paired + 1]] = order[paired + 1] // 3, order[paired] // 3
    return across.int().view(-1, 3)


def antialias(colour: Tensor, fragments: Fragments, positions: Tensor, faces: Tensor, adjacent: Tensor) -> Tensor:
    """colour float32 [B, H, W, C], in a linear space and with premultiplied alpha if it has one, blended across
    silhouettes; the fragments, positions and faces are those of ``rasterise``, adjacent is ``adjacency(faces)``.

    Faces must agree on which side is outside. Differentiable in colour and positions.
    ValueError where colours are not of the fragments' shape, or adjacent of the faces'; IndexError as of ``rasterise``.
    """
    if colour.device.type not in ("cpu", "cuda"):
        return antialias_reference(colour, fragments, positions, faces, adjacent)
    if colour.shape[:-1] != fragments.face.shape or adjacent.shape != faces.shape:
        raise ValueError(f"colours {tuple(colour.shape)} of {tuple(fragments.face.shape)} pixels, {len(faces)} faces")
    edges = silhouettes(fragments, positions, faces, adjacent)
    blended: Tensor = _Blend.apply(colour.contiguous(), positions.contiguous(), faces.contiguous(), edges)  # type: ignore[no-untyped-call]
    return blended


def silhouettes(fragments: Fragments, positions: Tensor, faces: Tensor, adjacent: Tensor) -> Tensor:
    """int32 [B, H, W, 2]: what silhouette edge parts a pixel from that to its right, and from that below it. 3 f + k is
    the edge opposite to corner k of face f, -1 none. Not differentiable. IndexError as of ``rasterise``."""
    if positions.device.type not in ("cpu", "cuda"):
        return silhouettes_reference(fragments, positions, faces, adjacent)
    check(faces, positions.shape[1])
    seen = fragments.face.contiguous(), fragments.depth.detach().contiguous()
    edges = seen[0].new_empty(*seen[0].shape, 2)
    known = positions.detach().contiguous(), faces.contiguous(), adjacent.contiguous()
    _run("silhouettes", *seen, *known, FACES, edges)
    return edges


def antialias_reference(
    colour: Tensor, fragments: Fragments, positions: Tensor, faces: Tensor, adjacent: Tensor
) -> Tensor:
    """See ``antialias``."""
    edges = silhouettes_reference(fragments, positions, faces, adjacent)
    height, width = colour.shape[1:3]
    blended = colour
    for axis, step in enumerate((2 / width, -2 / height)):
        at = view, row, column = (edges[..., axis] >= 0).nonzero(as_tuple=True)
        beside = view, row + axis, column + 1 - axis
        code = edges[..., axis][at].long()
        ends = [positions[view, faces[code // 3, (code + k) % 3].long()] for k in (1, 2)]
        place = torch.stack([pixel_middle(column, width), -pixel_middle(row, height)], 1).to(positions)
        here, there = _side(ends, place), _side(ends, place + place.new_tensor([[step, 0.0], [0.0, step]][axis]))
        beyond = (here / (here - there) - 0.5)[:, None]
        change = colour[at] - colour[beside]
        blended = blended.index_put(beside, beyond.relu() * change, accumulate=True)
        blended = blended.index_put(at, -(-beyond).relu() * change, accumulate=True)
    return blended


def silhouettes_reference(fragments: Fragments, positions: Tensor, faces: Tensor, adjacent: Tensor) -> Tensor:
    """See ``silhouettes``. In double precision, as the kernels decide it."""
    face = fragments.face.cpu().long()
    depth = torch.where(face < 0, torch.inf, fragments.depth.detach().cpu())
    planes, facing = edge_planes(positions.detach().cpu().double()[:, faces.cpu().long()])
    edges = face.new_full((*face.shape, 2), -1)
    height, width = face.shape[1:]
    for axis, step in enumerate((2.0 / width, -2.0 / height)):
        pairs = face.shape[2 - axis] - 1
        at = (face.narrow(2 - axis, 0, pairs) != face.narrow(2 - axis, 1, pairs)).nonzero(as_tuple=True)
        view, row, column = at
        beside = view, row + axis, column + 1 - axis
        nearer = depth[at] <= depth[beside]
        ends = torch.where(nearer, torch.stack([face[at], face[beside]]), torch.stack([face[beside], face[at]]))
        rows, columns = torch.where(nearer, row, beside[1]), torch.where(nearer, column, beside[2])
        place = torch.stack([pixel_middle(columns, width), -pixel_middle(rows, height)], 1)
        way = torch.where(nearer, step, -step)
        code = _follow(planes, facing.sign(), adjacent.cpu().long(), view, ends, place, way, axis)
        across = planes[view, code.clamp(min=0) // 3, code % 3].abs() * torch.tensor([height, width, 0])
        crossed = across[:, 1] > across[:, 0] if axis else across[:, 0] >= across[:, 1]
        edges[..., axis][at] = torch.where(crossed, code, -1)
    return edges.int().to(positions.device)


def _follow(
    planes: Tensor, facing: Tensor, adjacent: Tensor, view: Tensor, ends: Tensor, place: Tensor, way: Tensor, axis: int
) -> Tensor:
    """int64 [N]: the silhouette edge, as ``silhouettes`` tells it, at which a surface ends that is followed in a view
    from the first of two faces ``ends`` [2, N] and a place [N, 2] in it by the length of ``way`` along an axis."""
    code = torch.full_like(view, -1)
    left, face, came = torch.arange(len(view)), ends[0], torch.full_like(view, -1)
    for _ in range(FACES):
        v, p, side = view[left], planes[view[left], face], facing[view[left], ends[0, left]]
        here = side[:, None] * (p[..., 0] * place[left, None, 0] + (p[..., 1] * place[left, None, 1] + p[..., 2]))
        there = here + side[:, None] * p[..., axis] * way[left, None]
        leaves = (there < 0) & (here > there) & ((adjacent[face] != came[:, None]) | (came[:, None] < 0))
        first, k = torch.where(leaves, here / (here - there), torch.inf).min(1)
        beyond = adjacent[face, k]
        ended = first.isfinite() & ((beyond < 0) | (facing[v, beyond.clamp(min=0)] == -side))
        code[left[ended]] = (3 * face + k)[ended]
        on = first.isfinite() & ~ended & (beyond != ends[1, left])
        left, face, came = left[on], beyond[on], face[on]
    return code


def _side(ends: list[Tensor], place: Tensor) -> Tensor:
    """[N]: on which side of edges, whose ends are [N, 3] each, places [N, 2] lie, and how far."""
    a, b = (end[:, :2] - end[:, 2:] * place for end in ends)  # as in ``rasteriser``
    return a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, colour: Tensor, positions: Tensor, faces: Tensor, edges: Tensor) -> Tensor:
        ctx.save_for_backward(colour, positions, faces, edges)
        out = torch.empty_like(colour)
        _run("blend", colour, positions, faces, edges, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        colour, positions, faces, edges = ctx.saved_tensors
        grad_colour, grad_positions = torch.empty_like(colour), torch.zeros_like(positions)
        _run("blend_backward", colour, positions, faces, edges, grads[0].contiguous(), grad_colour, grad_positions)
        return grad_colour, grad_positions, None, None


def _run(kernel: str, *arguments: Any) -> None:
    """On the device of the first argument, a tensor."""
    if arguments[0].is_cuda:
        from . import antialiasing_cuda

        getattr(antialiasing_cuda, kernel)(*arguments)
    else:
        from . import antialiasing_cpu

        getattr(antialiasing_cpu, kernel)(*(x.numpy() if isinstance(x, Tensor) else x for x in arguments))
