# SPDX-License-Identifier: GPL-3.0-or-later
"""From a point cloud to a mesh, by regressing the signed distance (Nichol et al., "Point-E", 2022, §4.5).

The model's parameters have the names of the published weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes
from torch import Tensor, nn
from torch.nn import functional

from ..errors import Gen3DError
from ..shares import between
from .transformer import Mlp, Transformer, attend, linear, split_heads

NAME = "CrossAttentionPointCloudSDFModel"
GRID, SIDE = 128, 1.02
QUERIES = 4096
COARSE = 32
BAND = 1.5  # of the farthest a surface can be from the nearest corner of a cell it passes through

Distance = Callable[[Tensor], Tensor]
"""Points [N, 3] to their signed distances [N]."""


def build(config: Mapping[str, Any]) -> CrossAttentionPointCloudSDFModel:
    """The model of a published configuration, with random weights. Raises Gen3DError where it lacks something."""
    try:
        if config["name"] != NAME:
            raise KeyError("name")
        return CrossAttentionPointCloudSDFModel(
            width=config["width"],
            encoder_layers=config["encoder_layers"],
            encoder_heads=config["encoder_heads"],
            decoder_layers=config["decoder_layers"],
            decoder_heads=config["decoder_heads"],
            init_scale=config.get("init_scale", 0.25),
        )
    except KeyError as error:
        raise Gen3DError(
            f"The configuration of a distance model has no usable {error.args[0]!r:.60}.",
            "Give the configuration the weights were published with.",
            field="weights",
        ) from None


class CrossAttentionPointCloudSDFModel(nn.Module):
    """Signed distances to the surface that a cloud, of any number of points, was taken from. Colours do not matter."""

    def __init__(
        self,
        *,
        width: int,
        encoder_layers: int,
        encoder_heads: int,
        decoder_layers: int,
        decoder_heads: int,
        init_scale: float,
    ) -> None:
        super().__init__()
        scale = init_scale * math.sqrt(1.0 / width)
        self.encoder_input_proj = nn.Linear(3, width)
        self.encoder = Transformer(width, encoder_layers, encoder_heads, scale)
        self.decoder_input_proj = nn.Linear(3, width)
        self.decoder = Perceiver(width, decoder_layers, decoder_heads, scale)
        self.ln_post = nn.LayerNorm(width)
        self.output_proj = nn.Linear(width, 1)

    def forward(self, points: Tensor, query: Tensor) -> Tensor:
        """Clouds [B, 3, K] and places [B, 3, N] -> signed distances [B, N]."""
        return self.decode(query, self.encode(points))

    def encode(self, points: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Clouds [B, 3, K] -> the keys and values that ``decode`` attends to: per layer, [B, heads, K, d] each."""
        return self.decoder.memory(self.encoder(self.encoder_input_proj(points.transpose(1, 2))))

    def decode(self, query: Tensor, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Places [B, 3, N] -> signed distances [B, N]."""
        h = self.decoder(self.decoder_input_proj(query.transpose(1, 2)), memory)
        out: Tensor = self.output_proj(self.ln_post(h))[..., 0]
        return out


class Perceiver(nn.Module):
    """Residual blocks in which each token looks at the memory, and at no other token."""

    def __init__(self, width: int, layers: int, heads: int, init_scale: float) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(CrossAttentionBlock(width, heads, init_scale) for _ in range(layers))

    def memory(self, data: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Tokens [B, K, width] -> the keys and values of each block."""
        return [block.memory(data) for block in self.resblocks]  # type: ignore[operator]

    def forward(self, x: Tensor, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
        for block, (key, value) in zip(self.resblocks, memory, strict=True):
            x = block(x, key, value)
        return x


class CrossAttentionBlock(nn.Module):
    def __init__(self, width: int, heads: int, init_scale: float) -> None:
        super().__init__()
        self.attn = CrossAttention(width, heads, init_scale)
        self.ln_1 = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, init_scale)
        self.ln_3 = nn.LayerNorm(width)

    def memory(self, data: Tensor) -> tuple[Tensor, Tensor]:
        key, value = split_heads(self.attn.c_kv(self.ln_2(data)), self.attn.heads, 2)
        return key, value

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), key, value)
        out: Tensor = x + self.mlp(self.ln_3(x))
        return out


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int, init_scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.c_q = linear(width, width, init_scale)
        self.c_kv = linear(width, width * 2, init_scale)
        self.c_proj = linear(width, width, init_scale)

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        (query,) = split_heads(self.c_q(x), self.heads, 1)
        out: Tensor = self.c_proj(attend(query, key, value))
        return out


# ----------------------------------------------------------------------------------------------------- the surface


def distance_to(model: CrossAttentionPointCloudSDFModel, points: Tensor) -> Distance:
    """The distance to the surface of one cloud [K, 3], as a function that may be asked on the cloud's device."""
    with torch.no_grad():
        memory = model.encode(points.T[None])

    def distance(places: Tensor) -> Tensor:
        found = torch.empty(len(places), device=places.device)
        with torch.no_grad():
            for start in range(0, len(places), QUERIES):
                found[start : start + QUERIES] = model.decode(places[start : start + QUERIES].T[None], memory)[0]
        return found

    return distance


