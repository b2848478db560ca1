# SPDX-License-Identifier: GPL-3.0-or-later
"""The real kinds of models, very small and with random weights, saved in the real formats."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import diffusers
import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from backend.priors import train_unet

SIZE, PATCH, FEATURES, DIMENSIONS, LENGTH = 32, 8, 48, 24, 32
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


def write_extra_large(folder: Path) -> Path:
    """A Stable Diffusion XL that draws 16 × 16 pixels, in a folder of this one."""
    torch.manual_seed(0)
    words, library = tokenizer(), untyped(diffusers)
    second = CLIPTextModelWithProjection(CLIPTextConfig(**text_config(words), projection_dim=20))
    small = library.StableDiffusionPipeline.from_pretrained(write_text_to_image(folder / "sd"), safety_checker=None)
    blocks = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    unet = library.UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * TEXT["hidden_size"],
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 6 * 8,
        **blocks,
    )
    pipeline = library.StableDiffusionXLPipeline(
        vae=small.vae, text_encoder=small.text_encoder, text_encoder_2=second, tokenizer=words, tokenizer_2=words,
        unet=unet, scheduler=small.scheduler, add_watermarker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder / "xl")
    return folder / "xl"


def write_pieces(folder: Path) -> Path:
    """A tokenizer of T5 as it was published: a SentencePiece model and its configuration, without tokenizer.json."""
    model, sentences = io.BytesIO(), ["a red cat", "the red dog and the blue cat, front view"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 50), model_writer=model, vocab_size=60, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
    named = {"tokenizer_class": "T5Tokenizer", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named), "utf-8")
    return folder


def write_deepfloyd(folder: Path) -> Path:
    """IF's first stage: pixels, T5 words, and a variance beside the noise."""
    torch.manual_seed(0)
    library = untyped(diffusers)
    words = T5Tokenizer.from_pretrained(write_pieces(folder / "tokenizer"))
    encoder = T5EncoderModel(T5Config(vocab_size=len(words), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4))
    unet = library.UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=16,
        encoder_hid_dim=32,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        resnet_time_scale_shift="scale_shift",
    )
    scheduler = library.DDPMScheduler(
        variance_type="learned_range", beta_schedule="squaredcos_cap_v2", thresholding=True, clip_sample=False
    )
    library.IFPipeline(
        tokenizer=words, text_encoder=encoder, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, watermarker=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    (folder / "tokenizer" / "tokenizer.json").unlink()
    return folder


def write_embedded(folder: Path) -> Path:
    """A text-to-image prior as the embedded one, of fewer levels."""
    torch.manual_seed(0)
    train_unet.pipeline(train_unet.TextToImage(train_unet.Shape((16, 32)))).save_pretrained(folder)
    return folder


def write_image_encoder(folder: Path, dimensions: int) -> None:
    vision: Any = {**TEXT, "hidden_size": FEATURES, "num_attention_heads": 3, "image_size": SIZE, "patch_size": PATCH}
    CLIPVisionModelWithProjection(CLIPVisionConfig(**vision, projection_dim=dimensions)).save_pretrained(folder)


def write_ip_adapter(folder: Path, unet: Any, plus: bool = False, seed: int = 0) -> Path:
    """An IP-Adapter for such a U-Net, with its image encoder beside it, in the format that was published: of the
    vector of the whole picture, or, as its later kinds, of its patches."""
    torch.manual_seed(seed)
    write_image_encoder(folder / "image_encoder", DIMENSIONS)
    words = int(unet.config.cross_attention_dim)
    tensors: dict[str, torch.Tensor] = {}
    if plus:
        inner = 64  # of one head
        projection = {"latents": (1, 3, words), "proj_in.weight": (words, FEATURES), "proj_in.bias": (words,)}
        projection |= {"proj_out.weight": (words, words), "proj_out.bias": (words,)}
        projection |= {f"norm_out.{name}": (words,) for name in ("weight", "bias")}
        for layer in ("layers.0", "layers.1", "layers.2", "layers.3"):
            norms = (f"{layer}.0.norm1", f"{layer}.0.norm2", f"{layer}.1.0")
            projection |= {f"{norm}.{name}": (words,) for norm in norms for name in ("weight", "bias")}
            projection |= {f"{layer}.0.to_q.weight": (inner, words), f"{layer}.0.to_kv.weight": (2 * inner, words)}
            projection |= {f"{layer}.0.to_out.weight": (words, inner)}
            projection |= {f"{layer}.1.1.weight": (4 * words, words), f"{layer}.1.3.weight": (words, 4 * words)}
    else:
        projection = {"proj.weight": (4 * words, DIMENSIONS), "proj.bias": (4 * words,)}
        projection |= {f"norm.{name}": (words,) for name in ("weight", "bias")}
    tensors |= {f"image_proj.{name}": torch.randn(shape) / 4 for name, shape in projection.items()}
    for index, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            to_k = unet.get_submodule(name.removesuffix(".processor")).to_k
            for which in ("to_k_ip", "to_v_ip"):
                tensors[f"ip_adapter.{index}.{which}.weight"] = torch.randn(to_k.weight.shape)
    save_file(tensors, folder / "ip-adapter.safetensors")
    return folder
