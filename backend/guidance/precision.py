# SPDX-License-Identifier: GPL-3.0-or-later
"""In what numbers guides work."""

from __future__ import annotations

import torch


def precision(device: torch.device, asked: torch.dtype | None = None) -> torch.dtype:
    """float16 on CUDA, as most weights are published, and float32 elsewhere, unless another is ``asked`` for."""
    return asked or (torch.float16 if device.type == "cuda" else torch.float32)
