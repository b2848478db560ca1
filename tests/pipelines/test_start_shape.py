# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields that begin as a mesh have its shape and its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from backend.errors import Gen3DError
from backend.geometry import export
from backend.geometry.mesh import Mesh
from backend.pipelines import dreaming, radiance
from backend.pipelines.dream_field import UNIT, DreamField, DreamShape
from backend.pipelines.start_shape import FILLED, Shape, begin_as, fitted

SHAPE = DreamShape(steps=48, resolution=24, levels=2, finest=32, log2_rows=14)


@pytest.fixture
def bar() -> Mesh:
    """Three times as long as wide, red on one end and blue on the other, far from the origin."""
    box = trimesh.creation.box((3.0, 1.0, 1.0)).subdivide().subdivide().subdivide()
    red = box.vertices[:, :1] < 0
    colours = np.where(red, np.array([[255, 0, 0]]), np.array([[0, 0, 255]])).astype(np.uint8)
    return Mesh((box.vertices + 7).astype(np.float32), box.faces.astype(np.int32), colours)


def test_inside_is_what_the_surface_is_around(bar: Mesh) -> None:
    shape = Shape.of(fitted(bar)[0], np.random.default_rng(0))
    half = UNIT * FILLED
    points = np.random.default_rng(1).uniform(-UNIT, UNIT, (5000, 3))
    distance = np.abs(points) - (half, half / 3, half / 3)
    inside = (distance < 0).all(1)
    sure = np.abs(distance).min(1) > 0.02
    assert (shape.near(points)[0] == inside)[sure].mean() > 0.999


def test_a_field_begins_as_a_mesh(bar: Mesh, tmp_path: Path) -> None:
    (tmp_path / "bar.ply").write_bytes(export.ply(bar, np.eye(4)))
    torch.manual_seed(0)
    field = DreamField(SHAPE)
    begin_as(field, tmp_path / "bar.ply", 0)
    half = UNIT * FILLED
    ends = torch.tensor([[-0.8 * half, 0, 0], [0.8 * half, 0, 0]])
    air = torch.tensor([[0, 0.8 * half, 0], [0, 0, -0.8 * half], [0.95 * UNIT, 0, 0]])
    step = SHAPE.path.step
    with torch.no_grad():
        assert (field.density(ends) * step > 0.15).all() and (field.density(air) * step < 0.02).all()
        red, blue = field.colour(ends, torch.ones(2, 3))
    assert red[0] > 0.7 > 0.3 > red[2] and blue[2] > 0.7 > 0.3 > blue[0]
    assert not field.occupancy.occupied[0, 0, 0] and 0.01 < float(field.occupancy.occupied.float().mean()) < 0.3


def test_a_field_of_the_same_kind_goes_on_as_it_is(bar: Mesh, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = DreamField(SHAPE)
    radiance.save(first, dreaming.scene(first, np.eye(4)), tmp_path)
    again = DreamField(SHAPE)
    points = torch.rand(50, 3) - 0.5
    assert not torch.equal(first.density(points), again.density(points))
    begin_as(again, tmp_path, 0)
    assert torch.equal(first.density(points), again.density(points))


def test_what_holds_no_mesh_is_said(tmp_path: Path) -> None:
    with pytest.raises(Gen3DError) as error:
        begin_as(DreamField(SHAPE), tmp_path, 0)
    assert error.value.field == "start"
