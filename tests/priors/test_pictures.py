# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from backend.priors import world
from backend.priors.augment import augmented, premultiplied, spoilt
from backend.priors.pictures import HELD_OUT, Shot, block, photograph, shot, twin
from backend.rendering.orbit import bearing, view_words

FRONT = Shot(0.0, 0.0, 40.0, 3.0, (0.0, 0.0, 0.0), None, 1.0)


def named(count: int, parts: int) -> list[world.Thing]:
    rng = np.random.default_rng(5)
    return [world.sample(rng, named_parts=parts) for _ in range(count)]


def test_every_block_is_a_function_of_its_seed_and_index_and_no_two_are_alike() -> None:
    def drawn(seed: int, index: int, part: int = 0) -> np.ndarray:
        return block(seed, index, things=3, views=2, size=32, twins=True, part=part).rgba

    one = drawn(1, 7)
    assert one.shape == (12, 32, 32, 4) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, drawn(1, 7))
    for other in (drawn(1, 8), drawn(2, 7), drawn(1, 7, HELD_OUT)):
        assert (one != other).any()


def test_twins_stand_side_by_side_with_one_outline_and_different_colours() -> None:
    found = block(3, 0, things=20, views=2, size=32, twins=True)
    alpha = found.rgba[..., 3]
    np.testing.assert_array_equal(alpha[::2], alpha[1::2])
    assert all((found.rgba[i] != found.rgba[i + 1]).any() for i in range(0, len(found.rgba), 2))
    np.testing.assert_array_equal(found.thing.reshape(-1, 4), np.arange(40).reshape(-1, 2)[:, [0, 1, 0, 1]])
    different = [found.captions[i] != found.captions[i + 1] for i in range(0, len(found.captions), 2)]
    assert np.mean(different) > 0.85  # a caption need not name the colour that changed
    assert all(", " not in caption for caption in found.captions)
    assert (alpha.reshape(len(alpha), -1).max(1) == 255).all()


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_a_twin_differs_in_what_captions_name_and_in_nothing_else(parts: int) -> None:
    rng = np.random.default_rng(0)
    swapped = 0
    for thing in named(60, parts):
        other = twin(thing, rng)
        old = [(part.name, part.colour.base) for part in thing.parts if part.asked] + [("", thing.colour.base)]
        new = [(part.name, part.colour.base) for part in other.parts if part.asked] + [("", other.colour.base)]
        assert [name for name, _ in old] == [name for name, _ in new]
        assert old != new
        swapped += sorted(base for _, base in old) == sorted(base for _, base in new)
        assert (other.category, other.words) == (thing.category, thing.words)
        for before, after in zip(thing.parts, other.parts, strict=True):
            assert (before.name, before.solids, before.asked) == (after.name, after.solids, after.asked)
            if not before.asked:  # the thing's own colour goes where it was, the usual ones stay
                assert after.colour == (other.colour if before.colour == thing.colour else before.colour)
    assert (swapped > 15) == (parts > 0)


def test_captions_end_in_the_words_for_the_view() -> None:
    found = block(0, 0, things=30, views=2, size=16)
    told = [caption.rsplit(", ", 1)[1] for caption in found.captions if ", " in caption]
    assert 0.7 < len(told) / len(found.captions) < 0.97
    sides = {text for text in told if text.endswith(" view")}
    assert sides == {"front view", "side view", "back view", "overhead view"}
    exact = [text for text in told if text not in sides]
    assert 0.5 < len(exact) / len(told) < 0.9 and all(re.fullmatch("[a-p][0-6]", text) for text in exact)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "words"),
    [
        (0, 0, "front view"),
        (-44, 59, "front view"),
        (360, 10, "front view"),
        (90, 0, "side view"),
        (-60, 30, "side view"),
        (180, 0, "back view"),
        (-170, -10, "back view"),
        (0, 61, "overhead view"),
        (140, 90, "overhead view"),
    ],
)
def test_words_for_views(azimuth: float, elevation: float, words: str) -> None:
    assert view_words(azimuth, elevation) == words


@pytest.mark.parametrize(
    ("azimuth", "elevation", "words"),
    [(0, 0, "a0"), (11, 7, "a0"), (12, 8, "b1"), (-11.5, -10, "p0"), (180, 90, "i6"), (-90, 44, "m3")],
)
def test_bearings(azimuth: float, elevation: float, words: str) -> None:
    assert bearing(azimuth, elevation) == words


def test_shots_go_all_around_and_keep_the_thing_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    shots = [shot(rng) for _ in range(400)]
    assert {taken.words for taken in shots} == {"front view", "side view", "back view", "overhead view"}
    assert all(taken.distance * math.sin(math.radians(taken.fov) / 2) >= 0.9 for taken in shots)
    for thing in named(20, 0):
        alpha = photograph(thing, shot(rng), 48)[..., 3]
        assert 0.01 < (alpha > 0).mean() < 0.9


def test_a_thing_is_seen_in_its_colours_with_its_front_in_front() -> None:
    rng = np.random.default_rng(2)
    car = world.sample(rng, "snowman")
    nose = next(part for part in car.parts if part.name == "nose")
    front, back = photograph(car, FRONT, 64), photograph(car, Shot(180.0, 0.0, 40.0, 3.0, (0, 0, 0), None, 1.0), 64)
    shade = np.round(np.array(nose.colour.rgb) * 255)

    def seen(picture: np.ndarray) -> int:
        return int((np.abs(picture[..., :3] - shade).max(-1) < 3)[picture[..., 3] == 255].sum())

    assert seen(front) > seen(back) + 3


def pictures(count: int = 64) -> torch.Tensor:
    rgba = block(0, 0, things=count, views=1, size=32).rgba
    return torch.from_numpy(rgba).permute(0, 3, 1, 2).float() / 255


def test_what_is_augmented_still_shows_the_thing_and_what_is_spoilt_hardly() -> None:
    rgba = pictures()
    grey = torch.full((len(rgba), 3, 32, 32), 0.5)
    clean = premultiplied(rgba)[:, :3] + grey * (1 - rgba[:, 3:])
    little = (augmented(rgba, torch.Generator().manual_seed(0), grey) - clean).abs().mean()
    much = (
        augmented(spoilt(rgba, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(0), grey) - clean
    ).abs()
    assert 0.01 < float(little) < 0.8 * float(much.mean())
    other = augmented(rgba, torch.Generator().manual_seed(0))
    assert other.min() >= 0 and other.max() <= 1
    empty = (rgba[:, 3] == 0)[:, None].expand(-1, 3, -1, -1)
    assert (other - clean)[empty].abs().mean() > 0.1  # there is something behind


def test_what_is_spoilt_has_colours_and_alpha_between_0_and_1() -> None:
    found = spoilt(pictures(128), torch.Generator().manual_seed(0))
    assert found.shape == (128, 4, 32, 32) and found.min() >= 0 and found.max() <= 1
    assert torch.isfinite(found).all()
