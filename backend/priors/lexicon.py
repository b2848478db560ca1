# SPDX-License-Identifier: GPL-3.0-or-later
"""Which words of the world are nearest in meaning to a word that is not in it.

    python -m backend.priors.lexicon SENTENCE_MODEL       writes lexicon.json beside this file

The neighbours were found once, with the sentence model all-MiniLM-L6-v2 (Apache-2.0); only its answers are shipped.
"""

from __future__ import annotations

import difflib
import json
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("lexicon.json")
LIKELY, OFFERED = 0.48, 3


@lru_cache(maxsize=1)
def _neighbours() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def nearest(word: str, known: set[str]) -> list[str]:
    """Up to three of the ``known`` words: near in meaning where that is known, else in spelling."""
    neighbours = _neighbours().get(word) or _neighbours().get(word.removesuffix("s"), [])
    in_meaning = [other for other in neighbours if other in known]
    in_spelling = difflib.get_close_matches(word, sorted(known), OFFERED, 0.75)
    return list(dict.fromkeys([*in_spelling[:1], *in_meaning, *in_spelling]))[:OFFERED]


def make(model_folder: Path) -> None:
    """Writes FILE for every common word that the sentence model's vocabulary holds."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from .world import CATEGORIES, colours

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModel.from_pretrained(model_folder).eval()

    @torch.inference_mode()
    def vectors(words: list[str]) -> NDArray[np.float32]:
        rows = []
        for begin in range(0, len(words), 256):
            batch = tokenizer(words[begin : begin + 256], padding=True, return_tensors="pt")
            hidden, mask = model(**batch).last_hidden_state, batch.attention_mask[..., None]
            rows.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
        return torch.cat(rows).numpy()

    names = [name for kind in CATEGORIES.values() for name in kind.names]
    known = sorted({*names, *colours.NAMES, *colours.SYNONYMS, *colours.MATERIALS})
    words = sorted(w for w in tokenizer.get_vocab() if re.fullmatch("[a-z]{3,}", w) and w not in known)
    likeness = vectors(words) @ vectors(known).T
    table = {}
    for word, row in zip(words, likeness, strict=True):
        best = [known[i] for i in np.argsort(-row)[:OFFERED] if row[i] > LIKELY]
        if best:
            table[word] = best
    FILE.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import sys

    make(Path(sys.argv[1]))
