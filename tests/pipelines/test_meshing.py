# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from backend.errors import Gen3DError
from backend.pipelines import meshing, nerf, radiance
from backend.rendering.volume import Composited
from backend.settings import MeshSettings, RemeshSettings
from tests.data.scene import distance_to_surface

from .runs import Run, finish

CPU = torch.device("cpu")
R = TypeVar("R")


class Ball:
    """A sharp ball about the origin whose colour is its own outside, and another within."""

    softness = 0.0

    def __init__(self, radius: float = 0.6, region: Tensor | None = None) -> None:
        self.radius = radius
        self.where = torch.ones(16, 16, 16, dtype=torch.bool) if region is None else region

    def density(self, points: Tensor) -> Tensor:
        density: Tensor = 4000 * torch.sigmoid((self.radius - points.norm(dim=1)) * 3000)
        return density

    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """What is seen straight on depends on the place; what is behind the surface, or seen from inside, is black."""
        normals = torch.nn.functional.normalize(points, dim=1)
        facing = (-(normals * directions).sum(1, keepdim=True)).clamp_min(0)
        shell = (points.norm(dim=1, keepdim=True) > self.radius - 0.05).float()
        seen: Tensor = known(normals) * facing * shell
        return seen

    def region(self) -> Tensor:
        return self.where

    def render(self, origins: Tensor, directions: Tensor) -> Composited:
        raise AssertionError("a mesh needs no pictures")


def known(normals: Tensor) -> Tensor:
    return 0.5 + 0.4 * normals


def result(steps: Generator[float, None, R]) -> tuple[list[float], R]:
    shares = []
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as end:
            return shares, end.value


def made(field: Ball, settings: MeshSettings, out: Path, box_to_world: Any = None) -> tuple[dict[str, Any], Any]:
    out.mkdir(exist_ok=True)
    matrix = np.eye(4) if box_to_world is None else box_to_world
    shares, (facts, files) = result(meshing.write_mesh(field, settings, matrix, np.array([[0.0, 0, 2]]), CPU, out))
    assert shares == sorted(shares) and shares[-1] <= 1
    assert all((out / name).is_file() for name in files.values())
    return facts, trimesh.load_mesh(out / files["ply"])


@pytest.mark.parametrize("resolution", [40, 64])
def test_a_ball_becomes_a_ball_where_it_is_in_the_world(tmp_path: Path, resolution: int) -> None:
    matrix = np.array([[3.0, 0, 0, 10], [0, 0, -3.0, 20], [0, 3.0, 0, 30], [0, 0, 0, 1]])
    facts, mesh = made(Ball(), MeshSettings(resolution=resolution, faces=0), tmp_path, matrix)
    away = np.linalg.norm(mesh.vertices - (10, 20, 30), axis=1) / 3
    spacing = 2 / resolution
    assert np.abs(away - 0.6).max() < spacing
    assert np.abs(away - 0.6).mean() < 0.25 * spacing
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * np.pi * 1.8**3, rel=0.1)
    assert (facts["vertices"], facts["faces"]) == (len(mesh.vertices), len(mesh.faces))
    assert facts["level"] > 0 and facts["colour"] == "vertex"


def test_vertex_colours_are_those_seen_from_outside(tmp_path: Path) -> None:
    _, mesh = made(Ball(), MeshSettings(resolution=64, faces=0), tmp_path)
    normals = torch.from_numpy(np.asarray(mesh.vertices) / np.linalg.norm(mesh.vertices, axis=1, keepdims=True))
    seen = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    away = np.abs(seen - known(normals).numpy())
    assert away.mean() < 0.03 and away.max() < 0.25


def test_the_number_of_faces_is_the_one_asked_for(tmp_path: Path) -> None:
    facts, mesh = made(Ball(), MeshSettings(resolution=48, faces=500), tmp_path)
    assert 300 < facts["faces"] <= 500 and len(mesh.faces) == facts["faces"]


