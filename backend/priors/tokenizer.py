# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded priors' tokenizer: CLIP's byte-pair encoding, with merges that make each word of the world one token.

python -m backend.priors.tokenizer        writes the folder ``tokenizer`` beside this file
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPTokenizer

FOLDER = Path(__file__).with_name("tokenizer")
TOKENS = 24  # in a prompt, its beginning and its end included
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def make(words: set[str], folder: Path = FOLDER) -> None:
    """Saves a tokenizer that knows ``words`` as one token each and spells all others.

    Which token has which number differs from one time to the next: weights belong to the tokenizer they learned with.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=8192, min_frequency=1, end_of_word_suffix="</w>", initial_alphabet=letters, show_progress=False
    )
    learner.train_from_iterator(sorted(words), trainer)
    merges: Any = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(first + second for first, second in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, BEGIN, END]))}
    made: Any = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)
    made.save_pretrained(folder)


@lru_cache(maxsize=2)
def load(folder: Path = FOLDER) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    found: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return found


def encode(words: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Tokens int64 [B, TOKENS], cut or filled up with END."""
    call: Any = words
    found: Tensor = call(
        captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    return found


if __name__ == "__main__":
    from .world import vocabulary

    make(vocabulary())
