# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays against projection: pixels known by hand, points projected one by one, and OpenCV's lens model inverted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.data.lens import distort_xy
from backend.rendering import cameras
from backend.rendering.cameras import Cameras, undistort

STRONG = {
    "barrel": (-0.35, 0.12, 0.0, 0.0, -0.02),
    "pincushion": (0.4, 0.2, 0.0, 0.0, 0.1),
    "moustache": (-0.3, 0.25, 0.0, 0.0, 0.0),
    "tangential": (0.0, 0.0, 0.05, -0.04, 0.0),
    "all": (-0.25, 0.15, 0.02, 0.03, -0.02),
    "none": (0.0, 0.0, 0.0, 0.0, 0.0),
}


def poses(count: int, seed: int = 0) -> Tensor:
    """Rotations and positions [count, 3, 4], float64."""
    random = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, generator=random, dtype=torch.float64))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    q = q * torch.linalg.det(q)[:, None, None]
    return torch.cat([q, torch.randn(count, 3, 1, generator=random, dtype=torch.float64)], -1)


@pytest.mark.parametrize("name", STRONG)
def test_undistort_inverts_the_lens(name: str) -> None:
    """Out to 45 degrees off the axis, where no lens above has folded."""
    random = torch.Generator().manual_seed(0)
    turn, reach = torch.rand(2, 2000, generator=random, dtype=torch.float64)
    x, y = reach.sqrt() * torch.cos(2 * math.pi * turn), reach.sqrt() * torch.sin(2 * math.pi * turn)
    seen = torch.stack(distort_xy(x, y, *STRONG[name]), -1)
    if name != "none":
        assert (seen - torch.stack([x, y], -1)).norm(dim=-1).max() > 0.04
    lens = torch.tensor(STRONG[name], dtype=torch.float64).expand(2000, 5)
    torch.testing.assert_close(undistort(seen, lens), torch.stack([x, y], -1), atol=1e-9, rtol=0)
    single = undistort(seen.float(), lens.float())
    torch.testing.assert_close(single.double(), torch.stack([x, y], -1), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", STRONG)
def test_undistort_converges_quadratically(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps are enough within 35 degrees; with a wrong derivative they would leave 1e-9 and more."""
    monkeypatch.setattr(cameras, "ITERATIONS", 4)
    places = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    seen = torch.stack(distort_xy(places[:, 0], places[:, 1], *STRONG[name]), -1)
    lens = torch.tensor(STRONG[name], dtype=torch.float64).expand(2000, 5)
    torch.testing.assert_close(undistort(seen, lens), places, atol=1e-10, rtol=0)


def test_pixels_known_by_hand() -> None:
    lens = torch.tensor([[100.0, 50.0, 32.0, 24.0]])
    upright = torch.eye(3, 4)[None]
    expected = {
        (32.0, 24.0): (0, 0, -1),  # the principal point
        (132.0, 24.0): (1, 0, -1),  # a focal length to the right
        (32.0, -26.0): (0, 1, -1),  # a focal length up: rows count down
        (0.5, 0.5): (-0.315, 0.47, -1),  # the middle of the first pixel
    }
    pixels = torch.tensor(list(expected))
    origins, directions = Cameras(upright, lens).rays(torch.zeros(len(pixels), dtype=torch.int64), pixels)
    assert not origins.any()
    wanted = torch.nn.functional.normalize(torch.tensor(list(expected.values()), dtype=torch.float32), dim=-1)
    torch.testing.assert_close(directions, wanted)


def test_pose_turns_and_places_rays() -> None:
    """A camera at (1, 2, 3) that looks along +X with Z up: its right is -Y, its up Z, its back -X."""
    pose = torch.tensor([[[0.0, 0, -1, 1], [-1, 0, 0, 2], [0, 1, 0, 3]]])
    views = Cameras(pose, torch.tensor([[10.0, 10, 5, 5]]))
    origins, directions = views.rays(torch.tensor([0, 0, 0]), torch.tensor([[5.0, 5], [15, 5], [5, -5]]))
    assert torch.equal(origins, torch.tensor([[1.0, 2, 3]]).repeat(3, 1))
    half = math.sqrt(0.5)
    torch.testing.assert_close(directions, torch.tensor([[1.0, 0, 0], [half, -half, 0], [half, 0, half]]))


@pytest.mark.parametrize("distorted", [False, True])
def test_rays_pass_through_the_points_that_their_pixels_show(distorted: bool) -> None:
    """Points before five cameras of different lenses, projected one by one in double precision."""
    random = np.random.default_rng(0)
    to_box = poses(5)
    lens = torch.tensor(
        [[400.0, 420, 250, 190], [90, 90, 32, 32], [800, 790, 400, 310], [35, 36, 19, 16], [10, 20, 1, 2]]
    )
    kinds = torch.tensor(list(STRONG.values())[:5])
    views = Cameras(to_box.float(), lens, kinds if distorted else None)
    index, pixels, points = [], [], []
    for _ in range(400):
        n = int(random.integers(5))
        depth = random.uniform(0.5, 4)
        local = np.array([*random.uniform(-0.6, 0.6, 2), -1]) * depth
        point = to_box[n, :, :3].numpy() @ local + to_box[n, :, 3].numpy()

        back = to_box[n, :, :3].numpy().T @ (point - to_box[n, :, 3].numpy())
        x, y = back[0] / -back[2], back[1] / back[2]
        if distorted:
            x, y = distort_xy(x, y, *kinds[n].double().tolist())
        fl_x, fl_y, cx, cy = lens[n].tolist()
        index.append(n)
        pixels.append([fl_x * x + cx, fl_y * y + cy])
        points.append(point)
    origins, directions = views.rays(torch.tensor(index), torch.tensor(pixels, dtype=torch.float32))
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(400))
    offsets = torch.from_numpy(np.stack(points)) - origins.double()
    distances = torch.linalg.cross(offsets, directions.double()).norm(dim=-1)
    assert ((offsets * directions).sum(-1) > 0).all()
    assert distances.max() < 2e-5


def test_cameras_without_distortion_are_those_with_none_of_it() -> None:
    to_box, lens = poses(3).float(), torch.tensor([[50.0, 60, 20, 15]]).repeat(3, 1)
    index, pixels = torch.tensor([0, 1, 2, 2]), torch.tensor([[0.5, 0.5], [39.5, 0.5], [20, 15], [3, 29]])
    plain = Cameras(to_box, lens).rays(index, pixels)
    zero = Cameras(to_box, lens, torch.zeros(3, 5)).to(torch.device("cpu")).rays(index, pixels)
    for a, b in zip(plain, zero, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", STRONG)
def test_every_pixel_of_a_strongly_bent_picture_lands_on_itself(name: str) -> None:
    width, height, lens = 64, 48, (56.0, 56.0, 32.0, 24.0)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1).view(-1, 2)
    views = Cameras(torch.eye(3, 4)[None], torch.tensor([lens]), torch.tensor([STRONG[name]]))
    _, directions = views.rays(torch.zeros(len(pixels), dtype=torch.int64), pixels)
    right, up, back = directions.double().unbind(-1)
    seen_x, seen_y = distort_xy(right / -back, up / back, *STRONG[name])
    found = torch.stack([seen_x * lens[0] + lens[2], seen_y * lens[1] + lens[3]], -1)
    torch.testing.assert_close(found, pixels.double(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("lens", [(-0.35, 0.12, 0, 0, -0.02), (-0.3, 0.1, 0.01, 0, -0.05), (-0.8, 0.9, 0, 0, -0.4)])
def test_pixels_beyond_a_fold_of_the_lens_still_have_finite_rays(lens: tuple[float, ...]) -> None:
    """These show nothing of the world by the model, which their polynomials never reach."""
    y, x = torch.meshgrid(torch.linspace(-0.6, 0.6, 480), torch.linspace(-0.8, 0.8, 640), indexing="ij")
    plane = torch.stack([x, y], -1).view(-1, 2)
    found = undistort(plane, torch.tensor(lens).expand(len(plane), 5))
    seen = torch.stack(distort_xy(found[:, 0], found[:, 1], *lens), -1)
    assert ((seen - plane).norm(dim=-1) > 0.01).sum() > 1000
    assert found.isfinite().all() and found.abs().max() < 20
