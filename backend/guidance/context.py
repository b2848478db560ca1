# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a text a model reads."""

from __future__ import annotations

from typing import Any


def beyond(text: str, tokenizer: Any, length: int) -> str:
    """The end of the text that is not read because the context, of ``length`` tokens, is full; mostly empty."""
    ends = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    if len(ends) <= length:
        return ""
    last: int = ends[length - 2][1]  # the last place is for the token that ends the text
    return text[last:].strip()
