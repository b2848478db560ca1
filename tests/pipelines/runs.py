# SPDX-License-Identifier: GPL-3.0-or-later
"""Trainings of the small scene, told by steps and not by time, so that each is like the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from backend.pipelines import nerf
from backend.pipelines.progress import Progress, Snapshot
from backend.settings import MeshSettings, NerfSettings
from tests.data.scene import Written

T = TypeVar("T")

MESH = MeshSettings(resolution=64, faces=0)


@dataclass(frozen=True)
class Run:
    """A finished job. ``snapshots``: the first one of each phase."""

    written: Written
    settings: NerfSettings
    out: Path
    told: list[Progress]
    summary: dict[str, Any]
    snapshots: dict[str, Snapshot]

    @property
    def box_to_world(self) -> NDArray[np.float64]:
        return np.array(self.summary["box_to_world"])


def settings(written: Written, **changes: Any) -> NerfSettings:
    values: dict[str, Any] = {"seconds": 0.0, "device": "cpu", "mesh": MESH, **changes}
    return NerfSettings(str(written.folder), **values)


def run(wanted: NerfSettings, written: Written, out: Path, resume: Snapshot | None = None) -> Run:
    """A whole training."""
    out.mkdir()
    snapshots: dict[str, Snapshot] = {}
    told: list[Progress] = []
    pipeline = nerf.train(wanted, out, resume)
    while True:
        try:
            progress = next(pipeline)
        except StopIteration as end:
            return Run(written, wanted, out, told, end.value, snapshots)
        told.append(progress)
        if progress.snapshot is not None and progress.phase not in snapshots:
            snapshots[progress.phase] = progress.snapshot()


def finish(pipeline: Generator[Progress, None, T]) -> tuple[list[Progress], T]:
    """All that a job tells, and its summary; or what else is returned by what tells progress."""
    told = []
    while True:
        try:
            told.append(next(pipeline))
        except StopIteration as end:
            return told, end.value


def learn(
    wanted: NerfSettings,
    out: Path,
    resume: Snapshot | None = None,
    at: Sequence[int] = (),
    look: bool = False,
) -> tuple[Snapshot, dict[int, Snapshot], list[float]]:
    """Only the training of a job: its state at the end, after the steps ``at``, and its losses.

    look: with previews.
    """
    out.mkdir()
    pipeline = nerf.train(wanted, out, resume)
    during: dict[int, Snapshot] = {}
    losses: list[float] = []
    for progress in pipeline:
        if progress.phase == "train":
            assert progress.snapshot is not None and progress.loss is not None
            losses.append(progress.loss)
            if look and progress.step in (5, 35):
                assert progress.preview is not None
                progress.preview()
            if progress.step in at:
                during[progress.step] = progress.snapshot()
        elif progress.snapshot is not None:
            end = progress.snapshot()
            pipeline.close()
            return end, during, losses
    raise AssertionError("the job ended without a snapshot")


def same(a: Snapshot, b: Snapshot) -> bool:
    """Whether two states are equal to the last bit, but for the time they took."""
    facts = [{name: value for name, value in one.facts.items() if name != "seconds"} for one in (a, b)]
    return (
        facts[0] == facts[1]
        and a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(value, b.tensors[name]) for name, value in a.tensors.items())
    )


def on_white(image: NDArray[Any]) -> NDArray[np.float64]:
    """uint8 or uint16 [H, W, 3 or 4] -> [H, W, 3] in [0, 1]."""
    values = image / float(np.iinfo(image.dtype).max)
    if values.shape[2] == 3:
        return np.asarray(values)
    return np.asarray(values[..., :3] * values[..., 3:] + 1 - values[..., 3:])


def best_constant(pictures: Sequence[NDArray[np.float64]]) -> float:
    """PSNR, the mean over pictures, of one-coloured pictures of the best colour for each."""
    return float(np.mean([-10 * np.log10(np.mean((p - p.mean((0, 1))) ** 2)) for p in pictures]))


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)
