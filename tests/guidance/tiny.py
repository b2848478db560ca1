# SPDX-License-Identifier: GPL-3.0-or-later
"""The real kinds of models, very small and with random weights, saved in the real formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIZE, PATCH, FEATURES, DIMENSIONS, LENGTH = 32, 8, 48, 24, 16
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def untyped(module: Any) -> Any:
    return module


def tokenizer() -> CLIPTokenizer:
    """Byte pairs, like the published one: every letter, and a few words."""
    letters = sorted(ByteLevel.alphabet())
    merges: Any = [("c", "a"), ("ca", "t</w>"), ("r", "e"), ("re", "d</w>")]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    made: CLIPTokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    return made


def text_config(words: CLIPTokenizer) -> dict[str, Any]:
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    return {**TEXT, **ends, "vocab_size": len(words), "max_position_embeddings": LENGTH}


def write_clip(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    words = tokenizer()
    vision = {**TEXT, "hidden_size": FEATURES, "num_attention_heads": 3, "image_size": SIZE, "patch_size": PATCH}
    CLIPModel(
        CLIPConfig(text_config=text_config(words), vision_config=vision, projection_dim=DIMENSIONS)
    ).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write_text_to_image(folder: Path, seed: int = 0) -> Path:
    """A Stable Diffusion that draws 16 × 16 pixels."""
    torch.manual_seed(seed)
    words, library = tokenizer(), untyped(diffusers)
    blocks = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    pipeline = library.StableDiffusionPipeline(
        vae=library.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **blocks
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text_config(words))),
        tokenizer=words,
        unet=library.UNet2DConditionModel(
            sample_size=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT["hidden_size"],
            attention_head_dim=4,
            **blocks,
        ),
        scheduler=library.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
