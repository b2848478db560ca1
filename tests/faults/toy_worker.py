# SPDX-License-Identifier: GPL-3.0-or-later
"""The real worker process around a toy pipeline, whose end result depends on every one of its steps.

``settings.steps`` steps; ``settings.dataset`` is a JSON object, or a file with one, of what shall go wrong:
    pause        seconds a step takes (0.02)
    die          {step: times}: the process kills itself there
    error        {step: name of a builtin exception}, "enospc" for a full disk, "gen3d" for a user's error
    nan          {step: times}: the loss is not a number there
    sleep        step at which the pipeline sleeps for a minute
    hang         the same, but no other thread of Python's runs meanwhile
    so_far       step from which on there is something worth having
    shape        length of the state: a checkpoint of another length cannot be resumed
Every step is also written to trace.txt beside the result, so that a test sees which ones were repeated.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import json
import math
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import driver, worker
from backend.errors import Gen3DError
from backend.pipelines.progress import Pipeline, Progress, Snapshot
from backend.settings import NerfSettings

CHECKPOINT_SECONDS = 0.25
ORPHAN_SECONDS = 2.0


def toy(settings: NerfSettings, out: Path, resume: Snapshot | None) -> Pipeline:
    """v ← 0.9 v + noise, with the noise's generator as part of the state. Takes torch only for a checkpoint."""
    given = settings.dataset
    plan: dict[str, Any] = json.loads(given if given.startswith("{") else Path(given).read_text())
    total, work = settings.steps or 100, out.parent
    noise, step, state = random.Random(settings.seed), 0, [0.0] * plan.get("shape", 8)
    trace(work, f"life {resume.facts['step'] if resume else 0}")
    yield Progress("prepare", 0, 1, 0.0)
    if resume is not None:
        if len(resume.tensors["state"]) != len(state):
            raise ValueError("the checkpoint has another shape")
        state, step = resume.tensors["state"].tolist(), int(resume.facts["step"])
        version, words, extra = resume.facts["noise"]
        noise.setstate((version, tuple(words), extra))
    while step < total:
        go_wrong(plan, step, work)
        time.sleep(plan.get("pause", 0.02))
        state = [0.9 * value + noise.gauss() for value in state]
        step += 1
        trace(work, str(step))

        def snapshot(step: int = step, state: list[float] = state) -> Snapshot:
            import torch

            tensors = {"state": torch.tensor(state, dtype=torch.float64)}
            return Snapshot(tensors, {"step": step, "noise": noise.getstate()})

        loss = math.nan if due(plan, "nan", step, work) else math.hypot(*state)

        def preview(step: int = step) -> NDArray[np.uint8]:
            return np.full((4, 6, 3), step % 256, np.uint8)

        def points(step: int = step) -> NDArray[np.float32]:
            return np.full((3, 6), step / 100, np.float32)

        def so_far(folder: Path, step: int = step) -> dict[str, Any]:
            (folder / "state.json").write_text(json.dumps(step))
            return {"steps": step, "notes": ["Half of it."]}

        offered: dict[str, Any] = {"preview": preview, "shape": points, "snapshot": snapshot}
        if step == plan.get("so_far"):
            offered["so_far"] = so_far
        yield Progress("train", step, total, step / total, loss=loss, **offered)
    (out / "state.json").write_text(json.dumps(state))
    return {"steps": step, "device": "cpu", "files": {"state": "state.json"}}


def trace(work: Path, line: str) -> None:
    with open(work / "trace.txt", "a") as file:
        file.write(line + "\n")


def due(plan: dict[str, Any], what: str, step: int, work: Path) -> bool:
    """Whether something planned for this step has happened less often than planned; then it is counted."""
    times = plan.get(what, {}).get(str(step), 0)
    marker = work / f"{what}-{step}"
    happened = len(marker.read_bytes()) if marker.exists() else 0
    if happened < times:
        marker.write_bytes(b"x" * (happened + 1))
        return True
    return False


def go_wrong(plan: dict[str, Any], step: int, work: Path) -> None:
    if due(plan, "die", step, work):
        print("something ugly happened", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 9)
    name = plan.get("error", {}).get(str(step))
    if name == "enospc":
        raise OSError(errno.ENOSPC, "No space left on device")
    if name == "gen3d":
        raise Gen3DError("The dataset is odd.", "Make it even.", field="dataset")
    if name is not None:
        raise getattr(builtins, name)("as planned")
    if plan.get("sleep") == step:
        time.sleep(60.0)
    if plan.get("hang") == step:
        ctypes.PyDLL(None).sleep(60)
    if step == 0:
        print("a library talks on standard output")


if __name__ == "__main__":
    driver.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS
    # Importing torch for the first checkpoint costs more than all the steps.
    driver.CHECKPOINT_SHARE = driver.LONG_CHECKPOINT = math.inf
    worker.ORPHAN_SECONDS = ORPHAN_SECONDS
    sys.exit(
        worker.main(
            table=lambda: {"nerf": toy},
            devices=lambda: [{"id": "cpu", "type": "cpu", "name": "toy", "memory": None}],
        )
    )
