# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
import trimesh
from trimesh.proximity import closest_point_naive

from backend.priors import world
from backend.priors.world import colours
from backend.priors.world.things import LONGEST

EACH = pytest.mark.parametrize("category", list(world.CATEGORIES))


@EACH
def test_things_fill_the_unit_cube(category: str) -> None:
    for seed in range(3):
        vertices, faces, shades = world.mesh_of(world.sample(np.random.default_rng(seed), category))
        low, high = vertices.min(0), vertices.max(0)
        assert np.allclose(low + high, 0, atol=1e-5)
        assert (high - low).max() == pytest.approx(LONGEST, abs=1e-5)
        assert faces.max() == len(vertices) - 1
        assert len(shades) == len(faces)
        assert shades.min() > 0
        assert shades.max() < 1


@EACH
def test_points_lie_on_the_outside(category: str) -> None:
    rng = np.random.default_rng(3)
    thing = world.sample(rng, category)
    points, normals, part = world.surface_of(thing, 400, rng)
    vertices, faces, _ = world.mesh_of(thing)
    shape = trimesh.Trimesh(vertices, faces, process=False)
    away = closest_point_naive(shape, points)[1]  # type: ignore[no-untyped-call]
    assert away.max() < 1e-4
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
    assert set(part) <= set(range(len(thing.parts)))
    # A step outwards leaves the thing and a step inwards enters it, but where solids meet or are thin.
    close = category == "bookshelf"  # its books stand side by side
    assert world.inside(thing, points + 0.01 * normals).mean() < (0.25 if close else 0.1)
    assert world.inside(thing, points - 0.01 * normals).mean() > 0.85


def test_points_are_spread_by_area_and_have_no_order() -> None:
    rng = np.random.default_rng(0)
    thing = world.sample(rng, "table")
    points, _, _ = world.surface_of(thing, 40000, rng)
    first, second = points[:20000], points[20000:]
    assert np.abs(first.mean(0) - second.mean(0)).max() < 0.01
    vertices, faces, _ = world.mesh_of(thing)
    top = next(part for part in thing.parts if part.name == "top").solids[0]
    share = trimesh.Trimesh(top.vertices, top.faces).area / trimesh.Trimesh(vertices, faces).area
    inside_top = (points[:, 2] > top.vertices[:, 2].min() - 1e-4).mean()
    assert inside_top == pytest.approx(share, abs=0.06)


def test_small_parts_get_more_points_than_their_share() -> None:
    rng = np.random.default_rng(5)
    thing = world.sample(rng, "snowman")
    even, dense = (np.bincount(world.surface_of(thing, 20000, rng, detail)[2]) for detail in (0, world.DETAIL))
    expected = even ** (1 - world.DETAIL)
    assert np.allclose(dense / dense.sum(), expected / expected.sum(), atol=0.06)  # but for what is hidden
    eyes = [part.name for part in thing.parts].index("eyes")
    assert dense[eyes] > 3 * even[eyes]


def test_the_same_seed_is_the_same_world() -> None:
    one, two = (np.random.default_rng(7) for _ in range(2))
    for _ in range(20):
        first, second = world.sample(one), world.sample(two)
        assert first.category == second.category
        assert np.array_equal(world.points_of(first, 50, one), world.points_of(second, 50, two))
        assert world.caption(first, one) == world.caption(second, two)


@EACH
def test_shapes_vary(category: str) -> None:
    rng = np.random.default_rng(0)
    extents = [np.ptp(world.mesh_of(world.sample(rng, category))[0], axis=0) for _ in range(8)]
    assert np.std(extents, axis=0).max() > 0.01


def test_colours_are_those_of_their_words() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        colour = colours.pick(rng)
        word = colour.words.split()[-1]
        base, shade = colours.SYNONYMS.get(word, (word, 0.0))
        shade = colours.SHADES.get(colour.words.split()[0], shade)
        assert base == colour.base
        expected = colours.shaded(np.array(colours.BASE[base]), shade)
        assert np.abs(expected - colour.rgb).max() < 6 * colours.JITTER


def test_a_part_with_a_colour_of_its_own_never_has_that_of_the_thing() -> None:
    rng = np.random.default_rng(0)
    asked = 0
    for _ in range(200):
        thing = world.sample(rng, named_parts=1)
        for part in thing.parts:
            asked += part.asked
            assert not part.asked or part.colour.base != thing.colour.base
            if part.name in thing.kind.own:
                assert part.colour == thing.colour and not part.asked
    assert asked > 150
