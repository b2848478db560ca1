# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import time
from collections.abc import Generator

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.errors import Gen3DError
from backend.geometry import atlas, charts, texture
from backend.geometry import mesh as meshes
from backend.geometry.cleanup import decimate
from backend.geometry.mesh import Mesh
from tests.patience import patience

from .shading import bilinear
from .shapes import bumpy, colour, sphere


def finish(work: Generator[float, None, Mesh]) -> tuple[Mesh, list[float]]:
    shares = []
    while True:
        try:
            shares.append(next(work))
        except StopIteration as end:
            return end.value, shares


@pytest.fixture(scope="module")
def baked() -> tuple[Mesh, Mesh]:
    """A mesh with handles, before and after."""
    mesh = decimate(bumpy(), 3000)
    result, shares = finish(texture.bake(mesh, colour, 512))
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    return mesh, result


def test_painted_vertices_have_the_colour_of_their_place() -> None:
    mesh = sphere(0.6, 32)
    painted = texture.paint(mesh, colour)
    assert painted.colors is not None
    outward = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    error = np.abs(painted.colors / 255 - colour(mesh.vertices, outward)).max(axis=0)
    assert (error[:2] <= 0.5 / 255 + 1e-6).all()
    assert error[2] < 0.02  # by vertex normals


def test_colours_out_of_range_are_clipped() -> None:
    def odd(points: NDArray[np.float32], normals: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.tile([-0.5, 1.5, np.nan], (len(points), 1))

    painted = texture.paint(sphere(0.6, 16), odd)
    assert painted.colors is not None
    assert (painted.colors == [0, 255, 0]).all()


def test_texture_shows_the_colour_everywhere_and_no_seam(baked: tuple[Mesh, Mesh]) -> None:
    _, result = baked
    assert result.uvs is not None
    assert result.texture is not None
    assert result.texture.shape == (512, 512, 3)
    points, face, weights = meshes.sample(result, 40_000, np.random.default_rng(0))
    normals = np.einsum("nk,nkd->nd", weights, meshes.vertex_normals(result)[result.faces[face]].astype(np.float64))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    uvs = np.einsum("nk,nkd->nd", weights, result.uvs[result.faces[face]].astype(np.float64))
    truth = colour(points.astype(np.float32), normals.astype(np.float32))
    error = np.abs(bilinear(result.texture, uvs) - truth)
    assert np.median(error) < 0.005
    assert error[:, :2].max() < 0.06  # place: at most a texel off, also on seams
    assert np.quantile(error[:, 2], 0.999) < 0.15  # the interpolated normal turns fast on the coarse mesh
    assert result.texture.min() > 0.15 * 255  # nowhere black, though charts cover only part of the square


def test_edges_of_charts_keep_their_colour_when_minified(baked: tuple[Mesh, Mesh]) -> None:
    """On seams, both sides of the edge look alike also two mip levels down."""
    _, result = baked
    assert result.uvs is not None
    assert result.texture is not None
    small = result.texture.reshape(128, 4, 128, 4, 3).mean(axis=(1, 3)).astype(np.uint8)
    _, place = meshes.weld(result.vertices)
    doubled = np.bincount(place)[place] > 1
    assert doubled.sum() > 50
    truth = colour(result.vertices[doubled], meshes.vertex_normals(result)[doubled])
    error = np.abs(bilinear(small, result.uvs[doubled].astype(np.float64)) - truth)[:, :2]
    assert np.median(error) < 0.03
    assert error.max() < 0.25  # a black gutter would leave 0.4 and more


def test_surface_is_unchanged_and_charts_do_not_overlap(baked: tuple[Mesh, Mesh]) -> None:
    mesh, result = baked
    assert result.uvs is not None
    np.testing.assert_array_equal(result.vertices[result.faces], mesh.vertices[mesh.faces])
    assert (result.uvs >= 0).all()
    assert (result.uvs <= 1).all()
    assert result.colors is not None
    assert 0.3 < texture.uv_coverage(result) < 1
    assert texture.uv_coverage(mesh) == 0
    places = (np.stack([result.uvs[:, 0], 1 - result.uvs[:, 1]], axis=1) * 512).astype(np.float32)
    face, _ = charts.rasterise(places, result.faces, 0, 512, 512, 0.0)
    assert (face >= 0).mean() == pytest.approx(texture.uv_coverage(result), abs=0.02)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_every_vertex_has_its_place_in_the_atlas_however_small_the_mesh(scale: float) -> None:
    mesh = sphere(0.6, 24)
    corner, faces, uvs = atlas.unwrap(mesh.vertices * np.float32(scale), mesh.faces, 256)
    np.testing.assert_array_equal(corner[faces], mesh.faces)
    assert len(np.unique(uvs, axis=0)) == len(uvs)


def test_abandoning_the_bake_ends_the_atlas_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, **more)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    work = texture.bake(bumpy(96), colour, 1024)  # 60,000 faces: xatlas takes long
    next(work)
    next(work)
    assert started[0].poll() is None
    begun = time.monotonic()
    work.close()
    assert time.monotonic() - begun < patience(2)
    assert started[0].poll() is not None


def test_an_atlas_process_that_starts_slowly_gets_all_of_its_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texture, "POLL", 0.001)  # looked at many times before it has begun to read
    mesh = decimate(bumpy(), 8000)
    assert mesh.vertices.nbytes + mesh.faces.nbytes > 1 << 16  # more than a pipe holds
    result, shares = finish(texture.bake(mesh, colour, 64))
    assert len(shares) > 20
    assert len(result.faces) == len(mesh.faces)


def test_a_failing_atlas_is_said() -> None:
    mesh = Mesh(np.zeros((3, 3), dtype=np.float32), np.array([[0, 1, 7]], dtype=np.int32))
    with pytest.raises(Gen3DError, match="UV atlas could not be made") as caught:
        finish(texture.bake(mesh, colour, 64))
    assert caught.value.field == "mesh.texture"
