# SPDX-License-Identifier: GPL-3.0-or-later
"""torch's optimisers as plain named tensors, which is what checkpoints hold."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def pack(optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Every moment and step count, as "<optimiser>.<parameter index>.<entry>"."""
    return {
        f"{name}.{index}.{key}": value
        for name, optimiser in optimisers.items()
        for index, entries in optimiser.state_dict()["state"].items()
        for key, value in entries.items()
    }


def unpack(optimisers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``pack``; other tensors are passed over."""
    for name, optimiser in optimisers.items():
        content = optimiser.state_dict()
        for key, value in tensors.items():
            if key.startswith(f"{name}."):
                _, index, entry = key.split(".")
                content["state"].setdefault(int(index), {})[entry] = value.clone()
        optimiser.load_state_dict(content)
