# SPDX-License-Identifier: GPL-3.0-or-later
"""Words as a grid of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from backend.guidance.word_grid import WordGrid

from . import tiny

TOKENS = 8


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    torch.manual_seed(0)
    words = tiny.tokenizer()
    CLIPTextModel(CLIPTextConfig(**{**tiny.text_config(words), "max_position_embeddings": TOKENS})).save_pretrained(
        folder / "encoder"
    )
    words.save_pretrained(folder / "words")
    return folder


def test_it_is_the_last_hidden_state_of_each_token(encoder: Path) -> None:
    words: Any = tiny.tokenizer()
    untyped: Any = CLIPTextModel
    model = untyped.from_pretrained(encoder / "encoder").eval()
    ids = [words.bos_token_id, *words("red cat", add_special_tokens=False).input_ids, words.eos_token_id]
    ids += [words.pad_token_id] * (TOKENS - len(ids))
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0].T
    grid = WordGrid(encoder / "encoder", encoder / "words", TOKENS)
    found = grid.encode("red cat")
    assert found.shape == (1, tiny.TEXT["hidden_size"], TOKENS) and not found.requires_grad
    torch.testing.assert_close(found[0], expected)
    assert float((grid.encode("cat red") - found).abs().max()) > 1e-3


def test_what_is_cut_off_is_told(encoder: Path) -> None:
    grid = WordGrid(encoder / "encoder", encoder / "words", TOKENS)
    fits = "red cat red cat red cat"  # six words, with a beginning and an end
    assert grid.beyond(fits) == "" and grid.beyond(fits + " red") == "red"
    torch.testing.assert_close(grid.encode(fits + " cat cat"), grid.encode(fits))
