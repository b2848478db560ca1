# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.geometry import mesh as meshes
from backend.geometry import normal_maps, surface, texture
from backend.geometry.cleanup import decimate
from backend.geometry.mesh import Mesh, vertex_normals

from .shading import degrees, shaded
from .shapes import LOWER, colour, grid

RADIUS, HEIGHT, PITCH = 0.6, 0.05, 12.0


def finish(work: Generator[float, None, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    shares = []
    while True:
        try:
            shares.append(next(work))
        except StopIteration as end:
            assert shares == sorted(shares) and 0 < shares[0] <= shares[-1] <= 1
            return np.asarray(end.value)


# ------------------------------------------------------------------------------------------------------ on flat squares


def hilly(side: int = 241) -> tuple[Mesh, NDArray[np.float64]]:
    """A relief over [-0.6, 0.6] squared, as fine as one sees, and its normals."""
    axis = np.linspace(-0.6, 0.6, side)
    x, y = (values.ravel() for values in np.meshgrid(axis, axis, indexing="ij"))
    places = np.stack([x, y, 0.02 * np.sin(15 * x) * np.cos(11 * y)], axis=1)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.concatenate(
        [
            np.stack([corner, corner + side, corner + side + 1], axis=1),
            np.stack([corner, corner + side + 1, corner + 1], axis=1),
        ]
    )
    return Mesh(places.astype(np.float32), faces.astype(np.int32)), relief(places)


def relief(places: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = places[:, 0], places[:, 1]
    slopes = [0.3 * np.cos(15 * x) * np.cos(11 * y), -0.22 * np.sin(15 * x) * np.sin(11 * y)]
    normals = np.stack([-slopes[0], -slopes[1], np.ones(len(x))], axis=1)
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))


def tiles() -> Mesh:
    """A flat square of nine; each has a part of the picture for itself, differently turned, and five are mirrored."""
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 6
    places, uvs = [], []
    for i in range(9):
        angle = 0.7 * i
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        here, there = (np.array(divmod(number, 3)) / 3 + 1 / 6 for number in (i, 4 * i % 9))
        places.append(np.c_[square + here - 0.5, np.zeros(4)])
        uvs.append(0.6 * square @ np.diag([(-1) ** (i + 1), 1]) @ turn.T + there)
    faces = np.array([[0, 1, 2], [0, 2, 3]]) + 4 * np.arange(9)[:, None, None]
    corners, picture = (np.concatenate(values).astype(np.float32) for values in (places, uvs))
    return Mesh(corners, faces.reshape(-1, 3).astype(np.int32), uvs=picture)


def test_a_relief_on_turned_and_mirrored_islands_has_its_own_normals() -> None:
    flat, (fine, truth) = tiles(), hilly()
    assert degrees(vertex_normals(fine), truth)[np.abs(fine.vertices[:, :2]).max(axis=1) < 0.59].max() < 0.1
    mapped = replace(flat, normal_map=finish(normal_maps.bake(flat, fine, 512)))
    points, face, weights = meshes.sample(flat, 20_000, np.random.default_rng(0))
    away = degrees(shaded(mapped, vertex_normals(flat), face, weights), relief(points))
    assert away.mean() < 0.3 and away.max() < 1.5, "a texel of 8 bits is off by 0.3 at most, its neighbour by 1"
    assert degrees(np.tile([0.0, 0.0, 1.0], (len(points), 1)), relief(points)).mean() > 8


@pytest.mark.parametrize("height", [0.1, -0.1])
def test_the_fine_mesh_is_found_before_and_behind(height: float) -> None:
    flat, (fine, _) = tiles(), hilly(61)
    lifted = replace(fine, vertices=fine.vertices + np.array([0, 0, height], np.float32))
    here, there = (finish(normal_maps.bake(flat, mesh, 64)).astype(int) for mesh in (fine, lifted))
    assert np.abs(here - there).max() <= 1
    assert here.std() > 5


def test_where_nothing_is_near_it_is_flat() -> None:
    """Too far; nothing at all; what looks the other way, as the far side of a thin wall does."""
    flat, (fine, _) = tiles(), hilly(31)
    far = replace(fine, vertices=fine.vertices + np.array([0, 0, 0.3], np.float32))
    back = replace(fine, faces=np.ascontiguousarray(fine.faces[:, ::-1]))
    for mesh in (far, replace(fine, faces=fine.faces[:0]), back):
        assert (finish(normal_maps.bake(flat, mesh, 32)) == normal_maps.FLAT).all()
    half = replace(fine, faces=fine.faces[fine.vertices[fine.faces, 0].max(axis=1) < 0])
    seen = finish(normal_maps.bake(flat, half, 64))
    assert 0.2 < (seen == normal_maps.FLAT).all(axis=2).mean() < 0.8


def test_a_wall_shows_its_own_side() -> None:
    flat, (fine, _) = tiles(), hilly(61)
    back = Mesh(fine.vertices * [1, 1, 0] - np.array([0, 0, 0.001]), fine.faces[:, ::-1])
    both = Mesh(
        np.concatenate([fine.vertices, back.vertices]).astype(np.float32),
        np.concatenate([fine.faces, back.faces + len(fine.vertices)]).astype(np.int32),
    )
    expected, found = (finish(normal_maps.bake(flat, mesh, 64)) for mesh in (fine, both))
    np.testing.assert_array_equal(found, expected)


def test_what_has_no_area_here_or_there_does_no_harm() -> None:
    flat, (fine, _) = tiles(), hilly(31)
    expected = finish(normal_maps.bake(flat, fine, 64)).astype(int)
    bad = np.array([[0, 0, 1], [0, 1, 0], [5, 5, 5]], np.int32)
    flat = replace(flat, faces=np.concatenate([flat.faces, bad]))
    fine = replace(fine, faces=np.concatenate([bad, fine.faces]))
    with np.errstate(all="raise"):
        found = finish(normal_maps.bake(flat, fine, 64)).astype(int)
    assert np.abs(found - expected).max() <= 1
    crushed = replace(flat, uvs=np.full_like(flat.uvs, 0.5), vertices=flat.vertices * 0)
    assert finish(normal_maps.bake(crushed, fine, 16)).shape == (16, 16, 3)


# ------------------------------------------------------------------------------------------------- on reduced surfaces


def distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """To a ball with bumps, about: 0 on it."""
    return np.asarray(np.linalg.norm(points, axis=-1) - RADIUS - HEIGHT * np.sin(PITCH * points).prod(axis=-1))


def outward(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Its normals, in closed form."""
    sine, cosine = np.sin(PITCH * points), np.cos(PITCH * points)
    bent = np.stack([cosine[:, i] * sine[:, i - 1] * sine[:, i - 2] for i in range(3)], axis=1)
    normals = points / np.linalg.norm(points, axis=1, keepdims=True) - HEIGHT * PITCH * bent
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))


def reached(points: NDArray[np.float64], ways: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where lines from near the surface meet it, by Newton's method."""
    for _ in range(30):
        slope = (distance(points + 1e-6 * ways) - distance(points - 1e-6 * ways)) / 2e-6
        points = points - ways * (distance(points) / np.maximum(slope, 0.2))[:, None]
    return points


def test_a_reduced_ball_is_shaded_like_the_fine_one() -> None:
    places, spacing = grid(128)
    fine = surface.extract(10.0 - distance(places), 10.0, LOWER, spacing)
    coarse = decimate(fine, 1500)
    baking = texture.bake(coarse, colour, 512, fine)
    while True:
        try:
            next(baking)
        except StopIteration as end:
            baked: Mesh = end.value
            break
    assert baked.normal_map is not None and baked.normal_map.shape == (512, 512, 3)
    normals = vertex_normals(baked)
    points, face, weights = meshes.sample(baked, 20_000, np.random.default_rng(0))
    smooth = np.einsum("nk,nkd->nd", weights, normals[baked.faces[face]].astype(float))
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True)
    truth = outward(reached(points, smooth))
    without, with_map = degrees(smooth, truth), degrees(shaded(baked, normals, face, weights), truth)
    print(f"{without.mean():.2f} degrees without, {with_map.mean():.2f} with a normal map")
    assert len(fine.faces) > 30 * len(coarse.faces)
    assert with_map.mean() < 1.0 and with_map.mean() < 0.15 * without.mean()
    assert np.quantile(with_map, 0.95) < 3


def test_a_mesh_that_was_not_reduced_keeps_its_own_normals() -> None:
    flat = tiles()
    seen = finish(normal_maps.bake(flat, Mesh(flat.vertices, flat.faces), 64))
    assert (seen == normal_maps.FLAT).all()


# ------------------------------------------------------------------------------------------------------- the directions


def test_shares_of_a_skewed_frame_add_up_to_the_direction() -> None:
    random = np.random.default_rng(0)
    frames = random.normal(size=(3, 500, 3))
    shares = random.normal(size=(500, 3))
    shares[:, 2] = np.abs(shares[:, 2])
    directions = np.einsum("ni,ind->nd", shares, frames)
    expected = shares / np.linalg.norm(shares, axis=1, keepdims=True)
    np.testing.assert_allclose(normal_maps.within(directions, *frames), expected, atol=1e-6)


def test_bytes_stand_for_directions_and_none_looks_inwards() -> None:
    up, frame = np.array([[0.0, 0.0, 1.0]]), np.eye(3)[:, None]
    for direction, told in (
        ([0, 0, 2], (128, 128, 255)),
        ([1, 0, 0], (255, 128, 128)),
        ([0, -1, 0], (128, 0, 128)),
        ([3, 0, -4], (255, 128, 128)),
        ([0, 0, -1], normal_maps.FLAT),
        ([0, 0, 0], normal_maps.FLAT),
    ):
        shown = normal_maps.encoded(normal_maps.within(np.array([direction], float), *frame))
        np.testing.assert_array_equal(shown, [told])
    assert (normal_maps.within(up, *(0 * frame)) == 0).all(), "a frame that has no area"
    around = np.random.default_rng(0).normal(size=(2000, 3))
    around[:, 2] = np.abs(around[:, 2])
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    assert degrees(normal_maps.encoded(around) / 127.5 - 1, around).max() < 0.4
