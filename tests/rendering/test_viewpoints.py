# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras around the origin are where and as they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backend.rendering.orbit import orbit
from backend.rendering.viewpoints import DREAM_FIELDS, DREAM_FUSION, View, Viewpoints, draw, project, rays


def test_dream_fields_looks_at_the_middle_from_a_circle() -> None:
    rng = np.random.default_rng(0)
    views = [view for _ in range(50) for view in draw(DREAM_FIELDS, 4, rng)]
    for view in views:
        assert np.allclose(view.pose, orbit(view.azimuth, 30, 4)) and view.focal == 1.2
    azimuths = np.array([view.azimuth for view in views])
    assert azimuths.min() < -170 and azimuths.max() > 170
    assert np.histogram(azimuths, 8, (-180, 180))[0].min() >= 20
    one = np.sort([view.azimuth for view in views[:4]])
    assert np.allclose(np.diff(one), 90), "each step sees all sides"


def test_dream_fusion_keeps_to_its_ranges_and_shakes() -> None:
    rng = np.random.default_rng(0)
    views = draw(DREAM_FUSION, 2000, rng)
    eyes = np.array([view.pose[:3, 3] for view in views])
    steady = np.array([orbit(view.azimuth, view.elevation, 1.0)[:3, 3] for view in views])
    distance = (eyes * steady).sum(1)
    assert 0.85 < distance.min() < 1.0 and 1.5 < distance.max() < 1.68
    assert -10 <= min(view.elevation for view in views) < -9 and 89 < max(view.elevation for view in views) <= 90
    assert min(view.focal for view in views) >= 0.7 and max(view.focal for view in views) <= 1.35
    assert {view.words for view in views} == {"front view", "side view", "back view", "overhead view"}
    for view in views[:50]:
        assert np.allclose(view.pose[:3, :3] @ view.pose[:3, :3].T, np.eye(3))
        assert np.linalg.det(view.pose[:3, :3]) == pytest.approx(1)
    missed = [np.linalg.norm(np.cross(view.pose[:3, 2], view.pose[:3, 3])) for view in views]
    assert 0.15 < np.mean(missed) < 0.35, "how far from the middle they look"


def test_the_middle_pixel_looks_along_the_camera_and_the_border_by_the_focal_length() -> None:
    view = View(orbit(30, 20, 4), 1.2, 30, 20)
    origin = torch.tensor([0.1, -0.2, 0.3])
    origins, directions = rays([view, view], 3, origin, unit=0.5)
    assert origins.shape == directions.shape == (18, 3)
    assert torch.allclose(origins[4], origin + 0.5 * torch.from_numpy(view.pose[:3, 3]).float())
    assert torch.allclose(directions[4], -torch.from_numpy(view.pose[:3, 2]).float(), atol=1e-6)
    right = directions[5] @ torch.from_numpy(view.pose[:3, 0]).float()
    depth = -directions[5] @ torch.from_numpy(view.pose[:3, 2]).float()
    assert float(right / depth) == pytest.approx((2.5 / 3 - 0.5) / 1.2, rel=1e-5)
    up = directions[1] @ torch.from_numpy(view.pose[:3, 1]).float()
    assert up > 0


def test_ranges_of_nothing_are_fixed() -> None:
    views = draw(Viewpoints(azimuth=(10, 10), focal=(2, 2)), 3, np.random.default_rng(1))
    assert [view.azimuth for view in views] == [10, 10, 10] and {view.focal for view in views} == {2}


def test_what_a_pixels_ray_passes_through_is_seen_at_that_pixel() -> None:
    views = [View(orbit(30, 20, 4), 1.2, 30, 20), *draw(DREAM_FUSION, 3, np.random.default_rng(0))]
    size = 6
    origins, directions = rays(views, size, torch.zeros(3))
    distance = torch.rand(len(origins), 1, generator=torch.Generator().manual_seed(0)) * 3 + 0.2
    points = (origins + distance * directions).view(len(views), size, size, 3)
    middle = (2 * torch.arange(size) + 1 - size) / size
    for view, seen in zip(views, points, strict=True):
        x, y, w = project(seen.reshape(-1, 3), [view])[0].view(size, size, 3).unbind(-1)
        assert torch.allclose(x / w, middle.expand(size, size), atol=1e-4)
        assert torch.allclose(y / w, -middle[:, None].expand(size, size), atol=1e-4), "the first row is at the top"
        ahead = (seen - torch.from_numpy(view.pose[:3, 3]).float()) @ -torch.from_numpy(view.pose[:3, 2].copy()).float()
        assert torch.allclose(w, ahead, atol=1e-5), "as deep as it is far along the line of sight"
    assert project(points[0, 0], views).shape == (4, size, 3)
