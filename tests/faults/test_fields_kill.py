# SPDX-License-Identifier: GPL-3.0-or-later
"""Dream Fields and DreamFusion with the embedded priors, killed while the second of two fields is trained, come to both
of their meshes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from backend import storage
from backend.engine import Engine
from backend.geometry.mesh import is_watertight
from backend.geometry.reading import read
from backend.jobs import Job, JobStore

from . import toys

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 60
PLAN: dict[str, Any] = {
    "prompt": "a red mushroom",
    "weights": "embedded",
    "begin": "fog",
    "count": 2,
    "iterations": STEPS,
    "rendered": 32,
    "views": 2,
    "resolution": 48,
    "device": "cpu",
}


@pytest.mark.parametrize("system", ["dream-fields", "dreamfusion"])
def test_a_kill_costs_nothing_that_was_finished(tmp_path: Path, system: str) -> None:
    store = JobStore(tmp_path)
    job = store.submit("c", "r", "generate", PLAN | {"system": system})
    folder = store.folder(job.id)
    fractions: list[float] = []

    def told() -> dict[str, Any]:
        found = store.get(job.id).progress or {}
        fractions.append(float(found.get("fraction", 0.0)))
        return found

    async def work() -> Job:
        task = asyncio.create_task(Engine(store, lambda *_: None).run())
        try:
            await toys.until(lambda: told().get("fraction", 0.0) > 0.55 and storage.has_checkpoint(folder), 300.0)
            os.kill(toys.workers(store, job)[0], signal.SIGKILL)
            await toys.until(lambda: told().get("phase") == "prepare", 60.0)
            await toys.until(lambda: told().get("phase") == "train", 120.0)
            assert told()["fraction"] > 0.2, "it does not begin anew"
            return await toys.ended(store, job, 300.0)
        finally:
            task.cancel()
            await asyncio.wait((task,), timeout=20.0)

    done = asyncio.run(work())
    assert done.state == "done" and done.result is not None, done.error
    made = done.result["objects"]
    assert {one["seed"] for one in made} == {0, 1} and all("score" in one for one in made)
    assert all(is_watertight(read(folder / "result" / one["files"]["ply"])[0]) for one in made)
