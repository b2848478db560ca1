# SPDX-License-Identifier: GPL-3.0-or-later
"""Light, normals and regularisers against closed forms."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backend.rendering.orbit import orbit
from backend.rendering.shading import as_colours, lamp, lit, normals, seen_from_behind, shading, sparseness


def test_normals_of_a_ball_point_outwards_and_can_be_learned_from() -> None:
    torch.manual_seed(0)
    points = 0.5 * F.normalize(torch.randn(50, 3), dim=1)
    sharpness = torch.tensor(20.0, requires_grad=True)

    def ball(x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(sharpness * (0.5 - x.norm(dim=1)))

    found = normals(ball, points, 0.01)
    assert torch.allclose(found, F.normalize(points, dim=1), atol=1e-3)
    (found[:, 0] ** 3).sum().backward()  # type: ignore[no-untyped-call]
    assert sharpness.grad is not None and torch.isfinite(sharpness.grad)
    flat = normals(lambda x: torch.zeros_like(x[:, 0]), points, 0.01)
    assert torch.allclose(flat, torch.tensor([0.0, 0.0, 1.0]).expand(50, 3))


def test_light_falls_off_with_the_cosine_and_never_below_the_ambient() -> None:
    albedo, up = torch.full((3, 3), 0.5), torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3)
    towards = torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [0.0, 0.0, -1.0]])
    assert lit(albedo, up, towards, 0.1)[:, 0].tolist() == pytest.approx([0.5, 0.41, 0.05])


def test_normals_are_coloured_as_each_camera_sees_them() -> None:
    poses = np.stack([orbit(azimuth, elevation, 2.0) for azimuth, elevation in ((0, 0), (130, 40), (-75, -10))])
    turned = torch.from_numpy(poses[:, :3, :3])
    towards = torch.from_numpy(poses[:, :3, 3] / 2.0)
    wanted = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64).expand(3, 3)
    assert torch.allclose(as_colours(towards, turned), wanted)
    to_the_right, up = turned[:, :, 0], turned[:, :, 1]
    assert torch.allclose(as_colours(to_the_right, turned), wanted.flip(1))
    assert torch.allclose(as_colours(-up, turned), torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64).expand(3, 3))


def test_shadings_are_as_frequent_as_they_should_be() -> None:
    rng = np.random.default_rng(0)
    assert {shading(0.05, rng, 0.1) for _ in range(50)} == {"albedo"}
    seen = Counter(shading(0.5, rng, 0.1) for _ in range(8000))
    assert seen["albedo"] / 8000 == pytest.approx(0.25, abs=0.02)
    assert seen["textureless"] / 8000 == pytest.approx(0.375, abs=0.02)
    assert {shading(0.5, rng, 0.1, 0.0) for _ in range(100)} == {"albedo", "lambertian"}


def test_lamps_are_on_the_side_of_the_camera() -> None:
    rng, eye = np.random.default_rng(0), np.array([0.0, -1.3, 0.2])
    places = np.array([lamp(eye, rng) for _ in range(2000)])
    away = np.linalg.norm(places, axis=1)
    assert 0.8 <= away.min() < 0.85 and 1.45 < away.max() <= 1.5
    assert (places @ eye > 0).mean() > 0.75


def test_only_what_faces_away_costs_and_weights_learn_nothing_by_it() -> None:
    normal = F.normalize(torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), dim=1).requires_grad_()
    view = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    found = seen_from_behind(normal, view)
    assert found.tolist() == pytest.approx([0, 0.5])
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert normal.grad is not None and float(normal.grad[0].abs().sum()) == 0


def test_fog_costs_more_than_nothing() -> None:
    assert float(sparseness(torch.zeros(4))) == pytest.approx(0.1)
    assert float(sparseness(torch.tensor([0.0, 1.0]))) == pytest.approx((0.1 + 1.01**0.5) / 2)
