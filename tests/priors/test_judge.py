# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge of points: what it makes of things that are as they are said to be, and of others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backend.priors import embedded, judge, world
from backend.priors.world import colours


@pytest.fixture(scope="module")
def model() -> judge.Judge:
    return judge.load(embedded.POINT_JUDGE)


def test_it_knows_things_it_has_not_seen(model: judge.Judge) -> None:
    found = judge.on_real_things(model, 60, seed=5 * 10**6)
    assert found["category"] > 0.95 and found["colour"] > 0.95 and found["binding"] > 0.95


def test_a_part_in_another_colour_and_another_thing_are_not_what_was_asked_for(model: judge.Judge) -> None:
    rng = np.random.default_rng(7)
    thing = world.sample(rng, "chair", 1)
    (part,) = (part for part in thing.parts if part.asked)
    other = next(name for name in colours.BASE if name not in (part.colour.base, thing.colour.base))
    cloud, owner = world.labelled_points_of(thing, 1024, rng)
    asked = owner == thing.parts.index(part)
    assert judge.agreement(judge.judge(model, cloud, "chair"), thing) == {
        "category": [True], "colour": [True], "binding": [True],
    }  # fmt: skip
    cloud[asked, 3:] = colours.BASE[other]
    assert judge.agreement(judge.judge(model, cloud, "chair"), thing)["binding"] == [False]
    cloud[~asked, 3:] = colours.BASE[other]
    assert judge.agreement(judge.judge(model, cloud, "chair"), thing)["colour"] == [False]
    tree = world.points_of(world.sample(rng, "tree"), 1024, rng)
    assert judge.agreement(judge.judge(model, tree), thing)["category"] == [False]
    assert judge.agreement(judge.judge(model, tree), replace(thing, category="tree"))["category"] == [True]


def test_the_nearest_shade_names_a_colour() -> None:
    for name, rgb in colours.BASE.items():
        assert judge.base_of(np.array(rgb)) == name


def test_held_out_prompts_say_the_colours_and_half_of_them_a_part() -> None:
    found = judge.held_out(2 * len(judge.CATEGORIES))
    assert sum(any(part.asked for part in thing.parts) for _, thing in found) >= len(judge.CATEGORIES) * 0.9
    assert [thing.category for _, thing in found] == [*judge.CATEGORIES] * 2
    for text, thing in found:
        assert thing.colour.words.split()[-1] in text
