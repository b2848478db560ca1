# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np

from backend.priors import world
from backend.priors.world.captions import article
from backend.priors.world.colours import BASE, MATERIAL_SYNONYMS


def test_captions_name_the_thing_and_every_colour_that_was_chosen() -> None:
    rng = np.random.default_rng(0)
    for _ in range(800):
        thing = world.sample(rng)
        text = f" {world.caption(thing, rng)} "
        assert any(f" {name} " in text for name in (*thing.kind.names, "armchair"))
        for part in thing.parts:
            if part.asked:
                assert f" {part.colour.words} {part.name} " in text, text
        if not thing.natural:
            words = {thing.colour.words, *(a for a, b in MATERIAL_SYNONYMS.items() if b == thing.colour.words)}
            assert any(f" {word} " in text for word in words), text


def test_things_whose_colour_is_not_spoken_of_have_the_natural_one() -> None:
    rng = np.random.default_rng(3)
    silent = 0
    for _ in range(600):
        thing = world.sample(rng)
        if f"{thing.colour.words} " not in world.caption(thing, rng) and thing.natural:
            silent += 1
            assert thing.colour.words == thing.kind.natural
    assert silent > 30


def test_every_category_has_a_natural_colour() -> None:
    for kind in world.CATEGORIES.values():
        assert kind.natural in BASE or kind.natural in kind.made_of


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
