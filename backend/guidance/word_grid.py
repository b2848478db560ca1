# SPDX-License-Identifier: GPL-3.0-or-later
"""Words as a grid of features: the last hidden states of a text encoder, one for each token.

It takes the place of CLIP's grid of picture patches where a point model was trained on words with an encoder of its
own, a folder of a ``transformers`` CLIPTextModel with the tokenizer's beside it or given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import Gen3DError, first_words
from .quiet import quiet


class WordGrid:
    """A text encoder, frozen, in float32."""

    def __init__(self, encoder: Path, tokenizer: Path, tokens: int, device: torch.device | str = "cpu") -> None:
        """``tokens``: of every grid; what is longer is cut off. Raises Gen3DError where a folder is not whole."""
        from transformers import CLIPTextModel, CLIPTokenizer

        quiet()
        self._tokens, self._device = tokens, torch.device(device)
        try:
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(tokenizer, local_files_only=True)
            loaded: Any = CLIPTextModel.from_pretrained(
                encoder, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
        except Exception as error:  # damage shows in many ways
            raise self._broken(encoder, first_words(error)) from error
        self._model, facts = loaded
        if wrong := sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in facts[kind]):
            raise self._broken(encoder, f"{len(wrong)} of its tensors are missing or do not fit ({wrong[0]})")
        self._model.to(self._device).eval().requires_grad_(False)

    @staticmethod
    def _broken(encoder: Path, reason: str) -> Gen3DError:
        step = "Install Gen3D again, or name another folder."
        return Gen3DError(f"{encoder} holds no whole text encoder: {reason}.", step, field="weights")

    def encode(self, text: str) -> Tensor:
        """float32 [1, features, tokens]."""
        found = self._tokenizer(
            [text], padding="max_length", max_length=self._tokens, truncation=True, return_tensors="pt"
        ).to(self._device)
        with torch.no_grad():
            hidden: Tensor = self._model(input_ids=found.input_ids).last_hidden_state
        return hidden.transpose(1, 2)

    def beyond(self, text: str) -> str:
        """The end of the text that is cut off; mostly empty."""
        ends = self._tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        return text[ends[self._tokens - 2][1] :].strip() if len(ends) > self._tokens else ""
