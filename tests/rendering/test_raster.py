# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from backend.rendering.orbit import focal_length, look_at, orbit
from backend.rendering.raster import GREY, Picture, render

Soup = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]


def soup(count: int, seed: int = 0) -> Soup:
    """Triangles anywhere in the cube [-1, 1]^3, colours per face."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-1, 1, (count, 1, 3))
    vertices = (centres + rng.normal(0, 0.3, (count, 3, 3))).reshape(-1, 3).astype(np.float32)
    return vertices, np.arange(3 * count, dtype=np.int32).reshape(-1, 3), rng.random((count, 3), dtype=np.float32)


def cast(vertices: NDArray[np.float32], faces: NDArray[np.int32], pose: NDArray[np.float64], x: float, y: float):  # type: ignore[no-untyped-def]
    """First face that the ray through (x, y, -1) of the camera meets, its depth and barycentric coordinates there."""
    origin, direction = pose[:3, 3], pose[:3, :3] @ (x, y, -1.0)
    best = (-1, math.inf, np.zeros(3))
    for f, (a, b, c) in enumerate(vertices[faces].astype(np.float64)):
        matrix = np.stack([-direction, b - a, c - a], 1)
        if abs(np.linalg.det(matrix)) < 1e-12:
            continue
        t, v, w = np.linalg.solve(matrix, origin - a)
        if t > 1e-3 and min(v, w, 1 - v - w) >= 0 and t < best[1]:
            best = (f, t, np.array([1 - v - w, v, w]))
    return best


# The last one stands within the soup: triangles reach behind the eye.
POSES = [orbit(25, 30, 4.0), orbit(200, -60, 3.0), look_at((0.1, 0.2, -0.1), (1.0, 0.5, 0.3))]


@pytest.mark.parametrize("pose", POSES)
def test_every_pixel_shows_what_its_ray_meets_first(pose: NDArray[np.float64]) -> None:
    vertices, faces, colours = soup(40)
    size, focal = 24, focal_length(60, 24)
    picture = render(vertices, faces, colours, pose, focal=focal, size=size, supersample=1)
    for i in range(size):
        for j in range(size):
            x, y = (j + 0.5 - size / 2) / focal, (size / 2 - (i + 0.5)) / focal
            face, depth, _ = cast(vertices, faces, pose, x, y)
            assert picture.depth[i, j] == pytest.approx(depth, rel=1e-5)
            expected = (*colours[face], 1.0) if face >= 0 else np.zeros(4)
            np.testing.assert_allclose(picture.rgba[i, j], expected, atol=1e-6)
    assert 0 < picture.rgba[..., 3].mean() <= 1


def test_colours_of_vertices_are_interpolated_in_perspective() -> None:
    vertices, faces, _ = soup(15, seed=3)
    colours = np.random.default_rng(4).random((len(vertices), 3), dtype=np.float32)
    pose, size, focal = orbit(70, 10, 2.5), 16, focal_length(50, 16)
    picture = render(vertices, faces, colours, pose, focal=focal, size=size, supersample=1)
    seen = 0
    for i, j in np.argwhere(picture.rgba[..., 3] > 0):
        x, y = (j + 0.5 - size / 2) / focal, (size / 2 - (i + 0.5)) / focal
        face, _, weights = cast(vertices, faces, pose, x, y)
        np.testing.assert_allclose(picture.rgba[i, j, :3], weights @ colours[faces[face]], atol=1e-5)
        seen += 1
    assert seen > 30


def test_order_of_triangles_does_not_matter() -> None:
    vertices, faces, colours = soup(300, seed=1)
    order = np.random.default_rng(2).permutation(len(faces))
    kwargs = {"focal": 40.0, "size": 32, "light": (1.0, -2.0, 3.0)}
    one = render(vertices, faces, colours, POSES[0], **kwargs)  # type: ignore[arg-type]
    two = render(vertices, faces[order], colours[order], POSES[0], **kwargs)  # type: ignore[arg-type]
    for name in ("rgba", "depth", "normals"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def sphere(size: int, pose: NDArray[np.float64], **kwargs: object) -> Picture:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    vertices, faces = ball.vertices.astype(np.float32), ball.faces.astype(np.int32)
    return render(vertices, faces, None, pose, focal=focal_length(40, size), size=size, **kwargs)  # type: ignore[arg-type]


def test_a_sphere_has_the_outline_depth_and_normals_of_one() -> None:
    size, distance, pose = 96, 2.0, orbit(35, 20, 2.0)
    focal = focal_length(40, size)
    picture = sphere(size, pose)
    # A sphere on the line of sight is seen as a disc whose edge is where rays touch it.
    radius = focal * 0.5 / math.sqrt(distance**2 - 0.5**2)
    assert float(picture.rgba[..., 3].sum()) == pytest.approx(math.pi * radius**2, rel=4e-3)
    assert picture.depth.min() == pytest.approx(distance - 0.5, abs=2e-3)
    rows, columns = np.nonzero(picture.rgba[..., 3] == 1)
    x, y = (columns + 0.5 - size / 2) / focal, (size / 2 - (rows + 0.5)) / focal
    local = np.stack([x, y, -np.ones_like(x)], 1) * picture.depth[rows, columns][:, None]
    outwards = (local @ pose[:3, :3].T + pose[:3, 3]) / 0.5
    inner = np.hypot(x, y) * focal < 0.9 * radius  # at the edge a pixel's mean depth says little
    np.testing.assert_allclose(picture.normals[rows, columns][inner], outwards[inner], atol=0.06)


def test_what_nothing_covers_is_empty_and_what_is_partly_covered_has_straight_alpha() -> None:
    picture = sphere(48, orbit(0, 0, 2.0), supersample=4)
    alpha = picture.rgba[..., 3]
    assert np.all(picture.rgba[alpha == 0] == 0)
    assert np.all(np.isinf(picture.depth[alpha == 0])) and np.all(picture.normals[alpha == 0] == 0)
    partly = (alpha > 0) & (alpha < 1)
    assert partly.sum() > 20
    np.testing.assert_allclose(picture.rgba[alpha > 0][:, :3], GREY, atol=1e-6)
    on_white = (GREY * alpha + 1 - alpha)[partly]
    np.testing.assert_allclose(picture.over((1, 1, 1))[partly], np.stack([on_white] * 3, 1), atol=1e-6)
    np.testing.assert_allclose(picture.over(np.zeros((48, 48, 3)))[alpha == 0], 0)


def test_shading_is_lamberts() -> None:
    light = np.array([1.0, -2.0, 2.0]) / 3
    picture = sphere(32, orbit(20, 30, 2.0), supersample=1, light=light * 7, ambient=0.3)
    hit = picture.rgba[..., 3] > 0
    expected = GREY * (0.3 + 0.7 * np.clip(picture.normals[hit] @ light, 0, None))
    np.testing.assert_allclose(picture.rgba[hit][:, :3], np.repeat(expected[:, None], 3, 1), atol=1e-5)


def test_a_plane_seen_straight_on_is_as_deep_as_it_is_far_and_has_no_seam() -> None:
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.linspace(-9, 9, 24), np.linspace(-9, 9, 24)), -1).reshape(-1, 2)
    places = np.concatenate([places, rng.uniform(-9, 9, (200, 2))])
    faces = Delaunay(places).simplices.astype(np.int32)
    vertices = np.column_stack([places, np.full(len(places), -1.5)]).astype(np.float32)
    picture = render(vertices, faces, None, orbit(0, 90, 2.0), focal=30.0, size=40)
    assert np.all(picture.rgba[..., 3] == 1)
    np.testing.assert_allclose(picture.depth, 3.5, rtol=1e-6)
    np.testing.assert_allclose(picture.normals, np.broadcast_to((0.0, 0.0, 1.0), (40, 40, 3)), atol=1e-6)


def test_cameras_stand_where_they_are_said_to() -> None:
    # A red dot in front of, a green one to the right of and a blue one above what is seen from the front.
    vertices, faces = [], []
    for i, place in enumerate(np.array([(0, -0.5, 0), (0.5, 0, 0), (0, 0, 0.5)])):
        ball = trimesh.creation.icosphere(subdivisions=1, radius=0.1)
        faces.append(ball.faces + 42 * i)
        vertices.append(ball.vertices + place)
    dots = np.concatenate(vertices).astype(np.float32), np.concatenate(faces).astype(np.int32)
    colours = np.repeat(np.eye(3, dtype=np.float32), 80, 0)

    def where(pose: NDArray[np.float64], colour: int) -> tuple[int, int]:
        picture = render(*dots, colours, pose, focal=focal_length(60, 61), size=61)
        rows, columns = np.nonzero(picture.rgba[..., colour] == 1)
        return round(float(np.mean(columns) - 30) / 8), round(float(30 - np.mean(rows)) / 8)

    front = orbit(0, 0, 3.0)
    assert (where(front, 0), where(front, 1), where(front, 2)) == ((0, 0), (1, 0), (0, 1))
    right = orbit(90, 0, 3.0)  # from +X: the front is to the left
    assert (where(right, 0), where(right, 1), where(right, 2)) == ((-1, 0), (0, 0), (0, 1))
    above = orbit(0, 90, 3.0)
    assert (where(above, 0), where(above, 1), where(above, 2)) == ((0, -1), (1, 0), (0, 0))
    np.testing.assert_allclose(look_at((3 * math.sin(0.3), -3 * math.cos(0.3), 0)), orbit(math.degrees(0.3), 0, 3.0))
    np.testing.assert_allclose(look_at((0, 0, 3)), above, atol=1e-12)


def test_faces_of_vertices_that_are_not_there_are_refused() -> None:
    vertices, faces, colours = soup(3)
    with pytest.raises(IndexError):
        render(vertices[:-1], faces, colours, orbit(0, 0, 3), focal=10.0, size=8)


def test_a_mesh_without_faces_is_nothing() -> None:
    empty = render(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), None, orbit(0, 0, 3), focal=10.0, size=8)
    assert not empty.rgba.any()
