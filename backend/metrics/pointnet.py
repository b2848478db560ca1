# SPDX-License-Identifier: GPL-3.0-or-later
"""PointNet++ with single-scale grouping (Qi et al. 2017, §3.2, App. B.1): the classifier that P-IS and P-FID ask.

The names of the parameters are those of the checkpoint published with Point-E (Nichol et al. 2022), which has
``width`` 2 and 40 classes: it loads as it is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PointNet(nn.Module):
    """Classes of point clouds.

    ``width`` multiplies every layer. In training mode, farthest-point sampling begins at random points, and dropout
    is on; in evaluation mode everything is determined.
    """

    def __init__(self, classes: int = 40, width: float = 2) -> None:
        super().__init__()
        w64, w128, w256, w512, w1024 = (round(width * size) for size in (64, 128, 256, 512, 1024))
        self.sa1 = SetAbstraction(3, (w64, w64, w128), centres=512, radius=0.2, neighbours=32)
        self.sa2 = SetAbstraction(3 + w128, (w128, w128, w256), centres=128, radius=0.4, neighbours=64)
        self.sa3 = SetAbstraction(3 + w256, (w256, w512, w1024))
        self.fc1, self.bn1 = nn.Linear(w1024, w512), nn.BatchNorm1d(w512)
        self.fc2, self.bn2 = nn.Linear(w512, w256), nn.BatchNorm1d(w256)
        self.fc3 = nn.Linear(w256, classes)
        self.dropout = nn.Dropout(0.4)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Clouds [B, N, 3] in the unit sphere -> logits [B, classes], features [B, 256 * width].

        The features are those that P-FID compares: the last hidden layer before its ReLU.
        """
        places, found = self.sa2(*self.sa1(points, None))
        _, whole = self.sa3(places, found)
        hidden = self.dropout(F.relu(self.bn1(self.fc1(whole[:, 0]))))
        features: Tensor = self.bn2(self.fc2(hidden))
        return self.fc3(self.dropout(F.relu(features))), features