def lattice(size: int, side: float, device: torch.device) -> Tensor:
    """Places [size³, 3] of a cube around the origin, z fastest."""
    index = torch.arange(size**3, device=device)
    places = torch.stack([index // size**2, index // size % size, index % size], -1)
    return places.float() * (side / (size - 1)) - side / 2


def dense_field(
    distance: Distance, device: torch.device, size: int = GRID, side: float = SIDE
) -> Generator[float, None, Tensor]:
    """Distances at all places of the grid, [size, size, size] on the CPU, as published. Yields the share done."""
    places, parts = lattice(size, side, device), []
    for start in range(0, len(places), QUERIES):
        parts.append(distance(places[start : start + QUERIES]))
        yield min(1.0, (start + QUERIES) / len(places))
    return torch.cat(parts).view(size, size, size).cpu()


def traced_field(
    distance: Distance, device: torch.device, size: int = GRID, side: float = SIDE
) -> Generator[float, None, Tensor]:
    """As ``dense_field``, but only near the surface; elsewhere interpolated, with the right sign. Yields the
    share done.

    Starts from a grid of about ``COARSE`` cells a side. On each finer one, what may be within a cell of the surface is
    asked for, and then, until there is no more, the other corners of every cell that the surface passes through: a
    surface is followed to its end. So the mesh is that of the dense field, except for parts both smaller than a coarse
    cell and missed by the distances around them.
    """
    sizes = [size]
    while sizes[0] > 1.5 * COARSE:
        sizes.insert(0, (sizes[0] + 1) // 2)
    begin = 0.2 if len(sizes) > 1 else 1.0
    values = yield from between(dense_field(distance, device, sizes[0], side), 0.0, begin)
    for level, count in enumerate(sizes[1:], 1):
        reach = BAND * side / (sizes[level - 1] - 1) * 3**0.5 / 2
        estimate = functional.interpolate(values[None, None], (count,) * 3, mode="trilinear", align_corners=True)
        values, places = estimate[0, 0].clone(), lattice(count, side, torch.device("cpu")).view(count, count, count, 3)
        known = torch.zeros_like(values, dtype=torch.bool)
        wanted = (values.abs() < reach) | _corners(_crossed(values))
        begin = 0.2 + 0.8 * (level - 1) / (len(sizes) - 1)
        while bool(wanted.any()):
            index = wanted.nonzero()
            for start in range(0, len(index), QUERIES):
                i, j, k = index[start : start + QUERIES].unbind(1)
                values[i, j, k] = distance(places[i, j, k].to(device)).cpu()
                yield begin + 0.8 / (len(sizes) - 1) * min(1.0, (start + QUERIES) / len(index))
            known |= wanted
            wanted = _corners(_crossed(values)) & ~known
    return values


def _crossed(values: Tensor) -> Tensor:
    """Cells [n - 1, n - 1, n - 1] whose eight corners are not all on one side."""
    inside = (values < 0).float()[None, None]
    return (functional.max_pool3d(inside, 2, 1) > -functional.max_pool3d(-inside, 2, 1))[0, 0]


def _corners(cells: Tensor) -> Tensor:
    """The corners [n, n, n] of cells."""
    return functional.max_pool3d(cells.float()[None, None], 2, 1, 1)[0, 0] > 0


def surface(values: Tensor, side: float = SIDE) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices [V, 3] and faces [F, 3] where distances [n, n, n] are 0, or, where none are, where they are average.

    As published: the faces are counter-clockwise seen from where distances are less.

    Raises Gen3DError where there is no surface.
    """
    volume = values.numpy()
    if (volume < 0).all() or (volume > 0).all():
        volume = volume - volume.mean()
    vertices, faces = _marched(volume, side)
    return vertices, np.ascontiguousarray(faces[:, [1, 0, 2]])


def solid(values: Tensor, side: float = SIDE) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """As ``surface``, but closed, by a wall where it reaches the border of the grid, and outwards the right way round:
    what most of the border is, is outside, whichever sign it has. Where nothing is 0, there is nothing."""
    shell = torch.ones_like(values, dtype=torch.bool)
    shell[1:-1, 1:-1, 1:-1] = False
    volume = (values if float(values[shell].sign().sum()) >= 0 else -values).numpy().copy()
    least = 1e-4 * side / (len(volume) - 1)  # at a vertex of the grid: faces without area
    volume[shell.numpy()] = np.maximum(volume[shell.numpy()], 10 * least)
    volume[np.abs(volume) < least] = least
    return _marched(volume, side)


def _marched(volume: NDArray[np.float32], side: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Faces are counter-clockwise seen from where values are larger."""
    if not (volume < 0).any() or not (volume > 0).any():
        raise Gen3DError("The points have no surface.", "Try another seed.", field="surface")
    spacing = (side / (len(volume) - 1),) * 3
    vertices, faces, _, _ = marching_cubes(  # type: ignore[no-untyped-call]
        volume, 0.0, spacing=spacing, allow_degenerate=False
    )
    return (vertices - side / 2).astype(np.float32), np.asarray(faces, np.int32)


def nearest(points: NDArray[np.floating], places: NDArray[np.floating]) -> NDArray[np.intp]:
    """Which of the points [K, 3] is the nearest to each of the places [N, 3]."""
    found: NDArray[np.intp] = cKDTree(points).query(places)[1]
    return found
