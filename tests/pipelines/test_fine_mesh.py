# SPDX-License-Identifier: GPL-3.0-or-later
"""A field becomes a mesh that looks like it, and that follows the gradients of its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from backend.errors import Gen3DError
from backend.geometry import export
from backend.geometry.mesh import Mesh, is_watertight
from backend.pipelines import dreaming, start_shape
from backend.pipelines.dream_field import UNIT, DreamField, DreamShape, solid_grid
from backend.pipelines.fine_mesh import FineMesh
from backend.pipelines.start_shape import FILLED, begin_as, fitted

SHAPE = DreamShape(steps=48, resolution=24, levels=2, finest=32, log2_rows=14)
LEVEL = 3.0


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """Red on one side and blue on the other."""
    sphere = trimesh.creation.icosphere(4)
    colours = np.where(sphere.vertices[:, :1] < 0, np.array([[255, 0, 0]]), np.array([[0, 0, 255]])).astype(np.uint8)
    return fitted(Mesh(sphere.vertices.astype(np.float32), sphere.faces.astype(np.int32), colours))[0]


@pytest.fixture(scope="module")
def field(ball: Mesh, tmp_path_factory: pytest.TempPathFactory) -> DreamField:
    path = tmp_path_factory.mktemp("ball") / "ball.ply"
    path.write_bytes(export.ply(ball, np.eye(4)))
    torch.manual_seed(0)
    made = DreamField(SHAPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start_shape, "POINTS", 2**11)
        begin_as(made, path, 0)
    return made


def fine(field: DreamField, ball: Mesh, resolution: int = 24) -> FineMesh:
    torch.manual_seed(0)
    made = FineMesh(resolution, solid_grid(SHAPE))
    made.begin(field, ball, LEVEL)
    return made


def test_it_begins_as_the_surface_of_the_field(field: DreamField, ball: Mesh) -> None:
    made = fine(field, ball)
    mesh = made.mesh()
    assert is_watertight(mesh)
    away = np.abs(np.linalg.norm(mesh.vertices, axis=1) - UNIT * FILLED)
    layer = 2 * float(made.extent) / made.resolution
    assert away.mean() < 0.5 * layer and away.max() < 2 * layer
    azimuths = [30.0, 210.0]
    views = [dreaming.view(azimuth) for azimuth in azimuths]
    seen = dreaming.looked_at(field, azimuths, 48, 1.0)
    with torch.no_grad():
        light = made.render(made.surface(), views, 48)
    own = (light[..., :3] + 1 - light[..., 3:]).permute(0, 3, 1, 2)
    assert float((seen - own).abs().mean()) < 0.03, "it looks like the field"


def test_what_floats_in_the_field_is_no_part_of_it(field: DreamField, ball: Mesh) -> None:
    """The density says there is something; the mesh, which was cleaned, does not."""
    made = fine(field, ball)
    small = Mesh((0.5 * ball.vertices).astype(np.float32), ball.faces)
    made.begin(field, small, LEVEL)
    layer = 2 * float(made.extent) / made.resolution
    assert np.linalg.norm(made.mesh().vertices, axis=1).max() < 0.5 * UNIT * FILLED + 2 * layer


def test_pictures_move_the_shape_and_the_colours(field: DreamField, ball: Mesh) -> None:
    """Towards a picture of more of it, and of green."""
    made = fine(field, ball)
    views = [dreaming.view(azimuth) for azimuth in (0.0, 120.0, 240.0)]
    optimiser = torch.optim.Adam([made.distance, made.moved, *made.network.leave.parameters()], 0.05)
    opacity, green = [], []
    for _ in range(30):
        light = made.render(made.surface(), views, 32)
        seen = light.detach()
        opacity.append(float(seen[..., 3].mean()))
        green.append(float(seen[..., 1].sum() / seen[..., 3].sum()))
        optimiser.zero_grad()
        (-light[..., 3].mean() - light[..., 1].mean()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert opacity[-1] > 1.1 * opacity[0] and green[-1] > green[0] + 0.3
    assert is_watertight(made.mesh())


def test_light_comes_from_where_the_lamp_is(field: DreamField, ball: Mesh) -> None:
    made, view = fine(field, ball), [dreaming.view(0.0)]

    def lighting(albedo: torch.Tensor, normal: torch.Tensor, points: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        outward = torch.nn.functional.normalize(points, dim=1)
        assert float((normal * outward).sum(1).mean().detach()) > 0.97, "normals of a ball"
        return normal[:, :1].clamp_min(0).expand_as(albedo)

    light = made.render(made.surface(), view, 32, lighting)[0, ..., 0].detach()
    left, right = light[:, :16].sum(), light[:, 16:].sum()
    assert float(right) > 10 * float(left), "+X is on the right of the front view"


def test_nothing_is_said(field: DreamField, ball: Mesh) -> None:
    with pytest.raises(Gen3DError, match="No surface"):
        fine(field, ball).begin(field, ball, 1e9)


def test_a_shape_that_stays_has_colours_alone(field: DreamField, ball: Mesh, tmp_path: Path) -> None:
    from backend.geometry.marching_tetrahedra import Surface

    made = fine(field, ball)
    made.fixed = Surface(torch.from_numpy(ball.vertices), torch.from_numpy(ball.faces), torch.empty(0, 2))
    np.testing.assert_array_equal(made.mesh().vertices, ball.vertices)
    light = made.render(made.surface(), [dreaming.view(0.0)], 24)
    light.sum().backward()  # type: ignore[no-untyped-call]
    assert made.network.leave.weight.grad is not None and made.distance.grad is None