def test_a_texture_has_a_normal_map_beside_it_where_one_is_wanted(tmp_path: Path) -> None:
    for texture, wanted, given in ((64, True, True), (64, False, False), (0, True, False)):
        settings = MeshSettings(resolution=40, faces=200, texture=texture, normal_map=wanted)
        out = tmp_path / f"{texture} {wanted}"
        made(Ball(), settings, out)
        assert (out / "mesh_normals.png").exists() == given


def test_the_colour_seen_is_that_of_the_surface_not_of_what_is_before_or_behind() -> None:
    normals = np.random.default_rng(0).normal(size=(500, 3))
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    expected = known(torch.from_numpy(normals)).numpy()
    look = meshing.seen_colour(Ball(), (0.03, -0.03), CPU)
    for radius in (0.59, 0.6, 0.61):  # a mesh is never quite on the surface
        np.testing.assert_allclose(look(radius * normals, normals), expected, atol=0.03)
    assert look(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_where_there_is_nothing_to_see_a_colour_is_still_a_number() -> None:
    far = np.array([[0.99, 0.99, 0.99]], np.float32)
    seen = meshing.seen_colour(Ball(), (0.01, -0.01), CPU)(far, np.array([[0, 0, 1]], np.float32))
    assert np.isfinite(seen).all() and (seen >= 0).all() and (seen <= 1).all()


@pytest.mark.parametrize("chunk", [200, 2**17])
def test_density_is_sampled_in_the_region_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(meshing, "CHUNK", chunk)
    region = torch.zeros(16, 16, 16, dtype=torch.bool)
    region[2:10, 5:9, 12:16] = True
    region[4:6, 5:9, 12:14] = False

    class Recorded(Ball):
        def density(self, points: Tensor) -> Tensor:
            asked.append(points)
            return 1 + points[:, 0] ** 2 + points[:, 1]

    asked: list[Tensor] = []
    shares, (density, lower, spacing) = result(meshing.sample_density(Recorded(region=region), 32, CPU))
    assert len(shares) == (1 if chunk > 10_000 else len(density)) and shares[-1] == pytest.approx(0.3)
    np.testing.assert_allclose(lower, (2 / 8 - 1, 5 / 8 - 1, 12 / 8 - 1))
    assert spacing == pytest.approx(1 / 32)
    assert density.shape == (33, 17, 17)
    points = np.stack(
        np.meshgrid(*(lower[i] + spacing * np.arange(n) for i, n in enumerate(density.shape)), indexing="ij"), -1
    )
    cell = np.minimum(((points + 1) * 8).astype(int), 15)
    inside = region.numpy()[tuple(np.moveaxis(cell, -1, 0))]
    np.testing.assert_allclose(density, np.where(inside, 1 + points[..., 0] ** 2 + points[..., 1], 0), rtol=1e-5)
    assert sum(len(part) for part in asked) == inside.sum()


def test_soft_fields_are_blurred_before_a_surface_is_looked_for() -> None:
    """Of a rough ball, as that of a field that has hardly been trained is, and it hardly grows."""
    rough = torch.rand(24, 24, 24, generator=torch.Generator().manual_seed(0)) - 0.5

    class Rough(Ball):
        def density(self, points: Tensor) -> Tensor:
            x, y, z = ((points + 1) * 12).long().clamp(0, 23).unbind(-1)
            density: Tensor = 40 * torch.sigmoid((self.radius - points.norm(dim=1) + 0.2 * rough[x, y, z]) * 60)
            return density

    def uneven(softness: float) -> tuple[float, float]:
        field = Rough()
        field.softness = softness
        making = meshing.make_mesh(field, MeshSettings(resolution=48, faces=0), np.array([[0.0, 0, 2]]), CPU)
        away = np.linalg.norm(result(making)[1][0].vertices, axis=1)
        return float(away.std()), float(away.mean())

    (before, radius), (after, blurred) = uneven(0.0), uneven(0.06)
    assert after < 0.6 * before and blurred < radius + 1.5 * 0.06


@pytest.mark.parametrize("fog", [0.3, 1.0])
def test_a_thing_is_found_in_fog_that_fills_the_box(fog: float) -> None:
    """Lower and lower levels are tried, and none may lie below the fog."""

    class Foggy(Ball):
        def density(self, points: Tensor) -> Tensor:
            return super().density(points) + fog

    making = meshing.make_mesh(Foggy(), MeshSettings(resolution=48, faces=0), np.array([[0.0, 0, 2]]), CPU)
    away = np.linalg.norm(result(making)[1][0].vertices, axis=1)
    assert np.median(away) == pytest.approx(Foggy().radius, abs=0.08)


def test_an_empty_field_is_an_error(tmp_path: Path) -> None:
    nowhere = Ball(region=torch.zeros(16, 16, 16, dtype=torch.bool))
    thin = Ball(radius=-1.0)
    for field in (nowhere, thin):
        with pytest.raises(Gen3DError, match="empty"):
            made(field, MeshSettings(resolution=32), tmp_path)


def test_a_level_above_all_densities_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Gen3DError) as error:
        made(Ball(), MeshSettings(resolution=32, level=9000.0), tmp_path)
    assert error.value.field == "mesh.level"


