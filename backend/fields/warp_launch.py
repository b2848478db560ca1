# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA Warp kernels on torch's tensors. Imported where there is a CUDA device, and only then: it takes a second."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_WARNING  # it greets on stdout otherwise
wp.init()


def launch(kernel: wp.Kernel, threads: int | tuple[int, ...], *arguments: Any, block: int = 256) -> None:
    """Runs ``kernel`` where its first argument, a tensor, is: on torch's current stream, or on the CPU at once.

    Tensors are passed as they are, without a copy, and written in place. Raises RuntimeError where a tensor's type or
    number of dimensions is not the kernel's.
    """
    device = arguments[0].device
    wp.launch(
        kernel,
        threads,
        [wp.from_torch(x, requires_grad=False) if isinstance(x, Tensor) else x for x in arguments],
        device=wp.device_from_torch(device),
        stream=wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None,
        block_dim=block,
    )
