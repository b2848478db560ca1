# SPDX-License-Identifier: GPL-3.0-or-later
"""Small random models of every kind that Point-E is made of, in the formats and places where the real ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from backend import models
from backend.pipelines import point_e
from backend.pipelines.progress import Progress, Snapshot
from backend.point_diffusion import sdf, stages, transformer
from backend.settings import GenerateSettings
from tests.guidance import tiny
from tests.point_diffusion.golden import random_weights

from .runs import finish

STEPS = 10
QUICK = GenerateSettings(prompt="red cat", device="cpu", resolution=32, steps=STEPS, save_points=True)
SMALL = {"width": 24, "layers": 1, "heads": 2}
GRID = {"feature_dim": tiny.FEATURES, "cond_tokens": (tiny.SIZE // tiny.PATCH) ** 2}
POINTS, MORE = 160, 64
DISTANCE = {
    "name": sdf.NAME, "width": 16, "encoder_layers": 1, "encoder_heads": 2, "decoder_layers": 1, "decoder_heads": 2
}  # fmt: skip
FOLDER: dict[str, Any] = {
    "name": "CLIPImageGridPointDiffusionTransformer", **SMALL, "n_ctx": POINTS, "input_channels": 6,
    "output_channels": 6, "init_scale": 0.5, "time_token_cond": True, "cond_drop_prob": 0.1,
    "feature_dim": tiny.TEXT["hidden_size"], "cond_tokens": 12, "prediction": "v",
    "sampling": {"karras_steps": 4, "sigma_max": 80.0},
    "more_points": {"copies": 2, "karras_steps": 2, "sigma_max": 0.4, "s_churn": 0.0, "guidance_scale": 1.0},
}  # fmt: skip


def write_folder(folder: Path, tokens: bool = True) -> Path:
    """A prior like the embedded one. tokens: with a tokenizer of its own."""
    torch.manual_seed(0)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(FOLDER))
    model = transformer.build(FOLDER)
    random_weights(model, 1)
    model.output_proj.weight.data *= 0.1  # v of 0 makes normally distributed points
    model.output_proj.bias.data *= 0.1
    save_file({name: value.half() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    words = tiny.tokenizer()
    config = {**tiny.text_config(words), "max_position_embeddings": FOLDER["cond_tokens"]}
    encoder: Any = CLIPTextModel(CLIPTextConfig(**config))
    encoder.half().save_pretrained(folder / "text_encoder")
    if tokens:
        words.save_pretrained(folder / "tokenizer")
    return folder


def distance_model() -> sdf.CrossAttentionPointCloudSDFModel:
    """Whatever the cloud, its surface goes through the middle: mostly, it says the negative of a place at its mirror's.

    That is so for a linear layer and a norm; what comes between them is made small.
    """
    model = sdf.build(DISTANCE)
    random_weights(model, 2)
    for layer in (model.decoder_input_proj, model.ln_post, model.output_proj):
        layer.bias.data.zero_()
    for name, value in model.decoder.named_parameters():
        if "c_proj" in name:
            value.data *= 0.1
    return model


def publish(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Installs small models under the published names, in the published kind of file, in GEN3D_HOME."""
    for name, config in stages.CONFIGS.items():
        more = GRID if "Grid" in config["name"] else {"feature_dim": tiny.DIMENSIONS}
        points = MORE if name == "upsample" else POINTS
        patch.setitem(stages.CONFIGS, name, {**config, **SMALL, **more, "n_ctx": points})
    patch.setattr("backend.pipelines.point_e_priors.SDF", DISTANCE)
    folder.mkdir()
    for index, (name, config) in enumerate(stages.CONFIGS.items()):
        model = transformer.build(config)
        random_weights(model, 10 + index)
        keep(name, model, folder)
    keep("sdf", distance_model(), folder)
    models.use("clip-vit-l14", tiny.write_clip(folder / "clip"))


def keep(name: str, model: nn.Module, folder: Path) -> None:
    path = folder / f"{name}.pt"
    torch.save(model.state_dict(), path)
    models.use(name, path)


def picture(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), np.uint8)
    Image.fromarray(values, "RGBA").convert(mode).save(path)
    return path


def make(
    settings: GenerateSettings, out: Path, resume: Snapshot | None = None
) -> tuple[list[Progress], dict[str, Any]]:
    out.mkdir()
    return finish(point_e.generate(settings, out, resume))
