# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np

from backend.priors import world
from backend.priors.world.captions import article


def test_captions_name_the_thing_and_every_colour_that_was_chosen() -> None:
    rng = np.random.default_rng(0)
    for _ in range(800):
        thing = world.sample(rng)
        text = f" {world.caption(thing, rng)} "
        assert any(f" {name} " in text for name in (*thing.kind.names, "armchair"))
        for part in thing.parts:
            if part.asked:
                assert f" {part.colour.words} {part.name} " in text, text


def test_captions_are_made_of_the_vocabulary() -> None:
    rng = np.random.default_rng(1)
    words = world.vocabulary()
    for _ in range(800):
        assert set(world.caption(world.sample(rng), rng).split()) <= words


def test_captions_of_one_thing_differ() -> None:
    rng = np.random.default_rng(2)
    thing = world.sample(rng, "snowman")
    assert len({world.caption(thing, rng) for _ in range(60)}) > 15


def test_articles() -> None:
    assert [article(word) for word in ("orange", "apple", "ukulele", "red", "umbrella")] == ["an", "an", "a", "a", "an"]