# --------------------------------------------------------------------------------------------- of a trained field


def remeshed(trained: Run, out: Path, **mesh: Any) -> dict[str, Any]:
    out.mkdir()
    told, summary = finish(nerf.remesh(RemeshSettings(str(trained.out), "cpu", MeshSettings(**mesh)), out))
    assert {progress.phase for progress in told} == {"prepare", "mesh"}
    assert [progress.fraction for progress in told] == sorted(progress.fraction for progress in told)
    assert summary["box_to_world"] == trained.summary["box_to_world"]
    assert all((out / name).is_file() for name in summary["files"].values())
    return summary


def test_remeshing_like_the_training_did_gives_its_mesh(trained: Run, tmp_path: Path) -> None:
    before = (trained.out / radiance.FILE).read_bytes()
    summary = remeshed(trained, tmp_path / "out", resolution=64, faces=0)
    assert summary["mesh"] == trained.summary["mesh"]
    assert (tmp_path / "out" / "mesh.ply").read_bytes() == (trained.out / "mesh.ply").read_bytes()
    assert (trained.out / radiance.FILE).read_bytes() == before


def test_remeshing_takes_another_level_and_resolution(trained: Run, tmp_path: Path) -> None:
    low = remeshed(trained, tmp_path / "low", resolution=40, faces=0, level=3.0)["mesh"]
    high = remeshed(trained, tmp_path / "high", resolution=40, faces=0, level=60.0)["mesh"]
    assert (low["level"], high["level"]) == (3.0, 60.0)
    assert max(low["vertices"], high["vertices"]) < trained.summary["mesh"]["vertices"]
    volumes = [trimesh.load_mesh(tmp_path / name / "mesh.ply").volume for name in ("low", "high")]
    assert volumes[0] > volumes[1] > 0


def test_a_texture_shows_the_object(trained: Run, tmp_path: Path) -> None:
    summary = remeshed(trained, tmp_path / "out", resolution=40, faces=800, texture=256)
    assert summary["mesh"]["colour"] == "texture"
    scene = trimesh.load_scene(tmp_path / "out" / summary["files"]["mesh"])
    (mesh,) = scene.geometry.values()
    assert mesh.visual.uv.shape == (len(mesh.vertices), 2)
    assert mesh.visual.uv.min() >= 0 and mesh.visual.uv.max() <= 1 and np.ptp(mesh.visual.uv, axis=0).min() > 0.3
    image = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    assert image.shape == (256, 256, 3) and image.std() > 10
    placed = scene.to_mesh().vertices @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # glTF's y-up to z-up
    assert np.median(distance_to_surface(placed)) < 0.03
