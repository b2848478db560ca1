# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields that begin as a mesh have its shape and its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

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


def test_beyond_a_sharp_edge_is_outside(spikes: Mesh) -> None:
    """Where the nearest face is often one that faces away. Against the winding number (Jacobson et al. 2013)."""
    shape = Shape.of(spikes, np.random.default_rng(0))
    points = np.random.default_rng(1).uniform(-1.0, 1.0, (4000, 3))
    far = np.linalg.norm(points - shape.points[shape.near(points)[1]], axis=1) > 0.08
    inside = wound(points, spikes.vertices[spikes.faces].astype(np.float64)) > 0.5
    assert 10 < (inside & far).sum() < far.sum() / 2
    np.testing.assert_array_equal(shape.near(points)[0][far], inside[far])


@pytest.fixture
def spikes() -> Mesh:
    """Three thin wedges, one in another's way, and a box that is hollow."""
    wedges = [trimesh.creation.cone(0.15, 1.4, sections=3) for _ in range(3)]
    for axis, wedge in enumerate(wedges):
        turn = Rotation.from_rotvec(1.2 * np.eye(3)[axis]).as_matrix()
        wedge.vertices = wedge.vertices @ turn.T + [0.5 * axis - 0.5, -0.3, -0.2]
    outer, inner = trimesh.creation.box((0.9, 0.9, 0.9)), trimesh.creation.box((0.3, 0.3, 0.3))
    inner.invert()
    for box in (outer, inner):
        box.apply_translation([-0.5, 0.5, 0.5])
    whole = trimesh.util.concatenate([*wedges, outer, inner])
    return Mesh(whole.vertices.astype(np.float32), whole.faces.astype(np.int32))


def wound(points: NDArray[np.float64], triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often a mesh [F, 3, 3] is wound around each point: the sum of the angles that its faces fill, in spheres."""
    a, b, c = (triangles[None, :, k] - points[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(side, axis=2) for side in (a, b, c))
    solid = (a * np.cross(b, c)).sum(2)
    rest = la * lb * lc + (a * b).sum(2) * lc + (b * c).sum(2) * la + (c * a).sum(2) * lb
    total: NDArray[np.float64] = np.arctan2(solid, rest).sum(1) / (2 * np.pi)
    return total


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
