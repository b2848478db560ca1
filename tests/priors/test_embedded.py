# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backend.priors import embedded, tokenizer, world
from backend.priors.lexicon import nearest


def test_captions_are_understood_whole() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        thing = world.sample(rng)
        text = world.caption(thing, rng)
        assert embedded.unknown_words(text) == []
        assert embedded.understood(text).split() == text.split()
        assert embedded.thing_in(text) in (thing.category, "chair"), text  # an armchair is a chair


@pytest.mark.parametrize(
    ("prompt", "understood", "thing"),
    [
        ("A RED  chair, please!", "a red chair", "chair"),
        ("two chairs' legs", "chair legs", "chair"),
        ("treasure chests", "treasure chest", "chest"),
        ("a tall pine tree", "a tall pine tree", "pine tree"),
        ("a tree", "a tree", "tree"),
        ("a wooden armchair", "a wooden armchair", "chair"),
        ("ein roter Stuhl", "", ""),
        ("", "", ""),
        ("\N{PILE OF POO} mug \u202e", "mug", "mug"),
    ],
)
def test_prompts_are_brought_into_known_words(prompt: str, understood: str, thing: str) -> None:
    assert embedded.understood(prompt) == understood
    assert embedded.thing_in(prompt) == thing


def test_unknown_words_come_with_known_ones_that_are_near() -> None:
    found = dict(embedded.unknown_words("a crimsom kitten on a bicycle"))
    assert list(found) == ["crimsom", "kitten", "bicycle"]
    assert found["crimsom"][0] == "crimson"
    assert "dog" in found["kitten"] or "puppy" in found["kitten"]
    assert "car" in found["bicycle"] or "automobile" in found["bicycle"]
    for words in found.values():
        assert set(words) <= embedded.known_words()


def test_nothing_is_offered_for_what_is_near_to_nothing() -> None:
    assert nearest("xqzvw", set(embedded.known_words())) == []


def test_every_word_is_one_token_and_no_caption_is_cut() -> None:
    words = tokenizer.load()
    for word in world.vocabulary() - {"3d"}:
        assert len(words.tokenize(word)) == 1
    rng = np.random.default_rng(0)
    captions = [world.caption(world.sample(rng), rng) for _ in range(500)]
    tokens = tokenizer.encode(words, captions)
    assert tokens.shape == (500, tokenizer.TOKENS)
    assert (tokens[:, 0] == words.bos_token_id).all()
    assert (tokens[:, -1] == words.eos_token_id).all()
    assert str(words.decode(tokens[0], skip_special_tokens=True)).strip() == captions[0]


def test_a_tokenizer_knows_the_words_it_is_made_for(tmp_path: Path) -> None:
    tokenizer.make({"zebra", "crossing"}, tmp_path)
    made = tokenizer.load(tmp_path)
    assert made.tokenize("Zebra crossing") == ["zebra</w>", "crossing</w>"]
    assert len(made.tokenize("zebras")) > 1
    read = made.decode(tokenizer.encode(made, ["zebras cross"])[0], skip_special_tokens=True)
    assert str(read).strip() == "zebras cross"
