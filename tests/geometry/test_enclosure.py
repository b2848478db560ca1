# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
import trimesh
from skimage.measure import marching_cubes

from backend.geometry.enclosure import enclosure, usual_colours, without_strays

SIDE, SIZE = 1.02, 64
CELL = SIDE / (SIZE - 1)


def sampled(mesh: trimesh.Trimesh, count: int = 4096, scatter: float = 0.003) -> np.ndarray:
    points, _ = trimesh.sample.sample_surface(mesh, count, seed=1)
    return np.asarray(points + np.random.default_rng(0).normal(0, scatter, points.shape), np.float32)


def remade(points: np.ndarray) -> trimesh.Trimesh:
    values = enclosure(points, SIZE, SIDE)
    vertices, faces, _, _ = marching_cubes(values, 0.0, spacing=(CELL,) * 3)  # type: ignore[no-untyped-call]
    return trimesh.Trimesh(vertices - SIDE / 2, faces)


def test_a_ball_is_filled() -> None:
    field = enclosure(sampled(trimesh.creation.icosphere(4, 0.35)), SIZE, SIDE)
    axis = np.linspace(-SIDE / 2, SIDE / 2, SIZE)
    truth = np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), axis=-1) - 0.35
    near = np.abs(truth) < 0.03
    assert np.abs(field - truth)[near].max() < 1.5 * CELL
    assert (field[truth < -2 * CELL] < 0).all()
    assert (field[truth > 2 * CELL] > 0).all()


@pytest.mark.parametrize("thin", [0.04, 0.08])
def test_thin_plates_keep_their_two_sides(thin: float) -> None:
    made = remade(sampled(trimesh.creation.box((0.8, 0.6, thin))))
    assert made.is_watertight
    assert made.body_count == 1
    assert np.ptp(made.vertices[:, 2]) == pytest.approx(thin, abs=2 * CELL)
    assert made.volume == pytest.approx(0.8 * 0.6 * thin, rel=0.45 if thin < 0.05 else 0.25)


def test_holes_wider_than_the_ball_stay_open() -> None:
    ring = trimesh.creation.torus(0.3, 0.08)
    made = remade(sampled(ring))
    assert made.euler_number == 0
    assert made.volume == pytest.approx(ring.volume, rel=0.1)


def test_separate_things_stay_apart() -> None:
    two = [trimesh.creation.icosphere(3, 0.12).apply_translation((x, 0, 0)) for x in (-0.3, 0.3)]
    assert remade(sampled(trimesh.util.concatenate(two))).body_count == 2


def test_what_touches_the_border_is_whole() -> None:
    field = enclosure(sampled(trimesh.creation.box((1.0, 1.0, 1.0)), 8192), SIZE, SIDE)
    inner = field[4:-4, 4:-4, 4:-4]
    assert (inner < 0).all()


def test_strays_are_left_out() -> None:
    points = sampled(trimesh.creation.icosphere(4, 0.3), 1000)
    strays = np.array([[0.5, 0.5, 0.5], [-0.5, 0.4, 0.4]], np.float32)
    kept = without_strays(np.concatenate([points, strays]))
    assert kept[:-2].mean() > 0.98
    assert not kept[-2:].any()


def test_a_ball_that_touches_the_border_is_whole() -> None:
    values = enclosure(sampled(trimesh.creation.icosphere(4, 0.5), 1024), SIZE, SIDE)
    assert float((values < 0).sum()) * CELL**3 == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.08)


def test_points_around_a_place_agree_on_its_colour() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (3000, 3)).astype(np.float32)
    red, blue = np.array([200, 10, 10], np.uint8), np.array([10, 10, 200], np.uint8)
    colours = np.where(points[:, :1] < 0, red, blue)
    stray = rng.random(3000) < 0.15
    spoilt = np.where(stray[:, None], rng.integers(0, 256, (3000, 3), dtype=np.uint8), colours)
    places = rng.uniform(-0.45, 0.45, (500, 3)).astype(np.float32)
    found = usual_colours(points, spoilt, places)
    assert {tuple(colour) for colour in found.tolist()} <= {tuple(colour) for colour in spoilt.tolist()}
    clear = np.abs(places[:, 0]) > 0.08
    truth = np.where(places[:, :1] < 0, red, blue)
    assert (found == truth).all(1)[clear].mean() > 0.99


def test_a_single_point_has_its_colour() -> None:
    one = np.zeros((1, 3), np.float32)
    assert usual_colours(one, np.array([[1, 2, 3]], np.uint8), one + 1).tolist() == [[1, 2, 3]]


def test_a_body_stays_closed_where_most_points_are_crowded_elsewhere() -> None:
    """As on a barrel, whose hoops have most of its points."""
    whole = sampled(trimesh.creation.cylinder(0.3, 0.8), 40_000)
    rng = np.random.default_rng(0)
    hoop = np.abs(np.abs(whole[:, 2]) - 0.25) < 0.06
    crowded = np.concatenate([whole[hoop][:6000], rng.permutation(whole[~hoop])[:2000]])
    field = enclosure(crowded.astype(np.float32), SIZE, SIDE)
    axis = np.linspace(-SIDE / 2, SIDE / 2, SIZE)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    inside = (np.hypot(x, y) < 0.22) & (np.abs(z) < 0.32)
    assert (field[inside] < 0).all()
