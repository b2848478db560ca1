# SPDX-License-Identifier: GPL-3.0-or-later
"""The real training, killed at random moments, ends as if nothing had happened."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backend import storage
from backend.driver import CHECKPOINT_SECONDS
from backend.jobs import ENDED, Job, JobStore
from tests.data.scene import write_scene

from . import toys

pytest.importorskip("backend.pipelines.nerf")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRAINING = 75.0  # seconds: room for three kills after more than a checkpoint interval each
SLACK = 3.0  # seconds: progress is told once a second, and writing a checkpoint takes its time


@dataclass
class Life:
    """The training of one worker as its progress told it: (moment, step)."""

    steps: list[tuple[float, int]] = field(default_factory=list)

    def seconds(self) -> float:
        return self.steps[-1][0] - self.steps[0][0] if self.steps else 0.0

    def rate(self) -> float:
        """Steps a second."""
        return (self.steps[-1][1] - self.steps[0][1]) / self.seconds()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene"), views=40, size=100, test_views=8).folder


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """PSNR in dB of a run that nobody kills."""
    store = JobStore(tmp_path_factory.mktemp("undisturbed"))
    job = submit(store, dataset)
    train(store, job, [], "worker")
    return psnr(store.get(job.id))


def submit(store: JobStore, dataset: Path) -> Job:
    params = {"dataset": str(dataset), "seconds": TRAINING, "mesh": {"resolution": 64}}
    return store.submit("c", "r", "nerf", params)


def psnr(job: Job) -> float:
    assert job.state == "done" and job.result is not None, job.error
    return float(job.result["metrics"]["psnr"])


def train(store: JobStore, job: Job, moments: list[float], victim: str) -> list[Life]:
    """Runs the job to its end, killing the worker or the whole backend each time it has trained for a moment."""
    lives, backend = [Life()], toys.backend_process(store.home, ())
    stale: dict[str, Any] = {}  # the last word of the life before
    try:
        while (row := store.get(job.id)).state not in ENDED:
            time.sleep(0.1)
            assert backend.poll() is None
            at = row.progress or {}
            seen = lives[-1].steps
            if at.get("phase") == "train" and at != stale and (not seen or seen[-1][1] != at["step"]):
                seen.append((time.monotonic(), at["step"]))
            if len(lives) <= len(moments) and lives[-1].seconds() > moments[len(lives) - 1]:
                stale = at
                backend = kill(store, job, backend, victim)
                lives.append(Life())
    finally:
        backend.kill()
        backend.wait()
    return lives


def kill(store: JobStore, job: Job, backend: subprocess.Popen[bytes], victim: str) -> subprocess.Popen[bytes]:
    assert storage.has_checkpoint(store.folder(job.id))
    if victim == "worker":
        os.kill(toys.workers(store, job)[0], signal.SIGKILL)
        return backend
    backend.kill()
    backend.wait()
    asyncio.run(toys.until(lambda: not toys.workers(store, job), 30.0))
    return toys.backend_process(store.home, ())


@pytest.mark.parametrize("victim", ["worker", "backend"])
def test_three_kills_cost_neither_quality_nor_more_than_an_interval_each(
    victim: str, dataset: Path, undisturbed: float, tmp_path: Path
) -> None:
    chance, store = random.Random(victim), JobStore(tmp_path)
    moments = [CHECKPOINT_SECONDS + chance.uniform(1.0, 8.0) for _ in range(3)]
    job = submit(store, dataset)
    lives = train(store, job, moments, victim)
    result: dict[str, Any] = store.get(job.id).result or {}
    assert abs(psnr(store.get(job.id)) - undisturbed) <= 0.5
    assert len(lives) == 4 and set(result["sha256"]) >= set(result["files"].values())
    for life, following in itertools.pairwise(lives):
        repeated = (life.steps[-1][1] - following.steps[0][1]) / life.rate()
        assert repeated <= CHECKPOINT_SECONDS + SLACK
        assert following.steps[0][1] > life.steps[0][1]
