# SPDX-License-Identifier: GPL-3.0-or-later
"""Differentiable rasterisation of triangle meshes, and interpolation of what their vertices bear (Laine et al.,
"Modular Primitives for High-Performance Differentiable Rendering", 2020, §3; its §3.4 is in ``antialiasing``).

Vertices are given in homogeneous coordinates of the picture (x, y, w), such as ``viewpoints.project`` gives: seen at
x / w from -1, the left side, to 1, and at y / w from -1, the bottom, to 1, as deep as w. Nothing is clipped (Olano and
Greer 1997): with corners v_0, v_1, v_2 and a pixel's direction d = (x, y, 1), the determinants e_k = d · (v_i × v_j)
have one sign where d meets the triangle, and are in the ratio of the barycentric coordinates there, perspective
included: b_k = e_k / Σ e, as deep as D = [v_0 v_1 v_2] / Σ e.

Gradients. Let g_k = (v_i × v_j) / [v_0 v_1 v_2], so that b_k = D d · g_k. Where corner k moves by δ, the point with the
coordinates b moves by b_k δ, and the pixel sees another one: from Σ b_i v_i = D d follow ∂D / ∂v_k = b_k D Σ g and
∂b_i / ∂v_k = b_k (b_i Σ g - g_i). With ∂L / ∂b_i = h_i and ∂L / ∂D = h the loss L changes where the seen point moves by
Σ (m - h_i) g_i, where m = Σ h_i b_i + h D; every corner has its barycentric part of that: interpolation, backwards.
Which face is seen has no gradient; that of silhouettes comes from ``antialiasing``.

``rasterise_reference`` and ``interpolate_reference`` are the definition in plain torch. The kernels for CPUs (numba)
and CUDA (Warp) compute the same and are tested against it; any other device uses it as it is. What a pixel sees is
found in double precision everywhere, with the same operations in the same order, and so is the same to the bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

NEAR = 2.0**-10
"""Nothing is seen that is less deep. The same number in single and in double precision."""


class Fragments(NamedTuple):
    """What pixels see; the first row is at the top.

    face: int32 [B, H, W], -1 for none. barycentric: [B, H, W, 3], of the face's corners, in their order and in
    perspective. depth: [B, H, W], in the unit of w. Both are 0 where nothing is seen.
    """

    face: Tensor
    barycentric: Tensor
    depth: Tensor


def rasterise(positions: Tensor, faces: Tensor, height: int, width: int, *, cull: bool = True) -> Fragments:
    """The nearest faces: positions float32 [B, V, 3], as the head of this file says, one per view; faces int32 [F, 3].

    With ``cull`` only faces whose corners are seen counter-clockwise are drawn, which is all that is seen of a closed
    mesh from outside. A pixel sees what lies at its middle. Where two faces meet there, one of them is seen; where two
    are equally deep in single precision, the first. Differentiable in positions.
    IndexError, on CPUs, where a face names a vertex that is not there.
    """
    if positions.device.type not in ("cpu", "cuda"):
        return rasterise_reference(positions, faces, height, width, cull=cull)
    check(faces, positions.shape[1])
    return Fragments(*_Rasterise.apply(positions.contiguous(), faces.contiguous(), height, width, cull))  # type: ignore[no-untyped-call]


def interpolate(attributes: Tensor, faces: Tensor, fragments: Fragments) -> Tensor:
    """[B, H, W, C]: what float32 [V, C], or [B, V, C] where it differs by view, is at the places seen; 0 for none.

    Differentiable in attributes and in the barycentric coordinates, and through these in positions.
    ValueError where there are attributes of another number of views; IndexError as of ``rasterise``.
    """
    if attributes.device.type not in ("cpu", "cuda"):
        return interpolate_reference(attributes, faces, fragments)
    values = (attributes if attributes.dim() == 3 else attributes[None]).contiguous()
    if len(values) not in (1, len(fragments.face)):
        raise ValueError(f"{len(values)} sets of attributes for {len(fragments.face)} views")
    check(faces, values.shape[1])
    seen: Tensor = _Interpolate.apply(values, faces.contiguous(), fragments.face, fragments.barycentric.contiguous())  # type: ignore[no-untyped-call]
    return seen


def rasterise_reference(positions: Tensor, faces: Tensor, height: int, width: int, *, cull: bool = True) -> Fragments:
    """See ``rasterise``. In the precision of the positions."""
    views = positions.detach().cpu().double()
    face = torch.stack([_visible(view, faces.cpu(), height, width, cull) for view in views]).to(positions.device)
    view, row, column = at = (face >= 0).nonzero(as_tuple=True)
    corners = positions[view[:, None], faces[face[at]].long()]
    x, y = pixel_middle(column, width), -pixel_middle(row, height)
    place = torch.stack([x, y, torch.ones_like(x)], 1).to(positions)
    around = corners - corners[..., 2:] * place[:, None]  # shears the pixel's direction onto the axis: exact nearby
    edges = torch.stack([_edge(around, 1, 2), _edge(around, 2, 0), _edge(around, 0, 1)], 1)
    weights = edges / edges.sum(1, keepdim=True)
    depth = (weights * corners[..., 2]).sum(1)
    nothing = positions.new_zeros(face.shape)
    return Fragments(
        face, nothing[..., None].expand(*face.shape, 3).index_put(at, weights), nothing.index_put(at, depth)
    )


def interpolate_reference(attributes: Tensor, faces: Tensor, fragments: Fragments) -> Tensor:
    """See ``interpolate``."""
    face = fragments.face
    at = (face >= 0).nonzero(as_tuple=True)
    every = attributes.expand(len(face), *attributes.shape[-2:])
    corners = every[at[0][:, None], faces[face[at]].long()]
    values = (fragments.barycentric[at][..., None] * corners).sum(1)
    return values.new_zeros(*face.shape, attributes.shape[-1]).index_put(at, values)


def check(faces: Tensor, vertices: int) -> None:
    """IndexError where a face names a vertex that is not there. On CPUs only: CUDA would have to be waited for."""
    if faces.device.type == "cpu" and len(faces) and not 0 <= faces.min() <= faces.max() < vertices:
        raise IndexError("a face names a vertex that is not there")


def pixel_middle(index: Tensor, count: int) -> Tensor:
    """Where pixels' middles lie between -1 and 1, in double precision."""
    return (2 * index + 1 - count).double() / count


