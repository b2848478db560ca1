# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from backend.priors import world
from backend.priors.pictures import block
from backend.priors.ruins import FAULTS, ruined


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_the_thing_and_leaves_a_mesh(fault: str) -> None:
    for seed in range(20):
        thing = world.sample(np.random.default_rng(seed))
        sound = world.mesh_of(thing)
        vertices, faces, shades = world.mesh_of(ruined(thing, np.random.default_rng(seed), fault))
        assert vertices.dtype == shades.dtype == np.float32 and faces.dtype == np.int32
        assert len(faces) == len(shades) > 0 and faces.min() >= 0 and faces.max() < len(vertices)
        assert np.isfinite(vertices).all() and np.abs(vertices).max() < 4
        assert vertices.shape != sound[0].shape or np.abs(vertices - sound[0]).max() > 0.02
        known = {tuple(shade) for shade in np.round(sound[2], 5)}
        assert {tuple(shade) for shade in np.round(shades, 5)} <= known


def test_without_a_part_there_are_fewer_triangles_and_among_fragments_more() -> None:
    for seed in range(20):
        thing = world.sample(np.random.default_rng(seed))
        count = len(world.mesh_of(thing)[1])
        if len(thing.parts) > 1:
            assert len(world.mesh_of(ruined(thing, np.random.default_rng(0), "missing"))[1]) < count
        assert len(world.mesh_of(ruined(thing, np.random.default_rng(0), "strewn"))[1]) > count


def test_ruins_stand_beside_their_pairs_and_look_different() -> None:
    found = block(3, 0, things=12, views=2, size=32, twins=True, ruins=True)
    without = block(3, 0, things=12, views=2, size=32, twins=True)
    assert found.ruins.shape == (24, 32, 32, 4) and len(without.ruins) == 0
    np.testing.assert_array_equal(found.rgba, without.rgba)
    differ = [(found.ruins[i] != found.rgba[2 * i]).any(-1).mean() for i in range(24)]
    assert np.mean([share > 0.01 for share in differ]) > 0.9  # a few faults are hardly seen from where one looks
    again = block(3, 0, things=12, views=2, size=32, twins=True, ruins=True)
    np.testing.assert_array_equal(found.ruins, again.ruins)
