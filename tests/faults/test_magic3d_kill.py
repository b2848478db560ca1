# SPDX-License-Identifier: GPL-3.0-or-later
"""Magic3D with the embedded prior, killed in either of its stages, comes to its textured mesh; stopped in the fine one,
it leaves the coarse shape."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from backend import storage
from backend.engine import Engine
from backend.geometry.mesh import is_watertight
from backend.geometry.reading import read
from backend.jobs import Job, JobStore

from . import toys

pytest.importorskip("backend.pipelines.magic3d")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COARSE, FINE = 100, 100
PLAN: dict[str, Any] = {
    "prompt": "a red mushroom",
    "system": "magic3d",
    "weights": "embedded",
    "iterations": COARSE,
    "rendered": 32,
    "views": 2,
    "texture": 256,
    "faces": 2000,
    "magic3d": {"fine_iterations": FINE, "tetrahedra": 32, "fine_rendered": 64},
    "device": "cpu",
}


def at(store: JobStore, job: Job) -> int:
    """The step of the training; 0 outside of it."""
    told = store.get(job.id).progress or {}
    return int(told["step"]) if told.get("phase") == "train" else 0


def test_kills_in_both_stages_and_a_stop_in_the_second_cost_nothing(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.submit("c", "r", "generate", PLAN)
    folder = store.folder(job.id)
    kept = storage.folder_so_far(folder)

    async def killed(after: int) -> None:
        """Kills the worker once it has trained so far and a checkpoint is on disk; waits until another has gone on."""
        await toys.until(lambda: at(store, job) > after and storage.has_checkpoint(folder), 300.0)
        before = at(store, job)
        os.kill(toys.workers(store, job)[0], signal.SIGKILL)
        await toys.until(lambda: (store.get(job.id).progress or {}).get("phase") == "prepare", 60.0)
        await toys.until(lambda: at(store, job) > 0, 120.0)
        assert at(store, job) > before // 4, "it goes on from its checkpoint"

    async def work() -> Job:
        engine = Engine(store, lambda *_: None)
        task = asyncio.create_task(engine.run())
        try:
            await killed(20)
            assert not kept.exists()
            await killed(COARSE + 10)
            await toys.until(lambda: at(store, job) > COARSE + 20, 300.0)
            stopped = await engine.cancel(job.id)
            assert stopped.state == "cancelled" and stopped.result is not None
            rough = read(kept / stopped.result["files"]["ply"])[0]
            assert len(rough.faces) and rough.colors is not None
            store.resume(job.id)
            engine.wake()
            return await toys.ended(store, job, 300.0)
        finally:
            task.cancel()
            await asyncio.wait((task,), timeout=20.0)

    done = asyncio.run(work())
    assert done.state == "done", done.error
    assert done.result is not None and kept.exists()
    files = {role: folder / "result" / done.result["files"][role] for role in ("ply", "mesh")}
    assert is_watertight(read(files["ply"])[0]), "which has no seams"
    made: Any = trimesh.load(files["mesh"], force="mesh")
    assert np.asarray(made.visual.material.baseColorTexture).shape[:2] == (256, 256)
