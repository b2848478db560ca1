# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering front to back, some samples of each ray at a time, so that what is hidden is never looked at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .marching import Samples
from .volume import OPAQUE, Composited

SEGMENT = 32


def in_segments(samples: Samples, shade: Callable[[Samples], Composited], like: Tensor) -> Composited:
    """What rays see by ``shade``, which is given SEGMENT samples of each ray that light still passes. like: [R, 3]."""
    rgb, depth = torch.zeros_like(like), torch.zeros_like(like[:, 0])
    passing = torch.ones_like(depth)
    place = torch.arange(len(samples), device=like.device) - samples.offsets[samples.rays]
    for start in range(0, int(samples.offsets.diff().amax()) if len(samples) else 0, SEGMENT):
        due = (place >= start) & (place < start + SEGMENT) & (passing[samples.rays] > OPAQUE)
        seen = shade(samples.kept(due))
        rgb += passing[:, None] * seen.rgb
        depth += passing * seen.depth
        passing *= 1 - seen.opacity
    return Composited(rgb, 1 - passing, depth)
