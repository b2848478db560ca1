# SPDX-License-Identifier: GPL-3.0-or-later
"""Textual inversion (Gal et al., "An Image is Worth One Word", 2022): a new word, whose vectors somebody learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import weights
from ..errors import Gen3DError

UNNAMED = "emb_params"  # how some files call their vectors, whose word is then the file's name
TWO = {"clip_l": "", "clip_g": "_2"}  # names of Stable Diffusion XL's vectors, and what its encoders' names end with
STEP = "Give a file of a textual inversion for this model."


def add(pipeline: Any, path: Path, token: str = "") -> str:
    """Gives a pipeline the word of a file, or of a folder's first, called ``token`` or as the file says; its name.

    Raises Gen3DError for what is damaged, no textual inversion, or one for another base model, and where the word is
    none or is known already; the pipeline is then as it was.
    """
    if not hasattr(pipeline, "load_textual_inversion"):
        raise Gen3DError("This text-to-image model takes no textual inversion.", "Leave it out.", field="inversion")
    path = next(iter(sorted(path.glob("*.safetensors"))), path)
    try:
        tensors = weights.read(path)
    except Gen3DError as error:
        raise Gen3DError(error.cause, error.next_step, field="inversion") from error
    endings = TWO if tensors.keys() == TWO.keys() else {next(iter(tensors), ""): ""}
    if len(tensors) != len(endings) or not all(_vectors(value) for value in tensors.values()):
        raise Gen3DError(f"{path} holds no textual inversion.", STEP, field="inversion")
    called = token or (path.stem if {*endings} & {UNNAMED, *TWO} else next(iter(endings)))
    parts: list[tuple[Any, Any, Tensor]]
    parts = [(getattr(pipeline, f"tokenizer{end}", None), getattr(pipeline, f"text_encoder{end}", None), tensors[name])
             for name, end in endings.items()]  # fmt: skip
    wide = [None if encoder is None else encoder.get_input_embeddings().weight.shape[1] for _, encoder, _ in parts]
    both = getattr(pipeline, "text_encoder_2", None) is not None
    if both != (endings is TWO) or wide != [vectors.shape[-1] for _, _, vectors in parts]:
        raise Gen3DError(f"{path} is a textual inversion for another base model.", STEP, field="inversion")
    words = [called, f"{called}_1"]
    if called.split() != [called] or any(_known(tokenizer, word) for tokenizer, *_ in parts for word in words):
        cause = f"{called!r:.80} cannot be the word of a textual inversion: it is none, or the model knows it already."
        raise Gen3DError(cause, "Give another one, such as [V].", field="token")
    for tokenizer, encoder, vectors in parts:
        pipeline.load_textual_inversion({called: vectors}, token=called, tokenizer=tokenizer, text_encoder=encoder)
        encoder.requires_grad_(False)
    return called


def _vectors(value: Tensor) -> bool:
    return value.ndim in (1, 2) and value.is_floating_point() and bool(torch.isfinite(value).all())


def _known(tokenizer: Any, word: str) -> bool:
    """Also as the end of a word, which has a name of its own."""
    known = tokenizer.get_vocab()
    return any(form in known for form in (word, word.lower(), f"{word.lower()}</w>"))
