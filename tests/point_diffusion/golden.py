# SPDX-License-Identifier: GPL-3.0-or-later
"""Small models with random weights, and what the published implementation made of them in float32.

Their folder can be another one, of other sizes: the environment variable GEN3D_POINT_E_GOLDEN names it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from backend.point_diffusion import sdf, transformer
from backend.point_diffusion.diffusion import Diffusion

FOLDER = Path(os.environ.get("GEN3D_POINT_E_GOLDEN") or Path(__file__).parent / "golden")
META: dict[str, Any] = json.loads((FOLDER / "meta.json").read_text("utf-8"))
POINT_MODELS = [name for name in META if META[name].get("name") in transformer.KINDS]
TOLERANCE = 1e-4


def tensors(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


def point_model(name: str) -> transformer.PointDiffusionTransformer:
    model = transformer.build(META[name]).eval().requires_grad_(False)
    model.load_state_dict(tensors(f"{name}.weights"), strict=True)
    return model


def sdf_model() -> sdf.CrossAttentionPointCloudSDFModel:
    model = sdf.build(META["sdf"]).eval().requires_grad_(False)
    model.load_state_dict(tensors("sdf.weights"), strict=True)
    return model


def diffusion(name: str) -> Diffusion:
    """As published: cosine for what begins with noise alone, linear for what refines."""
    return Diffusion.of({"schedule": "linear" if transformer.KINDS[META[name]["name"]][1] else "cosine"})


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in units of the largest value."""
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def random_weights(module: torch.nn.Module, seed: int = 0) -> None:
    """None that is zero or one, as many are in a new network."""
    random = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        offset = 1.0 if value.ndim == 1 and name.endswith("weight") else 0.0
        spread = 0.3 if value.ndim == 1 else 1.5 / value.shape[1] ** 0.5
        value.data = offset + spread * torch.randn(value.shape, generator=random)
    module.eval().requires_grad_(False)
