# SPDX-License-Identifier: GPL-3.0-or-later
"""The distance model and the surface taken out of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.errors import Gen3DError
from backend.geometry.mesh import Mesh, is_watertight, volume
from backend.point_diffusion import sdf

from . import by_hand, golden

CPU = torch.device("cpu")


def finish(work: Generator[float, None, Tensor]) -> tuple[list[float], Tensor]:
    """The shares it told, and what it returned."""
    shares = []
    while True:
        try:
            shares.append(next(work))
        except StopIteration as end:
            return shares, end.value


def ball(radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> sdf.Distance:
    def distance(places: Tensor) -> Tensor:
        away: Tensor = torch.linalg.vector_norm(places - torch.tensor(centre), dim=1) - radius
        return away

    return distance


def box(half: tuple[float, float, float], centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> sdf.Distance:
    def distance(places: Tensor) -> Tensor:
        away = (places - torch.tensor(centre)).abs() - torch.tensor(half)
        outside: Tensor = torch.linalg.vector_norm(away.clamp(min=0), dim=1)
        return outside + away.amax(1).clamp(max=0)

    return distance


def union(*shapes: sdf.Distance) -> sdf.Distance:
    return lambda places: torch.stack([shape(places) for shape in shapes]).amin(0)


# ---------------------------------------------------------------------------------------------------------- the model


def test_the_published_network() -> None:
    recorded = golden.tensors("sdf.forward")
    found = golden.sdf_model()(recorded["points"], recorded["query"])
    assert golden.relative(found, recorded["sdf"]) < golden.TOLERANCE


def test_the_published_mesh() -> None:
    recorded, how = golden.tensors("sdf.forward"), golden.META["sdf_mesh"]
    points = recorded["points"][0].T
    distance = sdf.distance_to(golden.sdf_model(), points)
    shares, values = finish(sdf.dense_field(distance, CPU, how["grid_size"], how["side_length"]))
    vertices, faces = sdf.surface(values, how["side_length"])
    assert golden.relative(torch.from_numpy(vertices), recorded["mesh_verts"]) < golden.TOLERANCE
    np.testing.assert_array_equal(faces, recorded["mesh_faces"].numpy())
    nearest = sdf.nearest(points.numpy(), vertices)
    for channel in "RGB":
        colours = recorded[f"point_{channel}"].numpy()[nearest]
        np.testing.assert_array_equal(colours, recorded[f"vertex_{channel}"].numpy())
    assert shares == sorted(shares) and shares[-1] == 1


@pytest.mark.parametrize(
    ("width", "encoder", "decoder"), [(24, (3, 2), (1, 3)), (20, (1, 1), (2, 5)), (40, (2, 5), (3, 2))]
)
def test_the_published_formula_at_any_size(width: int, encoder: tuple[int, int], decoder: tuple[int, int]) -> None:
    config: dict[str, Any] = {"name": sdf.NAME, "width": width, "init_scale": 0.25}
    config |= dict(zip(("encoder_layers", "encoder_heads"), encoder, strict=True))
    config |= dict(zip(("decoder_layers", "decoder_heads"), decoder, strict=True))
    model = sdf.build(config)
    golden.random_weights(model)
    model.double()
    points, query = torch.randn(2, 3, 17, dtype=torch.float64), torch.randn(2, 3, 9, dtype=torch.float64)
    expected = by_hand.distances(model.state_dict(), config, points, query)
    assert golden.relative(model(points, query), expected) < 1e-10
    assert golden.relative(model.float()(points.float(), query.float()), expected) < golden.TOLERANCE


def test_a_cloud_is_looked_at_once_for_any_number_of_places(monkeypatch: pytest.MonkeyPatch) -> None:
    model, places = golden.sdf_model(), torch.rand(300, 3) - 0.5
    points = golden.tensors("sdf.forward")["points"][0].T
    whole = sdf.distance_to(model, points)(places)
    monkeypatch.setattr(sdf, "QUERIES", 7)
    torch.testing.assert_close(sdf.distance_to(model, points)(places), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(points.T[None], places.T[None])[0], whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [{"name": "other"}, {"name": sdf.NAME, "width": 8}])
def test_what_is_no_configuration_is_said(config: dict[str, Any]) -> None:
    with pytest.raises(Gen3DError, match="has no usable"):
        sdf.build(config)


# -------------------------------------------------------------------------------------------------------- the surface


def test_the_grid_is_the_published_one() -> None:
    places = sdf.lattice(5, 1.02, CPU).view(5, 5, 5, 3)
    axis = np.linspace(-0.51, 0.51, 5)
    expected = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    np.testing.assert_allclose(places.numpy(), expected, atol=1e-6)


def test_a_ball_comes_out_where_it_is_and_the_right_way_round() -> None:
    centre = (0.1, -0.05, 0.02)
    _, values = finish(sdf.dense_field(ball(0.3, centre), CPU, 48))
    expected = pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.01)
    for vertices, faces in (sdf.surface(-values), sdf.solid(values), sdf.solid(-values)):
        assert np.abs(np.linalg.norm(vertices - centre, axis=1) - 0.3).max() < 1e-3
        assert is_watertight(Mesh(vertices, faces)) and volume(Mesh(vertices, faces)) == expected


SHAPES: dict[str, sdf.Distance] = {
    "ball": ball(0.4),
    "touching the border": ball(0.3, (0.35, 0.0, 0.0)),
    "table": union(box((0.4, 0.4, 0.03), (0, 0, 0.3)), *(box((0.025, 0.025, 0.3), (x, x, 0)) for x in (-0.3, 0.3))),
    "sheet thinner than a coarse cell": box((0.4, 0.3, 0.012)),
    "speck and rod": union(ball(0.05, (0.3, 0.3, 0.3)), box((0.45, 0.01, 0.01), (0.0, -0.2, 0.1))),
    # what networks say is not quite a distance
    "too large by half": lambda places: 1.4 * ball(0.3)(places),
    "cut off": lambda places: ball(0.3)(places).clamp(-0.1, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("size", [47, 64, 96])
def test_following_the_surface_gives_the_mesh_of_the_dense_field(name: str, size: int) -> None:
    asked: list[int] = []

    def counted(places: Tensor) -> Tensor:
        asked.append(len(places))
        return SHAPES[name](places)

    _, dense = finish(sdf.dense_field(SHAPES[name], CPU, size))
    shares, traced = finish(sdf.traced_field(counted, CPU, size))
    (vertices, faces), (all_vertices, all_faces) = sdf.solid(traced), sdf.solid(dense)
    np.testing.assert_array_equal(faces, all_faces)
    np.testing.assert_allclose(vertices, all_vertices, rtol=0, atol=1e-6)
    assert torch.equal(traced < 0, dense < 0)
    assert shares == sorted(shares) and 0.9 < shares[-1] <= 1
    if size == 96:
        assert sum(asked) < 0.25 * size**3


def test_a_surface_is_followed_to_where_the_coarse_grid_saw_nothing() -> None:
    """A net that says too much outside hides a thin rod from the grid it begins with, but for its end in a ball."""
    rod = union(ball(0.15, (-0.3, 0, 0)), box((0.4, 0.008, 0.008)))

    def exaggerated(places: Tensor) -> Tensor:
        distance = rod(places)
        return torch.where(distance > 0.001, distance * 20, distance)

    _, dense = finish(sdf.dense_field(exaggerated, CPU, 96))
    _, traced = finish(sdf.traced_field(exaggerated, CPU, 96))
    np.testing.assert_array_equal(sdf.surface(traced)[1], sdf.surface(dense)[1])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_solid_ends_at_the_border_whatever_is_negative(sign: int) -> None:
    _, values = finish(sdf.dense_field(ball(0.3, (0.4, 0.4, 0.0)), CPU, 40))
    before = values.clone()
    made = Mesh(*sdf.solid(sign * values))
    assert is_watertight(made) and made.vertices.max() < 0.51
    inside = ball(0.3, (0.4, 0.4, 0.0))(sdf.lattice(80, 1.02, CPU)) < 0
    assert volume(made) == pytest.approx(float(inside.double().mean()) * 1.02**3, rel=0.05)
    assert torch.equal(values, before)


def test_where_nothing_is_nought() -> None:
    values = torch.linspace(1, 2, 27).view(3, 3, 3)
    vertices, _ = sdf.surface(values)  # as published, the mean is taken for it
    assert len(vertices) > 0
    for nothing in (values, -values, torch.full((3, 3, 3), float("nan"))):
        with pytest.raises(Gen3DError, match="no surface"):
            sdf.solid(nothing)


def test_the_nearest_point() -> None:
    random = np.random.default_rng(0)
    points, places = random.normal(size=(50, 3)), random.normal(size=(80, 3))
    expected = ((places[:, None] - points) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(sdf.nearest(points, places), expected)
