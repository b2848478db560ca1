# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a pipeline computes."""

from __future__ import annotations

import torch

from ..errors import Gen3DError


def choose_device(name: str) -> torch.device:
    """The device named, or for "auto" the best there is. Raises Gen3DError when it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    if not there[name]:
        raise Gen3DError(
            f"This machine has no {name} device that torch can use.",
            f"Choose {' or '.join(kind for kind, available in there.items() if available)}, or auto.",
            field="device",
        )
    return torch.device(name)


def half_precision(device: torch.device, trained_so: bool = False) -> torch.dtype | None:
    """What a sampler may compute less exactly in, or None: half floats on CUDA; on CPUs that multiply bfloat16, that,
    for models that were ``trained_so``."""
    if device.type == "cuda":
        return torch.float16
    fast = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.bfloat16 if fast and trained_so else None
