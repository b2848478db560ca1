# SPDX-License-Identifier: GPL-3.0-or-later
"""Low-rank adaptation (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021): W becomes W + s·BA.

Files of every dialect that diffusers reads are merged into a pipeline's weights, where they cost nothing any more; and
new ones are begun for training, on the attention of the U-Net, with s = 1.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import weights
from ..errors import Gen3DError

PARTS = "unet", "text_encoder", "text_encoder_2"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj"]
"""What is trained: the last two are DeepFloyd's."""
STEP = "Give a LoRA for this model: a .safetensors file, or a folder of them."


def merge(pipeline: Any, path: Path, scale: float = 1.0) -> None:
    """Adds the LoRA of a file, or those of all .safetensors files of a folder, times ``scale``.

    Raises Gen3DError for what is damaged, no LoRA, or one for another base model; the pipeline is then as it was.
    """
    if not hasattr(pipeline, "load_lora_weights"):
        raise Gen3DError("This text-to-image model takes no LoRA.", "Leave it out.", field="lora")
    names = {f"lora_{index}": file for index, file in enumerate(_files(path))}
    try:
        for name, file in names.items():
            _load(pipeline, name, file)
        parts = [part for part in PARTS if part in pipeline._lora_loadable_modules]
        pipeline.fuse_lora(components=parts, lora_scale=scale, adapter_names=list(names))
    finally:
        pipeline.unload_lora_weights()  # what is merged stays


def _files(path: Path) -> list[Path]:
    if (path / "model_index.json").exists():
        cause = f"{path} is a whole pipeline, not a LoRA."
        raise Gen3DError(cause, "Name it as the weights, in place of the base model.", field="lora")
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not found:
        raise Gen3DError(f"{path} holds no .safetensors file.", STEP, field="lora")
    return found


def _load(pipeline: Any, name: str, file: Path) -> None:
    """One file as the adapter ``name``, every matrix in its place."""
    try:
        tensors = weights.read(file)
    except Gen3DError as error:
        raise Gen3DError(error.cause, error.next_step, field="lora") from error
    matrices = [key for key in tensors if "lora" in key and key.endswith(".weight")]
    if not matrices:
        raise Gen3DError(f"{file} holds no LoRA.", STEP, field="lora")
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise Gen3DError(f"{file} is damaged: it holds what is no number.", weights.AGAIN, field="lora")
    safe = file.suffix == ".safetensors"  # which may say more of itself in its header
    other = f"{file} is a LoRA for another base model."
    try:
        with warnings.catch_warnings(action="ignore"):  # that there are several, which is meant
            pipeline.load_lora_weights(str(file) if safe else tensors, adapter_name=name, local_files_only=True)
    except Exception as error:  # that it does not fit shows in many ways
        raise Gen3DError(other, STEP, field="lora") from error
    loaded = sum(
        name in of
        for part in PARTS
        if isinstance(module := getattr(pipeline, part, None), nn.Module)
        for layer in module.modules()
        for of in (getattr(layer, "lora_A", {}), getattr(layer, "lora_B", {}))
    )
    if loaded != len(matrices):
        cause = f"{other.rstrip('.')}: of its {len(matrices)} matrices, {loaded} have a place in this one."
        raise Gen3DError(cause, STEP, field="lora")


# ------------------------------------------------------------------------------------------------------------ training


def begin(unet: Any, rank: int, seed: int) -> list[nn.Parameter]:
    """Adds a LoRA that changes nothing yet to a U-Net's attention; its matrices, in float32, which alone are trained.

    B is 0 and A random, as in the paper, the same for the same seed.
    """
    peft: Any = importlib.import_module("peft")
    torch.manual_seed(seed)
    unet.add_adapter(peft.LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=ATTENTION))
    found = [value for name, value in unet.named_parameters() if "lora_" in name]
    for value in found:
        value.data = value.data.float()
    return found


def tensors(unet: Any) -> dict[str, Tensor]:
    """The matrices of a training's LoRA as files hold them, on the CPU."""
    peft: Any = importlib.import_module("peft")
    state: dict[str, Tensor] = peft.get_peft_model_state_dict(unet, adapter_name="default")
    return {f"unet.{name}": value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}