class SetAbstraction(nn.Module):
    """Every centre takes the largest of what one small MLP sees in its neighbours (§3.2).

    Without ``centres``, the one neighbourhood is the whole cloud.
    """

    def __init__(
        self, inputs: int, widths: tuple[int, ...], *, centres: int = 0, radius: float = 0.0, neighbours: int = 0
    ) -> None:
        super().__init__()
        self.centres, self.radius, self.neighbours = centres, radius, neighbours
        sizes = (inputs, *widths[:-1])
        self.mlp_convs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(sizes, widths, strict=True))
        self.mlp_bns = nn.ModuleList(nn.BatchNorm2d(size) for size in widths)

    def forward(self, points: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Points [B, N, 3] and features [B, N, D] -> centres [B, S, 3] and their features [B, S, widths[-1]]."""
        batch, count, _ = points.shape
        rows = points if features is None else torch.cat([points, features], -1)
        if not self.centres:
            everyone = torch.arange(count, device=points.device).expand(batch, 1, count)
            return points[:, :1], self._see(rows, torch.zeros_like(points[:, :1]), everyone)
        if self.training:
            start = torch.randint(count, (batch,), device=points.device)
        else:  # as the published evaluation has it: cloud i of a batch begins at its point i
            start = torch.arange(batch, device=points.device) % count
        centres = gather(points, farthest_point_sample(points, self.centres, start))
        near = ball_query(points, centres, self.radius, self.neighbours)
        if self.training or points.device.type != "cpu":
            return centres, self._see(rows, centres, near)
        # One by one, what is between the layers stays in the cache.
        each = (slice(i, i + 1) for i in range(batch))
        return centres, torch.cat([self._see(rows[one], centres[one], near[one]) for one in each])

    def _see(self, rows: Tensor, centres: Tensor, near: Tensor) -> Tensor:
        """Positions with features [B, N, 3 + D], centres [B, S, 3], neighbours [B, S, K] -> [B, S, widths[-1]].

        The convolutions are of one point each, so they are matrix products. The first is linear in neighbour minus
        centre: it is done once per point instead of once per neighbourhood. In evaluation, the norms are part of the
        weights, and the largest is taken before the last bias and ReLU, which do not change which it is.
        """
        weights, biases = zip(*(self._layer(i) for i in range(len(self.mlp_convs))), strict=True)
        x = gather(rows @ weights[0].T, near) - (centres @ weights[0][:, :3].T)[:, :, None]
        for i, weight in enumerate(weights[1:]):
            x = self._activate(i, x.add_(biases[i])) @ weight.T
        if not self.training:
            x = x.amax(2, keepdim=True)
        return self._activate(-1, x.add_(biases[-1])).amax(2)

    def _layer(self, i: int) -> tuple[Tensor, Tensor]:
        """Weight [out, in] and bias [out] of one layer; in evaluation with its norm."""
        conv, norm = self.mlp_convs[i], self.mlp_bns[i]
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and conv.bias is not None
        weight, bias = conv.weight.flatten(1), conv.bias
        if self.training:
            return weight, bias
        assert isinstance(norm.running_mean, Tensor) and isinstance(norm.running_var, Tensor)
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return weight * scale[:, None], (bias - norm.running_mean) * scale + norm.bias

    def _activate(self, i: int, x: Tensor) -> Tensor:
        """[B, S, K, C] after one layer; in training with its norm."""
        if not self.training:
            return x.relu_()
        seen: Tensor = self.mlp_bns[i](x.flatten(0, 2)[:, :, None, None])
        return F.relu(seen.view(x.shape))


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` [B, ...] of ``values`` [B, N, D] -> [B, ..., D]."""
    batch, count, size = values.shape
    first = count * torch.arange(batch, device=values.device)
    rows = index.flatten(1) + first[:, None]
    return F.embedding(rows, values.reshape(-1, size)).view(*index.shape, size)


def farthest_point_sample(points: Tensor, count: int, start: Tensor) -> Tensor:
    """Indices [B, count] of points [B, N, 3], each the farthest from all before it; ``start`` [B] is the first.

    Where the cloud has fewer points than ``count``, some come again.
    """
    chosen = torch.empty(len(points), count, dtype=torch.int64, device=points.device)
    distance = points.new_full(points.shape[:2], torch.inf)
    for i in range(count):
        chosen[:, i] = start
        offset = points - points.gather(1, start[:, None, None].expand(-1, 1, 3))
        distance = torch.minimum(distance, offset.square_().sum(-1))
        start = distance.argmax(-1)
    return chosen


def ball_query(points: Tensor, centres: Tensor, radius: float, count: int) -> Tensor:
    """Indices [B, S, count] of the first ``count`` points [B, N, 3] within ``radius`` of each centre [B, S, 3].

    Where there are fewer, the first of them fills up. The centres must be among the points.
    """
    # The expanded square decides what lies on the rim exactly as the published code does.
    square = -2 * centres @ points.mT
    square += centres.square().sum(-1)[:, :, None]
    square += points.square().sum(-1)[:, None]
    within = square <= radius**2
    sizes = within.sum(-1).flatten()
    first = sizes.cumsum(0) - sizes
    slot = torch.arange(count, device=points.device)
    entry = first[:, None] + torch.where(slot < sizes[:, None], slot, 0)
    return within.nonzero()[:, 2][entry].view(*centres.shape[:2], count)


def load(state: dict[str, Any]) -> PointNet:
    """The classifier of a state dict, whose shapes say its width and its number of classes; in evaluation mode.

    Half precision becomes single; how many batches the norms have seen may be missing. Raises KeyError or RuntimeError
    where it is of something else.
    """
    model = PointNet(len(state["fc3.bias"]), len(state["fc2.bias"]) / 256)
    uncounted = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(uncounted | state)
    return model.eval().requires_grad_(False)
