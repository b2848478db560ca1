# SPDX-License-Identifier: GPL-3.0-or-later
"""The word of a file is read as its vectors, wherever it stands in the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from backend.errors import Gen3DError
from backend.guidance.diffusion_prior import DiffusionPrior

from . import tiny

WIDE = tiny.TEXT["hidden_size"]


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_text_to_image(tmp_path_factory.mktemp("drawing"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_extra_large(tmp_path_factory.mktemp("large"))


def read(tokenizer: Any, encoder: Any, prompt: str) -> Tensor:
    """The vectors [T, D] that the encoder begins with, of the prompt alone."""
    ids = tokenizer(prompt).input_ids[1:-1]
    vectors: Tensor = encoder.get_input_embeddings().weight[ids]
    return vectors


@pytest.mark.parametrize("token", ["", "[V]", "<my-cat>"])
def test_a_word_is_its_vector(drawing: Path, tmp_path: Path, token: str) -> None:
    vector = torch.randn(WIDE)
    save_file({"<cat-toy>": vector}, tmp_path / "learned é.safetensors")
    prior = DiffusionPrior(drawing)
    known = read(prior.pipeline.tokenizer, prior.pipeline.text_encoder, "a red cat")
    said = prior.say(["a red cat"])[0].words
    assert prior.learn_word(tmp_path / "learned é.safetensors", token) == (token or "<cat-toy>")
    tokenizer, encoder = prior.pipeline.tokenizer, prior.pipeline.text_encoder
    found = read(tokenizer, encoder, f"a red {token or '<cat-toy>'} cat")
    assert torch.equal(found, torch.cat([known[:-1], vector[None], known[-1:]]))
    assert torch.equal(prior.say(["a red cat"])[0].words, said), "other prompts mean what they did"
    assert not torch.equal(prior.say([f"a red {token or '<cat-toy>'}"])[0].words, prior.say(["a red"])[0].words)
    assert not any(value.requires_grad for value in encoder.parameters())


def test_several_vectors_stand_one_after_the_other(drawing: Path, tmp_path: Path) -> None:
    vectors = torch.randn(3, WIDE)
    save_file({"emb_params": vectors}, tmp_path / "toy.safetensors")
    prior = DiffusionPrior(drawing)
    assert prior.learn_word(tmp_path) == "toy", "which is how the file is called"
    tokenizer = prior.pipeline.tokenizer
    prompt = prior.pipeline.maybe_convert_prompt("a toy cat", tokenizer)
    found = read(tokenizer, prior.pipeline.text_encoder, prompt)
    assert torch.equal(found[1:4], vectors) and len(found) == 5
    assert not torch.equal(prior.say(["a toy cat"])[0].words, prior.say(["a cat"])[0].words)


def test_stable_diffusion_xl_has_a_vector_for_each_encoder(large: Path, tmp_path: Path) -> None:
    both = {"clip_l": torch.randn(1, WIDE), "clip_g": torch.randn(1, WIDE)}
    save_file(both, tmp_path / "toy.safetensors")
    prior = DiffusionPrior(large)
    assert prior.learn_word(tmp_path / "toy.safetensors", "[V]") == "[V]"
    pipeline = prior.pipeline
    assert torch.equal(read(pipeline.tokenizer, pipeline.text_encoder, "[V]"), both["clip_l"])
    assert torch.equal(read(pipeline.tokenizer_2, pipeline.text_encoder_2, "[V]"), both["clip_g"])
    save_file({"<toy>": torch.randn(WIDE)}, tmp_path / "small.safetensors")
    with pytest.raises(Gen3DError, match="another base model"):
        prior.learn_word(tmp_path / "small.safetensors")


@pytest.mark.parametrize(
    ("tensors", "token", "words", "field"),
    [
        ({"<toy>": torch.zeros(WIDE + 8)}, "", "another base model", "inversion"),
        ({"clip_l": torch.zeros(1, WIDE), "clip_g": torch.zeros(1, WIDE)}, "", "another base model", "inversion"),
        ({"<toy>": torch.zeros(WIDE), "more": torch.zeros(WIDE)}, "", "no textual inversion", "inversion"),
        ({"<toy>": torch.full((WIDE,), torch.nan)}, "", "no textual inversion", "inversion"),
        ({"<toy>": torch.zeros(2, 2, WIDE)}, "", "no textual inversion", "inversion"),
        ({"<toy>": torch.zeros(WIDE)}, "cat", "knows it already", "token"),
        ({"<toy>": torch.zeros(WIDE)}, "two words", "it is none", "token"),
        ({}, "", "no textual inversion", "inversion"),
        (None, "", "is damaged", "inversion"),
    ],
)
def test_refusals_leave_the_model_as_it_was(
    drawing: Path, tmp_path: Path, tensors: dict[str, Tensor] | None, token: str, words: str, field: str
) -> None:
    prior = DiffusionPrior(drawing)
    pipeline = prior.pipeline
    before = len(pipeline.tokenizer), pipeline.text_encoder.get_input_embeddings().weight.clone()
    path = tmp_path / "t.safetensors"
    save_file({"<toy>": torch.zeros(WIDE)} if tensors is None else tensors, path)
    if tensors is None:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Gen3DError, match=words) as caught:
        prior.learn_word(path, token)
    assert caught.value.field == field
    assert len(pipeline.tokenizer) == before[0]
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight, before[1])


def test_a_word_is_learned_once(drawing: Path, tmp_path: Path) -> None:
    save_file({"<toy>": torch.zeros(WIDE)}, tmp_path / "t.safetensors")
    prior = DiffusionPrior(drawing)
    prior.learn_word(tmp_path / "t.safetensors")
    with pytest.raises(Gen3DError, match="knows it already"):
        prior.learn_word(tmp_path / "t.safetensors", "<TOY>")
