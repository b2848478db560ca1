# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pipeline yields while it works.

A pipeline is a generator ``run(settings, out, resume)``: it writes its files into the empty folder ``out``, yields
``Progress`` and returns a JSON-ready summary. Whoever stops iterating has cancelled it. It never writes checkpoints
or previews itself: it offers them, and the worker takes them when they are due.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..shares import told_as

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """All that is needed to go on after a crash: tensors (CPU) and JSON-ready facts."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """One step forward.

    phase: "prepare", "train", "evaluate", "mesh" or "render"; step and total count within the phase (total 0: not
    known, as when training by time); fraction in [0, 1] and seconds_left are of the whole job.
    ``preview()`` renders a picture, uint8 sRGB [H, W, 3]; ``shape()`` gives points of the surface as it is now,
    float32 [N, 6]: world coordinates in metres and sRGB in 0..1; ``snapshot()`` copies the state. All three cost time,
    so they are called only when wanted, before the pipeline is asked for its next step.
    ``so_far(folder)`` is offered once at a time from which on there is something worth having: it writes that into an
    empty folder, as the pipeline will its result into ``out``, and returns the summary of it.
    """

    phase: str
    step: int
    total: int
    fraction: float
    seconds_left: float | None = None
    loss: float | None = None
    preview: Callable[[], NDArray[np.uint8]] | None = None
    shape: Callable[[], NDArray[np.float32]] | None = None
    snapshot: Callable[[], Snapshot] | None = None
    so_far: Callable[[Path], dict[str, Any]] | None = None


Pipeline = Generator[Progress, None, dict[str, Any]]


def telling(work: Generator[float, None, T], progress: Progress, until: float) -> Generator[Progress, None, T]:
    """Shares done, in 0..1, as progress of the whole job: from that of ``progress`` on to ``until``."""
    begin, rest = progress.fraction, until - progress.fraction
    return told_as(work, lambda share: replace(progress, fraction=begin + rest * share))