def edge_planes(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Of triangles [..., 3, 3]: the normals [..., 3, 3] of the planes through the eye and the edges opposite to
    corners, towards the inside of front faces; and determinants [...], positive for these, 0 where two corners are one.
    """
    normals = []
    for k in range(3):
        (ax, ay, aw), (bx, by, bw) = (corners[..., (k + step) % 3, :].unbind(-1) for step in (1, 2))
        normals.append(torch.stack([ay * bw - aw * by, aw * bx - ax * bw, ax * by - ay * bx], -1))
    a, b, c = corners.unbind(-2)
    (bx, by, bw), (cx, cy, cw) = (b - a).unbind(-1), (c - a).unbind(-1)
    x, y, w = (a * torch.stack([by * cw - bw * cy, bw * cx - bx * cw, bx * cy - by * cx], -1)).unbind(-1)
    return torch.stack(normals, -2), x + y + w


def _edge(around: Tensor, i: int, j: int) -> Tensor:
    """[N]: the determinants of two corners and the axis."""
    return around[:, i, 0] * around[:, j, 1] - around[:, j, 0] * around[:, i, 1]


def _visible(positions: Tensor, faces: Tensor, height: int, width: int, cull: bool) -> Tensor:
    """int32 [H, W], from positions [V, 3] in double precision. Of all pixels in the rectangles around faces, those
    within are numbered by depth and face, and each pixel takes the least number."""
    corners = positions[faces.long()]
    planes, facing = edge_planes(corners)
    w = corners[..., 2]
    drawn = ((facing > 0) | ((facing < 0) & (not cull)) & (w > NEAR).any(1)).nonzero()[:, 0]
    corners, w, planes, facing = (
        corners[drawn],
        w[drawn],
        planes[drawn] * facing[drawn].sign()[:, None, None],
        facing[drawn],
    )
    before = (w > NEAR).all(1)
    left, columns = _span((corners[..., 0] / w + 1) * (0.5 * width), before, width)
    top, rows = _span((1 - corners[..., 1] / w) * (0.5 * height), before, height)
    number = rows * columns
    which = torch.repeat_interleave(number)
    within = torch.arange(len(which)) - (number.cumsum(0) - number)[which]
    row, column = top[which] + within // columns[which], left[which] + within % columns[which]
    x, y = pixel_middle(column, width)[:, None], -pixel_middle(row, height)[:, None]
    p = planes[which]
    edges = p[..., 0] * x + (p[..., 1] * y + p[..., 2])
    on_its_side = (p[..., 0] > 0) | ((p[..., 0] == 0) & (p[..., 1] > 0))
    depth = (facing.abs()[which] * (1 / (edges[:, 0] + edges[:, 1] + edges[:, 2]))).float()
    seen = ((edges > 0) | ((edges == 0) & on_its_side)).all(1) & (depth > NEAR) & depth.isfinite()
    order = depth[seen].view(torch.int32).long() << 32 | drawn[which[seen]]  # positive floats sort as their bits do
    none = (1 << 63) - 1
    nearest = torch.full((height * width,), none).scatter_reduce_(0, (row * width + column)[seen], order, "amin")
    return torch.where(nearest == none, -1, nearest & 0xFFFFFFFF).int().view(height, width)


def _span(places: Tensor, before: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """First pixel and number of pixels whose middle lies among places [F, 3]; all, of faces partly behind the eye."""
    first = (places.amin(1).clamp(min=0) - 0.5 - 1e-6).ceil().clamp(min=0)
    last = (places.amax(1).clamp(max=count) - 0.5 + 1e-6).floor().clamp(max=count - 1)
    first, number = torch.where(before, first, 0.0), torch.where(before, last - first + 1, float(count))
    return first.long(), number.clamp(min=0).long()


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, faces: Tensor, height: int, width: int, cull: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = (len(positions), height, width)
        face = torch.empty(shape, dtype=torch.int32, device=positions.device)
        barycentric, depth = positions.new_empty(*shape, 3), positions.new_empty(shape)
        _run("rasterise", positions, faces, cull, NEAR, face, barycentric, depth)
        ctx.save_for_backward(positions, faces, face, barycentric, depth)
        ctx.mark_non_differentiable(face)
        return face, barycentric, depth

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        positions, faces, face, barycentric, depth = ctx.saved_tensors
        grad_point = torch.empty_like(barycentric)
        given = grads[1].contiguous(), grads[2].contiguous()
        _run("surface_gradient", positions, faces, face, barycentric, depth, *given, grad_point)
        return _spread(grad_point, faces, face, barycentric, positions.shape[1]), None, None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attributes: Tensor, faces: Tensor, face: Tensor, barycentric: Tensor) -> Tensor:
        ctx.save_for_backward(attributes, faces, face, barycentric)
        out = attributes.new_empty(*face.shape, attributes.shape[-1])
        _run("interpolate", attributes, faces, face, barycentric, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, Tensor | None]:
        attributes, faces, face, barycentric = ctx.saved_tensors
        given = grads[0].contiguous()
        grad_attributes = grad_barycentric = None
        if ctx.needs_input_grad[0]:
            by_view = _spread(given, faces, face, barycentric, attributes.shape[1])
            grad_attributes = by_view if len(attributes) == len(face) else by_view.sum(0, keepdim=True)
        if ctx.needs_input_grad[3]:
            grad_barycentric = torch.empty_like(barycentric)
            _run("barycentric_gradient", attributes, faces, face, given, grad_barycentric)
        return grad_attributes, None, None, grad_barycentric


def _spread(values: Tensor, faces: Tensor, face: Tensor, barycentric: Tensor, vertices: int) -> Tensor:
    """[B, V, C]: what the values of pixels [B, H, W, C] come to at the corners of what they see."""
    out = values.new_zeros(len(values), vertices, values.shape[-1])
    _run("spread", values, faces, face, barycentric, out)
    return out


def _run(kernel: str, *arguments: Any) -> None:
    """On the device of the first argument, a tensor."""
    if arguments[0].is_cuda:
        from . import rasteriser_cuda

        getattr(rasteriser_cuda, kernel)(*arguments)
    else:
        from . import rasteriser_cpu

        getattr(rasteriser_cpu, kernel)(*(x.numpy() if isinstance(x, Tensor) else x for x in arguments))
