# SPDX-License-Identifier: GPL-3.0-or-later
"""All of the differentiable rasteriser at its purpose: from pictures back to the shape and the colours."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from backend.rendering.antialiasing import adjacency, antialias
from backend.rendering.raster import render
from backend.rendering.rasteriser import interpolate, rasterise
from backend.rendering.viewpoints import project

from .meshes import ball, view

SIZE = 64
VIEWS = [view(45 * turn, (-40, 10, 35, -15)[turn % 4], 3.0, 1.3) for turn in range(8)]
STEPS = 120
SMOOTH = 5.0
POINTS = 50_000


def target() -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and colours of a long thing with three lobes, a dent and a waist."""
    vertices, faces = ball(5)
    x, y, z = vertices.T
    radius = 0.62 + 0.16 * torch.cos(3 * torch.atan2(y, x)) * (1 - z * z) - 0.22 * torch.exp(-8 * (z - 0.25) ** 2)
    vertices = vertices * radius[:, None] * torch.tensor([1.0, 1.0, 1.45]) + torch.tensor([0.08, -0.05, 0.04])
    return vertices, faces, painted(vertices)


def painted(places: Tensor) -> Tensor:
    """The colour of a place."""
    return 0.5 + 0.4 * torch.sin(places @ torch.tensor([[4.0, 0.0, 3.0], [1.0, 4.0, 0.0], [0.0, 2.0, -4.0]]))


def photographs(vertices: Tensor, faces: Tensor, colours: Tensor) -> Tensor:
    """[B, S, S, 4] with premultiplied alpha, by the rasteriser of pictures, of 16 samples a pixel."""
    taken = []
    for seen in VIEWS:
        mesh = vertices.numpy(), faces.numpy(), colours.numpy()
        rgba = torch.from_numpy(render(*mesh, seen.pose, focal=seen.focal * SIZE, size=SIZE, supersample=4).rgba)
        taken.append(torch.cat([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], -1))
    return torch.stack(taken)


def laplacian(faces: Tensor, vertices: int) -> Tensor:
    """The mesh's graph Laplacian [V, V]."""
    edges = faces.long()[:, [0, 1, 1, 2, 2, 0]].view(-1, 2)
    adjacent = torch.zeros(vertices, vertices)
    adjacent[edges[:, 0], edges[:, 1]] = 1.0
    return torch.diag(adjacent.sum(1)) - adjacent


def distances(vertices: Tensor, faces: Tensor, other: Tensor, others: Tensor) -> NDArray[np.float64]:
    """Of points all over both surfaces to the nearest of the other."""
    clouds = []
    for points, triangles in ((vertices, faces), (other, others)):
        corners = points[triangles.long()]
        areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
        generator = torch.Generator().manual_seed(0)
        chosen = corners[torch.multinomial(areas, POINTS, replacement=True, generator=generator)]
        u = torch.rand(POINTS, 2, generator=generator)
        u = torch.where(u.sum(1, keepdim=True) > 1, 1 - u, u)
        weights = torch.stack([1 - u.sum(1), u[:, 0], u[:, 1]], 1)
        clouds.append((weights[..., None] * chosen).sum(1).numpy())
    return np.concatenate([cKDTree(clouds[1]).query(clouds[0])[0], cKDTree(clouds[0]).query(clouds[1])[0]])


def test_shape_and_colours_are_found_again_from_pictures() -> None:
    """From a grey ball, by Adam on coordinates that spread what pulls at a vertex over its surroundings (Nicolet et
    al., "Large Steps in Inverse Rendering of Geometry", 2021)."""
    truth, true_faces, true_colours = target()
    pictures = photographs(truth, true_faces, true_colours)
    start, faces = ball(3, 0.6)
    adjacent = adjacency(faces)
    stiff = torch.eye(len(start)) + SMOOTH * laplacian(faces, len(start))
    soft = torch.linalg.inv(stiff)
    shape = (stiff @ start).requires_grad_()
    colours = torch.full_like(start, 0.5).requires_grad_()
    adam = torch.optim.Adam([{"params": [shape], "lr": 0.05}, {"params": [colours], "lr": 0.03}], betas=(0.9, 0.95))
    for _ in range(STEPS):
        vertices = soft @ shape
        positions = project(vertices, VIEWS)
        seen = rasterise(positions, faces, SIZE, SIZE)
        painting = interpolate(torch.cat([colours, torch.ones(len(start), 1)], 1), faces, seen)
        loss = (antialias(painting, seen, positions, faces, adjacent) - pictures).abs().mean()
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
    vertices = (soft @ shape).detach()
    assert distances(start, faces, truth, true_faces).mean() > 0.12
    away = distances(vertices, faces, truth, true_faces)
    assert (
        away.mean() < 0.008
    )  # a fifth of a pixel; 0.17 without the gradient of silhouettes, 0.0135 without that within
    assert np.quantile(away, 0.95) < 0.016
    off = (colours.detach() - painted(vertices)).abs()
    assert off.mean() < 0.01 and off.max() < 0.1
