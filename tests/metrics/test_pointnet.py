# SPDX-License-Identifier: GPL-3.0-or-later
"""The classifier of point clouds: the published network's figures, and its parts by brute force."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from backend.metrics import point_cloud, pointnet

GOLDEN = Path(os.environ.get("GEN3D_POINT_E_GOLDEN") or Path(__file__).parent / "golden")


def relative(found: Tensor | np.ndarray | float, expected: Tensor) -> float:
    found = torch.as_tensor(found, dtype=torch.float64)
    return float((found - expected.double()).abs().max() / expected.double().abs().max())


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "pointnet.forward.safetensors")


def test_the_published_network(golden: dict[str, Tensor]) -> None:
    model = pointnet.load(load_file(GOLDEN / "pointnet.weights.safetensors"))
    seen = point_cloud.classify(list(golden["points"].numpy()), model)
    assert relative(seen.features, golden["features"]) < 1e-4
    assert relative(np.log(seen.probabilities), golden["log_probs"]) < 1e-4
    assert relative(seen.probabilities, golden["log_probs"].exp()) < 1e-4


def test_the_published_scores(golden: dict[str, Tensor]) -> None:
    distance = point_cloud.frechet_distance(golden["frechet_a"].numpy(), golden["frechet_b"].numpy())
    assert relative(distance, golden["frechet"]) < 1e-9
    assert relative(point_cloud.inception_score(golden["is_probs"].numpy(), 300), golden["is_split300"]) < 1e-9


@pytest.fixture(scope="module")
def small() -> pointnet.PointNet:
    """Width 1, random weights, norms that have seen something."""
    torch.manual_seed(0)
    model = pointnet.PointNet(classes=7, width=1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, -1.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                assert values is not None
                values.data.uniform_(low, high)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def clouds() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(3, 700, 3, generator=generator) * torch.tensor([1.0, 0.7, 0.4])
    inside: Tensor = points / points.norm(dim=-1).amax(1)[:, None, None]
    return inside


def test_farthest_points_by_brute_force(clouds: Tensor) -> None:
    start = torch.tensor([3, 0, 699])
    found = pointnet.farthest_point_sample(clouds, 40, start)
    for cloud, first, rows in zip(clouds.double().numpy(), start.tolist(), found.tolist(), strict=True):
        chosen = [first]
        while len(chosen) < 40:
            chosen.append(int(np.linalg.norm(cloud[:, None] - cloud[chosen], axis=-1).min(1).argmax()))
        assert rows == chosen


def test_farthest_points_of_a_small_cloud_are_all_of_it(clouds: Tensor) -> None:
    found = pointnet.farthest_point_sample(clouds[:, :10], 25, torch.zeros(3, dtype=torch.int64))
    assert [sorted(rows[:10]) for rows in found.tolist()] == [list(range(10))] * 3
    assert found.max() < 10


@pytest.mark.parametrize("count", [1, 8, 700])
def test_neighbours_by_brute_force(clouds: Tensor, count: int) -> None:
    centres = clouds[:, 5:60]
    found = pointnet.ball_query(clouds, centres, 0.2, count)
    for cloud, middles, rows in zip(clouds.double(), centres.double(), found.tolist(), strict=True):
        for middle, row in zip(middles, rows, strict=True):
            within = ((cloud - middle).norm(dim=-1) <= 0.2).nonzero()[:, 0].tolist()
            assert row == (within + [within[0]] * count)[:count]


def written(layer: pointnet.SetAbstraction, x: Tensor) -> Tensor:
    """The MLP of a set abstraction as the paper has it: groups [B, S, K, C] -> [B, S, C']."""
    x = x.permute(0, 3, 2, 1)
    for conv, norm in zip(layer.mlp_convs, layer.mlp_bns, strict=True):
        x = F.relu(norm(conv(x)))
    seen: Tensor = x.amax(2).transpose(1, 2)
    return seen


def test_evaluation_in_one_pass_is_the_network_as_written(small: pointnet.PointNet, clouds: Tensor) -> None:
    """Norms folded into weights, the first layer once per point, the largest before the last bias: the same."""
    places, found = clouds, None
    for layer in (small.sa1, small.sa2):
        start = torch.arange(len(clouds))
        centres = pointnet.gather(places, pointnet.farthest_point_sample(places, layer.centres, start))
        near = pointnet.ball_query(places, centres, layer.radius, layer.neighbours)
        moved = pointnet.gather(places, near) - centres[:, :, None]
        x = moved if found is None else torch.cat([moved, pointnet.gather(found, near)], -1)
        places, found = centres, written(layer, x)
    assert found is not None
    whole = written(small.sa3, torch.cat([places, found], -1)[:, None])[:, 0]
    hidden = F.relu(small.bn1(small.fc1(whole)))
    features = small.bn2(small.fc2(hidden))
    logits, same = small(clouds)
    assert relative(same, features) < 1e-5
    assert relative(logits, small.fc3(F.relu(features))) < 1e-5


def test_training_is_the_network_as_written(clouds: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms of the batch, and the gradients of every weight and of the features that come in."""
    monkeypatch.setattr(torch, "randint", lambda high, size, device=None: torch.tensor([5, 699, 0]))
    torch.manual_seed(2)
    layer = pointnet.SetAbstraction(3 + 4, (8, 12), centres=20, radius=0.3, neighbours=6).train()
    features = torch.randn(3, 700, 4, requires_grad=True)
    chosen = pointnet.farthest_point_sample(clouds, 20, torch.tensor([5, 699, 0]))
    centres = pointnet.gather(clouds, chosen)
    near = pointnet.ball_query(clouds, centres, 0.3, 6)
    moved = pointnet.gather(clouds, near) - centres[:, :, None]
    expected = written(layer, torch.cat([moved, torch.stack([features[b][near[b]] for b in range(3)])], -1))
    places, found = layer(clouds, features)
    assert torch.equal(places, centres) and relative(found.detach(), expected.detach()) < 1e-5
    toward = torch.randn(expected.shape)
    wanted = [*(value for value in layer.parameters() if value.ndim == 4), features]
    gradients = [torch.autograd.grad((x * toward).sum(), wanted) for x in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        assert relative(one, other) < 1e-4


def test_training_mode_draws_and_remembers(clouds: Tensor) -> None:
    torch.manual_seed(3)
    model = pointnet.PointNet(classes=7, width=1).train()
    few = clouds[:2, :200]
    (one, features), (other, _) = model(few), model(few)
    assert one.shape == (2, 7) and features.shape == (2, 256) and not torch.equal(one, other)
    assert all(bool(values.any()) for name, values in model.named_buffers() if name.endswith("running_mean"))


def test_a_state_dict_says_its_size(small: pointnet.PointNet, clouds: Tensor) -> None:
    again = pointnet.load(small.state_dict())
    assert torch.equal(again(clouds)[1], small(clouds)[1])
    half = {name: value.half() for name, value in small.state_dict().items() if value.is_floating_point()}
    assert relative(pointnet.load(half)(clouds)[1], small(clouds)[1]) < 0.05
    with pytest.raises(RuntimeError, match="unknown"):
        pointnet.load(small.state_dict() | {"unknown": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="Missing"):
        pointnet.load({"fc3.bias": torch.zeros(7), "fc2.bias": torch.zeros(256)})
